"""Texts that grow side by side, each with its own prompt and options; they join and leave between
steps (continuous batching: Yu et al. 2022, "Orca", OSDI).

    batch = Batch(generator)
    text, = batch.join("ROMEO:", seed=1)
    while batch.rows:
        for progress in batch.step():
            print(progress.piece, end="")
    text.completion()

A step is one pass of the model for all texts, and one draw for each. What a text draws depends on
its own seed alone (as far as a device rounds alike the logits of one row and of several).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import torch
from torch import Tensor

from toolkit.errors import ToolkitError, UsageError
from toolkit.generation.decoding import evaluation_mode, one_thread
from toolkit.generation.options import TextOptions
from toolkit.generation.prompts import check_ids
from toolkit.generation.row_decoding import RowsDecoder
from toolkit.generation.samplers import Sampler, require_count
from toolkit.generation.samples import Completion, FinishReason, Sample, TokenLogprob

if TYPE_CHECKING:
    from toolkit.generation.generator import Generator


class Text:
    """A text of a `Batch`, while it grows and afterwards."""

    def __init__(self, sample: Sample, sampler: Sampler) -> None:
        self.sample, self.sampler = sample, sampler

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended (see `Completion`); None while it grows."""
        return self.sample.finish_reason

    @property
    def num_prompt_ids(self) -> int:
        """How many tokens it continues."""
        return len(self.sample.context.prompt_ids)

    @property
    def num_new_ids(self) -> int:
        """How many tokens it has so far, those of a stop string too."""
        return len(self.sample.context.new_ids)

    def completion(self) -> Completion:
        """All about a text that has finished.

        Raises:
            UsageError: it has not.
        """
        if self.finish_reason is None:
            raise UsageError("The text has not finished: take more steps of its batch.")
        return self.sample.completion()


@dataclass(frozen=True)
class Progress:
    """What one step did for one text.

    Attributes:
        text: which.
        piece: what can be shown now; "" where a character or a stop string may have begun.
        token: the token and how likely it was, where logprobs were asked for.
        finish_reason: why the text ended with this step; None if it goes on.
        error: why it cannot go on; it has left without an end. (Options may leave no token that
            could be drawn.) The others are not touched by it.
    """

    text: Text
    piece: str
    token: TokenLogprob | None
    finish_reason: FinishReason | None
    error: ToolkitError | None = None


