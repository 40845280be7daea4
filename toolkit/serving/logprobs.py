"""Logprobs in the form of OpenAI's completions: four lists with an entry for each token."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from toolkit.generation import TokenLogprob
from toolkit.jsonable import bytes_to_json
from toolkit.serving.api import Logprobs
from toolkit.tokenizers import Tokenizer


class LogprobTable:
    """The tokens of a text, given out in step with the text itself.

    Text may be held back while it could be the beginning of a stop string; its tokens are, too, and
    those of a stop string are never given out.
    """

    def __init__(self, tokenizer: Tokenizer, start: int, *, with_alternatives: bool) -> None:
        """An empty one.

        Args:
            start: the place of the first token, in characters.
            with_alternatives: whether likely tokens of the same places are listed.
        """
        self._tokenizer = tokenizer
        self._decoder = tokenizer.stream_decoder()
        self._place = start
        self._with_alternatives = with_alternatives
        self._held: deque[tuple[int, int, TokenLogprob | None]] = deque()

    def push(self, token_id: int, token: TokenLogprob | None) -> None:
        """Add a token; None for one that nothing stands before."""
        self._held.append((self._place, token_id, token))
        self._place += len(self._decoder.push(token_id))

    def take(self, shown: int | None) -> Logprobs:
        """The tokens that begin before place `shown`, and were not taken yet; None: all."""
        table = Logprobs(
            tokens=[],
            token_ids=[],
            token_logprobs=[],
            top_logprobs=[] if self._with_alternatives else None,
            text_offset=[],
        )
        while self._held and (shown is None or self._held[0][0] < shown):
            place, token_id, token = self._held.popleft()
            table["tokens"].append(_text_of(self._tokenizer.token_bytes(token_id)))
            table["token_ids"].append(token_id)
            table["token_logprobs"].append(None if token is None else _number(token.logprob))
            table["text_offset"].append(place)
            if table["top_logprobs"] is not None:
                table["top_logprobs"].append(
                    None
                    if token is None
                    else {_text_of(each.token): _number(each.logprob) for each in token.top}
                )
        return table


def join_tables(tables: Sequence[Logprobs]) -> Logprobs:
    """One table of several."""
    alternatives = [table["top_logprobs"] for table in tables]
    return Logprobs(
        tokens=[each for table in tables for each in table["tokens"]],
        token_ids=[each for table in tables for each in table["token_ids"]],
        token_logprobs=[each for table in tables for each in table["token_logprobs"]],
        top_logprobs=None
        if None in alternatives
        else [each for table in alternatives for each in table or ()],
        text_offset=[each for table in tables for each in table["text_offset"]],
    )


def _text_of(token: bytes) -> str:
    r"""A token as text; one that is only a part of characters as OpenAI writes it.

    >>> _text_of(b" the"), _text_of(b"\xf0\x9f")
    (' the', 'bytes:\\xf0\\x9f')
    """
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return f"bytes:{bytes_to_json(token)}"


def _number(logprob: float) -> float | None:
    return logprob if math.isfinite(logprob) else None  # JSON has no infinity
