"""What differs between comparing a model that continues texts and one that translates: where to
look, which places of a batch are padding, and how each side writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from toolkit.comparing.result import SIDES
from toolkit.generation import Generator, Translator
from toolkit.materials import Materials
from toolkit.models import EncoderDecoderModel, LanguageModel
from toolkit.models.base import IGNORE_INDEX

if TYPE_CHECKING:
    from toolkit.data.training_data import Batch

PROMPT_TOKENS = 8
NEW_TOKENS = 64

Writer = Callable[[int], list[int]]
"""Writes so many tokens greedily, with no end before, and gives their ids."""


class Compared(ABC):
    """A model as a comparison sees it; `compared` makes one.

    Attributes:
        points: the hidden states to compare, as patterns of a `Tracer`: of each layer the stream
            and what was added to it, which is enough to see which part differs.
    """

    points: tuple[str, ...]

    @abstractmethod
    def counts(self, point: str, batch: Batch) -> Tensor | None:
        """Where a point has tokens, (B, T); None: everywhere."""

    @abstractmethod
    def writers(self, hf: Any, batch: Batch, materials: Materials) -> tuple[int, dict[str, Writer]]:
        """How many tokens to write, and who writes them, from the same prompt: the model, and
        transformers' own."""


def compared(model: LanguageModel) -> Compared:
    """The model, as what it is."""
    return ComparedPairs(model) if isinstance(model, EncoderDecoderModel) else ComparedTexts(model)


class ComparedTexts(Compared):
    """A model that continues texts; rows of its batches are full."""

    points = (
        "embed.sum",
        "blocks.*.attn.out",
        "blocks.*.resid_mid",
        "blocks.*.mlp.out",
        "blocks.*.resid_post",
        "norm.out",
    )

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def counts(self, point: str, batch: Batch) -> Tensor | None:
        return None

    def writers(self, hf: Any, batch: Batch, materials: Materials) -> tuple[int, dict[str, Writer]]:
        ids = batch[0][:1, : min(PROMPT_TOKENS, self.model.block_size // 2)]  # (1, T)
        prompt: list[int] = ids[0].tolist()
        generator = Generator(self.model)

        def ours(count: int) -> list[int]:
            return generator.generate_ids(prompt, max_new_tokens=count, strategy="greedy")

        def theirs(count: int) -> list[int]:
            written = _generate(hf, ids, count, min_new_tokens=count, pad_token_id=0)
            return written[len(prompt) :]

        new_tokens = min(NEW_TOKENS, self.model.block_size - len(prompt))
        return new_tokens, dict(zip(SIDES, (ours, theirs), strict=True))


class ComparedPairs(Compared):
    """A model that translates; the shorter rows of its batches are filled up on either side."""

    def __init__(self, model: EncoderDecoderModel) -> None:
        self.model = model
        self.points = (
            "*.blocks.0.resid_pre",  # the sum of a stack's embeddings
            "*.blocks.*.attn.out",
            "*.blocks.*.cross.out",
            "*.blocks.*.resid_mid",
            "*.blocks.*.mlp.out",
            "*.blocks.*.resid_post",
        )
        if model.config.norm_order == "pre":
            self.points += ("*.norm.out",)

    def counts(self, point: str, batch: Batch) -> Tensor | None:
        _, targets, source = batch  # (B, T), (B, T), (B, S)
        if point.startswith("encoder."):
            return source != self.model.config.source_padding_id
        return targets != IGNORE_INDEX

    def writers(self, hf: Any, batch: Batch, materials: Materials) -> tuple[int, dict[str, Writer]]:
        config = self.model.config
        translator = Translator(self.model, materials.tokenizer, materials.source_tokenizer)
        prompt = materials.first_prompt()
        source = torch.tensor([translator.prompt_ids(prompt)], device=hf.device)  # (1, S)
        # Without these both draw tokens of a text alone, and neither ends before it must.
        not_text = [config.end_id, config.begin_id, config.padding_id]

        def ours(count: int) -> list[int]:
            completion = translator.generate(
                prompt, max_new_tokens=count, strategy="greedy", ignore_eos=True
            )
            return list(completion.ids)

        def theirs(count: int) -> list[int]:
            written = _generate(hf, source, count, suppress_tokens=not_text)
            return written[1:]  # it begins with what the decoder started from

        return min(NEW_TOKENS, config.block_size), dict(zip(SIDES, (ours, theirs), strict=True))


def _generate(hf: Any, ids: Tensor, count: int, **options: Any) -> list[int]:
    """What transformers' `generate` gives for ids (1, T), greedily."""
    with torch.no_grad():
        written: Tensor = hf.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            **options,
        )
    return [int(token) for token in written[0]]
