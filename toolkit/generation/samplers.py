"""Choosing the next token: logits processors in a visible order, then one draw.

    Sampler([Temperature(0.8), TopK(50), TopP(0.9)])

Each processor maps logits (B, V) to logits (B, V); a token that it rules out gets −∞. The order
is the order of the list. A draw takes its randomness from explicit generators alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from toolkit.errors import ModelError, UsageError
from toolkit.generation.strategies import DEFAULT_STRATEGY, resolve_options

EXCLUDED = float("-inf")


class Processor(ABC):
    """A step between the model's logits and the draw."""

    @abstractmethod
    def __call__(self, logits: Tensor) -> Tensor:
        """New logits (B, V); the ones given are not changed."""


class Temperature(Processor):
    """p ∝ exp(logit / temperature) (Ackley, Hinton and Sejnowski 1985).

    Below 1 likely tokens become likelier, above 1 the distribution flattens.
    """

    def __init__(self, temperature: float) -> None:
        if not temperature > 0:
            raise UsageError(
                f"--temperature {temperature:g} must be above 0. For the likeliest token every "
                "time, use --strategy greedy."
            )
        self.temperature = temperature

    def __call__(self, logits: Tensor) -> Tensor:
        return logits / self.temperature


class TopK(Processor):
    """Keep the k likeliest tokens (Fan, Lewis and Dauphin 2018), exactly k of them.

    Of equally likely tokens at the border the ones with the lower ids stay.
    """

    def __init__(self, top_k: int) -> None:
        if top_k != int(top_k) or top_k < 1:
            raise UsageError(f"--top-k {top_k:g} must be a whole number of at least 1")
        self.top_k = int(top_k)

    def __call__(self, logits: Tensor) -> Tensor:
        if self.top_k >= logits.size(-1):
            return logits
        order = logits.argsort(dim=-1, descending=True, stable=True)  # (B, V)
        return logits.scatter(-1, order[..., self.top_k :], EXCLUDED)


class TopP(Processor):
    """Keep the smallest set of likeliest tokens whose probability reaches p: nucleus sampling
    (Holtzman et al. 2020). The token that crosses p is kept, so at least one is.
    """

    def __init__(self, top_p: float) -> None:
        if not 0 < top_p <= 1:
            raise UsageError(f"--top-p {top_p:g} must be above 0 and at most 1")
        self.top_p = top_p

    def __call__(self, logits: Tensor) -> Tensor:
        if self.top_p == 1:
            return logits
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)  # (B, V)
        probabilities = ordered.softmax(dim=-1)
        # What the likelier tokens have together, without the token itself.
        before = probabilities.cumsum(dim=-1) - probabilities
        ordered = ordered.masked_fill(before >= self.top_p, EXCLUDED)
        return torch.empty_like(logits).scatter(-1, order, ordered)


class Greedy(Processor):
    """Keep the likeliest token alone; of equals the one with the lowest id."""

    def __call__(self, logits: Tensor) -> Tensor:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits, EXCLUDED).scatter(-1, best, 0.0)


class Sampler:
    """Processors in order, then a draw from what they leave.

    >>> sampler = Sampler([TopK(2)])
    >>> sampler.probabilities(torch.tensor([[0.0, 1.0, 0.0, 2.0]])).round(decimals=2).tolist()
    [[0.0, 0.27, 0.0, 0.73]]
    """

    def __init__(self, processors: Sequence[Processor] = ()) -> None:
        self.processors = list(processors)

    def process(self, logits: Tensor) -> Tensor:
        """All processors, one after the other: logits (B, V) to logits (B, V) in float32.

        Raises:
            ModelError: logits that are not numbers.
        """
        logits = logits.float()
        if torch.isnan(logits).any():
            raise ModelError(
                "The model's logits are not numbers (NaN): its weights are broken. Train it again "
                "with a lower --learning-rate, or choose another run."
            )
        for processor in self.processors:
            logits = processor(logits)
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution that is drawn from: (B, V), each row sums to one."""
        return self.process(logits).softmax(dim=-1)

    def draw(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """One token for each row of logits (B, V): (B,), row i drawn with `generators[i]`.

        A row's token depends on its logits and its generator alone, not on the other rows.
        """
        probabilities = self.probabilities(logits).cpu()
        uniform = torch.stack(
            [torch.rand((), generator=generator, dtype=torch.float64) for generator in generators]
        )
        # The inverse of the distribution function: one number a token, whatever V is.
        cumulative = probabilities.double().cumsum(dim=-1)  # (B, V)
        target = uniform[:, None] * cumulative[:, -1:]
        drawn = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
        return drawn.clamp(max=logits.size(-1) - 1)

    def __repr__(self) -> str:
        names = [type(processor).__name__ for processor in self.processors]
        return f"Sampler([{', '.join(names)}])"


_PROCESSORS: dict[str, Callable[[float], Processor]] = {
    "temperature": Temperature,
    "top_k": lambda value: TopK(value),  # type: ignore[arg-type]  # refuses what is not whole
    "top_p": TopP,
}


def make_sampler(
    strategy: str = DEFAULT_STRATEGY,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Sampler:
    """The sampler of a strategy's name and options: temperature, then top-k, then top-p.

    Raises:
        UsageError: an unknown strategy, an option that it does not take, or a value that cannot be.
    """
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    options = resolve_options(strategy, given)
    if strategy == "greedy":
        return Sampler([Greedy()])
    return Sampler([_PROCESSORS[name](value) for name, value in options.items()])
