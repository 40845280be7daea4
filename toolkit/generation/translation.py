"""Texts from an encoder–decoder: a source in, a target out, by every strategy of `Generator`.

The encoder reads the source once; the decoder starts from its own first id and knows nothing else
of a prompt. So a processor that looks at the tokens before sees those of the target alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.generation.beams import BeamSearch
from toolkit.generation.contexts import Context
from toolkit.generation.decoding import CachedDecoder, Decoder, evaluation_mode
from toolkit.generation.generator import Generator
from toolkit.generation.options import Plan
from toolkit.models import (
    EncoderDecoderConfig,
    EncoderDecoderModel,
    LanguageModel,
    WeightFormat,
)
from toolkit.models.encoder_decoder_config import NUM_SPECIAL
from toolkit.tokenizers import Tokenizer

ROWS = 128
"""How many sources are translated side by side."""


class Translator(Generator):
    """An encoder–decoder and its tokenizers, ready to turn sources into targets.

    What `Generator` calls a prompt is a source here; everything else is the same, and so tokens are
    drawn by chance unless told otherwise: `strategy="greedy"` or "beam" is what one mostly wants.
    `max_new_tokens` is never more than the model can write, its `block_size`.

    >>> from toolkit.models import create_model
    >>> from toolkit.tokenizers import CharTokenizer
    >>> model = create_model("encoder-decoder", 6, size="nano")  # three letters, three special ids
    >>> translator = Translator(model, CharTokenizer("abc"))
    >>> first = translator.generate("cab", strategy="greedy", max_new_tokens=5)
    >>> first.prompt, first.prompt_ids
    ('cab', (2, 0, 1, 3))
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        source_tokenizer: Tokenizer | None = None,
        *,
        device: str | torch.device | None = None,
        weights: WeightFormat = "float32",
    ) -> None:
        """Join a model and its tokenizers.

        Args:
            tokenizer: of the targets.
            source_tokenizer: None: the same.
            device, weights: as for `Generator`.

        Raises:
            UsageError: a model of another kind, or tokenizers that are not the model's.
        """
        if not isinstance(model, EncoderDecoderModel):
            raise UsageError(f"A {model.name} continues texts: use a Generator.")
        config = model.config
        check_tokenizers(config, tokenizer, source_tokenizer)
        super().__init__(model, tokenizer, device=device, end_ids=[config.end_id], weights=weights)
        self.source_tokenizer = tokenizer if source_tokenizer is None else source_tokenizer

    @property
    def translating(self) -> EncoderDecoderModel:
        """The model, as what it is."""
        assert isinstance(self.model, EncoderDecoderModel), "asked when it was made"
        return self.model

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids that the encoder reads: those of the source, and its end.

        Raises:
            UsageError: a source that is empty, or longer than the model's `block_size`.
            VocabularyError: a character that the tokenizer does not know.
        """
        if not isinstance(prompt, str):
            raise UsageError(f"A source must be text, not {type(prompt).__name__}.")
        if not prompt:
            raise UsageError("There is no source to translate: give a text.")
        config = self.translating.config
        ids = [*self.source_tokenizer.encode(prompt), config.source_end_id]
        if len(ids) > config.block_size:
            raise UsageError(
                f"A source of {len(ids)} tokens (with its end) is longer than the model's "
                f"--block-size {config.block_size}. Give a shorter one."
            )
        return ids

    def generate_ids(self, ids: Iterable[int], **_: Any) -> list[int]:
        """Not for a model whose targets have an end: see `greedy_targets`."""
        raise UsageError("A Translator has no generate_ids: use translate, or greedy_targets.")

    def translate(self, sources: Iterable[str], *, max_new_tokens: int | None = None) -> list[str]:
        """The greedy targets of many sources, computed side by side.

        Args:
            max_new_tokens: None: as many as the model can write.

        Raises:
            UsageError: one text instead of several, a negative number of tokens, or as
                `prompt_ids`.
            VocabularyError: as `prompt_ids`.
        """
        if isinstance(sources, str):  # it would be taken for its characters
            raise UsageError("translate takes several sources: give a list of texts.")
        ids = [self.prompt_ids(source) for source in sources]
        found = greedy_targets(self.translating, ids, max_new_tokens)
        return [self.tokenizer.decode(target) for target in found]

    # -- what differs from continuing a text ----------------------------------------------------

    def _new_context(self, prompt_ids: Sequence[int]) -> Context:
        return Context((self.translating.config.begin_id,), source_ids=tuple(prompt_ids))

    def _new_decoder(self, context: Context, plan: Plan) -> Decoder:
        model = self.translating
        source = torch.tensor([list(context.source_ids)], device=model.device)  # (1, S)
        with evaluation_mode(model):
            return CachedDecoder(model, model.start(source, capacity=plan.max_new_tokens))

    def _num_drawn(self, plan: Plan) -> int:
        config = self.translating.config
        if plan.ignore_eos and config.has_usual_ids:
            return config.end_id
        return config.num_written_ids

    def plan(self, options: Mapping[str, object]) -> Plan:
        plan = super().plan(options)
        if plan.search is not None and not isinstance(plan.search, BeamSearch):
            name = type(plan.search).__name__
            raise UsageError(f"{name} is for models that continue texts: use greedy or beam.")
        longest = self.model.block_size  # there are no positions for more
        return replace(plan, max_new_tokens=min(plan.max_new_tokens, longest))

    def _check_context(self, prompt_ids: Sequence[int], max_new_tokens: int) -> None:
        """Sources and targets have been measured each for itself."""


def check_tokenizers(
    config: EncoderDecoderConfig, tokenizer: Tokenizer, source_tokenizer: Tokenizer | None = None
) -> None:
    """Check that a model and its tokenizers, as `Translator` takes them, belong together.

    Raises:
        UsageError: they have other numbers of tokens.
    """
    sources = tokenizer if source_tokenizer is None else source_tokenizer
    for what, known, of in (
        ("target", config.vocab_size, tokenizer),
        ("source", config.num_source_ids, sources),
    ):
        # A tokenizer from Hugging Face has the model's own three ids among its tokens.
        fitting = (known - NUM_SPECIAL, known) if config.has_usual_ids else (known,)
        if of.vocab_size not in fitting:
            own = f" (and {NUM_SPECIAL} more that are its own)" if config.has_usual_ids else ""
            raise UsageError(
                f"The {what} tokenizer has {of.vocab_size:,} tokens and the model knows "
                f"{fitting[0]:,}{own}: they do not belong together."
            )


@torch.inference_mode()
def greedy_targets(
    model: EncoderDecoderModel,
    sources: Sequence[Sequence[int]],
    max_new_tokens: int | None = None,
) -> list[list[int]]:
    """The likeliest token after the likeliest token, for many sources: the ids without the end.

    Sources of like lengths go together, and a row that is done leaves its batch. What comes out for
    a source does not depend on the others, up to the rounding of sums of another size.

    Args:
        sources: ids with their end.
        max_new_tokens: None: `block_size`.

    Raises:
        UsageError: a negative number of tokens.
    """
    longest = model.block_size if max_new_tokens is None else max_new_tokens
    if longest < 0:
        raise UsageError(f"--max-new-tokens {longest} must not be negative")
    longest = min(longest, model.block_size)
    found: list[list[int]] = [[] for _ in sources]
    order = sorted(range(len(sources)), key=lambda place: len(sources[place]))
    with evaluation_mode(model):
        for start in range(0, len(order), ROWS):
            places = order[start : start + ROWS]
            for place, ids in zip(
                places, _greedy(model, [sources[place] for place in places], longest), strict=True
            ):
                found[place] = ids
    return found


def _greedy(
    model: EncoderDecoderModel, sources: Sequence[Sequence[int]], longest: int
) -> list[list[int]]:
    config = model.config
    cache = model.start(_padded(sources, config.source_padding_id).to(model.device))
    found: list[list[int]] = [[] for _ in sources]
    active = list(range(len(sources)))
    last = torch.full((len(sources), 1), config.begin_id, device=model.device)  # (B, 1)
    for _ in range(longest):
        logits = model.extend(last, cache)[:, -1, : config.num_written_ids]  # (B, V)
        tokens = logits.argmax(dim=-1)  # (B)
        still = []
        for row, token in enumerate(tokens.tolist()):
            if token != config.end_id:
                found[active[row]].append(token)
                still.append(row)
        if not still:
            break
        if len(still) < len(active):
            cache.select(still)
            active = [active[row] for row in still]
        last = tokens[still, None]  # (B, 1)
    return found


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])  # (B, S)
