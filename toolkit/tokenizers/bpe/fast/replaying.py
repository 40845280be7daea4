"""Replaying merges in compiled code: what `replay.py` does, for hundreds of thousands of words.

Each word is merged on its own in a short list of symbols, always the lowest rank that is left, and
adds to the counts of the merges that happen in it. Reading the list once a merge is quadratic in
the word's length, so words longer than `LONGEST` are left to the plain way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from toolkit.jit import kernel
from toolkit.tokenizers.bpe.fast.counting import WordCounts
from toolkit.tokenizers.bpe.fast.kept import KERNELS
from toolkit.tokenizers.bpe.fast.memory import Ints, Words, to_int
from toolkit.tokenizers.bpe.fast.tables import MAX_MERGES, MAX_TOKENS, NO_RANK, merge_table, rank_of
from toolkit.tokenizers.bpe.replay import BytesPair, MergeCounts, replay_word

LONGEST = 512
_NUM_BYTES = 256


@kernel
def replay_words(
    symbols: Ints,
    starts: Ints,
    weights: Ints,
    merges: Words,
    new_ids: Ints,
    occurrences: Ints,
    replaced: Ints,
) -> None:
    """Merge word i, which is `symbols[starts[i]:starts[i + 1]]`, and count it `weights[i]` times.

    Args:
        symbols: the ids of all words, overwritten.
        starts: where each word begins.
        weights: how often each word occurs.
        merges: the rank of each pair (`tables.py`).
        new_ids: the id that each rank makes.
        occurrences, replaced: for each rank, added to.
    """
    for word in range(len(weights)):
        begin = starts[word]
        end = starts[word + 1]
        last_rank = to_int(-1)
        while end - begin > 1:
            lowest = to_int(NO_RANK)
            left = right = symbols[begin]
            for at in range(begin, end - 1):
                rank = rank_of(symbols[at], symbols[at + 1], merges)
                if last_rank < rank < lowest:
                    lowest = rank
                    left = symbols[at]
                    right = symbols[at + 1]
            if lowest == NO_RANK:
                break
            last_rank = lowest
            for at in range(begin, end - 1):
                if symbols[at] == left and symbols[at + 1] == right:
                    occurrences[lowest] += weights[word]
            # All places of the pair from the left, and the list closed up.
            read = begin
            write = begin
            while read < end:
                if read + 1 < end and symbols[read] == left and symbols[read + 1] == right:
                    replaced[lowest] += weights[word]
                    symbols[write] = new_ids[lowest]
                    read += 2
                else:
                    symbols[write] = symbols[read]
                    read += 1
                write += 1
            end = write


def can_replay(merges: Sequence[BytesPair]) -> bool:
    """Whether the tables have room for so many merges."""
    return len(merges) < min(MAX_MERGES, MAX_TOKENS - _NUM_BYTES)


def replay(word_counts: Mapping[bytes, int], merges: Sequence[BytesPair]) -> MergeCounts:
    """`count_merges_plainly`, compiled."""
    prepare_replaying()
    return _replay(word_counts, merges)


def _replay(word_counts: Mapping[bytes, int], merges: Sequence[BytesPair]) -> MergeCounts:
    ids = {bytes([byte]): byte for byte in range(_NUM_BYTES)}
    pairs = np.empty((len(merges), 2), np.int64)
    new_ids = np.empty(len(merges) + 1, np.int64)
    for rank, (left, right) in enumerate(merges):
        pairs[rank] = ids.setdefault(left, len(ids)), ids.setdefault(right, len(ids))
        new_ids[rank] = ids.setdefault(left + right, len(ids))
    words = WordCounts.from_dict({w: n for w, n in word_counts.items() if len(w) <= LONGEST})
    occurrences = np.zeros(len(merges) + 1, np.int64)
    replaced = np.zeros(len(merges) + 1, np.int64)
    table = merge_table(pairs[:, 0].copy(), pairs[:, 1].copy(), np.arange(len(merges)))
    symbols = words.data.astype(np.int64)
    replay_words(symbols, words.starts, words.counts, table, new_ids, occurrences, replaced)
    if len(words) < len(word_counts):
        ranks = {pair: rank for rank, pair in enumerate(merges)}
        for word, count in word_counts.items():
            if len(word) > LONGEST:
                for rank, occurring, made in replay_word(word, merges, ranks):
                    occurrences[rank] += occurring * count
                    replaced[rank] += made * count
    return MergeCounts(occurrences[:-1].tolist(), replaced[:-1].tolist())


@cache
def prepare_replaying() -> None:
    """Compile, or load, all that replaying needs."""
    KERNELS.prepare("replaying", [replay_words], lambda: _replay({b"abab": 1}, [(b"a", b"b")]))
