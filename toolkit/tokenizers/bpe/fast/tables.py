"""A vocabulary as flat arrays, and what a pre-token becomes by it.

Two hash tables with open addressing (Knuth 6.4): bytes → token, and pair of tokens → rank. An entry
of the second is a single word, so that a look-up seldom touches more than one line of the cache.

A tiktoken rank file allows every pair of tokens that are a token together. But only one pair ever
makes a given token, the one that its own bytes come down to (see `vocabulary.py`); only these are
kept, a quarter of all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from toolkit.jit import inlined, kernel, part
from toolkit.tokenizers.bpe.fast.memory import (
    PADDING,
    SHORT,
    Bytes,
    Ids,
    Int,
    Ints,
    Word,
    Words,
    byte_at,
    first_key,
    hash_keys,
    item_at,
    long_keys,
    same_bytes,
    second_key,
    to_int,
)
from toolkit.tokenizers.bpe.vocabulary import Vocabulary

# A merge is one word: the left id, the right id, the rank.
_ID_BITS = np.uint64(20)
_RANK_BITS = np.uint64(24)
_RANK_MASK = np.uint64((1 << 24) - 1)
NO_RANK = 1 << 24
# Before each of the two tables stands a filter (Bloom 1970), a bit for each hash: most pairs of
# neighbours are no merge, most new words no token, and 128 KiB stay closer to the processor than
# the tables do.
_FILTER = 1 << 14
_FILTER_WORD = np.uint64(64 - 14)
_FILTER_BIT = np.uint64(64 - 14 - 6)
_TOKEN_SHIFT = np.uint64(20)
MAX_TOKENS = 1 << 20
MAX_MERGES = 1 << 24

_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_SLOT = 4
_SMALL = 64  # bytes of a pre-token that is merged in plain arrays
_PLACE_BITS = 32


class Tables(NamedTuple):
    """A vocabulary and its merges.

    Attributes:
        tokens: a filter, then a hash table of the tokens that a whole pre-token becomes without
            merging: two words of key (see `memory.py`), the id, and one that is not used.
        data, starts: token i is `data[starts[i]:starts[i + 1]]`; no bytes if it is no plain token.
        byte_ids: the id of each byte.
        byte_ranks: the rank of each pair of bytes, uint32 (65536,): where merging begins.
        merges: a filter, then a hash table: left id, right id and rank in one word.
        new_ids: the id that each rank makes.
    """

    tokens: Words
    data: Bytes
    starts: Ints
    byte_ids: Ints
    byte_ranks: Ids
    merges: Words
    new_ids: Ints


def make_tables(vocabulary: Vocabulary) -> Tables:
    """The tables of a vocabulary with at most `MAX_TOKENS` ids."""
    tokens = [token or b"" for token in vocabulary.tokens]
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    starts = np.zeros(len(tokens) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    data = np.frombuffer(b"".join([*tokens, bytes(PADDING)]), np.uint8)
    byte_ids = np.array(vocabulary.byte_ids)
    byte_ranks = np.empty(1 << 16, np.uint32)
    scratch = np.empty(2 * int(lengths.max()), np.int64)
    # At most half full. The table of all tokens serves to find the merges of rank files, too.
    table = np.zeros(_FILTER + (_SLOT << max(10, (2 * len(tokens)).bit_length())), np.uint64)
    everything = np.flatnonzero(lengths > 0)
    if vocabulary.has_explicit_merges:
        pairs = np.array(list(vocabulary.pair_ranks), np.int64).reshape(-1, 2)
        ranks = np.array(list(vocabulary.pair_ranks.values()), np.int64)
        merges = merge_table(pairs[:, 0], pairs[:, 1], ranks)
        new_ids = np.array([*vocabulary.merged_ids, 0])
        list_byte_ranks(byte_ids, merges, byte_ranks)
    else:
        insert_tokens(data, starts, everything, table)
        none = np.empty((0, 3), np.int64)
        rows = np.empty((splits_of_tokens(data, starts, table, none), 3), np.int64)
        splits_of_tokens(data, starts, table, rows)
        merges = merge_table(rows[:, 0], rows[:, 1], rows[:, 2])
        new_ids = np.arange(len(tokens))
        list_byte_ranks(byte_ids, merges, byte_ranks)
        count = last_merges(data, starts, byte_ids, byte_ranks, merges, new_ids, scratch, rows)
        merges = merge_table(rows[:count, 0], rows[:count, 1], rows[:count, 2])
        list_byte_ranks(byte_ids, merges, byte_ranks)
        table[:] = 0
    chosen = everything
    if not vocabulary.ignore_merges:
        chosen = np.empty(len(tokens), np.int64)
        count = reproducible_tokens(
            data, starts, byte_ids, byte_ranks, merges, new_ids, scratch, chosen
        )
        chosen = chosen[:count]
    insert_tokens(data, starts, chosen, table)
    return Tables(table, data, starts, byte_ids, byte_ranks, merges, new_ids)


def merge_table(lefts: Ints, rights: Ints, ranks: Ints) -> Words:
    table = np.full(_FILTER + (1 << max(8, (2 * len(lefts)).bit_length())), _EMPTY, np.uint64)
    table[:_FILTER] = 0
    insert_merges(lefts, rights, ranks, table)
    return table


@inlined
def _filter_bit(mixed: Word) -> Word:
    """The place of a hash's bit in its word of a filter."""
    return (mixed >> _FILTER_BIT) & np.uint64(63)


