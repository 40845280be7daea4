"""From a request for completions to jobs, and from what happens to the pieces of a response."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from toolkit.generation import (
    Generator,
    TextOptions,
    fresh_seed,
    sample_seed,
    with_default_temperature,
)
from toolkit.generation.samplers import MIN_TEMPERATURE
from toolkit.serving.api import (
    Choice,
    CompletionRequest,
    CompletionResponse,
    Logprobs,
    Usage,
)
from toolkit.serving.limits import Limits
from toolkit.serving.logprobs import LogprobTable, join_tables
from toolkit.serving.refusals import ApiError
from toolkit.serving.tickets import Begun, Event, Grown, Job
from toolkit.tokenizers import Tokenizer

DEFAULT_MAX_TOKENS = 16
# What goes to the generator under its own name.
_SAME_NAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "no_repeat_ngram",
    "logprobs",
    "regex",
    "json_schema",
    "ignore_eos",
)
# What the likeliest token is not changed by.
_CUTOFFS = ("top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


@dataclass(frozen=True)
class Prompt:
    """A prompt of a request.

    Attributes:
        text: as it is echoed.
        ids: what the model starts from.
    """

    text: str
    ids: Sequence[int]


def read_prompts(request: CompletionRequest, generator: Generator, limits: Limits) -> list[Prompt]:
    """The prompts of a request; encoding takes as long as they are.

    Raises:
        UsageError: text or ids that the tokenizer does not know.
    """
    given = request.prompt
    if isinstance(given, str):
        return [_from_text(given, generator)]
    if isinstance(given[0], int):
        return [_from_ids(given, generator)]
    if len(given) > limits.max_texts:
        raise ApiError(400, f"At most {limits.max_texts} prompts in a request.", param="prompt")
    return [
        _from_text(each, generator) if isinstance(each, str) else _from_ids(each, generator)
        for each in given
    ]


def _from_text(text: str, generator: Generator) -> Prompt:
    return Prompt(text, generator.prompt_ids(text))


def _from_ids(ids: list[int], generator: Generator) -> Prompt:
    size = generator.tokenizer.vocab_size
    unknown = [each for each in ids if each >= size]
    if unknown:
        message = f"Id {unknown[0]} is no token: this model's are 0 to {size - 1}."
        raise ApiError(400, message, param="prompt")
    return Prompt(generator.tokenizer.decode(ids), ids)


class Completions:
    """One request: its jobs, and its response as chunks or as a whole.

    Every event gives a chunk or none; the whole is its chunks joined.
    """

    def __init__(
        self,
        request: CompletionRequest,
        prompts: Sequence[Prompt],
        *,
        model: str,
        tokenizer: Tokenizer,
        limits: Limits,
    ) -> None:
        """Check what the types of the fields do not.

        Raises:
            ApiError: fields that do not go together, or are beyond the limits.
        """
        _check(request, tokenizer, limits)
        self._request, self._limits = request, limits
        self._prompts = prompts
        self._n = request.n or 1
        self._seed = fresh_seed() if request.seed is None else request.seed
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._num_new_ids = 0
        self._writers = [
            _Writer(index, prompt, sample_seed(self._seed, sample), request, tokenizer)
            for index, (prompt, sample) in enumerate(
                (prompt, sample) for prompt in prompts for sample in range(self._n)
            )
        ]

    def jobs(self) -> list[Job]:
        """What the scheduler is to do: a job for each prompt."""
        request = self._request
        options = _options(request, self._limits, self._seed)
        echoed = request.logprobs if request.echo else None
        return [Job(prompt.ids, self._n, options, echoed) for prompt in self._prompts]

    def choices(self, event: Event) -> list[Choice]:
        """The pieces of the response that an event makes."""
        if isinstance(event, Begun):
            writers = self._writers[event.job * self._n : (event.job + 1) * self._n]
            found = [writer.begin(event) for writer in writers]
        else:
            if event.finish_reason is not None:
                self._num_new_ids += event.num_new_ids
            found = [self._writers[event.text].grow(event)]
        return [choice for choice in found if choice is not None]

    def usage(self) -> Usage:
        """How many tokens there were, when all texts have ended."""
        prompt_tokens = sum(len(prompt.ids) for prompt in self._prompts)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": self._num_new_ids,
            "total_tokens": prompt_tokens + self._num_new_ids,
        }

    def response(self, choices: Sequence[Choice], usage: Usage | None) -> CompletionResponse:
        """A response, or a chunk of one, with these pieces."""
        return cast(CompletionResponse, {**self._head, "choices": list(choices), "usage": usage})

    def whole(self, pieces: Sequence[Choice]) -> CompletionResponse:
        """The response, from all pieces."""
        by_text: dict[int, list[Choice]] = {}
        for piece in pieces:
            by_text.setdefault(piece["index"], []).append(piece)
        return self.response([_join(by_text[index]) for index in sorted(by_text)], self.usage())


class _Writer:
    """One text of a response."""

    def __init__(
        self,
        index: int,
        prompt: Prompt,
        seed: int,
        request: CompletionRequest,
        tokenizer: Tokenizer,
    ) -> None:
        self._index, self._seed = index, seed
        self._prompt = prompt
        self._echo = bool(request.echo)
        self._tokenizer = tokenizer
        self._num_alternatives = request.logprobs
        self._shown = len(prompt.text) if self._echo else 0
        self._table = self._new_table(self._shown)

    def begin(self, event: Begun) -> Choice | None:
        """The echo, if it is wanted."""
        if not self._echo:
            return None
        logprobs = None
        if self._num_alternatives is not None:
            table = self._new_table(0)
            # An empty prompt stands for the beginning of a text, which is no part of it.
            if self._prompt.text and event.prompt_logprobs is not None:
                for token_id, token in zip(self._prompt.ids, event.prompt_logprobs, strict=True):
                    table.push(token_id, token)
            logprobs = table.take(None)
        return self._choice(self._prompt.text, logprobs, None)

    def grow(self, event: Grown) -> Choice | None:
        """What a token adds; None if that is nothing, yet."""
        self._shown += len(event.piece)
        logprobs = None
        if self._num_alternatives is not None:
            if event.token is not None:
                self._table.push(event.token.id, event.token)
            # Of a stop string neither text nor tokens are shown.
            ended = event.finish_reason is not None and event.finish_reason != "stop"
            logprobs = self._table.take(None if ended else self._shown)
        if event.piece or event.finish_reason is not None or (logprobs and logprobs["tokens"]):
            return self._choice(event.piece, logprobs, event)
        return None

    def _new_table(self, start: int) -> LogprobTable:
        return LogprobTable(self._tokenizer, start, with_alternatives=bool(self._num_alternatives))

    def _choice(self, text: str, logprobs: Logprobs | None, event: Grown | None) -> Choice:
        reason = None if event is None else event.finish_reason
        return {
            "index": self._index,
            "text": text,
            "logprobs": logprobs,
            # OpenAI has two words; ours say more.
            "finish_reason": reason and ("length" if reason in ("length", "time") else "stop"),
            "ended_by": reason,
            "seed": self._seed,
        }


def _join(pieces: Sequence[Choice]) -> Choice:
    """A text from its pieces; why it ended is in the last."""
    tables = [piece["logprobs"] for piece in pieces if piece["logprobs"] is not None]
    return {
        **pieces[-1],
        "text": "".join(piece["text"] for piece in pieces),
        "logprobs": join_tables(tables) if tables else None,
    }


def _check(request: CompletionRequest, tokenizer: Tokenizer, limits: Limits) -> None:
    n = request.n or 1
    if request.suffix is not None:
        raise ApiError(
            400, "'suffix' is not supported: these models continue a text.", param="suffix"
        )
    if request.best_of is not None and request.best_of != n:
        raise ApiError(
            400,
            f"'best_of' {request.best_of} is only supported where it equals n ({n}): no texts are "
            "made to be thrown away.",
            param="best_of",
        )
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "'stream_options' is for 'stream': true.", param="stream_options")
    if request.temperature is not None and 0 < request.temperature < MIN_TEMPERATURE:
        raise ApiError(
            400,
            f"'temperature' {request.temperature:g} must be 0 or at least {MIN_TEMPERATURE:g}.",
            param="temperature",
        )
    if request.max_tokens is not None and request.max_tokens > limits.max_new_tokens:
        message = f"'max_tokens' {request.max_tokens}: at most {limits.max_new_tokens} here."
        raise ApiError(400, message, param="max_tokens")
    if (request.logprobs or 0) > limits.max_logprobs:
        message = f"'logprobs' {request.logprobs}: at most {limits.max_logprobs} here."
        raise ApiError(400, message, param="logprobs")
    for key in request.logit_bias or ():
        if not (key.isascii() and key.isdecimal()) or not 0 <= float(key) < tokenizer.vocab_size:
            message = (
                f"'logit_bias': '{key[:20]}' is no id of a token, which are \"0\" to "
                f'"{tokenizer.vocab_size - 1}".'
            )
            raise ApiError(400, message, param="logit_bias")


def _options(request: CompletionRequest, limits: Limits, seed: int) -> TextOptions:
    """The request in the generator's words."""
    max_tokens = request.max_tokens
    if max_tokens is None:
        max_tokens = min(DEFAULT_MAX_TOKENS, limits.max_new_tokens)
    options: dict[str, Any] = {"max_new_tokens": max_tokens, "seed": seed}
    for name in _SAME_NAME:
        value = getattr(request, name)
        if value is not None:
            options[name] = value
    if request.stop:
        options["stop"] = request.stop
    if request.logit_bias:
        options["logit_bias"] = {int(key): value for key, value in request.logit_bias.items()}
    if request.temperature == 0:
        options = {name: value for name, value in options.items() if name not in _CUTOFFS}
        options["strategy"] = "greedy"
        del options["temperature"]
    return with_default_temperature(cast(TextOptions, options))
