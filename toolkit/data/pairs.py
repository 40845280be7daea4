"""Batches of pairs: sources and targets, padded to the longest of their batch.

Rows of like lengths are put together, so that little of a batch is padding: pairs come in pools of
some batches, each pool is sorted by length and cut into batches, and these are shuffled. All of it
follows from the seed and the number of the batch, so that a resumed run sees the batches that it
would have seen.

    source   a b c end pad        the encoder reads it
    ids      begin x y            what the decoder reads
    target   x y end              what it should say next; -100 where the row is padding
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from toolkit.data.loader import IGNORED
from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.encoder_decoder_config import NUM_SPECIAL
from toolkit.tasks import FileTask, Pair, PairTask
from toolkit.tokenizers import Tokenizer

BATCHES_IN_POOL = 16

Ids = npt.NDArray[np.int64]
EncodedPair = tuple[Ids, Ids]


class PairDataset:
    """The pairs of a task as ids, for an encoder–decoder.

    Attributes:
        task: the texts.
        tokenizer, source_tokenizer: of the targets and of the sources; one object where both share
            a vocabulary.
        vocab_size, source_vocab_size: ids of each, with end, begin and padding.
        left_out: how many pairs of a file were longer than `block_size` tokens.
    """

    def __init__(
        self,
        task: PairTask,
        tokenizer: Tokenizer,
        source_tokenizer: Tokenizer | None = None,
        *,
        block_size: int,
    ) -> None:
        """
        Args:
            source_tokenizer: None: the same as the target's.
            block_size: the most tokens of a source or target, its end included.

        Raises:
            UsageError: too long a task, or a file of which too little is short enough.
            VocabularyError: a text that the tokenizer has no token for.
        """
        self.task, self.tokenizer = task, tokenizer
        self.source_tokenizer = tokenizer if source_tokenizer is None else source_tokenizer
        self.vocab_size = tokenizer.vocab_size + NUM_SPECIAL
        self.source_vocab_size = self.source_tokenizer.vocab_size + NUM_SPECIAL
        self.block_size = block_size
        self.left_out = task.keep(self._fits) if isinstance(task, FileTask) else 0
        self.held_out = self.encode(task.held_out)

    def num_tokens(self, split: str) -> int:
        """How many targets the part "val" has, the ends of its rows included."""
        _require_val(split)
        return sum(len(target) for _, target in self.held_out)

    def num_bytes(self, split: str) -> int:
        """How many bytes of UTF-8 the targets of the part "val" are, one for each end included."""
        _require_val(split)
        return sum(len(pair.target.encode("utf-8")) + 1 for pair in self.task.held_out)

    def encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        """Sources and targets as ids, each with its end.

        Raises:
            UsageError: one that is longer than `block_size`.
        """
        sources = _encode(self.source_tokenizer, [pair.source for pair in pairs])
        targets = _encode(self.tokenizer, [pair.target for pair in pairs])
        encoded = list(zip(sources, targets, strict=True))
        longest = max((max(len(s), len(t)) for s, t in encoded), default=0)
        if longest > self.block_size:
            raise UsageError(
                f"{self.task.spec} has texts of {longest} tokens (with their end), longer than "
                f"--block-size {self.block_size}. Give a longer one."
            )
        return encoded

    def batch(
        self, pairs: Sequence[EncodedPair], device: str | torch.device = "cpu"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ids (B, T), targets (B, T) and sources (B, S), int64, of encoded pairs."""
        begin, padding = self.vocab_size - 2, self.vocab_size - 1
        ids = [np.concatenate(([begin], target[:-1])) for _, target in pairs]
        arrays = (
            pad(ids, padding),
            pad([target for _, target in pairs], IGNORED),
            pad([source for source, _ in pairs], self.source_vocab_size - 1),
        )
        ids_, targets, sources = (torch.from_numpy(array).to(device) for array in arrays)
        return ids_, targets, sources

    def loader(
        self,
        *,
        batch_size: int,
        block_size: int,
        seed: int,
        device: str | torch.device = "cpu",
        rows: slice = slice(None),
    ) -> PairLoader:
        """Pairs to train on; see `PairLoader`."""
        return PairLoader(self, batch_size=batch_size, seed=seed, device=device, rows=rows)

    def evaluation_batches(
        self,
        *,
        batch_size: int,
        block_size: int,
        device: str | torch.device = "cpu",
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, ...]]:
        """The held-out pairs, each once, those of like lengths together: as in
        `evaluation_batches`."""
        first, step = part
        pairs = [self.held_out[place] for place in by_length(self.held_out)]
        num_batches = -(-len(pairs) // batch_size)
        for number in range(first, -(-num_batches // step) * step, step):
            rows = pairs[number * batch_size : (number + 1) * batch_size]
            ids, targets, sources = self.batch(rows or pairs[:1], device)
            # Where batches do not come out even, a part ends with one without targets.
            yield ids, targets if rows else torch.full_like(targets, IGNORED), sources

    def _fits(self, pairs: Sequence[Pair]) -> list[bool]:
        sources = self.source_tokenizer.count_batch([pair.source for pair in pairs])
        targets = self.tokenizer.count_batch([pair.target for pair in pairs])
        fits: list[bool] = (np.maximum(sources, targets) < self.block_size).tolist()
        return fits


class PairLoader:
    """Batches of pairs to train on, without end."""

    def __init__(
        self,
        dataset: PairDataset,
        *,
        batch_size: int,
        seed: int,
        device: str | torch.device = "cpu",
        rows: slice = slice(None),
    ) -> None:
        """
        Args:
            batch_size: pairs in a batch.
            rows: which of them to read, where several processes share a batch.
        """
        self._dataset = dataset
        self._batch_size, self._seed = batch_size, seed
        self._device, self._rows = torch.device(device), rows
        self._next = 0  # the number of the next batch
        self._tokens = 0  # of the batches before, which differ in length
        self._pool: tuple[int, list[list[EncodedPair]]] = (-1, [])

    def next_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next ids, targets and sources: see `PairDataset.batch`."""
        number, place = divmod(self._next, BATCHES_IN_POOL)
        if self._pool[0] != number:
            self._pool = (number, self._make_pool(number))
        pairs = self._pool[1][place]
        self._next += 1
        self._tokens += sum(len(target) for _, target in pairs)
        return self._dataset.batch(pairs[self._rows], self._device)

    def peek(self) -> tuple[Tensor, Tensor, Tensor]:
        """The batch that `next_batch` will give, which stays the next one."""
        state = self.state_dict()
        batch = self.next_batch()
        self.load_state_dict(state)
        return batch

    def num_tokens(self, batches: int) -> int:
        """How many targets the batches so far had, over all rows, without padding."""
        assert batches == self._next, "the loader counts what it has read"
        return self._tokens

    def state_dict(self) -> dict[str, Any]:
        """The position of the loader, as JSON values."""
        return {"batches": self._next, "tokens": self._tokens}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._next, self._tokens = state["batches"], state["tokens"]

    def _make_pool(self, number: int) -> list[list[EncodedPair]]:
        size = self._batch_size
        texts = self._dataset.task.pool(number, BATCHES_IN_POOL * size, self._seed)
        pairs = self._dataset.encode(texts)
        order = by_length(pairs)
        generator = np.random.Generator(np.random.PCG64([self._seed, number]))
        batches = generator.permutation(BATCHES_IN_POOL) * size
        return [[pairs[place] for place in order[start : start + size]] for start in batches]


def by_length(pairs: Sequence[EncodedPair]) -> list[int]:
    """The places of the pairs, the shortest source first, and of equals the shortest target."""
    return sorted(range(len(pairs)), key=lambda place: (len(pairs[place][0]), len(pairs[place][1])))


def pad(rows: Sequence[npt.ArrayLike], fill: int) -> Ids:
    """Rows of different lengths as one array (B, longest), int64, filled up at their ends.

    >>> pad([[1, 2, 3], [4]], 0).tolist()
    [[1, 2, 3], [4, 0, 0]]
    """
    arrays = [np.asarray(row, dtype=np.int64) for row in rows]
    padded = np.full((len(arrays), max(map(len, arrays))), fill, dtype=np.int64)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    batch = tokenizer.encode_batch(texts)
    end = tokenizer.vocab_size
    return [np.append(batch[number].astype(np.int64), end) for number in range(len(batch))]


def _require_val(split: str) -> None:
    # Pairs to train on may have no end.
    if split != "val":
        raise UnknownNameError("split", split, ["val"])
