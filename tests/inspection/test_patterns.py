"""Measures and classes of attention matrices that were made by hand."""

import math

import pytest
import torch
from torch import Tensor

from toolkit.inspection.patterns import (
    KINDS,
    Score,
    classify,
    distance,
    divergence,
    entropy,
    even_attention,
    received,
    received_above_even,
    repeated_scores,
    span,
    text_scores,
)

T = 16
VISIBLE = torch.ones(T, T, dtype=torch.bool).tril()
UNIFORM = even_attention(VISIBLE)
ONCE = torch.arange(T // 2)
REPEATED = torch.cat((ONCE, ONCE))[None]  # (1, T): each token twice


def looking(offset: int) -> Tensor:
    """Every query at the key `offset` before it; the first ones at the first."""
    weights = torch.zeros(T, T)
    for t in range(T):
        weights[t, max(t - offset, 0)] = 1.0
    return weights


def first_token() -> Tensor:
    return torch.eye(T)[:1].expand(T, T).clone()


def spread(width: int) -> Tensor:
    """Even attention over the last `width` positions."""
    seen = VISIBLE & (torch.arange(T)[:, None] - torch.arange(T)[None] < width)
    return seen / seen.sum(-1, keepdim=True)


def sharp_at_random() -> Tensor:
    """One key each, near and far as it comes."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.zeros(T, T)
    for t in range(T):
        weights[t, int(torch.randint(t + 1, (), generator=generator))] = 1.0
    return weights


def scores_of(weights: Tensor) -> dict[str, Score]:
    found = text_scores(weights[None], VISIBLE)[0]
    return {**found, **repeated_scores(weights[None, None], VISIBLE, REPEATED)[0]}


# On tokens of which the second half repeats the first, T/2 − 1 back is what came after the copy.
MADE = {
    "previous-token": looking(1),
    "first-token sink": first_token(),
    "induction": looking(T // 2 - 1),
    "duplicate-token": looking(T // 2),
    "local": spread(4),
    "global": UNIFORM,
    "focused": sharp_at_random(),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_matrix_of_each_kind(kind: str) -> None:
    assert classify(scores_of(MADE[kind])) == kind
    assert set(MADE) == {kind.name for kind in KINDS}


@pytest.mark.parametrize(
    "kind", ["previous-token", "first-token sink", "induction", "duplicate-token"]
)
def test_a_head_that_does_nothing_else_scores_one(kind: str) -> None:
    score = scores_of(MADE[kind])[kind]
    assert score.value == pytest.approx(1.0)
    assert score.above_chance == pytest.approx(1.0)


def test_even_attention_is_chance() -> None:
    scores = scores_of(UNIFORM)
    # By hand: the mean of 1/2 … 1/16, to the first as to the previous token.
    even = sum(1 / n for n in range(2, T + 1)) / (T - 1)
    for kind in ("previous-token", "first-token sink", "focused"):
        assert scores[kind].value == pytest.approx(even)
    # The second half of the queries, each with one copy before it.
    assert scores["duplicate-token"].value == pytest.approx(sum(1 / n for n in range(9, 17)) / 8)
    for kind, score in scores.items():
        expected = 1.0 if kind == "global" else 0.0
        assert score.above_chance == pytest.approx(expected, abs=1e-12), kind


def test_entropy_of_even_attention_is_ln_n() -> None:
    found = entropy(UNIFORM)
    assert found.tolist() == pytest.approx([math.log(n) for n in range(1, T + 1)])
    assert entropy(torch.eye(T)).tolist() == [0.0] * T


def test_received_is_normalised_by_who_can_see() -> None:
    """Three queries, by hand: position 0 is seen by 3, 1 by 2, 2 by 1."""
    weights = torch.tensor([[[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.25, 0.25, 0.5]]])
    visible = torch.ones(3, 3, dtype=torch.bool).tril()
    assert received(weights, visible)[0].tolist() == pytest.approx([0.5, 0.5, 0.5])
    # Even attention gives them 11/18, 5/12 and 1/3.
    above = received_above_even(weights, visible)[0].tolist()
    assert above == pytest.approx([0.5 * 18 / 11, 0.5 * 12 / 5, 0.5 * 3])
    assert received_above_even(UNIFORM[None], VISIBLE)[0].tolist() == pytest.approx([1.0] * T)


def test_distance_and_span() -> None:
    assert distance(looking(3)[None])[0].tolist() == [0.0, 1.0, 2.0, *[3.0] * (T - 3)]
    assert span(looking(3)[None])[0].tolist() == [1, 2, 3, *[4] * (T - 3)]
    assert span(spread(4)[None])[0].tolist() == [1, 2, 3, *[4] * (T - 3)]
    weights = torch.tensor([[[1.0, 0, 0], [0.05, 0.95, 0], [0.1, 0.8, 0.1]]])
    assert span(weights)[0].tolist() == [1, 1, 2]


def test_a_window_hides_the_first_token() -> None:
    """Queries that cannot see it do not count."""
    seen = VISIBLE & (torch.arange(T)[:, None] - torch.arange(T)[None] < 4)
    weights = spread(4)
    weights[1:4] = torch.eye(T)[0]
    scores = text_scores(weights[None], seen)[0]
    assert scores["first-token sink"].value == pytest.approx(1.0)
    assert scores["first-token sink"].above_chance == pytest.approx(1.0)


def test_without_copies_there_is_no_score() -> None:
    found = repeated_scores(UNIFORM[None, None], VISIBLE, torch.arange(T)[None])[0]
    assert found["duplicate-token"] == Score(None, None)
    assert found["induction"] == Score(None, None)


def test_divergence() -> None:
    heads = torch.stack((looking(0), looking(1), UNIFORM.float()))
    found = divergence(heads)
    assert found.diagonal().tolist() == pytest.approx([0, 0, 0])
    assert torch.equal(found, found.T)
    # One key each: 1 bit where they differ, which is everywhere but for the first query.
    assert found[0, 1].item() == pytest.approx((T - 1) / T)
    # Against even attention over n, by hand for each n.
    expected = []
    for n in range(1, T + 1):
        middle = [(1 + 1 / n) / 2] + [1 / (2 * n)] * (n - 1)
        mixed = -sum(p * math.log2(p) for p in middle)
        expected.append(mixed - math.log2(n) / 2)
    assert found[0, 2].item() == pytest.approx(sum(expected) / T, abs=1e-6)
