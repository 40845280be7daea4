"""Text of a certain form: by a regular expression or a JSON schema.

At every place only those tokens are left with which the text can still become one that matches
(Willard and Louf 2023, arXiv:2307.09702). The automaton that says which, on bytes and for any
vocabulary, is llguidance's (https://github.com/guidance-ai/llguidance). A text that ends because
nothing may follow, or by an end token, matches; one that max_new_tokens or max_time cut off is the
beginning of one that does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.errors import MissingExtraError, UsageError, VocabularyError
from toolkit.generation.contexts import Context
from toolkit.generation.samplers import EXCLUDED, ContextProcessor
from toolkit.tokenizers import Tokenizer

# As json.dumps writes it. With free white space a small model may write nothing else.
_JSON_FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Constraint(ContextProcessor):
    """Only tokens with which the new text can still match (Willard and Louf 2023,
    arXiv:2307.09702).

    Made by `matching_regex` and `matching_json_schema`.
    """

    def __init__(
        self, what: str, grammar: str, tokenizer: Tokenizer, end_ids: Iterable[int] = ()
    ) -> None:
        """Compile a grammar of llguidance's.

        Args:
            what: what it is, for messages.
            grammar: as `LLMatcher.grammar_from_…` gives it.
            tokenizer: whose tokens are drawn.
            end_ids: the ids that may end a text which matches.

        Raises:
            UsageError: a grammar that cannot be.
        """
        llguidance = _library()
        self._what = what
        ends = tuple(sorted(each for each in end_ids if each < tokenizer.vocab_size))
        known = _known_to_library(tokenizer, ends)
        self._fresh = llguidance.LLMatcher(known, grammar, log_level=0)
        self._check(self._fresh)

    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        rows = [self._allowed(context, logits.size(-1)) for context in contexts]
        allowed = torch.from_numpy(np.stack(rows)).to(logits.device)  # (B, V)
        masked = logits.masked_fill(~allowed, EXCLUDED)
        if (masked == EXCLUDED).all(dim=-1).any():
            raise UsageError(f"{self._what}: other options rule out every token that matches it.")
        return masked

    def is_complete(self, context: Context) -> bool:
        matcher = self._matcher(context)
        return bool(matcher.is_stopped() and not matcher.is_error())

    def _allowed(self, context: Context, vocab_size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which tokens may come next: (V)."""
        matcher = self._matcher(context)
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        if matcher.get_error().startswith("NoExtension"):  # nothing may follow
            raise UsageError(
                f"{self._what}: no token of the tokenizer goes on from {context.new_ids} to a text "
                "that matches. Choose another pattern or tokenizer."
            )
        self._check(matcher)
        return np.unpackbits(bits, bitorder="little")[:vocab_size].astype(bool)

    def _matcher(self, context: Context) -> Any:
        """The automaton after this row's new tokens."""
        matcher, taken = context.memory.get(self, (None, 0))
        if matcher is None:
            matcher = self._fresh.deep_copy()
        new = context.new_ids[taken:]
        if new and not matcher.consume_tokens(new):
            raise UsageError(f"{self._what}: other options led to tokens that do not match it.")
        context.memory[self] = (matcher, len(context.new_ids))
        return matcher

    def _check(self, matcher: Any) -> None:
        if matcher.is_error():
            raise UsageError(f"{self._what}: {_one_line(matcher.get_error())}")


def matching_regex(
    pattern: str, tokenizer: Tokenizer, *, end_ids: Iterable[int] = ()
) -> Constraint:
    """The new text as a whole matches a regular expression, in the syntax of Rust's `regex`: no
    look-around, no references back.

    Raises:
        UsageError: a pattern that cannot be.
        MissingExtraError: llguidance is not installed.
    """
    if not isinstance(pattern, str) or not pattern:
        raise UsageError(f"--regex {pattern!r} must be a pattern of at least one character")
    grammar = _library().LLMatcher.grammar_from_regex(pattern)
    return Constraint(f"--regex {pattern!r}", grammar, tokenizer, end_ids)


def matching_json_schema(
    schema: str | Mapping[str, Any], tokenizer: Tokenizer, *, end_ids: Iterable[int] = ()
) -> Constraint:
    """The new text is JSON of a schema (json-schema.org), written as `json.dumps` does.

    Args:
        schema: as JSON, or as what JSON stands for.
        tokenizer, end_ids: as in `Constraint`.

    Raises:
        UsageError: a schema that is no JSON object, or has keywords that are not supported.
        MissingExtraError: llguidance is not installed.
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except json.JSONDecodeError as error:
            raise UsageError(f"--json-schema is not JSON: {error}.") from error
    if not isinstance(schema, Mapping):
        raise UsageError("--json-schema must be a JSON object such as {'type': 'object'}.")
    text = json.dumps(dict(schema))
    try:
        grammar = _library().LLMatcher.grammar_from_json_schema(text, overrides=_JSON_FORM)
    except ValueError as error:  # such as half of a surrogate pair
        raise UsageError(f"--json-schema: {_one_line(str(error))}") from error
    return Constraint("--json-schema", grammar, tokenizer, end_ids)


# Of 100,000 tokens it takes most of a second, in which a server would write nothing else.
@lru_cache(maxsize=2)
def _known_to_library(tokenizer: Tokenizer, ends: tuple[int, ...]) -> Any:
    """A tokenizer in the form of the library, which changes nothing in it."""
    llguidance = _library()
    wrapper = llguidance.TokenizerWrapper(_Vocabulary(tokenizer, ends))
    # An end token that nobody can draw stands for the ones that are missing.
    return llguidance.LLTokenizer(wrapper, eos_token=list(ends) or [tokenizer.vocab_size])


class _Vocabulary:
    """A tokenizer as llguidance wants to see it."""

    def __init__(self, tokenizer: Tokenizer, end_ids: Sequence[int]) -> None:
        size = tokenizer.vocab_size
        self._tokenizer = tokenizer
        self.tokens = [tokenizer.token_bytes(each) for each in range(size)]
        self.special_token_ids = sorted({*tokenizer.special_tokens.values(), *end_ids})
        if not end_ids:
            self.tokens.append(b"<end>")
            self.special_token_ids.append(size)
        self.eos_token_id = end_ids[0] if end_ids else size
        self.bos_token_id = None

    def __call__(self, text: str) -> list[int]:
        try:
            return self._tokenizer.encode(text)
        except VocabularyError:
            return []


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtraError("constrain", "Text that matches a pattern") from error
    return llguidance


def _one_line(message: str) -> str:
    """The library's message shows the pattern with marks below it; the reason is on a line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f"{(reasons or lines)[0].rstrip('.')}."
