"""Linear probes: what can be read off the residual stream by one matrix.

A probe is a ridge regression from the stream (N, C) to what is asked for; a class is the one with
the largest output, with one output each. It is fitted on three of four positions and judged on the
fourth, beside the score of always saying the commonest answer. Alain and Bengio 2016,
arXiv:1610.01644. A probe shows that something is there, not that the model uses it (Hewitt and
Liang 2019, arXiv:1909.03368). Left out: probes with hidden layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.errors import UsageError

PROBES = ("position", "token-class", "next-token")
HELD_OUT_EVERY = 4
MIN_TOKENS = 16
RIDGE = 0.1  # times the mean squared length of a row: there may be more channels than rows


@dataclass(frozen=True)
class Probe:
    """One probe of one point of the stream.

    Attributes:
        asked: one of `PROBES`.
        point: name of the stream's place.
        measure: "R²" for a position, "accuracy" for a class.
        score: on positions that it was not fitted on.
        chance: the same of a constant answer: the mean position, the commonest class.
        n_fitted, n_judged: positions.
    """

    asked: str
    point: str
    measure: str
    score: float
    chance: float
    n_fitted: int
    n_judged: int


def probe_number(stream: Tensor, numbers: Tensor) -> tuple[float, float]:
    """R² on held-out rows of a number (N) read from a stream (N, C), and that of the mean."""
    fitted, judged = _split(len(stream))
    predict = _ridge(stream[fitted], numbers[fitted].double()[:, None], stream[judged])[:, 0]
    truth = numbers[judged].double()
    spread = (truth - truth.mean()).square().sum()
    r2 = 1.0 - (truth - predict).square().sum() / spread
    constant = 1.0 - (truth - numbers[fitted].double().mean()).square().sum() / spread
    return float(r2), float(constant)


def probe_class(stream: Tensor, classes: Tensor) -> tuple[float, float]:
    """Accuracy on held-out rows of a class (N) read from a stream (N, C), and that of always
    saying the commonest one."""
    fitted, judged = _split(len(stream))
    one_hot = torch.nn.functional.one_hot(classes).double()
    predicted = _ridge(stream[fitted], one_hot[fitted], stream[judged]).argmax(-1)
    commonest = classes[fitted].bincount().argmax()
    truth = classes[judged]
    return float((predicted == truth).double().mean()), float((truth == commonest).double().mean())


def _split(n: int) -> tuple[Tensor, Tensor]:
    if n < MIN_TOKENS:
        raise UsageError(f"A probe needs at least {MIN_TOKENS} tokens; there are {n}.")
    held_out = torch.arange(n) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]


def _ridge(x: Tensor, y: Tensor, x_new: Tensor) -> Tensor:
    """Ridge regression in float64: y (N, K) from x (N, C), predicted for x_new (M, C)."""
    x, x_new = x.double(), x_new.double()
    center, offset = x.mean(0), y.mean(0)
    x, x_new = x - center, x_new - center
    # By rows rather than channels: N is the smaller number here.
    gram = x @ x.T  # (N, N)
    strength = RIDGE * gram.diagonal().mean().clamp(min=1e-12)
    eye = torch.eye(len(x), dtype=torch.float64)
    dual = torch.linalg.solve(gram + strength * eye, y - offset)  # (N, K)
    predicted: Tensor = x_new @ (x.T @ dual) + offset  # (M, K)
    return predicted
