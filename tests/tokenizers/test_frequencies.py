"""The laws and the entropies: by hand, against brute force, and against made-up laws."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.tokenizers.frequencies import (
    HeapsPoint,
    ZipfPoint,
    entropy,
    fit_heaps,
    fit_zipf,
    heaps_curve,
    renyi_efficiency,
    spread,
    zipf_curve,
)

COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any)


@given(st.lists(st.integers(0, 9), max_size=300), st.integers(1, 5))
def test_heaps_curve_counts_what_sets_count(ids: list[int], per_doubling: int) -> None:
    points = heaps_curve(ids, per_doubling=per_doubling)
    assert [p.distinct for p in points] == [len(set(ids[: p.tokens_read])) for p in points]
    assert (points[-1].tokens_read if points else 0) == len(ids)


@given(st.lists(st.integers(0, 9), max_size=300))
def test_zipf_curve_is_the_sorted_counts(ids: list[int]) -> None:
    ordered = [count for _, count in Counter(ids).most_common()]
    every = zipf_curve(np.bincount(ids, minlength=3) if ids else [0], per_doubling=0)
    assert [p.count for p in every] == ordered
    assert [p.rank for p in every] == list(range(1, len(ordered) + 1))
    some = zipf_curve(list(Counter(ids).values()))
    assert all(ordered[p.rank - 1] == p.count for p in some)


@pytest.mark.parametrize(("coefficient", "exponent"), [(3.0, 0.5), (44.0, 0.49), (1.0, 1.0)])
def test_heaps_law_is_found_again(coefficient: float, exponent: float) -> None:
    """44 n^0.49 is what Manning, Raghavan and Schütze 2008 (section 5.1.1) fit to Reuters-RCV1."""
    reads = [10**power for power in range(2, 9)]
    points = [HeapsPoint(n, round(coefficient * n**exponent)) for n in reads]
    law = fit_heaps(points)
    assert law is not None
    assert law.exponent == pytest.approx(exponent, rel=0.01)
    assert law.coefficient == pytest.approx(coefficient, rel=0.05)
    assert law.at(1_000_000) == pytest.approx(coefficient * 1e6**exponent, rel=0.02)


def test_reuters_words_as_published() -> None:
    """The same book: the law predicts 38,323 terms for the first 1,000,020 tokens."""
    law = fit_heaps([HeapsPoint(10**p, round(44 * (10**p) ** 0.49)) for p in range(3, 9)])
    assert law is not None
    assert law.at(1_000_020) == pytest.approx(38_323, rel=0.01)


def test_zipfs_law_is_found_again() -> None:
    law = fit_zipf([ZipfPoint(rank, round(1e9 * rank**-1.2)) for rank in spread(1000, 8)])
    assert law is not None
    assert law.exponent == pytest.approx(-1.2, rel=1e-3)


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=30, unique=True))
def test_the_fit_is_numpys(counts: list[int]) -> None:
    points = [ZipfPoint(rank, n) for rank, n in enumerate(sorted(counts, reverse=True), 1)]
    law = fit_zipf(points)
    slope, intercept = np.polyfit(
        np.log([p.rank for p in points]), np.log([p.count for p in points]), 1
    )
    assert law is not None
    assert law.exponent == pytest.approx(slope, rel=1e-6, abs=1e-9)
    assert math.log(law.coefficient) == pytest.approx(intercept, rel=1e-6, abs=1e-9)


def test_one_point_is_no_law() -> None:
    assert fit_heaps([HeapsPoint(1, 1)]) is None
    assert fit_zipf([]) is None


@given(st.integers(1, 5000), st.integers(1, 9))
def test_spread_numbers_rise_to_the_last(last: int, per_doubling: int) -> None:
    numbers = spread(last, per_doubling)
    assert numbers[0] == 1
    assert numbers[-1] == last
    assert numbers == sorted(set(numbers))
    assert len(numbers) <= per_doubling * last.bit_length() + 1


# -- entropy ----------------------------------------------------------------------------------


@given(COUNTS)
def test_entropy_is_the_sum(counts: list[int]) -> None:
    total = sum(counts)
    expected = -sum(n / total * math.log2(n / total) for n in counts if n)
    assert entropy(counts) == pytest.approx(expected, abs=1e-9)


@given(COUNTS, st.sampled_from([0.0, 0.5, 2.0, 2.5, 10.0]))
def test_renyi_entropy_is_the_sum(counts: list[int], order: float) -> None:
    total = sum(counts)
    power_sum = sum((n / total) ** order for n in counts if n)
    found = entropy(counts, order=order)
    assert found == pytest.approx(math.log2(power_sum) / (1 - order), abs=1e-9)
    assert found <= entropy(counts, order=0.0) + 1e-9  # falls with the order (Rényi 1961)


def test_special_orders() -> None:
    counts = [4, 2, 1, 1]
    assert entropy(counts) == 1.75  # ½·1 + ¼·2 + ⅛·3 + ⅛·3
    assert entropy(counts, order=0.0) == 2.0  # log2 of how many occur (Hartley)
    assert entropy(counts, order=2.0) == pytest.approx(math.log2(64 / 22))  # collision entropy
    assert entropy(counts, order=1.0 + 1e-7) == pytest.approx(1.75, abs=1e-5)


@given(COUNTS)
def test_efficiency_is_a_share(counts: list[int]) -> None:
    distinct = sum(n > 0 for n in counts)
    efficiency = renyi_efficiency(counts)
    if distinct == 1:
        assert efficiency == 1.0
    else:
        expected = entropy(counts, order=2.5) / math.log2(distinct)
        assert efficiency == pytest.approx(expected)
        assert 0 <= efficiency <= 1 + 1e-12


def test_what_cannot_be() -> None:
    for counts in ([], [0, 0]):
        with pytest.raises(UsageError, match="no tokens"):
            entropy(counts)
    with pytest.raises(UsageError, match="order -1"):
        entropy([1], order=-1)
    with pytest.raises(UsageError, match="per_doubling 0"):
        heaps_curve([1], per_doubling=0)
    with pytest.raises(UsageError, match="every 0"):
        heaps_curve([1], every=0)
