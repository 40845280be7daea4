"""One text in the making: tokens in, text out, until something ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from toolkit.generation.contexts import Context
from toolkit.generation.samplers import ContextProcessor
from toolkit.generation.seeds import seeded_generator
from toolkit.generation.streaming import StopScanner
from toolkit.tokenizers import Tokenizer

FinishReason = Literal["length", "stop", "eos", "time", "complete"]


@dataclass(frozen=True)
class Alternative:
    """A token that could have been drawn.

    Attributes:
        id: its id.
        token: its bytes.
        logprob: the natural logarithm of its probability.
    """

    id: int
    token: bytes
    logprob: float


@dataclass(frozen=True)
class TokenLogprob:
    """A token that was drawn, and how likely the model itself held it: before temperature,
    cut-offs and penalties.

    Attributes:
        id: its id.
        token: its bytes.
        logprob: the natural logarithm of its probability.
        top: the likeliest tokens of the place, in order; the drawn one may be among them.
    """

    id: int
    token: bytes
    logprob: float
    top: tuple[Alternative, ...]


@dataclass(frozen=True)
class Completion:
    """One sample.

    Attributes:
        prompt: the text that it continues.
        text: the new text alone. It is what `ids` stand for, cut before a stop string.
        prompt_ids: the ids that the model started from, or that its encoder read.
        ids: the new ids, those of a stop string too; without the id that ended the text.
        finish_reason: "length" (max_new_tokens were drawn), "stop" (a stop string came), "eos"
            (the model drew an id that ends a text, the tokenizer's `<|endoftext|>`), "time"
            (max_time was over) or "complete" (the text matches and nothing may follow it).
        seed: given to `generate` with the same options, it repeats this sample.
        logprobs: for each of `ids`, where they were asked for.
    """

    prompt: str
    text: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    finish_reason: FinishReason
    seed: int
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True)
class LogprobRecorder(ContextProcessor):
    """The first of the processors: it changes nothing and notes what the model itself says."""

    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        for context, row in zip(contexts, logits.log_softmax(dim=-1), strict=True):
            context.memory[self] = row  # (V)
        return logits

    def note(self, context: Context, token_id: int, count: int, of: Tokenizer) -> TokenLogprob:
        """The logprob of the token just drawn, and the `count` likeliest of its place."""
        row: Tensor = context.memory[self]
        values, ids = row.topk(min(count, len(row)))
        top = [
            # A model may have an end of its own, for which the tokenizer has no bytes.
            Alternative(each, of.token_bytes(each) if each < of.vocab_size else b"", value)
            for each, value in zip(ids.tolist(), values.tolist(), strict=True)
        ]
        return TokenLogprob(token_id, of.token_bytes(token_id), float(row[token_id]), tuple(top))


class Sample:
    """A sample in the making: the ids drawn so far and the text that they made."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: str,
        context: Context,
        *,
        max_new_tokens: int,
        max_time: float,
        stop: Sequence[str],
        end_ids: frozenset[int],
        seed: int,
        is_complete: Callable[[Context], bool],
        recorder: LogprobRecorder | None,
        num_logprobs: int,
    ) -> None:
        """An empty one; its time begins now.

        Args:
            tokenizer, prompt, max_new_tokens, max_time, stop, seed: as in `Generator`.
            context: what it starts from, which will hold its ids.
            end_ids: the ids that end the text.
            is_complete: whether nothing may follow.
            recorder: the one in the sampler, if logprobs are asked for.
            num_logprobs: how many alternatives to note.
        """
        self.generator: torch.Generator = seeded_generator(seed)
        self.context = context
        self.finish_reason: FinishReason | None = None if max_new_tokens else "length"
        self.logprobs: list[TokenLogprob] = []
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._deadline = time.monotonic() + max_time
        self._max_new_tokens = max_new_tokens
        self._seed = seed
        self._end_ids = end_ids
        self._pieces: list[str] = []
        self._decoder = tokenizer.stream_decoder()
        self._scanner = StopScanner(stop)
        self._is_complete = is_complete
        self._recorder = recorder
        self._num_logprobs = num_logprobs

    def add(self, token_id: int) -> str:
        """Take one more token; returns the text that can be shown now."""
        if token_id in self._end_ids:
            return self.finish("eos")
        if self._recorder is not None:
            self.logprobs.append(
                self._recorder.note(self.context, token_id, self._num_logprobs, self._tokenizer)
            )
        ids = self.context.new_ids
        ids.append(token_id)
        piece = self._scanner.push(self._decoder.push(token_id))
        self._pieces.append(piece)
        if self._scanner.stopped:
            self.finish_reason = "stop"
        elif self._is_complete(self.context):
            piece += self.finish("complete")
        elif len(ids) == self._max_new_tokens:
            piece += self.finish("length")
        elif time.monotonic() >= self._deadline:
            piece += self.finish("time")
        return piece

    def finish(self, reason: FinishReason) -> str:
        """End it here; returns the text that was held back. A stop string may still end with it."""
        self.finish_reason = reason
        piece = self._scanner.push(self._decoder.finish())
        if self._scanner.stopped:
            self.finish_reason = "stop"
        piece += self._scanner.finish()
        self._pieces.append(piece)
        return piece

    def completion(self) -> Completion:
        """The finished sample."""
        assert self.finish_reason is not None
        return Completion(
            prompt=self._prompt,
            text="".join(self._pieces),
            prompt_ids=tuple(self.context.source_ids or self.context.prompt_ids),
            ids=tuple(self.context.new_ids),
            finish_reason=self.finish_reason,
            seed=self._seed,
            logprobs=None if self._recorder is None else tuple(self.logprobs),
        )
