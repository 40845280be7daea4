"""Choosing the next token: logits processors in a visible order, then one draw.

    Sampler([Temperature(0.8), TopK(50), TopP(0.9)])

A processor maps logits (B, V) to logits (B, V) and gives −∞ to a token that it rules out. The
order of the list is the order in which they work: top-p after top-k looks at the probabilities
among the k. One that looks at the tokens before is a `ContextProcessor` and gets the rows' contexts
too. A draw takes its randomness from explicit generators alone. More processors are in `cutoffs`,
`penalties` and `constraints`; what looks at whole sequences is in `beams`.
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

from toolkit.errors import ModelError, UnknownNameError, UsageError
from toolkit.generation.contexts import Context
from toolkit.generation.strategies import (
    DEFAULT_STRATEGY,
    PROCESSORS,
    STRATEGIES,
    Step,
    choose_steps,
)
from toolkit.models.config import flag

EXCLUDED = float("-inf")
# Any logits up to 1e32 divided by it stay in float32's range; the draw is long since greedy.
MIN_TEMPERATURE = 1e-6


class LogitsProcessor(ABC):
    """A step between the model's logits and the draw."""

    @abstractmethod
    def __call__(self, logits: Tensor) -> Tensor:
        """New logits (B, V), −∞ for an excluded token; the ones given are not changed."""


class ContextProcessor(ABC):
    """A step between the model's logits and the draw that looks at the tokens before."""

    @abstractmethod
    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        """New logits (B, V), −∞ for an excluded token; the ones given are not changed.

        Args:
            logits: (B, V).
            contexts: one for each row.
        """

    def is_complete(self, context: Context) -> bool:
        """Whether a row is done: it is as it should be, and nothing may follow."""
        return False


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
        require_number("--temperature", self.temperature)
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
        require_count("--top-k", self.top_k)

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
        require_fraction("--top-p", self.top_p, highest_counts=True)

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
    """Keep the likeliest token alone, of equals the one with the lowest id: a top-k of 1 (Fan,
    Lewis and Dauphin 2018, arXiv:1805.04833).

    >>> Greedy()(torch.tensor([[1.0, 3.0, 3.0]])).tolist()
    [[-inf, 3.0, -inf]]
    """

    def __call__(self, logits: Tensor) -> Tensor:
        return TopK(1)(logits)


Processor = LogitsProcessor | ContextProcessor


class Sampler:
    """Processors in order, then a draw from what they leave.

    `Sampler()` draws by the model's own probabilities: multinomial sampling, as Shannon 1948 ("A
    Mathematical Theory of Communication", section 3) drew text.

    >>> sampler = Sampler([Temperature(0.5), TopK(2)])
    >>> sampler.probabilities(torch.tensor([[0.0, 2.0, -1.0, 2.0]])).tolist()
    [[0.0, 0.5, 0.0, 0.5]]
    >>> sampler.draw(torch.tensor([[0.0, 9.0, 0.0, 99.0]]), torch.Generator().manual_seed(1))
    tensor([3])
    """

    def __init__(self, processors: Sequence[Processor] = ()) -> None:
        self.processors = tuple(processors)

    def process(self, logits: Tensor, contexts: Sequence[Context] | None = None) -> Tensor:
        """All processors, one after the other: logits (B, V) to float32 logits (B, V).

        Args:
            logits: (B, V).
            contexts: one for each row; only a `ContextProcessor` needs them.

        Raises:
            ModelError: a logit that is NaN or +∞.
            UsageError: another shape, or no contexts where they are needed.
        """
        if logits.dim() != 2 or 0 in logits.shape:
            raise UsageError(f"logits must have shape (B, V), not {tuple(logits.shape)}.")
        logits = logits.float()
        if not logits.amax() < math.inf:  # a NaN is the largest, and not below anything
            raise ModelError(
                "The model's logits are not numbers (NaN or infinity): its weights are broken. "
                "Train it again with a lower --learning-rate, or choose another run."
            )
        for processor in self.processors:
            if isinstance(processor, LogitsProcessor):
                logits = processor(logits)
                continue
            if contexts is None or len(contexts) != len(logits):
                raise UsageError(
                    f"{processor} looks at the tokens before: give one Context for each of the "
                    f"{len(logits)} rows."
                )
            logits = processor(logits, contexts)
        return logits

    def probabilities(self, logits: Tensor, contexts: Sequence[Context] | None = None) -> Tensor:
        """The distribution that is drawn from: float32 (B, V), each row sums to one.

        Raises:
            ModelError, UsageError: as `process`; ModelError if no token is left to draw.
        """
        probabilities = self.process(logits, contexts).softmax(dim=-1)
        self._check_left(~probabilities.isnan())
        return probabilities

    def draw(
        self,
        logits: Tensor,
        generators: torch.Generator | Sequence[torch.Generator],
        contexts: Sequence[Context] | None = None,
    ) -> Tensor:
        """One token for each row of logits (B, V): int64 (B,), on the CPU.

        Args:
            logits: on any device.
            generators: one for each row, or one for all; of the CPU, whatever the device, so that
                a seed means the same everywhere. With its own generator a row's token depends on
                its logits and its seed alone, not on the other rows.
            contexts: one for each row; see `process`.

        Raises:
            ModelError: see `probabilities`.
            UsageError: logits of another shape, not one generator for each row, or one of another
                device.
        """
        if self.processors and isinstance(self.processors[-1], Greedy):
            # What is left has all of the probability: there is nothing to draw.
            check_generators(generators, len(logits))
            before = Sampler(self.processors[:-1]).process(logits, contexts)
            self._check_left(before.amax(dim=-1) > EXCLUDED)
            return _likeliest(before)
        return pick(self.probabilities(logits, contexts), generators)

    def _check_left(self, left: Tensor) -> None:
        if not left.all():
            raise ModelError(f"Every token's logit is −∞ after {self}: there is none to draw.")

    def is_complete(self, context: Context) -> bool:
        """Whether one of the processors says that a row is done."""
        return any(
            isinstance(each, ContextProcessor) and each.is_complete(context)
            for each in self.processors
        )

    def __repr__(self) -> str:
        return f"Sampler({list(self.processors)})"


