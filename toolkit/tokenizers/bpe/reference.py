"""Byte pair encoding in its plainest form: the page to learn from, and the oracle of the tests.

Training starts with single bytes and, again and again, gives the most frequent pair of neighbours
a new symbol. Encoding makes the same merges in the same order. Everything is recounted at each
step, so this is slow: `trainer.py` and `encoder.py` give the same results fast.

Source: Sennrich, Haddow and Birch 2016, "Neural machine translation of rare words with subword
units", algorithm 1, over bytes as in Radford et al. 2019. Left out: splitting text into words
(`patterns.py`), special tokens, thresholds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

Pair = tuple[int, int]


def count_pairs(words: Mapping[tuple[int, ...], int]) -> Counter[Pair]:
    """How often each two symbols stand side by side, given how often each word occurs."""
    counts: Counter[Pair] = Counter()
    for symbols, count in words.items():
        for pair in pairwise(symbols):
            counts[pair] += count
    return counts


def merge_pair(symbols: Sequence[int], pair: Pair, new_symbol: int) -> tuple[int, ...]:
    """Replace `pair` by `new_symbol`, from left to right.

    >>> merge_pair([1, 1, 1, 2], (1, 1), 9)
    (9, 1, 2)
    """
    merged = []
    i = 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            merged.append(new_symbol)
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return tuple(merged)


def train_reference(word_counts: Mapping[bytes, int], num_merges: int) -> list[Pair]:
    """The first `num_merges` merges (fewer if nothing is left to merge), as pairs of ids.

    Ids 0 … 255 are the bytes; the merge of rank r makes id 256 + r. Of pairs with equal counts
    the one with the smaller ids comes first.

    The example that Wikipedia's article gives, "aaabdaaabac": aa, then ab, then the two together.

    >>> train_reference({b"aaabdaaabac": 1}, 3)
    [(97, 97), (97, 98), (256, 257)]
    """
    words = {tuple(word): count for word, count in word_counts.items()}
    merges: list[Pair] = []
    while len(merges) < num_merges:
        counts = count_pairs(words)
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        new_symbol = 256 + len(merges)
        words = {merge_pair(word, best, new_symbol): count for word, count in words.items()}
        merges.append(best)
    return merges


def encode_reference(word: bytes, merges: Sequence[Pair]) -> list[int]:
    """The ids of one word: merge the pair of the lowest rank, until no pair has a rank.

    >>> encode_reference(b"aaab", [(97, 97), (97, 98), (256, 257)])
    [258]
    """
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    symbols = tuple(word)
    while True:
        pairs = [pair for pair in pairwise(symbols) if pair in ranks]
        if not pairs:
            return list(symbols)
        first = min(pairs, key=lambda pair: ranks[pair])
        symbols = merge_pair(symbols, first, 256 + ranks[first])
