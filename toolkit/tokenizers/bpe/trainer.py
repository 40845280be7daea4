"""Learning merges: byte pair encoding with counts that are updated, not recounted.

The algorithm of `reference.py`, with the bookkeeping that makes it fast. The text is first cut
into words (pre-tokens) and each distinct word is kept once, with its count as a weight. All words
lie one after the other in one row of symbols, linked both ways, a boundary between each two. Three
tables follow every change:

- `counts`: how often each pair of neighbours occurs, weighted;
- `positions`: where in the row a pair occurs. Entries go stale and are checked when they are used;
- a heap of pairs by count. A pair's count only falls after the step that made it, so an entry is
  too high or right, never too low: one that is too high is put back with the right count.

A merge then costs as much as it has occurrences, however long the words are.

Ties: of pairs with equal counts, the one with the smaller ids wins (the left id first), as in
Hugging Face's `BpeTrainer`. That one numbers the bytes in another order, `CHARACTER_ORDER` in
`alphabet.py`: given as `byte_order`, it leads to the very same merges. (Its max_token_length, in
contrast, is the first length that is too long; here it is the last that is not.)

Sources: Sennrich, Haddow and Birch 2016, "Neural machine translation of rare words with subword
units"; Zouhar et al. 2023, "A formal perspective on byte-pair encoding" (the linked row and heap).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from toolkit.errors import UsageError
from toolkit.tokenizers.bpe.patterns import SplitPattern, split_pattern, utf8, well_formed

BYTE_ORDER = range(256)

_BOUNDARY = -1  # between two words
_MERGED_AWAY = -2  # was the right half of a pair


@dataclass(frozen=True, slots=True)
class PairCount:
    """A pair of neighbouring tokens.

    Attributes:
        left, right: the two ids.
        count: how often the pair occurs in the corpus; overlapping occurrences count each ("aaa"
            holds "aa" twice), although only one of them can be merged.
    """

    left: int
    right: int
    count: int


@dataclass(frozen=True, slots=True)
class MergeStep:
    """One merge that the trainer made, and the corpus after it.

    Attributes:
        rank: 0 for the first merge.
        left, right: the ids that were merged.
        new_id: the id of the new token.
        pair: the bytes of left and right.
        count: how often the pair occurred before the merge (see `PairCount`).
        num_tokens: the length of the corpus in tokens after the merge.
        symbols_in_use: how many ids occur in the corpus after the merge.
    """

    rank: int
    left: int
    right: int
    new_id: int
    pair: tuple[bytes, bytes]
    count: int
    num_tokens: int
    symbols_in_use: int

    @property
    def token(self) -> bytes:
        """The bytes of the new token."""
        return self.pair[0] + self.pair[1]


def count_pretokens(texts: Iterable[str], pattern: str | SplitPattern = "gpt2") -> dict[bytes, int]:
    """How often each pre-token occurs in `texts`, in order of first occurrence.

    >>> count_pretokens(["to be or not to be"])
    {b'to': 1, b' be': 2, b' or': 1, b' not': 1, b' to': 1}

    Raises:
        UsageError: an unknown pattern name or a broken regex, or something else than several texts.
    """
    if isinstance(texts, str):
        raise UsageError("texts must be an iterable of texts: put a single one into a list")
    split = split_pattern(pattern).split
    counts: Counter[str] = Counter()
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"Document {number} is {type(text).__name__}, not str")
        counts.update(split(well_formed(text)))
    return {utf8(word): count for word, count in counts.items()}


def check_options(min_frequency: int, max_token_length: int | None) -> None:
    """Check the options of `MergeTrainer`.

    Raises:
        UsageError: one that cannot be.
    """
    if min_frequency < 0:
        raise UsageError(f"min_frequency {min_frequency} must not be negative")
    if max_token_length is not None and max_token_length < 1:
        raise UsageError(f"max_token_length {max_token_length} must be at least 1 byte")


class MergeTrainer:
    """A corpus in its current segmentation, merged one pair at a time.

    Attributes:
        tokens: the bytes of each id: 256 single bytes, then one token for each merge made.
        num_tokens: the length of the corpus in tokens.
        symbols_in_use: how many ids occur in the corpus.

    >>> trainer = MergeTrainer({b"banana": 1})
    >>> trainer.num_tokens, trainer.symbols_in_use
    (6, 3)
    >>> trainer.next_pair()
    PairCount(left=97, right=110, count=2)
    >>> step = trainer.merge_next()
    >>> step.token, step.num_tokens, step.symbols_in_use
    (b'an', 4, 3)
    """

    def __init__(
        self,
        word_counts: Mapping[bytes, int],
        *,
        min_frequency: int = 0,
        max_token_length: int | None = None,
        byte_order: Sequence[int] = BYTE_ORDER,
    ) -> None:
        """Lay out the words and count their pairs.

        Args:
            word_counts: the distinct words (pre-tokens) and how often each occurs.
            min_frequency: pairs that occur less often are not merged.
            max_token_length: no token grows longer than this, in bytes.
            byte_order: the byte that each of the ids 0 … 255 stands for.

        Raises:
            UsageError: an option that cannot be.
        """
        check_options(min_frequency, max_token_length)
        self.tokens = [bytes([byte]) for byte in byte_order]
        self.num_tokens = 0
        self.symbols_in_use = 0
        self._num_merges = 0
        self._min_count = max(1, min_frequency)
        self._max_token_length = max_token_length
        self._symbol_counts = [0] * len(self.tokens)
        self._counts: dict[tuple[int, int], int] = {}
        self._positions: dict[tuple[int, int], list[int]] = {}
        self._heap: list[tuple[int, int, int]] = []
        self._lay_out(word_counts, byte_order)
        for pair in self._counts:
            self._offer(pair)

    def next_pair(self) -> PairCount | None:
        """The pair that `merge_next` will merge, or None when there is nothing left to merge."""
        heap = self._heap
        while heap:
            negative, left, right = heap[0]
            count = self._counts.get((left, right), 0)
            if count == -negative:
                return PairCount(left, right, count)
            if count >= self._min_count:
                heapq.heapreplace(heap, (-count, left, right))
            else:
                heapq.heappop(heap)
        return None

    def merge_next(self) -> MergeStep | None:
        """Merge the most frequent pair everywhere; None when there is nothing left to merge."""
        best = self.next_pair()
        if best is None:
            return None
        heapq.heappop(self._heap)
        left, right = best.left, best.right
        pair = self.tokens[left], self.tokens[right]
        new_id = len(self.tokens)
        self.tokens.append(pair[0] + pair[1])
        for created in self._merge_everywhere(left, right, new_id):
            self._offer(created)
        rank = self._num_merges
        self._num_merges += 1
        return MergeStep(
            rank, left, right, new_id, pair, best.count, self.num_tokens, self.symbols_in_use
        )

    def _lay_out(self, word_counts: Mapping[bytes, int], byte_order: Sequence[int]) -> None:
        """Put the words into one linked row and count symbols and pairs."""
        byte_ids = bytearray(256)
        for token_id, byte in enumerate(byte_order):
            byte_ids[byte] = token_id
        symbols = [_BOUNDARY]
        weights = [0]
        for word, count in word_counts.items():
            ids = word.translate(byte_ids)
            symbols.extend(ids)
            symbols.append(_BOUNDARY)
            weights.extend([count] * (len(ids) + 1))
            self.num_tokens += count * len(ids)
            for symbol in ids:
                self._symbol_counts[symbol] += count
            start = len(symbols) - 1 - len(ids)
            for position, pair in enumerate(pairwise(ids), start):
                if pair in self._counts:
                    self._counts[pair] += count
                    self._positions[pair].append(position)
                else:
                    self._counts[pair] = count
                    self._positions[pair] = [position]
        self._symbols = symbols
        self._weights = weights
        self._previous = list(range(-1, len(symbols) - 1))
        self._next = list(range(1, len(symbols) + 1))
        self.symbols_in_use = sum(count > 0 for count in self._symbol_counts)

    def _merge_everywhere(self, left: int, right: int, new_id: int) -> list[tuple[int, int]]:
        """Replace the pair in the row, from left to right; returns the pairs that this made."""
        symbols, weights = self._symbols, self._weights
        previous_of, next_of = self._previous, self._next
        counts, positions = self._counts, self._positions
        merged = 0
        created: list[tuple[int, int]] = []

        def add(pair: tuple[int, int], position: int, weight: int) -> None:
            if pair in counts:
                counts[pair] += weight
                positions[pair].append(position)
            else:
                counts[pair] = weight
                positions[pair] = [position]
                created.append(pair)

        # Both the row and every list of positions run from left to right: a pair's positions are
        # all found in the one step that makes the newer of its two symbols.
        for here in positions.pop((left, right)):
            there = next_of[here]
            if symbols[here] != left or symbols[there] != right:
                continue  # stale: one of the two has been merged with its other neighbour
            weight = weights[here]
            before, after = previous_of[here], next_of[there]
            if symbols[before] != _BOUNDARY:
                counts[symbols[before], left] -= weight
                add((symbols[before], new_id), before, weight)
            if symbols[after] != _BOUNDARY:
                counts[right, symbols[after]] -= weight
                add((new_id, symbols[after]), here, weight)
            symbols[here] = new_id
            symbols[there] = _MERGED_AWAY
            next_of[here] = after
            previous_of[after] = here
            merged += weight
        del counts[left, right]
        self._count_symbols(left, right, merged)
        # In "abab" the first merge makes the pair (ab, a), which the second one takes away.
        return [pair for pair in created if counts[pair] > 0]

    def _count_symbols(self, left: int, right: int, merged: int) -> None:
        counts = self._symbol_counts
        counts.append(merged)
        counts[left] -= merged
        counts[right] -= merged
        vanished = sum(counts[symbol] == 0 for symbol in {left, right})
        self.symbols_in_use += (merged > 0) - vanished
        self.num_tokens -= merged

    def _offer(self, pair: tuple[int, int]) -> None:
        """Put a pair on the heap unless it can never be merged."""
        count = self._counts[pair]
        if count < self._min_count:
            return
        if self._max_token_length is not None:
            length = len(self.tokens[pair[0]]) + len(self.tokens[pair[1]])
            if length > self._max_token_length:
                return
        heapq.heappush(self._heap, (-count, *pair))


def iter_merges(
    word_counts: Mapping[bytes, int],
    *,
    min_frequency: int = 0,
    max_token_length: int | None = None,
    byte_order: Sequence[int] = BYTE_ORDER,
) -> Iterator[MergeStep]:
    """Merge the most frequent pair, again and again, until none is left; stop when you like.

    The arguments and errors are those of `MergeTrainer`.

    >>> [step.token for step in iter_merges({b"banana": 2, b"bandana": 1})]
    [b'an', b'ban', b'ana', b'banana', b'dana', b'bandana']
    """
    trainer = MergeTrainer(
        word_counts,
        min_frequency=min_frequency,
        max_token_length=max_token_length,
        byte_order=byte_order,
    )
    while (step := trainer.merge_next()) is not None:
        yield step