def pick(probabilities: Tensor, generators: torch.Generator | Sequence[torch.Generator]) -> Tensor:
    """One token for each row of probabilities (B, V): int64 (B,), on the CPU.

    Args:
        probabilities: each row sums to one, or to any other number above 0.
        generators: see `Sampler.draw`, also for the errors.
    """
    # The inverse of the distribution function at one uniform number a row. In float64, where
    # adding V probabilities loses nothing that matters.
    cumulative = probabilities.cpu().double().cumsum(dim=-1)  # (B, V)
    rows = len(cumulative)
    each_row = check_generators(generators, rows)
    uniform = [torch.rand((), generator=each, dtype=torch.float64) for each in each_row]
    target = torch.stack(uniform)[:, None] * cumulative[:, -1:]  # (B, 1), below the total
    # The first token whose cumulative probability is above the target. It has a probability
    # of its own: an excluded token adds nothing and so is never the first.
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)  # (B)


def _likeliest(logits: Tensor) -> Tensor:
    """The first of the largest logits (B, V) of each row: int64 (B,), on the CPU."""
    if logits.device.type == "cpu":
        # A tenth of the time that torch's argmax takes.
        return torch.from_numpy(logits.detach().numpy().argmax(axis=-1))
    return logits.argmax(dim=-1).cpu()


def check_generators(
    generators: torch.Generator | Sequence[torch.Generator], rows: int
) -> Sequence[torch.Generator]:
    """One for each row.

    Raises:
        UsageError: another number of them, or one of another device.
    """
    if isinstance(generators, torch.Generator):
        generators = [generators] * rows
    if len(generators) != rows:
        raise UsageError(f"{rows} rows of logits need {rows} generators, not {len(generators)}")
    if any(each.device.type != "cpu" for each in generators):
        raise UsageError("A sampler's generators must be of the CPU: torch.Generator()")
    return generators


def make_sampler(strategy: str = DEFAULT_STRATEGY, **options: Any) -> Sampler:
    """The sampler of a strategy's name and options. Each option is applied or refused.

    >>> make_sampler("top-k", temperature=0.8)
    Sampler([Temperature(temperature=0.8), TopK(top_k=50)])

    Args:
        strategy: see `available_strategies`; one that draws token by token, not a search.
        options: by the names in `PROCESSORS`, such as temperature, top_k and top_p, applied in its
            order; None is not given. "top-k" has a top_k of 50 and "top-p" a top_p of 0.9 where
            none is given.

    Raises:
        UsageError: an unknown strategy, an option that it does not take, or a value that cannot be.
    """
    steps = choose_steps(strategy, options)
    if STRATEGIES[strategy].search is not None:
        raise UsageError(f"The strategy {strategy} is no sampler: give it to a Generator.")
    return Sampler(make_processors(steps))


def make_processors(steps: Sequence[tuple[Step, Any]]) -> list[Processor]:
    """What `choose_steps` chose, made."""
    made: list[Processor] = []
    for step, value in steps:
        kind = import_named(step.processor)
        made.append(kind() if value is None else kind(value))
    return made


def parse_sampler(text: str) -> Sampler:
    """A sampler from its processors' names and numbers, in the order in which they stand.

    >>> parse_sampler("top-k=40, temperature=0.8")
    Sampler([TopK(top_k=40), Temperature(temperature=0.8)])

    Raises:
        UsageError: another form, an unknown name, or a value that cannot be.
    """
    named = {flag(name).removeprefix("--"): step for name, step in PROCESSORS.items()}
    named = {name: step for name, step in named.items() if step.numeric}
    processors: list[Processor] = []
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in named:
            raise UnknownNameError("processor", name, named)
        try:
            value = float(number)
        except ValueError:
            raise UsageError(
                f"--sampler {text!r}: {name} needs a number, as in {name}=0.5"
            ) from None
        whole = int(value) if value.is_integer() else value
        processors.append(import_named(named[name].processor)(whole))
    return Sampler(processors)


def import_named(path: str) -> Any:
    """What "package.module:name" names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def require_number(option: str, value: object) -> None:
    """Raise UsageError unless it is a number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise UsageError(f"{option} {value} must be a number")


def require_count(option: str, value: object) -> None:
    """Raise UsageError unless it is a whole number of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise UsageError(f"{option} {value} must be a whole number of at least 1")
    if value < 1:
        raise UsageError(f"{option} {value} must be at least 1")


def require_fraction(
    option: str, value: float, *, lowest_counts: bool = False, highest_counts: bool = False
) -> None:
    """Raise UsageError unless it is a number between 0 and 1; either end counts if told so."""
    require_number(option, value)
    if 0 < value < 1 or (value == 0 and lowest_counts) or (value == 1 and highest_counts):
        return
    low = "at least 0" if lowest_counts else "above 0"
    high = "at most 1" if highest_counts else "below 1"
    raise UsageError(f"{option} {value:g} must be {low} and {high}")
