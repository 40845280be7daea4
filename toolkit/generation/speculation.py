"""Speculative decoding: a small model drafts some tokens, the large one checks them at once
(Leviathan, Kalman and Matias 2023, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318).

A drafted token x is taken with probability min(1, p(x)/q(x)), where p is the large model's
distribution after the processors and q the draft's. The first one that is not taken is drawn anew
from the part of p that q left out, max(0, p − q). What comes out is distributed as by p alone,
whatever the draft says; only the number of steps depends on it. (A seed gives another sample than
without a draft, for other chances are taken.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.generation.contexts import Context
from toolkit.generation.decoding import compile_model, compiles, evaluation_mode
from toolkit.generation.requests import Request, Rows
from toolkit.generation.samplers import pick, require_count
from toolkit.models import LanguageModel


@dataclass(frozen=True)
class Speculation:
    """A draft for a larger model (Leviathan, Kalman and Matias 2023, arXiv:2211.17192).

    Attributes:
        draft: a model of the same tokens; in any mode, it is left as it was.
        num_draft_tokens: how many it drafts before they are checked.

    Raises:
        UsageError: a value that cannot be.
    """

    draft: LanguageModel
    num_draft_tokens: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.draft, LanguageModel):
            raise UsageError(f"draft must be a model, such as Run.open(…).model, not {self.draft}")
        require_count("--num-draft-tokens", self.num_draft_tokens)

    def start(self, request: Request) -> Rows:
        """Rows of which each is drafted and checked by itself.

        Raises:
            UsageError: the draft knows fewer tokens than are drawn.
        """
        known = self.draft.config.vocab_size
        if known < request.vocab_size:
            raise UsageError(
                f"The draft knows {known:,} tokens and {request.vocab_size:,} may be drawn: give "
                "--draft a run with the same tokenizer."
            )
        return _SpeculativeRows(self, request)


def acceptance(p: Tensor, q: Tensor) -> Tensor:
    """The probability that a token drawn from q is taken: min(1, p/q), (V) to (V).

    >>> acceptance(torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2])).tolist()
    [0.625, 1.0]
    """
    return torch.where(q > 0, p / q, 1.0).clamp(max=1.0)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """What is drawn from where a token was not taken: max(0, p − q), (V) to (V), not normalized.

    >>> residual(torch.tensor([0.5, 0.25]), torch.tensor([0.25, 0.75])).tolist()
    [0.25, 0.0]
    """
    return (p - q).clamp(min=0.0)


class _SpeculativeRows:
    def __init__(self, speculation: Speculation, request: Request) -> None:
        self._rows = [
            _Row(speculation, request, context, generator)
            for context, generator in zip(request.contexts, request.generators, strict=True)
        ]

    def draw(self) -> list[int]:
        return [row.next() for row in self._rows]

    def keep(self, rows: Sequence[int]) -> None:
        self._rows = [self._rows[row] for row in rows]


class _Row:
    """One sequence; `ready` are the tokens that were checked and not yet handed out."""

    def __init__(
        self,
        speculation: Speculation,
        request: Request,
        context: Context,
        generator: torch.Generator,
    ) -> None:
        self._speculation = speculation
        self._request = request
        self._context = context
        self._generator = generator
        self._ready: list[int] = []
        self._target = _Reader(request.model, cache=request.cache)
        self._draft = _Reader(speculation.draft, cache=request.cache)

    def next(self) -> int:
        if not self._ready:
            self._ready = self._round()
        return self._ready.pop(0)

    @torch.inference_mode()
    def _round(self) -> list[int]:
        """Draft, check: at least one token."""
        left = self._request.max_new_tokens - len(self._context.new_ids)
        # The check gives one token by itself.
        drafted, q = self._guess(min(self._speculation.num_draft_tokens, left - 1))
        contexts = [self._context.grown(drafted[:number]) for number in range(len(drafted) + 1)]
        if drafted and self._ends(drafted):
            contexts.pop()  # nothing comes after it
        logits = self._target.logits(contexts[-1].ids, len(contexts))
        p = self._distribution(logits, contexts)  # (len(contexts), V)
        for place, token_id in enumerate(drafted):
            chance = torch.rand((), generator=self._generator, dtype=torch.float64)
            if chance >= acceptance(p[place], q[place])[token_id]:
                rest = residual(p[place], q[place])
                if not rest.any():  # p and q differ by rounding alone
                    rest = p[place]
                return [*drafted[:place], int(pick(rest[None], self._generator))]
        if len(contexts) == len(drafted):
            return drafted
        return [*drafted, int(pick(p[-1:], self._generator))]

    def _ends(self, drafted: list[int]) -> bool:
        """Whether the last of these tokens ends the text."""
        complete = self._request.sampler.is_complete(self._context.grown(drafted))
        return complete or drafted[-1] in self._request.end_ids

    def _guess(self, count: int) -> tuple[list[int], list[Tensor]]:
        """So many tokens of the draft, and the distribution (V) that each was drawn from."""
        drafted: list[int] = []
        distributions: list[Tensor] = []
        for _ in range(count):
            context = self._context.grown(drafted)
            q = self._distribution(self._draft.logits(context.ids, 1), [context])  # (1, V)
            drafted.append(int(pick(q, self._generator)))
            distributions.append(q[0])
            if self._ends(drafted):
                break
        return drafted, distributions

    def _distribution(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        drawn = logits[:, : self._request.vocab_size]
        return self._request.sampler.probabilities(drawn, contexts).cpu().double()


class _Reader:
    """A model, and its cache of the ids that it has read last: what the next ones have in common
    with them is not computed again."""

    def __init__(self, model: LanguageModel, *, cache: bool) -> None:
        self._model, self._keeps = model, cache
        self._compiled = compile_model(model) if compiles(model, "auto", cache=cache) else None
        self._begin()

    def logits(self, ids: list[int], count: int) -> Tensor:
        """The logits after each of the last `count` ids: (count, V)."""
        model, cache = self._model, self._cache
        with evaluation_mode(model):
            if cache is not None and (cache.limit is None or len(ids) <= cache.limit):
                return self._extend(ids, count)
            if len(ids) <= model.block_size:
                return model(torch.tensor([ids], device=model.device)).logits[0, -count:]
            # Past the context each has a window of its own, which starts at another token.
            ends = range(len(ids) - count + 1, len(ids) + 1)
            return torch.cat([self._last(ids[:end]) for end in ends])

    def _begin(self) -> None:
        self._cache = self._model.new_cache(1, 1)
        self._known: list[int] = []  # the ids in the cache

    def _extend(self, ids: list[int], count: int) -> Tensor:
        same = 0
        for known, wanted in zip(self._known, ids[:-count], strict=False):
            if known != wanted:
                break
            same += 1
        assert self._cache is not None, "logits asks"
        if not (self._keeps and self._cache.can_truncate(same)):
            self._begin()
            same = 0
        self._cache.truncate(same)
        self._known = ids
        new = ids[same:]
        if self._compiled is not None and len(new) <= self._cache.span:
            return self._compiled.extend(new, self._cache, wanted=count)
        prompt = torch.tensor([new], device=self._model.device)  # (1, T)
        logits = self._model.extend(prompt, self._cache, last_only=count == 1)
        return logits[0, -count:]

    def _last(self, ids: list[int]) -> Tensor:
        window = torch.tensor([ids[-self._model.block_size :]], device=self._model.device)  # (1, T)
        return self._model(window).logits[:, -1]  # (1, V)
