"""The logits after sequences of different lengths, which come and go between steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from toolkit.generation.contexts import Context
from toolkit.generation.decoding import (
    Engine,
    compile_model,
    compiles,
    last_logits,
    one_thread,
    slides,
)
from toolkit.models import LanguageModel


class RowsDecoder:
    """A model, and what it keeps of each sequence from step to step.

    A sequence that comes in is computed alone, in one pass; equal ones that come together once.
    Those with their keys and values in the cache then grow in one pass for all of them. What does
    not fit there (models without a cache, and positions that end with the context past it) is
    computed anew at each step, together with others of the same length.
    """

    def __init__(
        self,
        model: LanguageModel,
        max_rows: int,
        max_tokens: int | None,
        *,
        cache: bool,
        engine: Engine,
    ) -> None:
        """Make room for `max_rows` sequences.

        Args:
            max_tokens: the most tokens of a sequence; None: any number.
            cache: whether keys and values are kept, by a model that can.
            engine: see `make_decoder`.

        Raises:
            UsageError: an engine that cannot do this model's steps.
        """
        self._model = model
        self._slides = slides(model)
        self._cache = model.new_row_cache(max_rows, max_tokens) if cache else None
        can = compiles(model, engine, cache=self._cache is not None)
        self._compiled = compile_model(model) if can else None
        self._kept: list[Context] = []  # the sequence in each row of the cache

    def logits(self, contexts: Sequence[Context]) -> Tensor:
        """The logits of the token after each sequence: (B, V).

        Args:
            contexts: all that were given before and not forgotten, each with one more token; and
                new ones.
        """
        anew = [context for context in contexts if not self._fits(context)]
        for context in anew:
            self.forget(context)
        known = set(self._kept)
        found = self._grown()
        found |= self._begun(each for each in contexts if self._fits(each) and each not in known)
        found |= self._recomputed(anew)
        with one_thread() if self.is_compiled else nullcontext():
            return torch.stack([found[context] for context in contexts])

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code does the steps."""
        return self._compiled is not None

    def forget(self, context: Context) -> None:
        """A sequence leaves; its memory is free for another. No error if it has none."""
        if self._cache is not None and context in self._kept:
            row = self._kept.index(context)
            self._cache.remove(row)
            last = self._kept.pop()
            if last is not context:
                self._kept[row] = last

    def _fits(self, context: Context) -> bool:
        if self._cache is None:
            return False
        return self._cache.limit is None or context.length <= self._cache.limit

    def _grown(self) -> dict[Context, Tensor]:
        """The logits (V) after those in the cache, with their last tokens."""
        if not self._kept:
            return {}
        assert self._cache is not None, "it has rows"
        last = [context.new_ids[-1] for context in self._kept]
        if self._compiled is not None:
            with one_thread():
                # What begins in this step writes over them.
                logits = self._compiled.extend_rows(last, self._cache).clone()  # (B, V)
        else:
            tokens = torch.tensor(last, device=self._model.device)  # (B)
            logits = self._model.extend_rows(tokens, self._cache)  # (B, V)
        return dict(zip(self._kept, logits, strict=True))

    def _begun(self, contexts: Iterable[Context]) -> dict[Context, Tensor]:
        """The logits (V) after new ones, which then are in the cache."""
        equal: defaultdict[tuple[int, ...], list[Context]] = defaultdict(list)
        for context in contexts:
            equal[tuple(context.ids)].append(context)
        found: dict[Context, Tensor] = {}
        for ids, group in equal.items():
            cache = self._model.new_cache(1, len(ids))
            assert cache is not None, "a model with one for rows has one for a row"
            assert self._cache is not None, "else nothing fits"
            if self._compiled is not None and len(ids) <= cache.span:
                logits = self._compiled.extend(ids, cache)[0]  # (V)
            else:
                prompt = torch.tensor([ids], device=self._model.device)  # (1, T)
                logits = self._model.extend(prompt, cache, last_only=True)[0, -1]  # (V)
            for context in group:
                self._cache.add(cache)
                self._kept.append(context)
                found[context] = logits
        return found

    def _recomputed(self, contexts: Sequence[Context]) -> dict[Context, Tensor]:
        """The logits (V) after sequences of which nothing is kept."""
        by_length: defaultdict[int, list[tuple[Context, list[int]]]] = defaultdict(list)
        for context in contexts:
            ids = context.ids if self._slides else context.ids[-self._model.block_size :]
            by_length[len(ids)].append((context, ids))
        found: dict[Context, Tensor] = {}
        for group in by_length.values():
            windows = torch.tensor([ids for _, ids in group], device=self._model.device)  # (B, T)
            logits = last_logits(self._model, windows)  # (B, V)
            found |= {context: row for (context, _), row in zip(group, logits, strict=True)}
        return found
