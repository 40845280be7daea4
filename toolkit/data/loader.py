"""Batches: random windows to train on, and every token exactly once to validate on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from toolkit.data.token_dataset import TokenDataset
from toolkit.errors import UsageError

IGNORED = -100  # a target that does not count


class BatchLoader:
    """Random windows of a split: x = ids[i : i + T], y = ids[i + 1 : i + 1 + T].

    Where windows begin comes from a generator of its own, seeded by `seed`; `state_dict` holds it,
    so that a resumed run sees the batches that it would have seen.

    Windows do not cross shards; with shards of millions of tokens that leaves out next to nothing.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        *,
        batch_size: int,
        block_size: int,
        seed: int,
        split: str = "train",
        device: str | torch.device = "cpu",
        rows: slice = slice(None),
    ) -> None:
        """
        Args:
            rows: which rows of each batch to read; where several processes share a batch, each
                draws all of its windows and reads those of its own.

        Raises:
            UsageError: the split is shorter than a window.
        """
        require_length(dataset, split, block_size)
        self._shards = [shard for shard in dataset.shards(split) if len(shard) > block_size]
        starts = [len(shard) - block_size for shard in self._shards]
        # Window w of the split begins in the shard whose range of window numbers holds w.
        self._first_window = np.cumsum([0, *starts])
        self._batch_size = batch_size
        self._offsets = np.arange(block_size + 1)
        self._device = torch.device(device)
        self._rows = rows
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """The next x and y: int64 (B, T) on the device, B the number of `rows`.

        On CUDA the copy runs beside the computation, from pinned memory.
        """
        windows = self._generator.integers(self._first_window[-1], size=self._batch_size)
        windows = windows[self._rows]
        ids = torch.from_numpy(self._gather(windows))  # (B, T + 1)
        if self._device.type == "cuda":
            ids = ids.pin_memory().to(self._device, non_blocking=True)
        else:
            ids = ids.to(self._device)
        # Contiguous, as a model may want to look at them as one flat row.
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def _gather(self, windows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if len(self._shards) == 1:
            ids = self._shards[0][windows[:, None] + self._offsets]
            return np.asarray(ids, dtype=np.int64)
        batch = np.empty((len(windows), len(self._offsets)), np.int64)
        shard_of = np.searchsorted(self._first_window, windows, side="right") - 1
        for number in np.unique(shard_of):
            rows = shard_of == number
            begins = windows[rows] - self._first_window[number]
            batch[rows] = self._shards[number][begins[:, None] + self._offsets]
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The position of the loader, as JSON values."""
        return {"generator": self._generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._generator.bit_generator.state = state["generator"]


def evaluation_batches(
    dataset: TokenDataset,
    *,
    batch_size: int,
    block_size: int,
    split: str = "val",
    device: str | torch.device = "cpu",
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """A split from its beginning to its end: every token but the first is a target exactly once.

    Windows follow each other without overlap, B at a time; in the last batch, what is left over
    is filled up with targets that do not count. Yields x and y: int64 (B, T).

    `part` (i, n) is every n-th batch from batch i on. All n parts have as many batches: where they
    do not come out even, some end with a batch without targets.

    Raises:
        UsageError: the split has fewer than two tokens.
    """
    if dataset.num_tokens(split) < 2:
        raise UsageError(
            f"The {split} part has {dataset.num_tokens(split)} tokens; to measure a loss takes at "
            "least 2. Use more text, or a larger --held-out."
        )
    ids = dataset.tokens(split)
    stride = batch_size * block_size
    first, step = part
    num_batches = -(-(len(ids) - 1) // stride)
    for number in range(first, -(-num_batches // step) * step, step):
        begin = number * stride
        piece = np.asarray(ids[begin : begin + stride + 1], dtype=np.int64)
        num_targets = max(len(piece) - 1, 0)
        rows = max(-(-num_targets // block_size), 1)
        x = np.zeros(rows * block_size, np.int64)
        y = np.full(rows * block_size, IGNORED, np.int64)
        x[:num_targets] = piece[:-1]
        y[:num_targets] = piece[1:]
        shape = (rows, block_size)
        yield (
            torch.from_numpy(x).view(shape).to(device),
            torch.from_numpy(y).view(shape).to(device),
        )


def require_length(dataset: TokenDataset, split: str, block_size: int) -> None:
    """Raise UsageError unless a window of `block_size` tokens and its targets fit."""
    longest = max((len(shard) for shard in dataset.shards(split)), default=0)
    if longest <= block_size:
        raise UsageError(
            f"The {split} part has {longest} tokens; a window takes --block-size {block_size} "
            f"and one more. Use more text, or a --block-size below {max(longest, 1)}."
        )
