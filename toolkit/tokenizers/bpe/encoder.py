"""Encoding: the merges of training, made again on new text.

Each pre-token is merged on its own, always the pair of the lowest rank, and what came out is
remembered: in ordinary text most pre-tokens have been seen before. Two ways to merge give the same
result. Short words keep the ranks of their pairs in a list. Long ones ("a" a hundred thousand
times) keep their symbols linked and their pairs on a heap, in n log n steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from toolkit.tokenizers.base import TokenBatch
from toolkit.tokenizers.bpe.patterns import SplitPattern, utf8, well_formed
from toolkit.tokenizers.bpe.vocabulary import NO_RANK, Pair, Vocabulary, merge_ids

# Where the two ways take equally long.
LONG_WORD = 128
# A cache of short words: long ones seldom come twice, and would make its size unforeseeable.
CACHE_SIZE = 1 << 16
LONGEST_CACHED = 64

_MERGED_AWAY = -1


class Encoder:
    """Text to ids, for one vocabulary and one split pattern.

    Safe to use from several threads: the cache is a dict, written one entry at a time.
    """

    def __init__(self, vocabulary: Vocabulary, pattern: SplitPattern) -> None:
        self._split = pattern.split
        self._byte_ids = vocabulary.byte_ids
        self._ranks = vocabulary.pair_ranks
        self._merged_ids = vocabulary.merged_ids
        self._whole_words = vocabulary.ids if vocabulary.ignore_merges else {}
        self._cache: dict[str, Sequence[int]] = {}

    def encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens; surrogates are repaired (`well_formed`)."""
        ids: list[int] = []
        cached = self._cache.get
        for word in self._split(well_formed(text)):
            found = cached(word)
            if found is None:
                found = self.encode_word(utf8(word))
                if len(word) <= LONGEST_CACHED:
                    self._remember(word, found)
            ids += found
        return ids

    def encode_batch(self, texts: Sequence[str], num_threads: int | None = None) -> TokenBatch:
        """The ids of many texts, one after the other."""
        return TokenBatch.from_lists(self.encode(text) for text in texts)

    def count(self, text: str) -> int:
        """How many ids a text has."""
        return len(self.encode(text))

    def count_batch(
        self, texts: Sequence[str], num_threads: int | None = None
    ) -> npt.NDArray[np.int64]:
        """How many ids each text has."""
        return np.array([self.count(text) for text in texts], np.int64)

    def encode_word(self, word: bytes) -> list[int]:
        """The ids of one pre-token."""
        whole = self._whole_words.get(word)
        if whole is not None:
            return [whole]
        ids = [self._byte_ids[byte] for byte in word]
        if len(ids) >= LONG_WORD:
            return merge_long(ids, self._ranks, self._merged_ids)
        merge_ids(ids, self._ranks, self._merged_ids)
        return ids

    def _remember(self, word: str, ids: list[int]) -> None:
        if len(self._cache) >= CACHE_SIZE:
            self._cache.clear()
        self._cache[word] = tuple(ids)


def merge_long(
    ids: Sequence[int], ranks: Mapping[Pair, int], merged_ids: Sequence[int]
) -> list[int]:
    """What `merge_ids` gives, for a long word: n log n steps.

    The heap holds (rank, position) for every pair of neighbours, and more: an entry is out of date
    when the pair that now begins at its position has another rank.
    """
    symbols = list(ids)
    end = len(symbols)
    following = list(range(1, end + 1))
    preceding = list(range(-1, end - 1))

    def rank_at(position: int) -> int:
        after = following[position]
        return ranks.get((symbols[position], symbols[after]), NO_RANK) if after < end else NO_RANK

    heap = [(rank_at(position), position) for position in range(end)]
    heap = [entry for entry in heap if entry[0] != NO_RANK]
    heapq.heapify(heap)
    while heap:
        rank, here = heapq.heappop(heap)
        if symbols[here] == _MERGED_AWAY or rank_at(here) != rank:
            continue
        there = following[here]
        after = following[there]
        symbols[here] = merged_ids[rank]
        symbols[there] = _MERGED_AWAY
        following[here] = after
        if after < end:
            preceding[after] = here
        for position in (preceding[here], here):
            if position >= 0 and (new_rank := rank_at(position)) != NO_RANK:
                heapq.heappush(heap, (new_rank, position))
    return [symbol for symbol in symbols if symbol != _MERGED_AWAY]
