"""Counting pre-tokens in compiled code: only the distinct ones are kept, never the text.

Texts come in as batches of UTF-8, are cut by the scanners and counted in a hash table with open
addressing (Knuth 6.4). Every thread has a table of its own; they are added up at the end. The
bytes of a distinct pre-token are copied once into an arena.

A slot of the table is four words: the two words of the key (`memory.py`), the count, and the
pre-token's number in the arena.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from toolkit.jit import inlined, kernel
from toolkit.tokenizers.bpe.fast.blocks import split_some
from toolkit.tokenizers.bpe.fast.documents import DocumentBuffer, batches, cut_texts
from toolkit.tokenizers.bpe.fast.kept import KERNELS
from toolkit.tokenizers.bpe.fast.memory import (
    PADDING,
    SHORT,
    Bytes,
    Int,
    Ints,
    Words,
    byte_at,
    first_key,
    hash_keys,
    item_at,
    long_keys,
    put,
    same_bytes,
    second_key,
    to_int,
)
from toolkit.tokenizers.bpe.fast.scanners import NONE, SCANNERS
from toolkit.tokenizers.bpe.fast.unicode_classes import character_classes

_SLOT = 4
_CHUNK = 2048  # pre-tokens that are split at once
# Characters that are encoded at once: large enough that threads seldom wait for Python, small
# enough to stay out of the way of the tables' memory.
_BATCH = 1 << 18


@inlined
def _tally(
    buffer: Bytes,
    at: Int,
    length: Int,
    weight: Int,
    slots: Words,
    arena: Bytes,
    starts: Ints,
    state: Ints,
) -> bool:
    """Add `weight` to the count of `buffer[at:at + length]`; False, and nothing done, if full.

    `state` holds how many distinct pre-tokens there are and how many bytes of the arena are used.
    """
    mask = len(slots) - 1
    if length < SHORT:
        first = first_key(buffer, at, length)
        second = second_key(buffer, at, length)
    else:
        first, second = long_keys(buffer, at, length)
    slot = to_int(hash_keys(first, second) >> np.uint64(20)) * _SLOT & mask
    while True:
        if item_at(slots, slot) == first and item_at(slots, slot + 1) == second:
            number = to_int(item_at(slots, slot + 3))
            if length < SHORT or (
                starts[number + 1] - starts[number] == length
                and same_bytes(buffer, at, arena, starts[number], length)
            ):
                slots[slot + 2] += np.uint64(weight)
                return True
        elif item_at(slots, slot + 1) == np.uint64(0):
            break
        slot = (slot + _SLOT) & mask
    words = state[0]
    used = state[1]
    if 2 * _SLOT * words >= len(slots) or words + 1 >= len(starts) or used + length > len(arena):
        return False
    slots[slot] = first
    slots[slot + 1] = second
    slots[slot + 2] = np.uint64(weight)
    slots[slot + 3] = np.uint64(words)
    for position in range(length):
        put(arena, used + position, byte_at(buffer, at + position))
    state[0] = words + 1
    state[1] = used + length
    starts[words + 1] = used + length
    return True


@kernel
def count_documents(
    buffer: Bytes,
    begins: Ints,
    ends: Ints,
    weights: Ints,
    classes: Bytes,
    which: Int,
    cuts: Ints,
    slots: Words,
    arena: Bytes,
    starts: Ints,
    state: Ints,
    place: Ints,
) -> bool:
    """Count the pre-tokens of all documents, each `weights[i]` times; False when a table is full.

    `place` is the document and the position where to go on, and holds where it stopped. `cuts` is
    scratch: where the pre-tokens end that were split last.
    """
    at = place[1]
    for document in range(place[0], len(ends)):
        end = ends[document]
        weight = weights[document]
        at = max(at, begins[document])
        while at < end:
            for index in range(split_some(buffer, at, end, classes, which, cuts)):
                stop = item_at(cuts, index)
                if not _tally(buffer, at, stop - at, weight, slots, arena, starts, state):
                    place[0] = document
                    place[1] = at
                    return False
                at = stop
    return True


@kernel
def _rehash(old: Words, new: Words) -> None:
    """Put every used slot of `old` into the empty table `new`."""
    mask = len(new) - 1
    for slot in range(0, len(old), _SLOT):
        if old[slot + 1] == np.uint64(0):
            continue
        place = to_int(hash_keys(old[slot], old[slot + 1]) >> np.uint64(20)) * _SLOT & mask
        while new[place + 1] != np.uint64(0):
            place = (place + _SLOT) & mask
        for word in range(_SLOT):
            new[place + word] = old[slot + word]


@kernel
def _collect(slots: Words, counts: Ints) -> None:
    """The count of each pre-token, by its number."""
    for slot in range(0, len(slots), _SLOT):
        if slots[slot + 1] != np.uint64(0):
            counts[to_int(slots[slot + 3])] = to_int(slots[slot + 2])


@dataclass(frozen=True)
class WordCounts:
    """Distinct pre-tokens and how often each occurs.

    Attributes:
        data: the bytes of all of them, one after the other.
        starts: where each begins in `data`, and where the last one ends (one more than words).
        counts: how often each occurs.
        dropped_words, dropped_occurrences: what `max_memory` made it forget.
    """

    data: Bytes
    starts: Ints
    counts: Ints
    dropped_words: int = 0
    dropped_occurrences: int = 0

    def __len__(self) -> int:
        return len(self.counts)

    def to_dict(self) -> dict[bytes, int]:
        """The same as a dict, for the plain trainer."""
        data, starts = self.data.tobytes(), self.starts.tolist()
        words = (data[begin:end] for begin, end in pairwise(starts))
        return dict(zip(words, self.counts.tolist(), strict=True))

    @classmethod
    def from_dict(cls, counts: Mapping[bytes, int]) -> WordCounts:
        """The inverse of `to_dict`."""
        starts = np.zeros(len(counts) + 1, np.int64)
        np.cumsum([len(word) for word in counts], out=starts[1:])
        data = np.frombuffer(b"".join(counts), np.uint8)
        return cls(data, starts, np.fromiter(counts.values(), np.int64, len(counts)))


class WordTable:
    """The distinct pre-tokens of what was counted so far, and how often each occurs.

    Attributes:
        limit: how many bytes the table may take, or None.
        dropped_words, dropped_occurrences: what was forgotten to keep within it.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.dropped_words = 0
        self.dropped_occurrences = 0
        self._cuts = np.empty(_CHUNK, np.int64)
        self._clear()

    def _clear(self) -> None:
        self._slots = np.zeros(_SLOT << 15, np.uint64)
        self._arena = np.zeros(1 << 17, np.uint8)
        self._starts = np.zeros(1 << 14, np.int64)
        self._state = np.zeros(2, np.int64)

    def __len__(self) -> int:
        return int(self._state[0])

    @property
    def num_bytes(self) -> int:
        """How much memory the table takes."""
        return self._slots.nbytes + self._arena.nbytes + self._starts.nbytes

    def count(self, documents: DocumentBuffer, which: int) -> None:
        """Count the pre-tokens of some documents, as one of the scanners cuts them."""
        ones = np.ones(len(documents), np.int64)
        self._count(documents.buffer, documents.begins, documents.ends, ones, which)
        self._keep_within_limit()

    def add(self, words: WordCounts) -> None:
        """Add ready-made counts; each word is a document that is not split."""
        self._add(words.data, words.starts, words.counts)
        self.dropped_words += words.dropped_words
        self.dropped_occurrences += words.dropped_occurrences
        self._keep_within_limit()

    def words(self) -> WordCounts:
        """What was counted."""
        counts = np.zeros(len(self), np.int64)
        _collect(self._slots, counts)
        starts = self._starts[: len(self) + 1].copy()
        data = self._arena[: starts[-1]].copy()
        return WordCounts(data, starts, counts, self.dropped_words, self.dropped_occurrences)

    def _keep_within_limit(self) -> None:
        """Where the table is too large, forget the rarest words: at least half of them.

        That is, all that were counted at most k times, for the smallest k that leaves no more than
        half. (Manku and Motwani 2002, "Approximate frequency counts over data streams", prove how
        little such a rule loses of what is frequent.)
        """
        if self.limit is None or self.num_bytes <= self.limit:
            return
        words = self.words()
        middle = (len(words) - 1) // 2
        at_most = int(np.partition(words.counts, middle)[middle])
        keep = words.counts > at_most
        self.dropped_words += int(len(words) - keep.sum())
        self.dropped_occurrences += int(words.counts[~keep].sum())
        lengths = np.diff(words.starts)
        starts = np.zeros(int(keep.sum()) + 1, np.int64)
        np.cumsum(lengths[keep], out=starts[1:])
        self._clear()
        self._add(words.data[np.repeat(keep, lengths)], starts, words.counts[keep])

    def _add(self, data: Bytes, starts: Ints, counts: Ints) -> None:
        padded = np.frombuffer(data.tobytes() + bytes(PADDING), np.uint8)
        self._count(padded, starts[:-1], starts[1:], counts, NONE)

    def _count(self, buffer: Bytes, begins: Ints, ends: Ints, weights: Ints, which: int) -> None:
        batch = (buffer, begins, ends, weights, character_classes(), which, self._cuts)
        place = np.zeros(2, np.int64)
        while not count_documents(*batch, *self._tables(), place):
            self._make_room()

    def _tables(self) -> tuple[Words, Bytes, Ints, Ints]:
        # Loads may run past a word's end: the arena's last bytes stay free.
        return self._slots, self._arena[:-PADDING], self._starts, self._state

    def _make_room(self) -> None:
        """Double whatever is full; if that does not do, it is called again."""
        if 2 * _SLOT * len(self) >= len(self._slots):
            larger = np.zeros(2 * len(self._slots), np.uint64)
            _rehash(self._slots, larger)
            self._slots = larger
        elif len(self) + 1 >= len(self._starts):
            self._starts = np.concatenate([self._starts, np.zeros_like(self._starts)])
        else:
            self._arena = np.concatenate([self._arena, np.zeros_like(self._arena)])


