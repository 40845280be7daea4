"""Choosing the next token: logits processors in a visible order, then one draw.

    Sampler([Temperature(0.8), TopK(50), TopP(0.9)])

A processor maps logits (B, V) to logits (B, V) and gives −∞ to a token that it rules out. The
order of the list is the order in which they work: top-p after top-k looks at the probabilities
among the k. A draw takes its randomness from explicit generators alone. Left out: what looks at
the tokens before (repetition penalties) or at whole sequences (beam search).
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import ModelError, UsageError
from toolkit.generation.strategies import DEFAULT_STRATEGY, choose_steps

EXCLUDED = float("-inf")
# Any logits up to 1e32 divided by it stay in float32's range; the draw is long since greedy.
MIN_TEMPERATURE = 1e-6


class LogitsProcessor(ABC):
    """A step between the model's logits and the draw."""

    @abstractmethod
    def __call__(self, logits: Tensor) -> Tensor:
        """New logits (B, V), −∞ for an excluded token; the ones given are not changed."""


@dataclass(frozen=True)
class Temperature(LogitsProcessor):
    """p ∝ exp(logit / temperature) (Ackley, Hinton and Sejnowski 1985, "A Learning Algorithm for
    Boltzmann Machines").

    Below 1 likely tokens become likelier, above 1 the distribution flattens, 1 changes nothing.

    >>> Temperature(0.5)(torch.tensor([[1.0, -2.0]])).tolist()
    [[2.0, -4.0]]

    Raises:
        UsageError: not a finite number of at least 1e-6.
    """

    temperature: float

    def __post_init__(self) -> None:
        _require_number("--temperature", self.temperature)
        if not MIN_TEMPERATURE <= self.temperature < math.inf:
            raise UsageError(
                f"--temperature {self.temperature:g} must be above 0 and finite (at least "
                f"{MIN_TEMPERATURE:g}). For the likeliest token every time, use --strategy greedy."
            )

    def __call__(self, logits: Tensor) -> Tensor:
        return logits / self.temperature


@dataclass(frozen=True)
class TopK(LogitsProcessor):
    """Keep the k likeliest tokens, exactly k of them (Fan, Lewis and Dauphin 2018,
    arXiv:1805.04833).

    Of equally likely tokens at the border the ones with the lower ids stay. A k of V or more
    keeps all.

    >>> TopK(2)(torch.tensor([[1.0, 3.0, 1.0, 0.0]])).tolist()
    [[1.0, 3.0, -inf, -inf]]

    Raises:
        UsageError: not a whole number, or below 1.
    """

    top_k: int

    def __post_init__(self) -> None:
        if not isinstance(self.top_k, Integral) or isinstance(self.top_k, bool):
            raise UsageError(f"--top-k {self.top_k} must be a whole number of at least 1")
        if self.top_k < 1:
            raise UsageError(f"--top-k {self.top_k} must be at least 1")

    def __call__(self, logits: Tensor) -> Tensor:
        if self.top_k >= logits.size(-1):
            return logits
        # The k-th largest logit splits the rest. Sorting would take ten times as long (V = 50,000).
        border = logits.topk(self.top_k, dim=-1).values[..., -1:]  # (B, 1)
        above = logits > border  # (B, V)
        at_border = logits == border
        room = self.top_k - above.sum(dim=-1, keepdim=True)  # (B, 1)
        stays = at_border & (at_border.cumsum(dim=-1) <= room)
        return logits.masked_fill(~(above | stays), EXCLUDED)


@dataclass(frozen=True)
class TopP(LogitsProcessor):
    """Keep the smallest set of likeliest tokens whose probability reaches p: nucleus sampling
    (Holtzman et al. 2020, arXiv:1904.09751).

    The token that crosses p stays, so at least one does. Of equally likely tokens the ones with
    the lower ids come first. 1 keeps all.

    >>> logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    >>> (TopP(0.6)(logits) > EXCLUDED).tolist()
    [[False, True, True]]

    Raises:
        UsageError: not a number above 0 and at most 1.
    """

    top_p: float

    def __post_init__(self) -> None:
        _require_number("--top-p", self.top_p)
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p:g} must be above 0 and at most 1")

    def __call__(self, logits: Tensor) -> Tensor:
        if self.top_p == 1:
            return logits
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)  # (B, V)
        reached = ordered.softmax(dim=-1).cumsum(dim=-1) >= self.top_p
        # A token is one too many if those before it reach p without it.
        excluded = torch.zeros_like(reached)
        excluded[..., 1:] = reached[..., :-1]
        return logits.masked_fill(excluded.scatter(-1, order, excluded), EXCLUDED)


