"""Processors that rule out unlikely tokens by a border which follows the distribution's shape.

Top-k and top-p are in `samplers`. Each of these keeps at least the likeliest token (typical
sampling: the most typical one), and gives the logits that transformers' processor gives.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from toolkit.generation.samplers import EXCLUDED, LogitsProcessor, require_fraction


@dataclass(frozen=True)
class MinP(LogitsProcessor):
    """Keep the tokens that are at least `min_p` times as likely as the likeliest (Nguyen et al.
    2024, "Turning Up the Heat", arXiv:2407.01082). 0 keeps all.

    >>> import torch
    >>> (MinP(0.5)(torch.tensor([[0.5, 0.3, 0.2]]).log()) > EXCLUDED).tolist()
    [[True, True, False]]

    Raises:
        UsageError: not a number from 0 to 1.
    """

    min_p: float

    def __post_init__(self) -> None:
        require_fraction("--min-p", self.min_p, lowest_counts=True, highest_counts=True)

    def __call__(self, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=-1)  # (B, V)
        border = self.min_p * probabilities.amax(dim=-1, keepdim=True)  # (B, 1)
        return logits.masked_fill(probabilities < border, EXCLUDED)


@dataclass(frozen=True)
class Typical(LogitsProcessor):
    """Keep the tokens whose surprise −log p is nearest to its mean, the entropy, until they have
    probability `typical_p` together (Meister et al. 2023, "Locally Typical Sampling",
    arXiv:2202.00666). Very likely tokens may be ruled out too. 1 keeps all.

    Raises:
        UsageError: not a number above 0 and at most 1.
    """

    typical_p: float

    def __post_init__(self) -> None:
        require_fraction("--typical-p", self.typical_p, highest_counts=True)

    def __call__(self, logits: Tensor) -> Tensor:
        if self.typical_p == 1:
            return logits
        log_p = logits.log_softmax(dim=-1)  # (B, V)
        distance = (-log_p - _entropy(log_p)).abs()
        ordered, order = distance.sort(dim=-1)
        reached = logits.gather(-1, order).softmax(dim=-1).cumsum(dim=-1)
        # The token that crosses typical_p stays, and all that are as near as it.
        last = (reached < self.typical_p).sum(dim=-1, keepdim=True)  # (B, 1)
        border = ordered.gather(-1, last.clamp(max=logits.size(-1) - 1))  # (B, 1)
        return logits.masked_fill(distance > border, EXCLUDED)


@dataclass(frozen=True)
class EpsilonCutoff(LogitsProcessor):
    """Keep the tokens with at least this probability (Hewitt, Manning and Liang 2022, "Truncation
    Sampling as Language Model Desmoothing", arXiv:2210.15191), and the likeliest in any case.

    Raises:
        UsageError: not a number between 0 and 1.
    """

    epsilon: float

    def __post_init__(self) -> None:
        require_fraction("--epsilon-cutoff", self.epsilon)

    def __call__(self, logits: Tensor) -> Tensor:
        return _above(logits, self.epsilon)


@dataclass(frozen=True)
class EtaCutoff(LogitsProcessor):
    """Keep the tokens with at least the probability η = min(ε, √ε · exp(−entropy)): less is asked
    where the model is unsure (Hewitt, Manning and Liang 2022, as `EpsilonCutoff`).

    Raises:
        UsageError: not a number between 0 and 1.
    """

    epsilon: float

    def __post_init__(self) -> None:
        require_fraction("--eta-cutoff", self.epsilon)

    def __call__(self, logits: Tensor) -> Tensor:
        entropy = _entropy(logits.log_softmax(dim=-1))  # (B, 1)
        eta = (self.epsilon**0.5 * (-entropy).exp()).clamp(max=self.epsilon)
        return _above(logits, eta)


def _entropy(log_p: Tensor) -> Tensor:
    """The mean of −log p: (B, V) to (B, 1). An excluded token has p log p = 0 · −∞, which is 0."""
    return -(log_p.exp() * log_p).nansum(dim=-1, keepdim=True)


def _above(logits: Tensor, border: float | Tensor) -> Tensor:
    """Without the tokens of a probability below `border`; the likeliest stay."""
    likeliest = logits == logits.amax(dim=-1, keepdim=True)  # (B, V)
    return logits.masked_fill((logits.softmax(dim=-1) < border) & ~likeliest, EXCLUDED)
