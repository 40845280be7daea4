"""What a format is given, what it answers, and the inputs that it is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models import EncoderDecoderConfig, LanguageModel
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
    """A model as one function of tensors: ids (B, T) to logits (B, T, V), or of a model that takes
    one a source (B, S) and ids (B, T)."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor | None = None) -> Tensor:
        model: Any = self.model  # of which one kind takes a source as well
        logits: Tensor
        if decoder_input_ids is None:
            logits = model(input_ids).logits
        else:
            logits = model(decoder_input_ids, None, input_ids).logits
        return logits


def inputs_of(model: LanguageModel) -> dict[str, str]:
    """The inputs of `Logits` as transformers calls them, and what each is as long as."""
    if model.takes_source:
        return {"input_ids": "source", "decoder_input_ids": "time"}
    return {"input_ids": "time"}


def example_inputs(model: LanguageModel, rows: int, length: int) -> tuple[Tensor, ...]:
    """Inputs of `Logits`, always the same: ids (rows, length), or as many as the context holds. A
    source before them is longer, and of several the first is filled up."""
    generator = torch.Generator().manual_seed(0)

    def draw(vocab_size: int, wanted: int) -> Tensor:
        size = (rows, min(wanted, model.block_size))
        return torch.randint(0, vocab_size, size, generator=generator)

    ids = draw(model.config.vocab_size, length)
    if not isinstance(model.config, EncoderDecoderConfig):
        return (ids,)
    source = draw(model.config.num_source_ids, length + 2)
    padding = model.config.source_padding_id
    source[source == padding] = model.config.source_end_id
    if rows > 1:
        source[0, 1:] = padding
    return source, ids


@torch.inference_mode()
def largest_difference(model: LanguageModel, run: Callable[..., Tensor]) -> float:
    """The largest difference of logits between a model and what was read back, over inputs of
    other shapes than the one that was traced: one id, a batch, a whole context."""
    largest = 0.0
    logits = Logits(model)
    for rows, length in ((1, 1), (3, 7), (1, model.block_size)):
        inputs = example_inputs(model, rows, length)
        difference = (run(*inputs) - logits(*inputs)).abs().max()
        largest = max(largest, float(difference))
    return largest


def fixed_time_error(format: str, model: LanguageModel) -> UsageError:
    """For a model whose loops over positions are unrolled when it is traced."""
    return UsageError(
        f"The model {model.name} loops over its positions in Python, so its {format} would take "
        "one length alone. average-matmul computes the same with the same weights: train that one."
    )
