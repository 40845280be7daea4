"""What a strategy is asked for, and what it gives: rows of tokens, one token a row at a time.

`Continuations` (in `decoding`) draws token by token. A search (beams, contrastive search, a draft
that a larger model checks) is a class with `start(request)`, made with its own options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from toolkit.generation.contexts import Context
from toolkit.generation.decoding import Decoder
from toolkit.generation.samplers import Sampler
from toolkit.models import LanguageModel


@dataclass(frozen=True)
class Request:
    """Continue one prompt in several rows.

    Attributes:
        model: in any mode; it is left as it was.
        decoder: a new one of the model.
        cache: whether keys and values may be kept from step to step.
        prompt_ids: at least one.
        sampler: the processors.
        generators, contexts: one for each row. Whoever takes the tokens adds them to the contexts.
        vocab_size: only ids below it are drawn.
        max_new_tokens: no row is asked for more.
        end_ids: the ids after which a row is not asked for more.
    """

    model: LanguageModel
    decoder: Decoder
    cache: bool
    prompt_ids: Sequence[int]
    sampler: Sampler
    generators: Sequence[torch.Generator]
    contexts: Sequence[Context]
    vocab_size: int
    max_new_tokens: int
    end_ids: frozenset[int]


class Rows(Protocol):
    """Rows that grow."""

    def draw(self) -> list[int]:
        """The next token of each row."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""


class Search(Protocol):
    """A way to find tokens that is more than drawing one after the other."""

    def start(self, request: Request) -> Rows:
        """Begin; nothing is computed before the first `draw`."""
