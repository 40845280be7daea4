"""Learning merges in compiled code: the algorithm of `trainer.py` over flat arrays.

The words lie one after the other in one array of symbols. Each pair of symbols that occurs has a
number, and for that number: a count, and the list of words that it occurs in, which is a stretch
of one long array `places`. A hash table finds the number; a heap finds the best pair.

What makes it fast:

- All pairs that contain a new symbol come into being in the step that makes the symbol, and after
  it their counts only fall. So a pair's list of words is written once, into one contiguous
  stretch, and a heap entry can only be too high, never too low: one that is is put back.
- In one step many words change the counts of few pairs. The changes are summed per neighbouring
  symbol in small arrays; the hash table is asked once for each pair, not once for each place.

`control` lets another thread watch and stop the loop: it holds how many merges are done, and a
one where it should stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from toolkit.jit import inlined, kernel, part
from toolkit.tokenizers.bpe.fast.counting import WordCounts
from toolkit.tokenizers.bpe.fast.kept import KERNELS
from toolkit.tokenizers.bpe.fast.memory import Ids, Int, Ints, Word, Words, item_at, to_int

NUM_BYTES = 256
DONE, STOP = 0, 1
# The columns of the table of steps.
LEFT, RIGHT, COUNT, NUM_TOKENS, SYMBOLS_IN_USE = range(5)

_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_SAME, _BEFORE, _AFTER = range(3)
_NO_LIMIT = 1 << 60


@inlined
def _pack(left: Int, right: Int) -> Word:
    return np.uint64(left) << _HALF | np.uint64(right)


@part
def _find(table: Words, pair: Word) -> Int:
    """The place of a pair in the hash table, or the empty place where it would be."""
    mask = len(table) - 1
    place = to_int((pair * _MIX) >> _HALF) * 2 & mask
    while True:
        found = item_at(table, place)
        if found in (pair, _EMPTY):
            return place
        place = (place + 2) & mask


@part
def _enlarge(table: Words) -> Words:
    larger = np.full(2 * len(table), _EMPTY, np.uint64)
    for place in range(0, len(table), 2):
        if table[place] != _EMPTY:
            new = _find(larger, table[place])
            larger[new] = table[place]
            larger[new + 1] = table[place + 1]
    return larger


@part
def _lower(table: Words, counts: Ints, pair: Word, amount: Int) -> None:
    """Lower a pair's count; pairs that were too rare to be kept are not in the table."""
    found = _find(table, pair)
    if table[found] == pair:
        counts[to_int(table[found + 1])] -= amount


@inlined
def _comes_first(count: Int, pair: Word, other_count: Int, other: Word) -> bool:
    """Higher counts first; of equal ones the pair with the smaller ids."""
    return bool(count > other_count or (count == other_count and pair < other))


@part
def _push(counts: Ints, pairs: Words, size: Int, count: Int, pair: Word) -> None:
    """Add an entry to a heap of `size` entries."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if not _comes_first(count, pair, counts[parent], pairs[parent]):
            break
        counts[at] = counts[parent]
        pairs[at] = pairs[parent]
        at = parent
    counts[at] = count
    pairs[at] = pair


@part
def _replace_top(counts: Ints, pairs: Words, size: Int, count: Int, pair: Word) -> None:
    """Put an entry in the place of the first one."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _comes_first(
            counts[child + 1], pairs[child + 1], counts[child], pairs[child]
        ):
            child += 1
        if not _comes_first(counts[child], pairs[child], count, pair):
            break
        counts[at] = counts[child]
        pairs[at] = pairs[child]
        at = child
    counts[at] = count
    pairs[at] = pair