class Batch:
    """Texts that grow side by side; they join and leave between steps.

    Not for several threads at once.

    >>> from toolkit.generation import Generator
    >>> from toolkit.models import create_model
    >>> from toolkit.tokenizers import ByteTokenizer
    >>> generator = Generator(create_model("bigram", 256), ByteTokenizer())
    >>> batch = Batch(generator)
    >>> long, = batch.join("ROMEO:", max_new_tokens=3, seed=1)
    >>> short, = batch.join("JULIET:", max_new_tokens=2, seed=1)
    >>> [len(batch.step()) for _ in range(3)], batch.rows
    ([2, 2, 1], 0)
    >>> long.completion() == generator.generate("ROMEO:", max_new_tokens=3, seed=1)
    True
    """

    def __init__(
        self, generator: Generator, *, max_rows: int = 32, max_tokens: int | None = None
    ) -> None:
        """Make room: the memory for keys and values is made here, once.

        Args:
            generator: its model, tokenizer and settings.
            max_rows: the most texts at once.
            max_tokens: the most tokens of prompt and text together; less than the model's
                block_size takes less memory. None: any number.

        Raises:
            UsageError: a value that cannot be, a generator without a tokenizer, or a model that
                answers texts rather than continue them.
        """
        if generator.model.takes_source:
            raise UsageError(
                f"A batch continues texts, and a model of kind {generator.model.name} answers "
                "them: use Translator.translate for many."
            )
        require_count("max_rows", max_rows)
        if max_tokens is not None:
            require_count("max_tokens", max_tokens)
        self._generator, self._tokenizer = generator, generator.tokenizer
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self._decoder = RowsDecoder(
            generator.model,
            max_rows,
            max_tokens,
            cache=generator.cache,
            engine=generator.engine,
        )
        self._texts: list[Text] = []

    @property
    def rows(self) -> int:
        """How many texts have not finished."""
        return len(self._texts)

    @property
    def free(self) -> int:
        """How many more can join."""
        return self._max_rows - self.rows

    def join(
        self, prompt: str | Sequence[int], num_samples: int = 1, **options: Unpack[TextOptions]
    ) -> list[Text]:
        """Add texts that continue a prompt; nothing is computed before the next step.

        Text i is sample i of `Generator.generate_samples` with the same options.

        Args:
            prompt: text, or the ids that it starts from.
            num_samples: how many.
            options: those of `Generator.stream`, but no search.

        Raises:
            UsageError, VocabularyError: as `Generator.stream` at once; for a search (beams,
                contrastive search, a draft), which has no steps; where there is no room.
        """
        generator = self._generator
        plan = generator.plan(options)
        if plan.search is not None:
            raise UsageError(
                "A batch takes steps, and a search (beam, contrastive, a draft) has none: use "
                "Generator.generate for it."
            )
        if isinstance(prompt, str):
            prompt_ids = generator.prompt_ids(prompt)
        else:
            prompt_ids = check_ids(prompt, generator.model.config.vocab_size)
            prompt = self._tokenizer.decode(prompt_ids)
        samples = generator.samples(prompt, prompt_ids, num_samples, plan)
        if num_samples > self.free:
            raise UsageError(
                f"{num_samples} texts cannot join: {self.rows} of {self._max_rows} rows are in use."
            )
        longest = len(prompt_ids) + plan.max_new_tokens
        if self._max_tokens is not None and longest > self._max_tokens:
            raise UsageError(
                f"{len(prompt_ids)} tokens of the prompt and --max-new-tokens "
                f"{plan.max_new_tokens} are more than the {self._max_tokens} of this batch."
            )
        return [self.add(sample, plan.sampler) for sample in samples]

    def add(self, sample: Sample, sampler: Sampler) -> Text:
        """Add one text that has nothing yet, where there is room for it: what `join` does."""
        # Texts with equal processors are drawn together.
        for other in self._texts:
            if other.sampler.processors == sampler.processors:
                sampler = other.sampler
                break
        text = Text(sample, sampler)
        self._texts.append(text)
        return text

    def step(self) -> list[Progress]:
        """One more token for every text. Those that joined since the last step begin with their
        prompts, each distinct one in a pass of its own. A text that ends has left.

        Returns:
            One for each text, in the order in which they joined; none where there are no texts.

        Where the model itself fails (no memory is left) the batch cannot go on.
        """
        texts = [text for text in self._texts if text.finish_reason is None]
        drawn = self._draw(texts) if texts else {}
        # One that was asked for no tokens has ended before its first.
        progress = [
            _advance(text, drawn[text]) if text in drawn else Progress(text, "", None, "length")
            for text in self._texts
        ]
        for each in progress:
            if each.finish_reason is not None or each.error is not None:
                self.leave(each.text)
        return progress

    def leave(self, text: Text) -> None:
        """Drop a text that is no longer wanted; no error when it has left already."""
        if text in self._texts:
            self._texts.remove(text)
            self._decoder.forget(text.sample.context)

    @torch.inference_mode()
    def _draw(self, texts: Sequence[Text]) -> dict[Text, int | ToolkitError]:
        """The next token of each text, or why there is none."""
        with evaluation_mode(self._generator.model):
            logits = self._decoder.logits([text.sample.context for text in texts])  # (B, V)
        with one_thread() if self._decoder.is_compiled else nullcontext():
            return self._draw_from(logits[:, : self._generator.vocab_size], texts)

    def _draw_from(self, logits: Tensor, texts: Sequence[Text]) -> dict[Text, int | ToolkitError]:
        groups: defaultdict[Sampler, list[int]] = defaultdict(list)
        for row, text in enumerate(texts):
            groups[text.sampler].append(row)
        drawn: dict[Text, int | ToolkitError] = {}
        for sampler, rows in groups.items():
            samples = [texts[row].sample for row in rows]
            try:
                tokens: Sequence[int | ToolkitError] = _draw_together(
                    sampler, logits[rows], samples
                )
            except ToolkitError:  # of one of them: no generator was used yet
                tokens = [
                    _draw_alone(sampler, logits[row], sample)
                    for row, sample in zip(rows, samples, strict=True)
                ]
            drawn |= zip((texts[row] for row in rows), tokens, strict=True)
        return drawn


def _draw_together(sampler: Sampler, logits: Tensor, samples: Sequence[Sample]) -> list[int]:
    generators = [sample.generator for sample in samples]
    contexts = [sample.context for sample in samples]
    tokens: list[int] = sampler.draw(logits, generators, contexts).tolist()
    return tokens


def _draw_alone(sampler: Sampler, logits: Tensor, sample: Sample) -> int | ToolkitError:
    try:
        return _draw_together(sampler, logits[None], [sample])[0]
    except ToolkitError as error:
        return error


def _advance(text: Text, drawn: int | ToolkitError) -> Progress:
    if isinstance(drawn, ToolkitError):
        return Progress(text, "", None, None, drawn)
    sample = text.sample
    noted = len(sample.logprobs)
    piece = sample.add(drawn)
    token = sample.logprobs[-1] if len(sample.logprobs) > noted else None
    return Progress(text, piece, token, sample.finish_reason)