def count_words(
    texts: Iterable[str],
    which: int,
    *,
    num_threads: int | None = None,
    max_memory: int | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> WordCounts:
    """Count the pre-tokens of `texts` as scanner `which` cuts them.

    The texts are read once, some megabytes at a time; memory grows with the distinct pre-tokens
    alone. If their tables outgrow half of `max_memory` bytes, the rarest are forgotten (see
    `WordTable`): the result says how many. The other half is for enlarging the tables, and for
    merging. Which ones are forgotten depends on `num_threads`, since each thread has a table of its
    own. `on_progress` is told how many characters have been taken in.
    """
    num_threads = num_threads or os.cpu_count() or 1
    limit = max_memory // 2 if max_memory is not None else None
    tables = [WordTable(limit and limit // num_threads) for _ in range(num_threads)]
    running: list[Future[None] | None] = [None] * num_threads
    pieces = texts if which == NONE else cut_texts(texts, _BATCH)
    taken = 0
    with ThreadPoolExecutor(num_threads) as pool:
        for number, batch in enumerate(batches(pieces, _BATCH)):
            turn = number % num_threads  # always the same table for the same batch
            _wait_for(running[turn])
            taken += sum(map(len, batch))
            running[turn] = pool.submit(_count_batch, tables[turn], batch, which)
            if on_progress is not None:
                on_progress(taken)
        for future in running:
            _wait_for(future)
    total = max(tables, key=len)
    total.limit = limit
    for table in tables:
        if table is not total:
            total.add(table.words())
    return total.words()


def _count_batch(table: WordTable, batch: list[str], which: int) -> None:
    table.count(DocumentBuffer.pack(batch), which)


def _wait_for(future: Future[None] | None) -> None:
    if future is not None:
        future.result()  # raises what the thread raised


@cache
def prepare_counting() -> None:
    """Compile, or load, all that counting needs."""

    def run() -> None:
        table, other = WordTable(), WordTable()
        texts = ["to be or not to be, that is the question\n" * 3, "é" * 20]
        table.count(DocumentBuffer.pack(texts), SCANNERS["gpt2"])
        other.add(table.words())
        _rehash(table._slots, np.zeros_like(table._slots))

    KERNELS.prepare("counting", [count_documents], run)
