"""Processors that look at the tokens before: penalties, bias, forbidden and forced tokens.

Each takes logits (B, V) and one `Context` for each row. Repetition counts the prompt as
transformers does; presence and frequency count new tokens alone, as OpenAI documents them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.errors import UsageError, VocabularyError
from toolkit.generation.contexts import Context
from toolkit.generation.samplers import (
    EXCLUDED,
    ContextProcessor,
    require_count,
    require_number,
)

TokenIds = int | Sequence[int]


@dataclass(frozen=True)
class RepetitionPenalty(ContextProcessor):
    """Make every token that occurs in prompt or text less likely: a positive logit is divided by
    the penalty, a negative one multiplied with it (Keskar et al. 2019, "CTRL", arXiv:1909.05858).

    1 changes nothing; below 1 repeats are made likelier.

    >>> RepetitionPenalty(2.0)(torch.tensor([[4.0, -1.0, 3.0]]), [Context([0], [1])]).tolist()
    [[2.0, -2.0, 3.0]]

    Raises:
        UsageError: not a finite number above 0.
    """

    penalty: float

    def __post_init__(self) -> None:
        require_number("--repetition-penalty", self.penalty)
        if not 0 < self.penalty < math.inf:
            raise UsageError(
                f"--repetition-penalty {self.penalty:g} must be above 0 and finite; 1 is none."
            )

    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        seen = torch.zeros_like(logits, dtype=torch.bool)  # (B, V)
        for row, context in enumerate(contexts):
            # A model may have ids above those that are drawn.
            seen[row, [each for each in set(context.ids) if each < logits.size(-1)]] = True
        penalised = torch.where(logits < 0, logits * self.penalty, logits / self.penalty)
        return torch.where(seen, penalised, logits)


@dataclass(frozen=True)
class PresencePenalty(ContextProcessor):
    """Subtract a number from the logit of every token that was drawn before (OpenAI's API
    reference: −α where the count is above 0). Below 0 it rewards.

    >>> PresencePenalty(0.5)(torch.tensor([[4.0, -1.0, 3.0]]), [Context([2], [1, 1])]).tolist()
    [[4.0, -1.5, 3.0]]

    Raises:
        UsageError: not a finite number.
    """

    penalty: float

    def __post_init__(self) -> None:
        _require_finite("--presence-penalty", self.penalty)

    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        return logits - self.penalty * (_counts(logits, contexts) > 0)


@dataclass(frozen=True)
class FrequencyPenalty(ContextProcessor):
    """Subtract a number from a token's logit each time that it was drawn before (OpenAI's API
    reference: −α · count). Below 0 it rewards.

    >>> FrequencyPenalty(0.5)(torch.tensor([[4.0, -1.0, 3.0]]), [Context([2], [1, 1])]).tolist()
    [[4.0, -2.0, 3.0]]

    Raises:
        UsageError: not a finite number.
    """

    penalty: float

    def __post_init__(self) -> None:
        _require_finite("--frequency-penalty", self.penalty)

    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        return logits - self.penalty * _counts(logits, contexts)


@dataclass(frozen=True)
class NoRepeatNgram(ContextProcessor):
    """Rule out every token that would complete n tokens which prompt and text have already in a
    row (Paulus, Xiong and Socher 2017, arXiv:1705.04304, with n = 3).

    >>> NoRepeatNgram(2)(torch.zeros(1, 4), [Context([1, 2, 3], [1])]).tolist()
    [[0.0, 0.0, -inf, 0.0]]

    Raises:
        UsageError: not a whole number of at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        require_count("--no-repeat-ngram", self.n)

    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        excluded = torch.zeros_like(logits, dtype=torch.bool)  # (B, V)
        for row, context in enumerate(contexts):
            ids = context.ids
            beginning = ids[len(ids) - self.n + 1 :]
            for start in range(len(ids) - self.n + 1):
                last = start + self.n - 1
                if ids[start:last] == beginning and ids[last] < logits.size(-1):
                    excluded[row, ids[last]] = True
        return logits.masked_fill(excluded, EXCLUDED)


