"""The options of generation: their names and types, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from toolkit.errors import UsageError
from toolkit.generation.requests import Search
from toolkit.generation.samplers import (
    ContextProcessor,
    Sampler,
    import_named,
    make_processors,
    require_number,
)
from toolkit.generation.samples import LogprobRecorder
from toolkit.generation.seeds import fresh_seed
from toolkit.generation.speculation import Speculation
from toolkit.generation.strategies import DEFAULT_STRATEGY, STRATEGIES, choose_steps
from toolkit.models import LanguageModel
from toolkit.tokenizers import Tokenizer

DEFAULT_NEW_TOKENS = 200
# Small models are unsure of much: drawn as they are, their texts have more invented words.
DEFAULT_TEMPERATURE = 0.7
# What shapes the distribution: with one of these, no default temperature.
_SHAPING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
TokenIds = int | Sequence[int]


class SamplingOptions(TypedDict, total=False):
    """How tokens are drawn: a strategy's name and options, or a sampler made by hand; and a draft
    model that makes it quicker (see `Speculation`)."""

    strategy: str
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    no_repeat_ngram: int | None
    logit_bias: Mapping[TokenIds, float] | None
    forbid: Sequence[TokenIds] | None
    force: Sequence[int] | None
    num_beams: int | None
    length_penalty: float | None
    num_groups: int | None
    diversity_penalty: float | None
    early_stopping: bool | Literal["never"] | None
    contrast_k: int | None
    contrast_alpha: float | None
    sampler: Sampler | None
    draft: LanguageModel | None
    num_draft_tokens: int | None


class TextOptions(SamplingOptions, total=False):
    """All that `Generator.generate` and `stream` take."""

    max_new_tokens: int
    stop: str | Sequence[str]
    ignore_eos: bool
    seed: int | None
    max_time: float | None
    logprobs: int | None
    regex: str | None
    json_schema: str | Mapping[str, Any] | None


@dataclass(frozen=True)
class Plan:
    """What the options say, checked.

    Attributes:
        sampler: the processors.
        search: what finds the tokens; None draws them.
        max_new_tokens, stop, ignore_eos, seed: as given; the seed is a fresh one if none was.
        num_logprobs: how many alternatives to note; None notes nothing.
        recorder: the processor that notes them.
        max_time: the seconds after which a text ends; infinity for no end.
    """

    sampler: Sampler
    search: Search | None
    max_new_tokens: int
    stop: Sequence[str]
    ignore_eos: bool
    seed: int
    num_logprobs: int | None
    recorder: LogprobRecorder | None
    max_time: float


def make_plan(
    options: Mapping[str, object],
    tokenizer: Tokenizer | None = None,
    end_ids: frozenset[int] = frozenset(),
) -> Plan:
    """Check the options and make their parts.

    Args:
        options: those of `TextOptions`, and any that a strategy was registered with.
        tokenizer, end_ids: for options of text.

    Raises:
        UsageError: a wrong option, or two that do not go together.
    """
    rest: dict[str, Any] = dict(options)
    max_new_tokens = rest.pop("max_new_tokens", DEFAULT_NEW_TOKENS)
    stop = rest.pop("stop", ())
    ignore_eos = rest.pop("ignore_eos", False)
    seed = rest.pop("seed", None)
    max_time = rest.pop("max_time", None)
    num_logprobs = rest.pop("logprobs", None)
    regex, json_schema = rest.pop("regex", None), rest.pop("json_schema", None)
    _check_not_negative("--max-new-tokens", max_new_tokens)
    sampler, search = _choose(rest)
    if regex is not None or json_schema is not None:
        assert tokenizer is not None
        ends = frozenset[int]() if ignore_eos else end_ids
        sampler = _constrained(sampler, _constraint(regex, json_schema, tokenizer, ends))
    recorder = None
    if num_logprobs is not None:
        _check_not_negative("--logprobs", num_logprobs)
        if search is not None:
            raise UsageError("--logprobs is for strategies that draw token by token.")
        recorder = LogprobRecorder()
        sampler = Sampler([recorder, *sampler.processors])
    return Plan(
        sampler=sampler,
        search=search,
        max_new_tokens=max_new_tokens,
        stop=[stop] if isinstance(stop, str) else stop,
        ignore_eos=ignore_eos,
        seed=fresh_seed() if seed is None else seed,
        num_logprobs=num_logprobs,
        recorder=recorder,
        max_time=_max_time(max_time),
    )


def with_default_temperature(options: TextOptions) -> TextOptions:
    """The options as the command line and the server take them: `DEFAULT_TEMPERATURE` where tokens
    are drawn and nothing says how.

    >>> with_default_temperature({"seed": 1}), with_default_temperature({"top_k": 5})
    ({'seed': 1, 'temperature': 0.7}, {'top_k': 5})
    """
    plain = options.get("strategy") in (None, DEFAULT_STRATEGY) and options.get("sampler") is None
    if plain and not any(options.get(name) is not None for name in _SHAPING):
        return {**options, "temperature": DEFAULT_TEMPERATURE}
    return options


def check_ids_options(options: SamplingOptions) -> None:
    """Raise UsageError for an option of text: ids have no text."""
    of_text = TextOptions.__annotations__.keys() - SamplingOptions.__annotations__.keys()
    for name in options:
        if name in of_text:
            raise UsageError(f"generate_ids takes no {name}: use generate, or leave it out.")


def check_num_samples(value: int) -> None:
    """Raise UsageError unless it is a whole number of at least 1."""
    _check_whole("--num-samples", value)
    if value < 1:
        raise UsageError(f"--num-samples {value} must be at least 1")


def _check_whole(option: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{option} {value} must be a whole number")


def _choose(options: dict[str, Any]) -> tuple[Sampler, Search | None]:
    draft = options.pop("draft", None)
    num_draft_tokens = options.pop("num_draft_tokens", None)
    sampler, search = _choose_strategy(options)
    if draft is None:
        if num_draft_tokens is not None:
            raise UsageError("--num-draft-tokens is for a --draft: give one, or leave it out.")
        return sampler, search
    if search is not None:
        raise UsageError("--draft is for strategies that draw token by token.")
    if num_draft_tokens is None:
        return sampler, Speculation(draft)
    return sampler, Speculation(draft, num_draft_tokens)


def _choose_strategy(options: dict[str, Any]) -> tuple[Sampler, Search | None]:
    sampler = options.pop("sampler", None)
    if sampler is not None:
        if not isinstance(sampler, Sampler):
            raise UsageError(
                f"sampler must be a Sampler, such as Sampler([TopK(5)]), not {sampler!r}"
            )
        given = [name for name, value in options.items() if value is not None]
        if given:
            raise UsageError(f"sampler says how to draw: leave {', '.join(given)} out.")
        return sampler, None
    name = options.pop("strategy", DEFAULT_STRATEGY)
    sampler = Sampler(make_processors(choose_steps(name, options)))
    strategy = STRATEGIES[name]
    if strategy.search is None:
        return sampler, None
    of_search = {key: options.get(key) for key in strategy.search_options}
    given_to_search = {key: value for key, value in of_search.items() if value is not None}
    return sampler, import_named(strategy.search)(**given_to_search)


def _constraint(
    regex: str | None,
    json_schema: str | Mapping[str, Any] | None,
    tokenizer: Tokenizer,
    end_ids: frozenset[int],
) -> ContextProcessor:
    from toolkit.generation.constraints import matching_json_schema, matching_regex

    if regex is None:
        assert json_schema is not None
        return matching_json_schema(json_schema, tokenizer, end_ids=end_ids)
    if json_schema is not None:
        raise UsageError("--regex and --json-schema exclude each other; give one of them.")
    return matching_regex(regex, tokenizer, end_ids=end_ids)


def _constrained(sampler: Sampler, constraint: ContextProcessor) -> Sampler:
    """After what looks at the tokens before (forced tokens must match too), and before what looks
    at the distribution: k tokens are k that match."""
    place = 0
    for number, processor in enumerate(sampler.processors, 1):
        if isinstance(processor, ContextProcessor):
            place = number
    first, last = sampler.processors[:place], sampler.processors[place:]
    return Sampler([*first, constraint, *last])


def _max_time(max_time: float | None) -> float:
    if max_time is None:
        return math.inf
    require_number("--max-time", max_time)
    if not max_time > 0:
        raise UsageError(f"--max-time {max_time:g} must be above 0 (seconds)")
    return max_time


def _check_not_negative(option: str, value: int) -> None:
    _check_whole(option, value)
    if value < 0:
        raise UsageError(f"{option} {value} must not be negative")