@dataclass(frozen=True)
class Greedy(LogitsProcessor):
    """Keep the likeliest token alone; of equals the one with the lowest id.

    >>> Greedy()(torch.tensor([[1.0, 3.0, 3.0]])).tolist()
    [[-inf, 3.0, -inf]]
    """

    def __call__(self, logits: Tensor) -> Tensor:
        return TopK(1)(logits)


class Sampler:
    """Processors in order, then a draw from what they leave.

    `Sampler()` draws by the model's own probabilities (multinomial sampling).

    >>> sampler = Sampler([Temperature(0.5), TopK(2)])
    >>> sampler.probabilities(torch.tensor([[0.0, 2.0, -1.0, 2.0]])).tolist()
    [[0.0, 0.5, 0.0, 0.5]]
    >>> sampler.draw(torch.tensor([[0.0, 9.0, 0.0, 99.0]]), torch.Generator().manual_seed(1))
    tensor([3])
    """

    def __init__(self, processors: Sequence[LogitsProcessor] = ()) -> None:
        self.processors = tuple(processors)

    def process(self, logits: Tensor) -> Tensor:
        """All processors, one after the other: logits (B, V) to float32 logits (B, V).

        Raises:
            ModelError: a logit that is NaN or +∞.
            UsageError: another shape.
        """
        if logits.dim() != 2 or 0 in logits.shape:
            raise UsageError(f"logits must have shape (B, V), not {tuple(logits.shape)}.")
        logits = logits.float()
        if not (logits < math.inf).all():  # NaN is not below anything
            raise ModelError(
                "The model's logits are not numbers (NaN or infinity): its weights are broken. "
                "Train it again with a lower --learning-rate, or choose another run."
            )
        for processor in self.processors:
            logits = processor(logits)
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution that is drawn from: float32 (B, V), each row sums to one.

        Raises:
            ModelError: as `process`; or no token is left to draw.
        """
        probabilities = self.process(logits).softmax(dim=-1)
        if probabilities.isnan().any():
            raise ModelError(f"Every token's logit is −∞ after {self}: there is none to draw.")
        return probabilities

    def draw(
        self, logits: Tensor, generators: torch.Generator | Sequence[torch.Generator]
    ) -> Tensor:
        """One token for each row of logits (B, V): int64 (B,), on the CPU.

        Args:
            logits: on any device.
            generators: one for each row, or one for all; of the CPU, whatever the device, so that
                a seed means the same everywhere. With its own generator a row's token depends on
                its logits and its seed alone, not on the other rows.

        Raises:
            ModelError: see `probabilities`.
            UsageError: logits of another shape, not one generator for each row, or one of another
                device.
        """
        # The inverse of the distribution function at one uniform number a row. In float64, where
        # adding V probabilities loses nothing that matters.
        cumulative = self.probabilities(logits).cpu().double().cumsum(dim=-1)  # (B, V)
        rows = len(cumulative)
        if isinstance(generators, torch.Generator):
            generators = [generators] * rows
        if len(generators) != rows:
            raise UsageError(f"{rows} rows of logits need {rows} generators, not {len(generators)}")
        if any(each.device.type != "cpu" for each in generators):
            raise UsageError("A sampler's generators must be of the CPU: torch.Generator()")
        uniform = [torch.rand((), generator=each, dtype=torch.float64) for each in generators]
        target = torch.stack(uniform)[:, None] * cumulative[:, -1:]  # (B, 1), below the total
        # The first token whose cumulative probability is above the target. It has a probability
        # of its own: an excluded token adds nothing and so is never the first.
        return torch.searchsorted(cumulative, target, right=True).squeeze(-1)  # (B)

    def __repr__(self) -> str:
        return f"Sampler({list(self.processors)})"


def make_sampler(
    strategy: str = DEFAULT_STRATEGY,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    **others: float | None,
) -> Sampler:
    """The sampler of a strategy's name and options. Each option is applied or refused.

    >>> make_sampler("top-k", temperature=0.8)
    Sampler([Temperature(temperature=0.8), TopK(top_k=50)])

    Args:
        strategy: see `available_strategies`.
        temperature, top_k, top_p: see `Temperature`, `TopK`, `TopP`; None is not given. Applied
            in this order. "top-k" has a top_k of 50 and "top-p" a top_p of 0.9 where none is given.
        others: options of strategies that were added to the registry.

    Raises:
        UsageError: an unknown strategy, an option that it does not take, or a value that cannot be.
    """
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, **others}
    processors: list[LogitsProcessor] = []
    for step, value in choose_steps(strategy, given):
        kind = _import(step.processor)
        processors.append(kind() if value is None else kind(value))
    return Sampler(processors)


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _require_number(option: str, value: object) -> None:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise UsageError(f"{option} {value} must be a number")
