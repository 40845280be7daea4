"""What every model is: ids in, logits and maybe a loss out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from toolkit.models.config import ModelConfig


class LMOutput(NamedTuple):
    """A forward pass's result.

    Attributes:
        logits: (B, T, V), in the dtype of the computation.
        loss: the mean cross-entropy in nats over all targets, a scalar; None without targets.
    """

    logits: Tensor
    loss: Tensor | None


class LanguageModel(nn.Module, ABC):
    """A model of the next token.

    Attributes:
        name: the registry name ("bigram", "gpt", …).
        config: the frozen dataclass that it was built from.
    """

    name: ClassVar[str]
    config: ModelConfig

    @abstractmethod
    def forward(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        """Logits (B, T, V) for ids (B, T); with targets (B, T) the mean loss too.

        A target of -100 does not count.
        """

    @property
    def block_size(self) -> int:
        """The longest T that `forward` takes."""
        return self.config.block_size

    def num_params(self) -> int:
        """How many numbers are learned; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @abstractmethod
    def flops_per_token(self) -> int:
        """Floating-point operations of forward and backward for one token at full context
        (Kaplan et al. 2020 for the matrices, plus attention as in PaLM's appendix B)."""