@part
def _insert_token(data: Bytes, at: Int, length: Int, token: Int, table: Words) -> None:
    """Put a token into the table of the vocabulary, if its bytes are not there yet."""
    mask = len(table) - _FILTER - 1
    if length < SHORT:
        first = first_key(data, at, length)
        second = second_key(data, at, length)
    else:
        first, second = long_keys(data, at, length)
    mixed = hash_keys(first, second)
    table[to_int(mixed >> _FILTER_WORD)] |= _ONE << _filter_bit(mixed)
    slot = _FILTER + (to_int(mixed >> _TOKEN_SHIFT) * _SLOT & mask)
    while table[slot + 1] != _ZERO:
        slot = _FILTER + ((slot - _FILTER + _SLOT) & mask)
    table[slot] = first
    table[slot + 1] = second
    table[slot + 2] = np.uint64(token)


@part
def find_token(
    buffer: Bytes,
    at: Int,
    length: Int,
    first: Word,
    second: Word,
    table: Words,
    data: Bytes,
    starts: Ints,
) -> Int:
    """The id of the token that is `buffer[at:at + length]`, or -1."""
    mixed = hash_keys(first, second)
    if (item_at(table, to_int(mixed >> _FILTER_WORD)) >> _filter_bit(mixed)) & _ONE == _ZERO:
        return -1
    mask = len(table) - _FILTER - 1
    slot = _FILTER + (to_int(mixed >> _TOKEN_SHIFT) * _SLOT & mask)
    while True:
        if item_at(table, slot) == first and item_at(table, slot + 1) == second:
            token = to_int(item_at(table, slot + 2))
            if length < SHORT or (
                starts[token + 1] - starts[token] == length
                and same_bytes(buffer, at, data, starts[token], length)
            ):
                return token
        elif item_at(table, slot + 1) == _ZERO:
            return -1
        slot = _FILTER + ((slot - _FILTER + _SLOT) & mask)


@kernel
def insert_tokens(data: Bytes, starts: Ints, chosen: Ints, table: Words) -> None:
    """Put the chosen tokens into the empty table of a vocabulary."""
    for token in chosen:
        length = starts[token + 1] - starts[token]
        _insert_token(data, starts[token], length, token, table)


@kernel
def splits_of_tokens(data: Bytes, starts: Ints, table: Words, rows: Ints) -> Int:
    """Every way to put a token together from two tokens: (left, right, token) for each.

    In tiktoken's rank files these are the merges. Returns how many there are; rows that do not
    fit into `rows` are not written.
    """
    count = 0
    for token in range(len(starts) - 1):
        begin = starts[token]
        end = starts[token + 1]
        for cut in range(begin + 1, end):
            left = _token_at(data, begin, cut - begin, table, starts)
            if left < 0:
                continue
            right = _token_at(data, cut, end - cut, table, starts)
            if right < 0:
                continue
            if count < len(rows):
                rows[count, 0] = left
                rows[count, 1] = right
                rows[count, 2] = token
            count += 1
    return count


@part
def _token_at(data: Bytes, at: Int, length: Int, table: Words, starts: Ints) -> Int:
    if length < SHORT:
        first = first_key(data, at, length)
        second = second_key(data, at, length)
    else:
        first, second = long_keys(data, at, length)
    return find_token(data, at, length, first, second, table, data, starts)