@dataclass(frozen=True)
class LogitBias(ContextProcessor):
    """Add a number to the logits of some tokens (OpenAI's API reference; transformers calls it
    sequence bias).

    A key of several ids biases the last one, where the others are the end of prompt and text.

    >>> bias = LogitBias({0: 1.0, (3, 1): -2.0})
    >>> bias(torch.zeros(2, 3), [Context([3]), Context([2])]).tolist()
    [[1.0, -2.0, 0.0], [1.0, 0.0, 0.0]]

    Raises:
        UsageError: no ids, or a bias that is no finite number. When it is applied:
            VocabularyError, an id that cannot be drawn.
    """

    biases: Mapping[TokenIds, float]

    def __post_init__(self) -> None:
        for ids, bias in self.biases.items():
            _sequence("--logit-bias", ids)
            _require_finite("--logit-bias", bias)

    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        total = torch.zeros_like(logits)
        for ids, bias in self.biases.items():
            sequence = _sequence("--logit-bias", ids)
            total[_completed(sequence, logits, contexts), sequence[-1]] += bias
        return logits + total


@dataclass(frozen=True)
class Forbidden(ContextProcessor):
    """Rule tokens out: single ids, and the last of several in a row where the others stand before
    (transformers calls the latter bad words). Other tokens may spell the same text.

    >>> Forbidden([0, (3, 1)])(torch.zeros(1, 3), [Context([3])]).tolist()
    [[-inf, -inf, 0.0]]

    Raises:
        UsageError: no ids. When it is applied: VocabularyError, an id that cannot be drawn.
    """

    tokens: Sequence[TokenIds]

    def __post_init__(self) -> None:
        for ids in self.tokens:
            _sequence("--forbid", ids)

    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        logits = logits.clone()
        for ids in self.tokens:
            sequence = _sequence("--forbid", ids)
            logits[_completed(sequence, logits, contexts), sequence[-1]] = EXCLUDED
        return logits


@dataclass(frozen=True)
class Forced(ContextProcessor):
    """The first new tokens are these, whatever the model says; later ones are free. A forced
    token's logit is 0, as transformers has it for a forced first token.

    >>> Forced([2, 1])(torch.zeros(2, 3), [Context([0], [2]), Context([0], [2, 1])]).tolist()
    [[-inf, 0.0, -inf], [0.0, 0.0, 0.0]]

    Raises:
        UsageError: no ids. When it is applied: VocabularyError, an id that cannot be drawn.
    """

    ids: Sequence[int]

    def __post_init__(self) -> None:
        _sequence("--force", self.ids)

    def __call__(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        logits = logits.clone()
        for row, context in enumerate(contexts):
            if len(context.new_ids) < len(self.ids):
                forced = self.ids[len(context.new_ids)]
                _check_id(forced, logits)
                logits[row] = EXCLUDED
                logits[row, forced] = 0.0
        return logits


def _counts(logits: Tensor, contexts: Sequence[Context]) -> Tensor:
    """How often each token was drawn in each row: (B, V), in the dtype of the logits."""
    counts = torch.zeros_like(logits)
    for row, context in enumerate(contexts):
        for token_id, count in Counter(context.new_ids).items():
            counts[row, token_id] = count
    return counts


def _completed(sequence: Sequence[int], logits: Tensor, contexts: Sequence[Context]) -> list[int]:
    """The rows that end with all of `sequence` but its last id."""
    _check_id(sequence[-1], logits)
    before = list(sequence[:-1])
    if not before:
        return list(range(len(contexts)))
    return [row for row, each in enumerate(contexts) if each.ids[-len(before) :] == before]


def _check_id(token_id: int, logits: Tensor) -> None:
    if token_id >= logits.size(-1):
        raise VocabularyError(
            f"Id {token_id} of a processor is no token: 0 to {logits.size(-1) - 1} are drawn here."
        )


def _sequence(option: str, ids: object) -> tuple[int, ...]:
    """One id or several, as a tuple."""
    found = tuple(ids) if isinstance(ids, Iterable) else (ids,)
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in found)
    if not found or not whole or min(found) < 0:
        raise UsageError(f"{option} {ids!r} must be an id or several, whole numbers from 0 on")
    return found


def _require_finite(option: str, value: float) -> None:
    require_number(option, value)
    if not math.isfinite(value):
        raise UsageError(f"{option} {value:g} must be finite")
