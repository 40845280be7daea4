"""Batches: random windows to train on, and every token exactly once to validate on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from toolkit.data.token_dataset import TokenArray, TokenDataset
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
        # Each shard as all of its windows (N, T + 1): views, of which a batch copies its rows.
        self._windows = [
            np.lib.stride_tricks.sliding_window_view(np.asarray(shard), block_size + 1)
            for shard in dataset.shards(split)
            if len(shard) > block_size
        ]
        # Window w of the split is in the shard whose range of window numbers holds w.
        self._first_window = np.cumsum([0, *map(len, self._windows)])
        self._batch_size = batch_size
        self._device = torch.device(device)
        self._rows = rows
        self._tokens_per_batch = batch_size * block_size
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """The next x and y: int64 (B, T) on the device, B the number of `rows`.

        On CUDA the copy runs beside the computation, from pinned memory.
        """
        windows = self._generator.integers(self._first_window[-1], size=self._batch_size)
        ids = self._gather(windows[self._rows])  # (B, T + 1)
        if self._device.type == "cuda":
            pinned = torch.from_numpy(ids.astype(np.int64)).pin_memory()
            on_device = pinned.to(self._device, non_blocking=True)
            # Contiguous, as a model may want to look at them as one flat row.
            return on_device[:, :-1].contiguous(), on_device[:, 1:].contiguous()
        x, y = ids[:, :-1].astype(np.int64, order="C"), ids[:, 1:].astype(np.int64, order="C")
        return torch.from_numpy(x).to(self._device), torch.from_numpy(y).to(self._device)

    def num_tokens(self, batches: int) -> int:
        """How many ids so many batches have, over all rows."""
        return batches * self._tokens_per_batch

    def peek(self) -> tuple[Tensor, Tensor]:
        """The batch that `next_batch` will give, which stays the next one."""
        state = self.state_dict()
        batch = self.next_batch()
        self.load_state_dict(state)
        return batch

    def _gather(self, windows: npt.NDArray[np.int64]) -> TokenArray:
        if len(self._windows) == 1:
            return self._windows[0][windows]
        batch = np.empty((len(windows), self._windows[0].shape[1]), self._windows[0].dtype)
        shard_of = np.searchsorted(self._first_window, windows, side="right") - 1
        for number in np.unique(shard_of):
            rows = shard_of == number
            batch[rows] = self._windows[number][windows[rows] - self._first_window[number]]
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
    num_tokens = dataset.num_tokens(split)
    if num_tokens < 2:
        raise UsageError(
            f"The {split} part has {num_tokens} tokens; to measure a loss takes at least 2. Use "
            "more text, or a larger --held-out."
        )
    stride = batch_size * block_size
    first, step = part
    num_batches = -(-(num_tokens - 1) // stride)
    for number in range(first, -(-num_batches // step) * step, step):
        begin = number * stride
        piece = dataset.read(split, begin, begin + stride + 1)
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
        shorter = f", or a --block-size below {longest}" if longest > 1 else ""
        raise UsageError(
            f"The {split} part has {longest} tokens; a window takes --block-size {block_size} "
            f"and one more. Use more text{shorter}."
        )
