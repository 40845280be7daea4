"""Page 4: the mean of the past, in loops, as a matrix, and as a softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.learning.exercise import Exercise, Mistake


def average_loop(x: Tensor) -> Tensor:
    """The mean of each position and all before it, (T, C) to (T, C), in loops.

    Row t of the result is the mean of the rows 0 … t of x: t + 1 rows, itself included.
    """
    means = []
    for t in range(len(x)):
        total = torch.zeros_like(x[0])
        for s in range(t + 1):
            total = total + x[s]
        means.append(total / (t + 1))
    return torch.stack(means)


def average_matrix(x: Tensor) -> Tensor:
    """The same, (T, C) to (T, C), without a loop: a matrix A (T, T) times x.

    A[t, s] is 1 / (t + 1) where s ≤ t, else 0. `torch.ones(T, T).tril()` is a start.
    """
    ones = torch.ones(len(x), len(x)).tril()
    return (ones / ones.sum(dim=1, keepdim=True)) @ x


def causal_softmax(scores: Tensor) -> Tensor:
    """Weights (T, T) from any scores (T, T): a softmax of each row over the past alone.

    Row t is a distribution over the positions 0 … t; the positions after t have weight 0.
    Scores in the future become −∞ before the softmax.
    """
    future = torch.ones_like(scores).triu(diagonal=1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    return weights @ x


def _normalised(ones: Tensor, dim: int = 1) -> Tensor:
    return ones / ones.sum(dim=dim, keepdim=True)


def _ones(x: Tensor, diagonal: int = 0) -> Tensor:
    return torch.ones(len(x), len(x)).tril(diagonal)


def _masked(scores: Tensor, diagonal: int, fill: float, dim: int) -> Tensor:
    hidden = torch.ones_like(scores).triu(diagonal).bool()
    return scores.masked_fill(hidden, fill).softmax(dim=dim)


def _mistakes() -> tuple[Mistake, ...]:
    """The same in loops and as a matrix."""
    return (
        Mistake(
            "Mask off by one: position t itself is left out. It counts among the t + 1.",
            lambda x: _weighted(x, _ones(x, -1) / torch.arange(len(x)).clamp(min=1)[:, None]),
        ),
        Mistake(
            "Mask off by one: position t is left out, and the sum divided by t + 1 all the same.",
            lambda x: _weighted(x, _ones(x, -1) / torch.arange(1, len(x) + 1)[:, None]),
        ),
        Mistake(
            "Mask off by one: position t itself is left out, and the first row is 0 / 0.",
            lambda x: _weighted(x, _normalised(_ones(x, -1))),
        ),
        Mistake(
            "Mask off by one: position t sees t + 1, which is the future.",
            lambda x: _weighted(x, _normalised(_ones(x, 1))),
        ),
        Mistake(
            "No mask: every position is the mean of all, the future included.",
            lambda x: x.mean(dim=0).expand_as(x).clone(),
        ),
        Mistake(
            "The sum instead of the mean: divide row t by t + 1.",
            lambda x: x.cumsum(dim=0),
        ),
        Mistake(
            "Divided by T everywhere: row t is a mean of t + 1 rows.",
            lambda x: x.cumsum(dim=0) / len(x),
        ),
        Mistake(
            "Normalised over the wrong axis: each row of A sums to 1 (dim=1), not each column.",
            lambda x: _weighted(x, _normalised(_ones(x), dim=0)),
        ),
    )


def _after(x: Tensor) -> Tensor:
    return _weighted(x, _normalised(torch.ones(len(x), len(x)).triu()))


def _in_place(x: Tensor) -> Tensor:
    for t in range(len(x)):
        x[t] = x[: t + 1].mean(dim=0)
    return x


def _running(x: Tensor) -> Tensor:
    means = [x[0]]
    for row in x[1:]:
        means.append((means[-1] + row) / 2)
    return torch.stack(means)


_X = torch.tensor([[1.0, 2.0], [3.0, -4.0], [8.0, 5.0]])
_INPUTS = ((_X,), (torch.tensor([[6.0], [3.0], [1.0], [8.0]]),), (torch.tensor([[5.0, 1.0, 2.0]]),))
_SCORES = torch.tensor([[0.5, 2.0, -1.0], [1.0, 0.0, 3.0], [2.0, -1.0, 1.0]])

EXERCISES = (
    Exercise(
        average_loop,
        inputs=_INPUTS,
        mistakes=(
            *_mistakes(),
            Mistake(
                "This is the mean of each position and all after it: the inner loop goes from "
                "0 to t.",
                _after,
            ),
            Mistake(
                "Divided by t: there are t + 1 rows from 0 to t, and in the first row one.",
                lambda x: x.cumsum(dim=0) / torch.arange(len(x)).clamp(min=1)[:, None],
            ),
            Mistake(
                "Divided by t: there are t + 1 rows from 0 to t, and t is 0 in the first row.",
                lambda x: x.cumsum(dim=0) / torch.arange(len(x))[:, None],
            ),
            Mistake(
                "The mean over the channels: it goes over positions (dim=0).",
                lambda x: x.cumsum(dim=1) / torch.arange(1, x.size(1) + 1),
            ),
            Mistake(
                "One mean of everything: each channel has its own (dim=0).",
                lambda x: average_loop(x).mean(dim=1, keepdim=True).expand_as(x),
            ),
            Mistake(
                "The total goes on growing: begin each t with a new one.",
                lambda x: x.cumsum(dim=0).cumsum(dim=0) / torch.arange(1, len(x) + 1)[:, None],
            ),
            Mistake(
                "Every row holds the last total: += changes one tensor that all of them "
                "share. Use total = total + x[t].",
                lambda x: x.sum(dim=0) / torch.arange(1, len(x) + 1)[:, None],
            ),
            Mistake(
                "Only the last row: keep one for each t, and stack them after the loop.",
                lambda x: x.mean(dim=0),
            ),
            Mistake(
                "Only the first row: is there a return inside of the loop?",
                lambda x: x[0],
            ),
            Mistake(
                "x itself is overwritten, so later means are means of means: write into "
                "another tensor.",
                _in_place,
            ),
            Mistake(
                "Half of the last mean and half of row t: row t is to count as much as each "
                "before it, 1 / (t + 1).",
                _running,
            ),
            Mistake(
                "Only the last two rows: all rows from 0 to t count.",
                lambda x: torch.stack(
                    [x[max(t - 1, 0) : t + 1].mean(dim=0) for t in range(len(x))]
                ),
            ),
            Mistake(
                "dim=1 is the channels: the mean of some rows is over dim=0.",
                lambda x: torch.stack([x[: t + 1].mean(dim=1) for t in range(len(x))]),
            ),
            Mistake(
                "Whole numbers: `//` cuts the rest off. Divide with `/`.",
                lambda x: x.cumsum(dim=0) // torch.arange(1, len(x) + 1)[:, None],
            ),
        ),
    ),
    Exercise(
        average_matrix,
        inputs=_INPUTS,
        mistakes=(
            *_mistakes(),
            Mistake(
                "A is transposed: this is the mean of each position and all after it (tril, "
                "not triu).",
                _after,
            ),
            Mistake(
                "A is transposed after the division: A[t, s] is the weight that t gives s.",
                lambda x: _weighted(x, _normalised(_ones(x)).T),
            ),
            Mistake(
                "Without keepdim=True the sums lie along a row, and each column is divided by "
                "one of them: A[t, s] is 1 / (t + 1).",
                lambda x: _weighted(x, _ones(x) / _ones(x).sum(dim=1)),
            ),
            Mistake(
                "Divided by the sum of all of A: each row has its own (dim=1).",
                lambda x: _weighted(x, _ones(x) / _ones(x).sum()),
            ),
            Mistake(
                "The order of the product: A (T, T) comes first, then x (T, C).",
                lambda x: x @ _normalised(_ones(x)),
            ),
            Mistake(
                "A product of matrices is @; * multiplies number by number.",
                lambda x: _normalised(_ones(x)) * x,
            ),
            Mistake(
                "These are the weights A: multiply them with x.",
                lambda x: _normalised(_ones(x)),
            ),
            Mistake(
                "Divided by t, which is 0 in the first row: row t is a mean of t + 1 rows.",
                lambda x: _weighted(x, _ones(x) / torch.arange(len(x))[:, None]),
            ),
            Mistake(
                "A softmax of ones and zeros weighs the future too: exp(0) is 1. Divide by "
                "the sums, or put −∞ there.",
                lambda x: _weighted(x, _ones(x).softmax(dim=1)),
            ),
        ),
        loops="average_loop",
    ),
    Exercise(
        causal_softmax,
        inputs=((torch.zeros(3, 3),), (_SCORES,), (torch.tensor([[4.0]]),)),
        mistakes=(
            Mistake(
                "Softmax over the wrong axis: each row is a distribution, so dim=-1.",
                lambda scores: _masked(scores, 1, -torch.inf, 0),
            ),
            Mistake(
                "Masked with 0: exp(0) is 1, so the future still counts. Use −∞.",
                lambda scores: _masked(scores, 1, 0.0, -1),
            ),
            Mistake(
                "Mask off by one: a position hides itself, and the first row has nothing left. "
                "triu(diagonal=1) begins above the diagonal.",
                lambda scores: _masked(scores, 0, -torch.inf, -1),
            ),
            Mistake(
                "Mask off by one: each position sees the next one.",
                lambda scores: _masked(scores, 2, -torch.inf, -1),
            ),
            Mistake("No mask: the future is seen.", lambda scores: scores.softmax(dim=-1)),
            Mistake(
                "Masked after the softmax, and the rest does not sum to 1: mask the scores first.",
                lambda scores: scores.softmax(dim=-1).tril(),
            ),
            Mistake(
                "The past is masked instead of the future: triu is what lies after t.",
                lambda scores: scores.masked_fill(
                    torch.ones_like(scores).tril(-1).bool(), -torch.inf
                ).softmax(dim=-1),
            ),
            Mistake(
                "Not normalised: divide by the sum of the row, as softmax does.",
                lambda scores: scores.exp().tril(),
            ),
            Mistake(
                "The softmax is missing: these are still scores.",
                lambda scores: scores.masked_fill(
                    torch.ones_like(scores).triu(1).bool(), -torch.inf
                ),
            ),
            Mistake(
                "One softmax of the whole matrix: each row is a distribution (dim=-1).",
                lambda scores: (
                    scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
                    .flatten()
                    .softmax(dim=0)
                    .view_as(scores)
                ),
            ),
            Mistake(
                "The scores are not used: these are the weights of the mean.",
                lambda scores: _normalised(_ones(scores)),
            ),
            Mistake(
                "+∞ instead of −∞: the future should have no weight at all.",
                lambda scores: _masked(scores, 1, torch.inf, -1),
            ),
            Mistake(
                "0 · ∞ is no number: put −∞ in with masked_fill instead of multiplying.",
                lambda scores: (scores + torch.ones_like(scores).triu(1) * -torch.inf).softmax(
                    dim=-1
                ),
            ),
            Mistake(
                "Masked with −1: the future still has some weight. Use −∞.",
                lambda scores: _masked(scores, 1, -1.0, -1),
            ),
            Mistake(
                "Masked with −10: the future still has some weight. Use −∞.",
                lambda scores: _masked(scores, 1, -10.0, -1),
            ),
            Mistake(
                "These are logarithms of the weights: softmax, not log_softmax.",
                lambda scores: scores.masked_fill(
                    torch.ones_like(scores).triu(1).bool(), -torch.inf
                ).log_softmax(dim=-1),
            ),
            Mistake(
                "Scores can be negative: divide their exp by its sum, not the scores themselves.",
                lambda scores: _normalised(scores.tril()),
            ),
            Mistake(
                "The past and the position itself are masked: what lies after t is "
                "triu(diagonal=1).",
                lambda scores: scores.masked_fill(
                    torch.ones_like(scores).tril().bool(), -torch.inf
                ).softmax(dim=-1),
            ),
            Mistake(
                "The scores are transposed: row t holds what t thinks of each s.",
                lambda scores: causal_softmax(scores.T),
            ),
            Mistake(
                "Scores are taken as they are here: no division by a root.",
                lambda scores: causal_softmax(scores / len(scores) ** 0.5),
            ),
        ),
    ),
)
