"""What a comparison has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LOSS_TOLERANCE = 1e-4  # nats a token: float32's last digits, grown over some dozen steps
TOLERANCE = 1e-4  # of a tensor's largest number
SIDES = ("toolkit", "huggingface")


@dataclass(frozen=True)
class Memory:
    """Bytes that one training step needs, counted by what they are for.

    Attributes:
        weights, gradients, optimizer: parameters, their gradients, and what the optimizer keeps.
        activations: what the forward pass of one batch keeps for the backward pass.
        peak: on cuda, the most that a step had allocated, its model's weights and optimizer
            included; None elsewhere, where nobody counts.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int | None = None

    @property
    def total(self) -> int:
        """All four parts."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        model_class: the class of the model.
        num_params: how many numbers it learns.
        losses, grad_norms: of each step.
        seconds: of each step.
        memory: of a step.
        tokens_per_second: in generation, the median of several.
    """

    name: str
    model_class: str
    num_params: int
    losses: tuple[float, ...]
    grad_norms: tuple[float, ...]
    seconds: tuple[float, ...]
    memory: Memory
    tokens_per_second: float

    @property
    def median_seconds(self) -> float:
        """Of a step; the first one is left out, in which much is done once."""
        later = sorted(self.seconds[1:] or self.seconds)
        middle = len(later) // 2
        return later[middle] if len(later) % 2 else (later[middle - 1] + later[middle]) / 2


@dataclass(frozen=True)
class Difference:
    """Between two tensors that should be the same.

    Attributes:
        name: of a tap (`toolkit.models.taps`), or of a parameter in Hugging Face's layout.
        largest: the largest difference between two numbers.
        scale: the largest number in ours.
    """

    name: str
    largest: float
    scale: float

    @property
    def relative(self) -> float:
        """The largest difference as a share of the scale."""
        return self.largest / self.scale if self.scale else self.largest


@dataclass(frozen=True)
class Comparison:
    """Two trainings side by side, and one forward and backward pass of the same weights.

    Attributes:
        corpus: the name of the text, or of the task.
        tokenizer, model, preset, device, dtype, seed, batch_size, label_smoothing: of both.
        config: of both models, by the names of its fields.
        toolkit, huggingface: the two.
        weights: between the trained weights of the two, all of them.
        logits, hidden, gradients: of one batch, with the weights that our side has learned; hidden
            states in the order in which they are computed.
        same_tokens: how many of the tokens that the two generated greedily from the same prompt are
            the same before the first that is not.
        generated: how many were generated.
        own_losses: where the losses of the two differ, ours once more, with weights that were
            changed in their last bit before each step: how far rounding alone leads away. Else
            empty.
    """

    corpus: str
    tokenizer: str
    model: str
    preset: str | None
    device: str
    dtype: str
    seed: int
    batch_size: int
    label_smoothing: float
    config: dict[str, Any]
    toolkit: Side
    huggingface: Side
    weights: Difference
    logits: Difference
    hidden: tuple[Difference, ...]
    gradients: tuple[Difference, ...]
    same_tokens: int
    generated: int
    own_losses: tuple[float, ...] = ()

    @property
    def of_pairs(self) -> bool:
        """Whether the models translate."""
        return "n_encoder_layer" in self.config

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return len(self.toolkit.losses)

    @property
    def loss_differences(self) -> tuple[float, ...]:
        """Of each step, ours less theirs."""
        return _differences(self.toolkit.losses, self.huggingface.losses)

    @property
    def own_differences(self) -> tuple[float, ...]:
        """Of each step, ours less `own_losses`; empty without those."""
        return _differences(self.toolkit.losses, self.own_losses) if self.own_losses else ()

    @property
    def largest_loss_difference(self) -> float:
        """Over all steps, without its sign."""
        return max(abs(difference) for difference in self.loss_differences)

    @property
    def first_step(self) -> int | None:
        """The first step whose losses differ by more than `LOSS_TOLERANCE`; counted from 1."""
        return first_step(self.loss_differences)

    @property
    def first_own_step(self) -> int | None:
        """The same of `own_losses`: ours against itself."""
        return first_step(self.own_differences)

    @property
    def first_layer(self) -> str | None:
        """The first hidden state, or the logits, that differs by more than `TOLERANCE`."""
        for difference in (*self.hidden, self.logits):
            if not difference.relative <= TOLERANCE:
                return difference.name
        return None

    @property
    def largest_gradient(self) -> Difference:
        """The gradient that differs most. Not for its scale: that of a bias of keys, which softmax
        does not see, is rounding alone."""
        return max(self.gradients, key=lambda difference: difference.largest)


def first_step(differences: Sequence[float]) -> int | None:
    """The first of the steps, counted from 1, with a difference above `LOSS_TOLERANCE`."""
    for step, difference in enumerate(differences, start=1):
        if not abs(difference) <= LOSS_TOLERANCE:
            return step
    return None


def _differences(ours: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(ours, others, strict=True))