@part
def _more(array: Any, size: Int) -> Any:
    """A copy with room for `size` items, and for half as many again as there were."""
    larger = np.empty(max(size, len(array) + len(array) // 2), array.dtype)
    for index in range(len(array)):
        larger[index] = array[index]
    return larger


@kernel
def merge_words(
    symbols: Ids,
    begins: Ints,
    lengths: Ids,
    weights: Ints,
    token_lengths: Ints,
    num_merges: Int,
    min_count: Int,
    max_token_length: Int,
    steps: Ints,
    control: Ints,
) -> Int:
    """Merge the most frequent pair `num_merges` times, or until none is left.

    Args:
        symbols: the words' ids, 0 … 255 at first; overwritten.
        begins, lengths: where each word is in `symbols`; the lengths are overwritten.
        weights: how often each word occurs.
        token_lengths: room for the length in bytes of every id, made and to be made.
        steps: (num_merges, 5), written: left, right, count, tokens and symbols in use after it.
        control: see above.

    Returns:
        The number of merges made.
    """
    num_words = len(lengths)
    num_ids = NUM_BYTES + num_merges
    symbol_counts = np.zeros(num_ids, np.int64)
    for byte in range(NUM_BYTES):
        token_lengths[byte] = 1

    # Pairs of bytes: counted in a plain table, their words in the order of the words.
    byte_counts = np.zeros(NUM_BYTES * NUM_BYTES, np.int64)
    byte_words = np.zeros(NUM_BYTES * NUM_BYTES, np.int64)
    last_word = np.full(NUM_BYTES * NUM_BYTES, -1, np.int64)
    num_tokens = to_int(0)
    for word in range(num_words):
        end = begins[word] + lengths[word]
        num_tokens += weights[word] * lengths[word]
        for at in range(begins[word], end):
            symbol_counts[symbols[at]] += weights[word]
            if at + 1 < end:
                both = symbols[at] * NUM_BYTES + symbols[at + 1]
                byte_counts[both] += weights[word]
                if last_word[both] != word:
                    last_word[both] = word
                    byte_words[both] += 1
    num_pairs = to_int(0)
    num_places = to_int(0)
    for both in range(NUM_BYTES * NUM_BYTES):
        num_pairs += byte_words[both] > 0
        num_places += byte_words[both]

    table_size = 1 << 15
    while table_size < 8 * num_pairs:
        table_size *= 2
    table = np.full(table_size, _EMPTY, np.uint64)
    counts = np.empty(2 * num_pairs + 1024, np.int64)
    place_begins = np.empty(len(counts), np.int64)
    place_counts = np.empty(len(counts), np.int32)
    places = np.empty(num_places + num_places // 2 + 1024, np.int32)
    heap_counts = np.empty(len(counts), np.int64)
    heap_pairs = np.empty(len(counts), np.uint64)
    heap_size = 0

    num_pairs = 0
    num_places = 0
    for both in range(NUM_BYTES * NUM_BYTES):
        if byte_words[both] == 0:
            continue
        pair = _pack(both // NUM_BYTES, both % NUM_BYTES)
        found = _find(table, pair)
        table[found] = pair
        table[found + 1] = np.uint64(num_pairs)
        counts[num_pairs] = byte_counts[both]
        place_begins[num_pairs] = num_places
        place_counts[num_pairs] = 0
        num_places += byte_words[both]
        byte_words[both] = num_pairs  # from here on: the pair's number
        if counts[num_pairs] >= min_count and max_token_length >= 2:
            _push(heap_counts, heap_pairs, heap_size, counts[num_pairs], pair)
            heap_size += 1
        num_pairs += 1
    for both in range(NUM_BYTES * NUM_BYTES):
        last_word[both] = -1
    for word in range(num_words):
        for at in range(begins[word], begins[word] + lengths[word] - 1):
            both = symbols[at] * NUM_BYTES + symbols[at + 1]
            if last_word[both] != word:
                last_word[both] = word
                number = byte_words[both]
                places[place_begins[number] + place_counts[number]] = word
                place_counts[number] += 1

    symbols_in_use = 0
    for symbol in range(NUM_BYTES):
        symbols_in_use += symbol_counts[symbol] > 0

    # What one step changes, by neighbour: slot 0 is the pair of two new symbols, the others are
    # given out as neighbours turn up.
    slot_before = np.zeros(num_ids, np.int32)
    slot_after = np.zeros(num_ids, np.int32)
    neighbours = np.empty(2 * num_ids + 1, np.int32)
    sides = np.empty(2 * num_ids + 1, np.int8)
    gained = np.empty(2 * num_ids + 1, np.int64)
    lost = np.empty(2 * num_ids + 1, np.int64)
    in_words = np.empty(2 * num_ids + 1, np.int32)
    seen_in = np.empty(2 * num_ids + 1, np.int64)
    # The words that a slot's new pair occurs in, as they turn up.
    event_slots = np.empty(1 << 12, np.int32)
    event_words = np.empty(1 << 12, np.int32)

    step = 0
    while step < num_merges and heap_size > 0 and control[STOP] == 0:
        pair = heap_pairs[0]
        number = to_int(table[_find(table, pair) + 1])
        count = counts[number]
        left = to_int(pair >> _HALF)
        right = to_int(pair & np.uint64(0xFFFFFFFF))
        fits = token_lengths[left] + token_lengths[right] <= max_token_length
        if count != heap_counts[0] and count >= min_count and fits:
            _replace_top(heap_counts, heap_pairs, heap_size, count, pair)
            continue
        heap_size -= 1
        stale = count != heap_counts[0]
        _replace_top(
            heap_counts, heap_pairs, heap_size, heap_counts[heap_size], heap_pairs[heap_size]
        )
        if stale or not fits:
            continue
        new = NUM_BYTES + step
        token_lengths[new] = token_lengths[left] + token_lengths[right]

        num_slots = 1
        sides[0] = _SAME
        neighbours[0] = new
        gained[0] = lost[0] = in_words[0] = 0
        seen_in[0] = -1
        num_events = 0
        merged = to_int(0)
        for place in range(place_begins[number], place_begins[number] + place_counts[number]):
            word = places[place]
            begin = begins[word]
            end = begin + lengths[word]
            weight = weights[word]
            at = begin
            while at + 1 < end and (symbols[at] != left or symbols[at + 1] != right):
                at += 1
            if at + 1 >= end:
                continue  # merged with other neighbours since
            if num_events + 2 * lengths[word] > len(event_slots):
                event_slots = _more(event_slots, num_events + 2 * lengths[word])
                event_words = _more(event_words, num_events + 2 * lengths[word])
            kept = at  # symbols[begin:kept] is the word so far, rewritten in place
            while at < end:
                if symbols[at] != left or at + 1 >= end or symbols[at + 1] != right:
                    symbols[kept] = symbols[at]
                    kept += 1
                    at += 1
                    continue
                merged += weight
                if kept > begin:
                    before = symbols[kept - 1]
                    if before == new:
                        # The pair (new, left), gained a moment ago, is now (new, new).
                        gained[slot_after[left]] -= weight
                        slot = 0
                    else:
                        slot = slot_before[before]
                        if slot == 0:
                            slot = num_slots
                            num_slots += 1
                            slot_before[before] = slot
                            neighbours[slot] = before
                            sides[slot] = _BEFORE
                            gained[slot] = lost[slot] = in_words[slot] = 0
                            seen_in[slot] = -1
                        lost[slot] += weight
                    gained[slot] += weight
                    if seen_in[slot] != word:
                        seen_in[slot] = word
                        in_words[slot] += 1
                        event_slots[num_events] = slot
                        event_words[num_events] = word
                        num_events += 1
                if at + 2 < end:
                    after = symbols[at + 2]
                    slot = slot_after[after]
                    if slot == 0:
                        slot = num_slots
                        num_slots += 1
                        slot_after[after] = slot
                        neighbours[slot] = after
                        sides[slot] = _AFTER
                        gained[slot] = lost[slot] = in_words[slot] = 0
                        seen_in[slot] = -1
                    lost[slot] += weight
                    gained[slot] += weight
                    if seen_in[slot] != word:
                        seen_in[slot] = word
                        in_words[slot] += 1
                        event_slots[num_events] = slot
                        event_words[num_events] = word
                        num_events += 1
                symbols[kept] = new
                kept += 1
                at += 2
            lengths[word] = kept - begin

        if num_pairs + num_slots > len(counts):
            counts = _more(counts, num_pairs + num_slots)
            place_begins = _more(place_begins, len(counts))
            place_counts = _more(place_counts, len(counts))
        if heap_size + num_slots > len(heap_counts):
            heap_counts = _more(heap_counts, heap_size + num_slots)
            heap_pairs = _more(heap_pairs, len(heap_counts))
        if num_places + num_events > len(places):
            places = _more(places, num_places + num_events)
        while 4 * (num_pairs + num_slots) > len(table):
            table = _enlarge(table)
        for slot in range(num_slots):
            neighbour = neighbours[slot]
            made = _pack(new, new)
            if sides[slot] == _BEFORE:
                slot_before[neighbour] = 0
                _lower(table, counts, _pack(neighbour, left), lost[slot])
                made = _pack(neighbour, new)
            elif sides[slot] == _AFTER:
                slot_after[neighbour] = 0
                _lower(table, counts, _pack(right, neighbour), lost[slot])
                made = _pack(new, neighbour)
            seen_in[slot] = -1  # from here on: the number of the new pair
            if gained[slot] >= min_count:
                found = _find(table, made)
                table[found] = made
                table[found + 1] = np.uint64(num_pairs)
                counts[num_pairs] = gained[slot]
                place_begins[num_pairs] = num_places
                place_counts[num_pairs] = 0
                num_places += in_words[slot]
                seen_in[slot] = num_pairs
                num_pairs += 1
                _push(heap_counts, heap_pairs, heap_size, gained[slot], made)
                heap_size += 1
        counts[number] = 0
        for event in range(num_events):
            made_number = seen_in[event_slots[event]]
            if made_number >= 0:
                places[place_begins[made_number] + place_counts[made_number]] = event_words[event]
                place_counts[made_number] += 1

        symbol_counts[new] += merged
        symbol_counts[left] -= merged
        symbol_counts[right] -= merged
        num_tokens -= merged
        symbols_in_use += merged > 0
        symbols_in_use -= symbol_counts[left] == 0
        symbols_in_use -= left != right and symbol_counts[right] == 0
        steps[step, LEFT] = left
        steps[step, RIGHT] = right
        steps[step, COUNT] = count
        steps[step, NUM_TOKENS] = num_tokens
        steps[step, SYMBOLS_IN_USE] = symbols_in_use
        step += 1
        control[DONE] = step
    return step


class MergeRun:
    """One training: `run` in any thread, watched and stopped from another.

    Attributes:
        steps: int64 (num_merges, 5): left, right, count, and the tokens and symbols in use after
            it; the first `num_done` rows are there.
    """

    def __init__(
        self,
        words: WordCounts,
        num_merges: int,
        *,
        min_frequency: int = 0,
        max_token_length: int | None = None,
        byte_order: Sequence[int] = range(NUM_BYTES),
    ) -> None:
        """Lay out the words; the arguments are those of `MergeTrainer`."""
        byte_ids = np.empty(NUM_BYTES, np.int32)
        byte_ids[list(byte_order)] = np.arange(NUM_BYTES)
        self.steps = np.zeros((num_merges, 5), np.int64)
        self._symbols = byte_ids[words.data]
        self._begins = words.starts[:-1].copy()
        self._lengths = np.diff(words.starts).astype(np.int32)
        self._weights = words.counts
        self._min_count = max(1, min_frequency)
        self._max_token_length = max_token_length if max_token_length is not None else _NO_LIMIT
        self._control = np.zeros(2, np.int64)
        self._error: BaseException | None = None

    @property
    def num_done(self) -> int:
        """How many merges are made."""
        return int(self._control[DONE])

    def run(self) -> None:
        """Merge until it is done or stopped. What goes wrong is raised by `result`."""
        try:
            merge_words(
                self._symbols,
                self._begins,
                self._lengths,
                self._weights,
                np.zeros(NUM_BYTES + len(self.steps), np.int64),
                len(self.steps),
                self._min_count,
                self._max_token_length,
                self.steps,
                self._control,
            )
        except BaseException as error:
            self._error = error

    def stop(self) -> None:
        """Have `run` return after the merge that it is making."""
        self._control[STOP] = 1

    def result(self) -> Ints:
        """The rows of all merges made."""
        if self._error is not None:
            raise self._error
        return self.steps[: self.num_done]


@cache
def prepare_merging() -> None:
    """Compile, or load, all that merging needs."""

    def run() -> None:
        words = WordCounts.from_dict({b"banana": 2, b"bandana": 1})
        merging = MergeRun(words, 3)
        merging.run()
        merging.result()

    KERNELS.prepare("merging", [merge_words], run)
