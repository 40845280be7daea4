"""What a format is given, what it answers, and the inputs that it is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models import LanguageModel
from toolkit.models.pretrained import SpecialIds
from toolkit.tokenizers import Tokenizer


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        name: for people.
        model: on the CPU, in float32, in evaluation mode.
        tokenizer: to go with it; None: the weights alone.
        special_ids: which ids begin and end texts, as config.json names them.
    """

    name: str
    model: LanguageModel
    tokenizer: Tokenizer | None
    special_ids: SpecialIds


@dataclass(frozen=True)
class Checked:
    """What was written, and how far what was read back is from the model.

    Attributes:
        files: every file.
        largest_difference: None where nothing could be compared.
        what: was compared.
    """

    files: tuple[Path, ...]
    largest_difference: float | None
    what: str


class Logits(nn.Module):
    """A model as one function of one tensor: ids (B, T) to logits (B, T, V)."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids).logits
        return logits


def example_ids(model: LanguageModel, rows: int, length: int) -> Tensor:
    """Ids (rows, length), always the same, or as many as the context holds."""
    length = min(length, model.block_size)
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.vocab_size, (rows, length), generator=source)


@torch.inference_mode()
def largest_difference(model: LanguageModel, run: Callable[[Tensor], Tensor]) -> float:
    """The largest difference of logits between a model and what was read back, over inputs of
    other shapes than the one that was traced: one id, a batch, a whole context."""
    largest = 0.0
    for rows, length in ((1, 1), (3, 7), (1, model.block_size)):
        ids = example_ids(model, rows, length)
        difference = (run(ids) - model(ids).logits).abs().max()
        largest = max(largest, float(difference))
    return largest


def fixed_time_error(format: str, model: LanguageModel) -> UsageError:
    """For a model whose loops over positions are unrolled when it is traced."""
    return UsageError(
        f"The model {model.name} loops over its positions in Python, so its {format} would take "
        "one length alone. average-matmul computes the same with the same weights: train that one."
    )
