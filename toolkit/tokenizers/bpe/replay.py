"""Merges made again over words that are counted: how often each pair occurs when its turn comes.

Unlike training, the order is given; unlike encoding, a pair that comes about after its turn is not
merged any more. `count_merges_plainly` is the plain way and the oracle of the tests; where there
are many words, `fast/replaying.py` does the same in compiled code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from toolkit.tokenizers.bpe.learning import SMALL_TEXT, can_compile

BytesPair = tuple[bytes, bytes]


class MergeCounts(NamedTuple):
    """For each merge, in a whole text.

    Attributes:
        occurrences: of its pair when its turn comes ("aaa" holds "aa" twice).
        replaced: how many of them become a new symbol.
    """

    occurrences: list[int]
    replaced: list[int]


def count_merges(word_counts: Mapping[bytes, int], merges: Sequence[BytesPair]) -> MergeCounts:
    """Make the merges over the words, in order; in compiled code where it pays.

    >>> count_merges({b"aaab": 2, b"ab": 1}, [(b"a", b"a"), (b"a", b"b")])
    MergeCounts(occurrences=[4, 3], replaced=[2, 3])

    Args:
        word_counts: each distinct word and how often it occurs.
        merges: the pairs, in the order in which they are made.
    """
    if sum(map(len, word_counts)) > SMALL_TEXT and can_compile():
        from toolkit.tokenizers.bpe.fast.replaying import can_replay, replay

        if can_replay(merges):
            return replay(word_counts, merges)
    return count_merges_plainly(word_counts, merges)


def count_merges_plainly(
    word_counts: Mapping[bytes, int], merges: Sequence[BytesPair]
) -> MergeCounts:
    """`count_merges` in plain Python."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    occurrences = [0] * len(merges)
    replaced = [0] * len(merges)
    for word, count in word_counts.items():
        for rank, occurring, made in replay_word(word, merges, ranks):
            occurrences[rank] += occurring * count
            replaced[rank] += made * count
    return MergeCounts(occurrences, replaced)


def replay_word(
    word: bytes, merges: Sequence[BytesPair], ranks: Mapping[BytesPair, int]
) -> Iterator[tuple[int, int, int]]:
    """The merges that happen in one word: (rank, occurrences of the pair, replacements made).

    The symbols are a linked list, and `waiting` holds the places of each pair that has a rank, so
    that a word may be as long as a whole text.
    """
    symbols = [
        word[i : i + 1] for i in range(len(word))
    ]  # b"" where a symbol was merged into the one before it
    end = len(symbols)
    following = list(range(1, end + 1))
    preceding = list(range(-1, end - 1))
    waiting: dict[int, list[int]] = {}
    rank = -1

    def pair_at(place: int) -> BytesPair | None:
        there = following[place]
        return (symbols[place], symbols[there]) if there < end else None

    def note(place: int) -> None:
        pair = pair_at(place)
        # A pair that comes about after its turn is not merged any more.
        if pair is not None and ranks.get(pair, -1) > rank:
            waiting.setdefault(ranks[pair], []).append(place)

    for place in range(end - 1):
        note(place)
    while waiting:
        rank = min(waiting)
        pair = merges[rank]
        # Some have lost their left or right symbol to another pair since they were noted.
        places = sorted(place for place in waiting.pop(rank) if pair_at(place) == pair)
        made = 0
        for place in places:
            if pair_at(place) != pair:
                continue  # overlaps with the one before it, as in "aaa"
            made += 1
            there = following[place]
            symbols[place] = pair[0] + pair[1]
            symbols[there] = b""
            following[place] = following[there]
            if following[place] < end:
                preceding[following[place]] = place
                note(place)
            if preceding[place] >= 0:
                note(preceding[place])
        yield rank, len(places), made
