"""Encoding in compiled code: split, look up, and merge only what was never seen.

Most pre-tokens of a text occur again and again. Each thread keeps a table of the ones it has met
with their ids; a pre-token that is not there is looked up in the vocabulary, and only if it is no
token either, merged. So most of the text costs a share of one split, one hash and one comparison.

- Splitting and looking up take turns, some thousand pre-tokens at a time. So the processor begins
  with the next look-up while the table of the last one is still on its way from memory.
- The two slots that a hash leads to at first lie in one line of the cache; what occurs often is met
  early, and so is found there.
- Short pre-tokens are merged in two small arrays, long ones with a linked row and a heap: time
  grows with n log n for any text.

The results are those of `encoder.py`, exactly.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from toolkit.jit import COMPILED, inlined, kernel, part
from toolkit.tokenizers.base import TokenBatch
from toolkit.tokenizers.bpe.fast.blocks import WINDOW, split_some
from toolkit.tokenizers.bpe.fast.documents import DocumentBuffer, batches, cut_texts
from toolkit.tokenizers.bpe.fast.kept import KERNELS
from toolkit.tokenizers.bpe.fast.memory import (
    PADDING,
    SHORT,
    Bytes,
    Ids,
    Int,
    Ints,
    Word,
    Words,
    fetch_ahead,
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
from toolkit.tokenizers.bpe.fast.tables import (
    MAX_MERGES,
    MAX_TOKENS,
    Tables,
    find_token,
    insert_merges,
    last_merges,
    make_tables,
    merge_pretoken,
    splits_of_tokens,
)
from toolkit.tokenizers.bpe.fast.unicode_classes import character_classes
from toolkit.tokenizers.bpe.patterns import SplitPattern, split_pattern, well_formed
from toolkit.tokenizers.bpe.vocabulary import Vocabulary

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ID_BITS = np.uint64(20)
_TWO_IDS = np.uint64(40)
_THREE_IDS = np.uint64(60)
_ID_MASK = np.uint64((1 << 20) - 1)
_SET_SHIFT = np.uint64(40)
_NOTHING = np.uint64(0)

_SLOT = 4
_SET = 2 * _SLOT  # a line of the cache
# The table of what was met grows from 256 KiB to 16 MiB, and is then emptied.
_FEWEST_SETS = 1 << 12
_MOST_SETS = 1 << 18
_POOL_IDS = 1 << 20
_POOL_BYTES = 1 << 22
# What `Met.used` counts.
_IDS, _BYTES, _ENTRIES, _NUM_SETS = range(4)
_SHORT_TEXT = 1 << 13  # bytes that room is kept for
_LONGEST_MET = 4096  # bytes of a pre-token that is worth remembering
_CHUNK = 256  # pre-tokens that are split before they are looked up
# What a thread takes at a time, in characters; longer texts are cut into pieces of this length.
_PIECE = 1 << 18


class Met(NamedTuple):
    """What one thread has met, and its scratch.

    Attributes:
        slots: hash tables with open addressing, one for each size that the table can have: the one
            of n sets begins at set n, those before it are not used any more. (Memory that was never
            touched takes no room.) A slot is two words of key (`memory.py`; zero: free), and either
            up to three ids with their number on top, or, with zero on top, the number of ids, and
            in the last word where they are in `pool`, and a long pre-token's bytes in `pool_bytes`.
        pool, pool_bytes: see above.
        used: how much of each is: `_IDS`, `_BYTES`, `_ENTRIES`, and `_NUM_SETS`.
        cuts, firsts, seconds, places: of the pre-tokens that were split last: where each ends, its
            key, and its place in `slots`.
        scratch: for merging; at least twice as long as the longest document in bytes.
    """

    slots: Words
    pool: Ids
    pool_bytes: Bytes
    used: Ints
    cuts: Ints
    firsts: Words
    seconds: Words
    places: Ints
    scratch: Ints


@inlined
def _place_of(first: Word, second: Word, num_sets: Int) -> Int:
    """Where the search for a key begins."""
    place = to_int(hash_keys(first, second) >> _SET_SHIFT) & (num_sets - 1)
    return (place + num_sets) * _SET


@inlined
def _next_place(place: Int, num_sets: Int) -> Int:
    """The slot after `place`; after the last one comes the first."""
    place += _SLOT
    return place if place < 2 * num_sets * _SET else num_sets * _SET


@part
def _make_room(slots: Words, used: Ints, empty: bool) -> None:
    """Enlarge the table, or empty it where it cannot grow."""
    old = used[_NUM_SETS]
    if empty or 2 * old * _SET >= len(slots):
        for slot in range(old * _SET, 2 * old * _SET):
            slots[slot] = _NOTHING
        used[_IDS] = used[_BYTES] = used[_ENTRIES] = 0
        return
    used[_NUM_SETS] = 2 * old
    for slot in range(old * _SET, 2 * old * _SET, _SLOT):
        if slots[slot + 1] != _NOTHING:
            place = _place_of(slots[slot], slots[slot + 1], 2 * old)
            while slots[place + 1] != _NOTHING:
                place = _next_place(place, 2 * old)
            for word in range(_SLOT):
                slots[place + word] = slots[slot + word]


@inlined
def _packed(ids: Ints, size: Int) -> Word:
    """Up to three ids and their number in one word."""
    packed = np.uint64(size) << _THREE_IDS | np.uint64(ids[0])
    if size > 1:
        packed |= np.uint64(ids[1]) << _ID_BITS
    if size > 2:
        packed |= np.uint64(ids[2]) << _TWO_IDS
    return packed


@part
def _encode_rare(
    buffer: Bytes,
    at: Int,
    length: Int,
    tokens: Words,
    data: Bytes,
    starts: Ints,
    byte_ids: Ints,
    byte_ranks: Ids,
    merges: Words,
    new_ids: Ints,
    slots: Words,
    pool: Ids,
    pool_bytes: Bytes,
    used: Ints,
    scratch: Ints,
    out: Ids,
    count: Int,
    writing: bool,
) -> Int:
    """Encode a pre-token that is long, or has many ids, or is new; returns how many ids it has.

    What is new is looked up, or merged, and remembered.
    """
    if length < SHORT:
        first = first_key(buffer, at, length)
        second = second_key(buffer, at, length)
    else:
        first, second = long_keys(buffer, at, length)
    num_sets = used[_NUM_SETS]
    place = _place_of(first, second, num_sets)
    while item_at(slots, place + 1) != _NOTHING:
        if item_at(slots, place) == first and item_at(slots, place + 1) == second:
            ids = slots[place + 2]
            if ids >> _THREE_IDS != _NOTHING:
                if writing:
                    put(out, count, ids & _ID_MASK)
                    put(out, count + 1, ids >> _ID_BITS & _ID_MASK)
                    put(out, count + 2, ids >> _TWO_IDS & _ID_MASK)
                return to_int(ids >> _THREE_IDS)
            begin = to_int(slots[place + 3] & _LOW)
            begin_bytes = to_int(slots[place + 3] >> _HALF)
            if length < SHORT or same_bytes(buffer, at, pool_bytes, begin_bytes, length):
                size = to_int(ids)
                if writing:
                    for position in range(size):
                        put(out, count + position, to_int(item_at(pool, begin + position)))
                return size
        place = _next_place(place, num_sets)

    size = 1
    token = find_token(buffer, at, length, first, second, tokens, data, starts)
    if token >= 0:
        scratch[0] = token
    else:
        size = merge_pretoken(buffer, at, length, byte_ids, byte_ranks, merges, new_ids, scratch)
    if writing:
        for position in range(size):
            put(out, count + position, item_at(scratch, position))
    if length > _LONGEST_MET:
        return size
    ids = np.uint64(size)
    where = _NOTHING
    if length < SHORT and size <= 3:
        ids = _packed(scratch, size)
    elif used[_IDS] + size > len(pool) or used[_BYTES] + length > len(pool_bytes):
        return size  # no more room before the table is emptied
    else:
        where = np.uint64(used[_BYTES]) << _HALF | np.uint64(used[_IDS])
        for position in range(size):
            pool[used[_IDS] + position] = np.uint32(scratch[position])
        used[_IDS] += size
        if length >= SHORT:
            for position in range(length):
                pool_bytes[used[_BYTES] + position] = buffer[at + position]
            used[_BYTES] += length
    slots[place] = first
    slots[place + 1] = second
    slots[place + 2] = ids
    slots[place + 3] = where
    used[_ENTRIES] += 1
    return size


@kernel
def encode_documents(
    buffer: Bytes,
    begins: Ints,
    ends: Ints,
    classes: Bytes,
    which: Int,
    out: Ids,
    writing: bool,
    lengths: Ints,
    tokens: Words,
    data: Bytes,
    starts: Ints,
    byte_ids: Ints,
    byte_ranks: Ids,
    merges: Words,
    new_ids: Ints,
    slots: Words,
    pool: Ids,
    pool_bytes: Bytes,
    used: Ints,
    cuts: Ints,
    firsts: Words,
    seconds: Words,
    places: Ints,
    scratch: Ints,
) -> Int:
    """Encode the documents `buffer[begins[i]:ends[i]]`, and write how many ids each has to
    `lengths`.

    If `writing`, the ids of all of them go to `out`, which needs room for an id a byte and two
    more. Returns how many there are. From `tokens` on the arrays are those of `Tables` and `Met`,
    one by one: to pass them as tuples takes twice as long.
    """
    count = to_int(0)
    for document in range(len(ends)):
        before = count
        at = begins[document]
        end = ends[document]
        while at < end:
            number = split_some(buffer, at, end, classes, which, cuts)
            # At most half full: a search is short. Places found now hold until the next turn.
            full = 2 * used[_IDS] > len(pool) or 2 * used[_BYTES] > len(pool_bytes)
            if full or used[_ENTRIES] + number > used[_NUM_SETS]:
                _make_room(slots, used, full)
            num_sets = used[_NUM_SETS]
            begin = at
            for index in range(number):
                stop = item_at(cuts, index)
                length = min(stop - begin, SHORT - 1)  # longer ones are not looked for here
                first = first_key(buffer, begin, length)
                second = second_key(buffer, begin, length)
                place = _place_of(first, second, num_sets)
                fetch_ahead(slots, place)
                put(firsts, index, first)
                put(seconds, index, second)
                put(places, index, place)
                begin = stop
            for index in range(number):
                stop = item_at(cuts, index)
                first = item_at(firsts, index)
                second = item_at(seconds, index)
                place = item_at(places, index)
                other = item_at(slots, place) != first or item_at(slots, place + 1) != second
                place += other * _SLOT
                ids = item_at(slots, place + 2)
                found = item_at(slots, place) == first and item_at(slots, place + 1) == second
                if found and ids >> _THREE_IDS != _NOTHING and stop - at < SHORT:
                    if writing:
                        put(out, count, ids & _ID_MASK)
                        put(out, count + 1, ids >> _ID_BITS & _ID_MASK)
                        put(out, count + 2, ids >> _TWO_IDS & _ID_MASK)
                    count += to_int(ids >> _THREE_IDS)
                else:
                    count += _encode_rare(
                        buffer, at, stop - at,
                        tokens, data, starts, byte_ids, byte_ranks, merges, new_ids,
                        slots, pool, pool_bytes, used, scratch, out, count, writing,
                    )  # fmt: skip
                at = stop
        lengths[document] = count - before
    return count


class FastEncoder:
    """A byte-level vocabulary and its merges, ready to encode with one of the scanners.

    Safe to use from several threads: each call borrows a table of its own.
    """

    def __init__(self, vocabulary: Vocabulary, pattern: SplitPattern) -> None:
        """Build the tables; `make_encoder` knows of what they can be built."""
        self._which = SCANNERS[pattern.name]
        self._tables = make_tables(vocabulary)
        self._classes = character_classes()
        self._free: list[_Worker] = []

    def encode(self, text: str) -> list[int]:
        """The ids of one text."""
        data = _utf8(text)
        worker = self._borrow()
        out = worker.out if len(data) <= _SHORT_TEXT else np.empty(len(data) + 2, np.uint32)
        number = self._run(worker, data, out, True)
        ids: list[int] = self._numbers.take(out[:number]).tolist()
        self._free.append(worker)
        return ids

    def count(self, text: str) -> int:
        """How many ids a text has."""
        worker = self._borrow()
        number = self._run(worker, _utf8(text), _NO_IDS, False)
        self._free.append(worker)
        return number

    def _run(self, worker: _Worker, data: bytes, out: Ids, writing: bool) -> int:
        ends = worker.ends
        ends[0] = len(data)
        number: int = encode_documents(
            np.frombuffer(data + _ZEROS, np.uint8),
            _BEGIN,
            ends,
            self._classes,
            self._which,
            out,
            writing,
            ends,  # the length is written when the end has been read
            *worker.arrays_for(len(data)),
        )
        return number

    def encode_batch(self, texts: Sequence[str], num_threads: int | None = None) -> TokenBatch:
        """The ids of many texts; threads take documents of about the same size together."""
        lengths, parts = self._run_batch(texts, num_threads, writing=True)
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return TokenBatch(_joined(parts), offsets)

    def count_batch(self, texts: Sequence[str], num_threads: int | None = None) -> Ints:
        """How many ids each text has, int64; the ids themselves are not written."""
        return self._run_batch(texts, num_threads, writing=False)[0]

    def _run_batch(
        self, texts: Sequence[str], num_threads: int | None, *, writing: bool
    ) -> tuple[Ints, list[Ids]]:
        """The number of ids of each text, and all ids in some arrays, one after the other."""
        threads = num_threads or os.cpu_count() or 1
        pieces: Sequence[str] = texts
        firsts: list[int] | None = None
        if threads > 1 and self._which != NONE and any(len(text) > 2 * _PIECE for text in texts):
            pieces, firsts = [], []
            for text in texts:
                firsts.append(len(pieces))
                pieces.extend(cut_texts([text], _PIECE))

        def encode(batch: list[str]) -> tuple[Ints, Ids]:
            return self._run_documents(DocumentBuffer.pack(batch), writing)

        # While one thread makes UTF-8, which Python does on one at a time, the others encode.
        parts = list(batches(pieces, _PIECE))
        if threads == 1 or len(parts) < 2:
            results = [encode(part) for part in parts]
        else:
            with ThreadPoolExecutor(min(threads, len(parts))) as pool:
                results = list(pool.map(encode, parts))
        lengths = np.concatenate([np.zeros(0, np.int64), *(counts for counts, _ in results)])
        if firsts is not None:
            lengths = np.add.reduceat(lengths, firsts)
        return lengths, [ids for _, ids in results]

    def _run_documents(self, documents: DocumentBuffer, writing: bool) -> tuple[Ints, Ids]:
        """The number of ids of each document, and their ids."""
        lengths = np.zeros(len(documents), np.int64)
        out = np.empty(len(documents.buffer), np.uint32) if writing else _NO_IDS
        worker = self._borrow()
        number = encode_documents(
            documents.buffer,
            documents.begins,
            documents.ends,
            self._classes,
            self._which,
            out,
            writing,
            lengths,
            *worker.arrays_for(documents.longest),
        )
        self._free.append(worker)
        return lengths, out[:number]

    @cached_property
    def _numbers(self) -> npt.NDArray[Any]:
        # The smallest power of two, so that tokenizers seldom need tables of their own.
        num_tokens = len(self._tables.starts) - 1
        return _python_numbers((num_tokens - 1).bit_length())

    def _borrow(self) -> _Worker:
        """One that no other thread uses. Whoever is done appends it to `_free`; not after an
        exception, when a slot may be half written. (Lists pop and append in one step.)"""
        try:
            return self._free.pop()
        except IndexError:
            return _Worker(self._tables)


def make_encoder(vocabulary: Vocabulary, pattern: SplitPattern) -> FastEncoder | None:
    """The compiled encoder; None where there is none for a pattern, or no room for a vocabulary."""
    if (
        not COMPILED
        or pattern.name not in SCANNERS
        or len(vocabulary.tokens) > MAX_TOKENS
        or len(vocabulary.merged_ids) >= MAX_MERGES
    ):
        return None
    prepare_encoding()
    if not vocabulary.has_explicit_merges:
        prepare_ranks()
    return FastEncoder(vocabulary, pattern)


class _Worker:
    """What one call needs for itself.

    Attributes:
        ends: of a single document.
        out: for the ids of a short one.
    """

    def __init__(self, tables: Tables) -> None:
        met = _make_met()
        self.ends = np.zeros(1, np.int64)
        self.out = np.empty(_SHORT_TEXT + 2, np.uint32)
        self._arrays: tuple[Any, ...] = (*tables, *met)  # the last one is the scratch

    def arrays_for(self, longest: int) -> tuple[Any, ...]:
        """The last arguments of `encode_documents`, for documents of up to so many bytes."""
        if longest <= _SHORT_TEXT:
            return self._arrays
        return (*self._arrays[:-1], np.empty(2 * longest, np.int64))


@cache
def _python_numbers(bits: int) -> npt.NDArray[Any]:
    """0 … 2^bits - 1 as Python numbers: a list of ids that share them is made twice as fast."""
    return np.array(range(1 << bits), dtype=object)


_ZEROS = bytes(PADDING)
_NO_IDS = np.empty(0, np.uint32)
_BEGIN = np.zeros(1, np.int64)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return well_formed(text).encode()


def _make_met() -> Met:
    # A set must not straddle two lines of the cache.
    size = 2 * _MOST_SETS * _SET
    room = np.zeros(size + 8, np.uint64)
    skip = -room.ctypes.data % 64 // 8
    return Met(
        slots=room[skip : skip + size],
        pool=np.zeros(_POOL_IDS, np.uint32),
        pool_bytes=np.zeros(_POOL_BYTES + PADDING, np.uint8)[:_POOL_BYTES],
        used=np.array([0, 0, 0, _FEWEST_SETS]),
        cuts=np.empty(_CHUNK + 2 * WINDOW, np.int64),
        firsts=np.empty(_CHUNK + 2 * WINDOW, np.uint64),
        seconds=np.empty(_CHUNK + 2 * WINDOW, np.uint64),
        places=np.empty(_CHUNK + 2 * WINDOW, np.int64),
        scratch=np.empty(2 * _SHORT_TEXT, np.int64),
    )


def _joined(arrays: list[Ids]) -> Ids:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.uint32)


@cache
def prepare_encoding() -> None:
    """Compile, or load, all that encoding needs, whatever the vocabulary."""

    def run() -> None:
        tokens = [bytes([byte]) for byte in range(256)]
        encoder = FastEncoder(Vocabulary([*tokens, b"he"], [(104, 101)]), split_pattern("gpt2"))
        encoder.encode_batch(["the end\n" * 20, "é" * 100])

    KERNELS.prepare("encoding", [encode_documents, insert_merges], run)


def prepare_encoding_beside() -> None:
    """Have it compiled by another process, if it is not yet."""
    KERNELS.prepare_beside("encoding", [encode_documents], prepare_encoding)


@cache
def prepare_ranks() -> None:
    """Compile, or load, what only vocabularies without a list of merges need."""

    def run() -> None:
        tokens = [bytes([byte]) for byte in range(256)]
        make_tables(Vocabulary([*tokens, b"he"], None, ignore_merges=True))

    KERNELS.prepare("rank file", [splits_of_tokens, last_merges], run)
