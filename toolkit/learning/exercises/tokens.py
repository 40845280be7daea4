"""Page 1: characters to ids, and the two functions that byte pair encoding is made of."""

from __future__ import annotations

import itertools
from collections import Counter

from toolkit.learning.exercise import Exercise, Mistake


def build_vocabulary(text: str) -> dict[str, int]:
    """Give each character of the text an id: 0 for the first in the order of `sorted`, then 1, …

    build_vocabulary("abba") is {"a": 0, "b": 1}.
    """
    return {character: number for number, character in enumerate(sorted(set(text)))}


def count_pairs(ids: list[int]) -> dict[tuple[int, int], int]:
    """How often each pair of neighbours occurs, from left to right.

    count_pairs([1, 2, 1, 2]) is {(1, 2): 2, (2, 1): 1}.
    """
    return dict(Counter(itertools.pairwise(ids)))


def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """The ids with each occurrence of the pair replaced by new_id, from left to right.

    An id can be part of one pair only: merge([1, 1, 1], (1, 1), 9) is [9, 1].
    """
    merged = []
    position = 0
    while position < len(ids):
        if tuple(ids[position : position + 2]) == pair:
            merged.append(new_id)
            position += 2
        else:
            merged.append(ids[position])
            position += 1
    return merged


def _in_order_of_appearance(text: str) -> dict[str, int]:
    return {character: number for number, character in enumerate(dict.fromkeys(text))}


def _from_one(text: str) -> dict[str, int]:
    return {character: number for number, character in enumerate(sorted(set(text)), start=1)}


def _last_place(text: str) -> dict[str, int]:
    return {character: number for number, character in enumerate(sorted(text))}


def _ids_first(text: str) -> dict[int, str]:
    return dict(enumerate(sorted(set(text))))


def _every_other_pair(ids: list[int]) -> dict[tuple[int, int], int]:
    return dict(Counter(zip(ids[::2], ids[1::2], strict=False)))


def _without_order(ids: list[int]) -> dict[tuple[int, int], int]:
    pairs = itertools.pairwise(ids)
    return dict(Counter((min(pair), max(pair)) for pair in pairs))


def _without_the_last(ids: list[int]) -> dict[tuple[int, int], int]:
    return count_pairs(ids[:-1])


def _once_each(ids: list[int]) -> dict[tuple[int, int], int]:
    return dict.fromkeys(itertools.pairwise(ids), 1)


def _keeping_the_second(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    found = [i for i in range(len(ids)) if tuple(ids[i : i + 2]) == pair]
    return [new_id if i in found else token for i, token in enumerate(ids)]


def _first_only(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    for i in range(len(ids)):
        if tuple(ids[i : i + 2]) == pair:
            return [*ids[:i], new_id, *ids[i + 2 :]]
    return ids


def _from_the_right(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    return merge(ids[::-1], (pair[1], pair[0]), new_id)[::-1]


def _losing_the_last(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged = []
    position = 0
    while position < len(ids) - 1:
        found = (ids[position], ids[position + 1]) == pair
        merged.append(new_id if found else ids[position])
        position += 2 if found else 1
    return merged


EXERCISES = (
    Exercise(
        build_vocabulary,
        inputs=(("abba",), ("hello world",), ("",), ("zyx zyx!",)),
        mistakes=(
            Mistake(
                "The ids follow the order in which characters appear; sort them first, so that "
                "the same characters always get the same ids.",
                _in_order_of_appearance,
            ),
            Mistake("The first id is 0, not 1: ids are rows of a table.", _from_one),
            Mistake(
                "Each character counts once: take the set of the text before you number it.",
                _last_place,
            ),
            Mistake("Keys and values are swapped: the character is the key.", _ids_first),
        ),
    ),
    Exercise(
        count_pairs,
        inputs=(([1, 2, 1, 2],), ([5, 5, 5],), ([3, 1, 3, 1, 2, 1, 3, 3, 2],), ([7],), ([],)),
        mistakes=(
            Mistake(
                "You go on by two. Pairs overlap: each id but the first and last is in two.",
                _every_other_pair,
            ),
            Mistake("(1, 2) and (2, 1) are different pairs: keep the order.", _without_order),
            Mistake("The last pair is missing: off by one at the end.", _without_the_last),
            Mistake("Each pair is counted once only: add 1 where it comes again.", _once_each),
        ),
    ),
    Exercise(
        merge,
        inputs=(
            ([1, 2, 3, 1, 2], (1, 2), 9),
            ([1, 1, 1], (1, 1), 9),
            ([3, 1, 2, 1], (1, 2), 9),
            ([4, 4, 4, 4, 5], (4, 4), 6),
            ([1], (1, 2), 9),
            ([], (1, 2), 9),
        ),
        mistakes=(
            Mistake(
                "After a pair both of its ids are used up: go on by two, not by one.",
                _keeping_the_second,
            ),
            Mistake("Only the first occurrence is replaced; go on to the end.", _first_only),
            Mistake("Where pairs overlap, the left one comes first.", _from_the_right),
            Mistake(
                "An id at the end that belongs to no pair is lost: off by one in the loop.",
                _losing_the_last,
            ),
        ),
    ),
)