@kernel
def insert_merges(lefts: Ints, rights: Ints, ranks: Ints, merges: Words) -> None:
    """Fill the empty table of merges: pair of ids → rank, all three in one word."""
    mask = len(merges) - _FILTER - 1
    for number in range(len(lefts)):
        pair = _pack(lefts[number], rights[number])
        mixed = pair * _MIX
        merges[to_int(mixed >> _FILTER_WORD)] |= _ONE << _filter_bit(mixed)
        slot = _FILTER + (to_int(mixed >> _HALF) & mask)
        while merges[slot] != _EMPTY and merges[slot] >> _RANK_BITS != pair:
            slot = _FILTER + ((slot - _FILTER + 1) & mask)
        entry = pair << _RANK_BITS | np.uint64(ranks[number])
        if entry < merges[slot]:  # of two merges of one pair, the one that comes first
            merges[slot] = entry


@inlined
def _pack(left: Int, right: Int) -> Word:
    return np.uint64(left) << _ID_BITS | np.uint64(right)


@inlined
def rank_of(left: Int, right: Int, merges: Words) -> Int:
    """The rank of a pair, or `NO_RANK`."""
    pair = _pack(left, right)
    mixed = pair * _MIX
    if (item_at(merges, to_int(mixed >> _FILTER_WORD)) >> _filter_bit(mixed)) & _ONE == _ZERO:
        return NO_RANK
    mask = len(merges) - _FILTER - 1
    slot = to_int(mixed >> _HALF) & mask
    while True:
        entry = item_at(merges, _FILTER + slot)
        if entry >> _RANK_BITS == pair:
            return to_int(entry & _RANK_MASK)
        if entry == _EMPTY:
            return NO_RANK
        slot = (slot + 1) & mask


@kernel
def list_byte_ranks(byte_ids: Ints, merges: Words, byte_ranks: Ids) -> None:
    """Write the rank of every pair of bytes, or `NO_RANK`."""
    for left in range(256):
        for right in range(256):
            rank = rank_of(byte_ids[left], byte_ids[right], merges)
            byte_ranks[left << 8 | right] = rank


@inlined
def _first_rank(buffer: Bytes, at: Int, byte_ranks: Ids) -> Int:
    """The rank of the two bytes at `at`."""
    pair = byte_at(buffer, at) << 8 | byte_at(buffer, at + 1)
    return to_int(item_at(byte_ranks, pair))


@part
def merge_small(
    buffer: Bytes,
    at: Int,
    length: Int,
    byte_ids: Ints,
    byte_ranks: Ids,
    merges: Words,
    new_ids: Ints,
    until: Int,
    ids: Ints,
) -> Int:
    """Merge a short pre-token in `ids` until so many tokens are left, or nothing can be merged.

    Returns the number of tokens. `ids` has room for twice as many as there are bytes: the second
    half holds the ranks of the pairs.
    """
    for position in range(length):
        ids[position] = byte_ids[buffer[at + position]]
    for position in range(length - 1):
        ids[length + position] = _first_rank(buffer, at + position, byte_ranks)
    size = length
    while size > until:
        best = NO_RANK
        place = 0
        for position in range(size - 1):
            if ids[length + position] < best:
                best = ids[length + position]
                place = position
        if best == NO_RANK:
            break
        ids[place] = new_ids[best]
        size -= 1
        for position in range(place + 1, size):
            ids[position] = ids[position + 1]
            ids[length + position] = ids[length + position + 1]
        ids[length + size - 1] = NO_RANK
        if place + 1 < size:
            ids[length + place] = rank_of(ids[place], ids[place + 1], merges)
        if place > 0:
            ids[length + place - 1] = rank_of(ids[place - 1], ids[place], merges)
    return size


@part
def _push(heap: Ints, size: Int, entry: Int) -> None:
    """Add an entry to a heap of `size` entries, the smallest first."""
    at = size
    while at > 0 and heap[(at - 1) >> 1] > entry:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = entry


@part
def _drop_first(heap: Ints, size: Int) -> None:
    """Take the first entry out of a heap of `size` entries."""
    entry = heap[size - 1]
    at = 0
    child = 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = entry


