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


def _by_frequency(text: str) -> dict[str, int]:
    ordered = [character for character, _ in Counter(text).most_common()]
    return {character: number for number, character in enumerate(ordered)}


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


def _by_twos(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged = []
    for i in range(0, len(ids), 2):
        merged += [new_id] if tuple(ids[i : i + 2]) == pair else ids[i : i + 2]
    return merged


def _either_order(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged = []
    position = 0
    while position < len(ids):
        found = tuple(ids[position : position + 2]) in (pair, pair[::-1])
        merged.append(new_id if found else ids[position])
        position += 2 if found else 1
    return merged


def _left_id_alone(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged = []
    position = 0
    while position < len(ids):
        found = ids[position] == pair[0]
        merged.append(new_id if found else ids[position])
        position += 2 if found else 1
    return merged


def _past_the_end(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged = []
    position = 0
    while position < len(ids):
        found = ids[position] == pair[0] and ids[position + 1] == pair[1]
        merged.append(new_id if found else ids[position])
        position += 2 if found else 1
    return merged


def _several(ids: list[int], pair: tuple[int, int], new_ids: list[int]) -> list[int]:
    """`merge`, with any number of ids in the place of each pair."""
    marked = merge(ids, pair, -1)
    return [token for old in marked for token in (new_ids if old == -1 else [old])]


EXERCISES = (
    Exercise(
        build_vocabulary,
        inputs=(("abba",), ("Hello world",), ("",), ("zyx zyx!",)),
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
            Mistake(
                "A set has no order, so the ids are others in each run of Python: sort it "
                "before you number it.",
                lambda text: {character: number for number, character in enumerate(set(text))},
            ),
            Mistake(
                "That is the character's number in Unicode. Its id is its place among the "
                "sorted characters of this text.",
                lambda text: {character: ord(character) for character in text},
            ),
            Mistake(
                "That is the place in the text; the id is the place among the sorted characters.",
                lambda text: {character: text.index(character) for character in text},
            ),
            Mistake(
                "That is how often each character occurs, not its id.",
                lambda text: dict(Counter(text)),
            ),
            Mistake(
                "These are the characters in order; now make a dictionary of their places "
                "(enumerate).",
                lambda text: sorted(set(text)),
            ),
            Mistake(
                "The most frequent character comes first; order them by `sorted`.",
                _by_frequency,
            ),
            Mistake(
                "The order is reversed: the first of `sorted` has the id 0.",
                lambda text: {c: i for i, c in enumerate(sorted(set(text), reverse=True))},
            ),
            Mistake(
                "A space is a character too, and gets an id.",
                lambda text: build_vocabulary(text.replace(" ", "")),
            ),
            Mistake(
                "Capital letters are characters of their own: do not change the text.",
                lambda text: build_vocabulary(text.lower()),
            ),
            Mistake(
                "Only one dictionary is asked for: from characters to ids.",
                lambda text: (build_vocabulary(text), _ids_first(text)),
            ),
            Mistake(
                "The characters of the text get ids, not its words: `set(text)`, without split.",
                lambda text: (
                    build_vocabulary(text)
                    and {w: i for i, w in enumerate(sorted(set(text.split())))}
                ),
            ),
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
            Mistake(
                "Each pair is the wrong way round: the left neighbour comes first.",
                lambda ids: dict(Counter(zip(ids[1:], ids, strict=False))),
            ),
            Mistake(
                "The last id has no right neighbour: the first one is not its neighbour.",
                lambda ids: dict(Counter(zip(ids, ids[1:] + ids[:1], strict=True))),
            ),
            Mistake(
                "The last id has no right neighbour, so ids[i + 1] does not exist there: "
                "range(len(ids) - 1).",
                lambda ids: dict(Counter((ids[i], ids[i + 1]) for i in range(len(ids)))),
            ),
            Mistake(
                "Each count is one too low: the first time counts as 1, not as 0.",
                lambda ids: {pair: count - 1 for pair, count in count_pairs(ids).items()},
            ),
            Mistake(
                "These are the counts of single ids: the key is a pair, (left, right).",
                lambda ids: dict(Counter(ids)),
            ),
            Mistake(
                "Only neighbours are a pair, not any two ids.",
                lambda ids: dict(Counter(itertools.combinations(ids, 2))),
            ),
            Mistake(
                "A pair that occurs once counts too.",
                lambda ids: {pair: n for pair, n in count_pairs(ids).items() if n > 1},
            ),
            Mistake(
                "Counts, not shares of the whole: do not divide.",
                lambda ids: {pair: n / (len(ids) - 1) for pair, n in count_pairs(ids).items()},
            ),
            Mistake(
                "A dictionary from pairs to counts, not a list: leave out most_common or items.",
                lambda ids: Counter(itertools.pairwise(ids)).most_common(),
            ),
        ),
    ),
    Exercise(
        merge,
        inputs=(
            ([1, 2, 3, 1, 2], (1, 2), 9),
            ([1, 1, 1], (1, 1), 9),
            ([3, 1, 2, 1], (1, 2), 9),
            ([4, 4, 4, 4, 5], (4, 4), 6),
            ([2, 1, 1, 2], (1, 2), 9),
            ([21, 2, 12], (1, 2), 256),
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
            Mistake(
                "A pair can begin at any position: where there is none, go on by one, not by two.",
                _by_twos,
            ),
            Mistake(
                "The order counts: (2, 1) is not the pair (1, 2).",
                _either_order,
            ),
            Mistake(
                "Look at both ids: only the left one is compared with the pair.",
                _left_id_alone,
            ),
            Mistake(
                "The last id has no right neighbour: look whether there is one before you "
                "compare it.",
                _past_the_end,
            ),
            Mistake(
                "Nothing is replaced. A slice of a list is a list, and never equal to a "
                "tuple: compare tuple(ids[i : i + 2]) with the pair.",
                lambda ids, pair, new_id: ids,
            ),
            Mistake(
                "new_id stands for the whole pair: one id in the place of two, and only where "
                "both stand together.",
                lambda ids, pair, new_id: [new_id if token in pair else token for token in ids],
            ),
            Mistake(
                "One new_id takes the place of both ids, not one for each.",
                lambda ids, pair, new_id: _several(ids, pair, [new_id, new_id]),
            ),
            Mistake(
                "The pairs are gone, but new_id does not stand in their place.",
                lambda ids, pair, new_id: _several(ids, pair, []),
            ),
        ),
    ),
)
