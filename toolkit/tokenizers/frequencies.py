"""How often tokens occur: two old laws, and two numbers for how evenly a vocabulary is used.

- Heaps' law (Heaps 1978, "Information retrieval", section 7.5): among the first n tokens of a text
  there are about K n^β different ones. β near 0 is a vocabulary that is soon complete (characters),
  β around 0.5 one that never is (words).
- Zipf's law (Zipf 1949): the token of rank r occurs about C r^-s times, with s around 1 for words.
- The entropy of the distribution of tokens, and its Rényi efficiency (Zouhar et al. 2023,
  "Tokenization and the noiseless channel"), which they found to go with translation quality.

Both laws are fitted as straight lines through points that are spread evenly on a logarithmic scale,
by least squares of the logarithms; without the spreading, the rarest tokens would decide alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.errors import UsageError

RENYI_ORDER = 2.5
"""The order α with which Zouhar et al. found the best agreement."""


@dataclass(frozen=True)
class PowerLaw:
    """y = `coefficient` · x ^ `exponent`."""

    coefficient: float
    exponent: float

    def at(self, x: float) -> float:
        """y at x."""
        return float(self.coefficient * x**self.exponent)


@dataclass(frozen=True)
class HeapsPoint:
    """How many different tokens there are among the first `tokens_read`."""

    tokens_read: int
    distinct: int


@dataclass(frozen=True)
class ZipfPoint:
    """How often the token of rank `rank` occurs; 1 is the most frequent one."""

    rank: int
    count: int


def heaps_curve(
    ids: Sequence[int] | npt.NDArray[np.unsignedinteger],
    *,
    every: int | None = None,
    per_doubling: int = 1,
) -> list[HeapsPoint]:
    """Distinct tokens against tokens read, for the ids of a text in order.

    Args:
        ids: the text.
        every: tokens between two points; None doubles: after 1, 2, 4, … tokens. The last point is
            the whole text either way.
        per_doubling: without `every`, how many points there are while the tokens read double.

    >>> [(point.tokens_read, point.distinct) for point in heaps_curve([7, 7, 5, 7, 9])]
    [(1, 1), (2, 1), (4, 2), (5, 3)]

    Raises:
        UsageError: `every` or `per_doubling` is below 1.
    """
    array = np.asarray(ids)
    _, first_places = np.unique(array, return_index=True)
    return heaps_of_first_places(first_places, len(array), every=every, per_doubling=per_doubling)


def heaps_of_first_places(
    first_places: npt.NDArray[Any],
    num_tokens: int,
    *,
    every: int | None = None,
    per_doubling: int = 1,
) -> list[HeapsPoint]:
    """`heaps_curve`, from the place where each distinct token occurs first (counted from 0)."""
    if every is not None and every < 1:
        raise UsageError(f"every {every} must be at least 1")
    if every is None:
        reads = spread(num_tokens, per_doubling)
    else:
        reads = [*range(every, num_tokens, every), *([num_tokens] if num_tokens else [])]
    distinct = np.searchsorted(np.sort(first_places), reads, side="left")
    return [HeapsPoint(n, int(d)) for n, d in zip(reads, distinct, strict=True)]


def zipf_curve(
    counts: Sequence[int] | npt.NDArray[Any], *, per_doubling: int = 8
) -> list[ZipfPoint]:
    """Rank against frequency, for the number of times that each token occurs, in any order.

    Args:
        counts: one for each token; zeros are left out.
        per_doubling: how many points there are while the rank doubles; 0 gives every rank.

    >>> [(point.rank, point.count) for point in zipf_curve([1, 0, 7, 3], per_doubling=0)]
    [(1, 7), (2, 3), (3, 1)]

    Raises:
        UsageError: `per_doubling` is negative.
    """
    array = np.asarray(counts)
    ordered = np.sort(array[array > 0])[::-1]
    if per_doubling == 0:
        return [ZipfPoint(rank, count) for rank, count in enumerate(ordered.tolist(), start=1)]
    return [ZipfPoint(r, int(ordered[r - 1])) for r in spread(len(ordered), per_doubling)]


def spread(last: int, per_doubling: int) -> list[int]:
    """Numbers from 1 to `last`, both included, evenly spread on a logarithmic scale.

    >>> spread(10, 1), spread(10, 3)
    ([1, 2, 4, 8, 10], [1, 2, 3, 4, 5, 6, 8, 10])

    Raises:
        UsageError: `per_doubling` is below 1.
    """
    if per_doubling < 1:
        raise UsageError(f"per_doubling {per_doubling} must be at least 1")
    if last < 1:
        return []
    steps = range(last.bit_length() * per_doubling)
    numbers = {round(2 ** (step / per_doubling)) for step in steps}
    return sorted({number for number in numbers if number < last} | {last})


def fit_heaps(points: Sequence[HeapsPoint]) -> PowerLaw | None:
    """Heaps' law through the points; None where there are fewer than two."""
    return _fit([p.tokens_read for p in points], [p.distinct for p in points])


def fit_zipf(points: Sequence[ZipfPoint]) -> PowerLaw | None:
    """Zipf's law through the points (its exponent is negative); None with fewer than two."""
    return _fit([p.rank for p in points], [p.count for p in points])


def _fit(x: Sequence[int], y: Sequence[int]) -> PowerLaw | None:
    """The line through the logarithms that is best by least squares."""
    if len(x) < 2:
        return None
    log_x, log_y = np.log(np.array(x, np.float64)), np.log(np.array(y, np.float64))
    dx, dy = log_x - log_x.mean(), log_y - log_y.mean()
    exponent = float((dx * dy).sum() / (dx * dx).sum())
    return PowerLaw(float(np.exp(log_y.mean() - exponent * log_x.mean())), exponent)


def entropy(counts: Sequence[int] | npt.NDArray[Any], *, order: float = 1.0) -> float:
    """The Rényi entropy of the distribution of tokens in bits; of order 1, Shannon's.

    >>> entropy([2, 2, 2, 2]), entropy([2, 1, 1]), entropy([3, 0])
    (2.0, 1.5, 0.0)

    Raises:
        UsageError: all counts are zero, or the order is negative.
    """
    if order < 0:
        raise UsageError(f"order {order} must not be negative")
    array = np.asarray(counts, np.float64)
    array = array[array > 0]
    if not len(array):
        raise UsageError("There are no tokens whose entropy could be computed.")
    p = array / array.sum()
    if order == 1:
        bits = -(p * np.log2(p)).sum()
    else:
        bits = np.log2((p**order).sum()) / (1 - order)
    return abs(float(bits))  # never "-0.0"


def renyi_efficiency(
    counts: Sequence[int] | npt.NDArray[Any], *, order: float = RENYI_ORDER
) -> float:
    """The Rényi entropy of the tokens as a share of the largest there could be, 0 to 1.

    The largest is that of tokens that are all equally frequent: the logarithm of how many different
    ones occur. With a single one the efficiency is 1.

    >>> round(renyi_efficiency([5, 5, 5]), 4), round(renyi_efficiency([8, 1, 1]), 4)
    (1.0, 0.3319)

    Raises:
        UsageError: all counts are zero, or the order is negative.
    """
    bits = entropy(counts, order=order)
    distinct = int(np.count_nonzero(np.asarray(counts)))
    return bits / math.log2(distinct) if distinct > 1 else 1.0