@part
def merge_large(
    buffer: Bytes,
    at: Int,
    length: Int,
    byte_ids: Ints,
    byte_ranks: Ids,
    merges: Words,
    new_ids: Ints,
    ids: Ints,
) -> Int:
    """`merge_small` for any length: a linked row of symbols and a heap of pairs.

    An entry of the heap is a rank with the pair's place below it, so that of equal ranks the
    leftmost comes first.
    """
    following = np.empty(length, np.int64)
    previous = np.empty(length, np.int64)
    ranks = np.empty(length, np.int64)
    heap = np.empty(3 * length + 3, np.int64)
    for position in range(length):
        following[position] = position + 1
        previous[position] = position - 1
        ranks[position] = NO_RANK
    size = 0
    for position in range(length):
        ids[position] = byte_ids[buffer[at + position]]
    for position in range(length - 1):
        ranks[position] = _first_rank(buffer, at + position, byte_ranks)
        if ranks[position] != NO_RANK:
            _push(heap, size, ranks[position] << _PLACE_BITS | position)
            size += 1
    while size > 0:
        rank = heap[0] >> _PLACE_BITS
        place = heap[0] & ((1 << _PLACE_BITS) - 1)
        _drop_first(heap, size)
        size -= 1
        if ranks[place] != rank:
            continue  # one of the two has been merged since
        gone = following[place]
        ids[place] = new_ids[rank]
        after = following[gone]
        following[place] = after
        ranks[gone] = NO_RANK
        ids[gone] = -1
        ranks[place] = NO_RANK
        if after < length:
            previous[after] = place
            ranks[place] = rank_of(ids[place], ids[after], merges)
            if ranks[place] != NO_RANK:
                _push(heap, size, ranks[place] << _PLACE_BITS | place)
                size += 1
        before = previous[place]
        if before >= 0:
            ranks[before] = rank_of(ids[before], ids[place], merges)
            if ranks[before] != NO_RANK:
                _push(heap, size, ranks[before] << _PLACE_BITS | before)
                size += 1
    count = 0
    for position in range(length):
        if ids[position] >= 0:
            ids[count] = ids[position]
            count += 1
    return count


@part
def merge_pretoken(
    buffer: Bytes,
    at: Int,
    length: Int,
    byte_ids: Ints,
    byte_ranks: Ids,
    merges: Words,
    new_ids: Ints,
    ids: Ints,
) -> Int:
    """Merge `buffer[at:at + length]` into `ids`, which has room for twice as many as there are
    bytes; returns the number of tokens."""
    if length <= _SMALL:
        return merge_small(
            buffer, at, length, byte_ids, byte_ranks, merges, new_ids, to_int(1), ids
        )
    return merge_large(buffer, at, length, byte_ids, byte_ranks, merges, new_ids, ids)


@kernel
def reproducible_tokens(
    data: Bytes,
    starts: Ints,
    byte_ids: Ints,
    byte_ranks: Ids,
    merges: Words,
    new_ids: Ints,
    scratch: Ints,
    chosen: Ints,
) -> Int:
    """The tokens that their own bytes merge to; writes their ids, returns how many."""
    count = to_int(0)
    for token in range(len(starts) - 1):
        begin = starts[token]
        length = starts[token + 1] - begin
        if length > 0:
            size = merge_pretoken(
                data, begin, length, byte_ids, byte_ranks, merges, new_ids, scratch
            )
            if size == 1 and scratch[0] == token:
                chosen[count] = token
                count += 1
    return count


@kernel
def last_merges(
    data: Bytes,
    starts: Ints,
    byte_ids: Ints,
    byte_ranks: Ids,
    merges: Words,
    new_ids: Ints,
    scratch: Ints,
    rows: Ints,
) -> Int:
    """For each token the pair that its own bytes come down to: (left, right, token).

    No other pair ever makes the token (see `vocabulary.py`), so no other needs to be looked up.
    Returns how many rows were written.
    """
    count = to_int(0)
    for token in range(len(starts) - 1):
        begin = starts[token]
        length = starts[token + 1] - begin
        if length < 2:
            continue
        size = merge_small(
            data, begin, length, byte_ids, byte_ranks, merges, new_ids, to_int(2), scratch
        )
        if size == 2 and rank_of(scratch[0], scratch[1], merges) == token:
            rows[count, 0] = scratch[0]
            rows[count, 1] = scratch[1]
            rows[count, 2] = token
            count += 1
    return count
