"""Contrastive search: a likely token whose representation is unlike those before (Su et al. 2022,
"A Contrastive Framework for Neural Text Generation", arXiv:2202.06417).

Of the k likeliest tokens v it takes the one with the highest (1 − α) p(v) − α s(v), where s(v) is
the largest cosine similarity between v's hidden state and that of any token before, both from the
layer that the head reads. It draws nothing: it is greedy that does not run in circles. The model
computes the k candidates side by side at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.generation.decoding import evaluation_mode, slides
from toolkit.generation.requests import Request, Rows
from toolkit.generation.samplers import require_count, require_fraction
from toolkit.models import GPTModel, KVCache, LanguageModel


@dataclass(frozen=True)
class ContrastiveSearch:
    """Likely and unlike what stands before (Su et al. 2022, arXiv:2202.06417).

    Attributes:
        contrast_k: how many of the likeliest tokens to compare.
        contrast_alpha: how much unlikeness counts; 0 is greedy.

    Raises:
        UsageError: a value that cannot be.
    """

    contrast_k: int = 5
    contrast_alpha: float = 0.6

    def __post_init__(self) -> None:
        require_count("--contrast-k", self.contrast_k)
        require_fraction(
            "--contrast-alpha", self.contrast_alpha, lowest_counts=True, highest_counts=True
        )

    def start(self, request: Request) -> Rows:
        """Rows that are all the same.

        Raises:
            UsageError: a model without blocks, which has no hidden states.
        """
        return _ContrastiveRows(self, request)


class _ContrastiveRows:
    def __init__(self, search: ContrastiveSearch, request: Request) -> None:
        self._search, self._request = search, request
        self._model = request.model
        self._reader = _last_layer(request.model)
        self._slides = slides(request.model)
        self._rows = len(request.contexts)
        self._ids = list(request.prompt_ids)
        self._logits: Tensor | None = None  # (V), of the token after self._ids
        # Of self._ids, as far as attention sees them; None where nothing is kept.
        self._cache: KVCache | None = None
        self._states: Tensor | None = None  # (T, C)

    @torch.inference_mode()
    def draw(self) -> list[int]:
        with evaluation_mode(self._model):
            if self._logits is None:
                self._cache = self._new_cache(1)
                logits, states = self._read([self._visible(self._ids)], self._cache)
                self._logits, self._states = logits[0], states[0]
            token_id = self._choose(self._logits)
        self._ids.append(token_id)
        return [token_id] * self._rows

    def keep(self, rows: Sequence[int]) -> None:
        self._rows = len(rows)

    def _choose(self, logits: Tensor) -> int:
        request, alpha = self._request, self._search.contrast_alpha
        drawn, contexts = logits[None, : request.vocab_size], [request.contexts[0]]
        probabilities = request.sampler.probabilities(drawn, contexts)[0]  # (V)
        best = probabilities.topk(min(self._search.contrast_k, request.vocab_size))
        possible = int((best.values > 0).sum())  # processors may leave fewer
        candidates: list[int] = best.indices[:possible].tolist()
        following, states = self._after(candidates)  # (k, V), (k, T, C)
        last, before = states[:, -1:], states[:, :-1]  # (k, 1, C), (k, T − 1, C)
        similarity = F.cosine_similarity(last, before, dim=-1).amax(dim=-1)  # (k)
        scores = (1 - alpha) * best.values[:possible] - alpha * similarity
        winner = int(scores.argmax())
        self._logits, self._states = following[winner], states[winner]
        if self._cache is not None:
            self._cache.select([winner])
        return candidates[winner]

    def _after(self, candidates: list[int]) -> tuple[Tensor, Tensor]:
        """The logits after each candidate (k, V), and the states of it and those before (k, T, C):
        of as many as attention sees."""
        if not self._request.cache or (self._cache is not None and not self._cache.has_room(1)):
            self._cache = None
        rows = len(candidates)
        if self._cache is None:
            sequences = [self._visible([*self._ids, each]) for each in candidates]
            return self._read(sequences, self._new_cache(rows))
        assert self._states is not None, "the prompt's"
        self._cache.select([0] * rows)
        logits, new = self._read([[each] for each in candidates], self._cache)  # (k, 1, C)
        before = self._states[1 - self._model.block_size :].expand(rows, -1, -1)
        return logits, torch.cat([before, new], dim=1)

    def _read(self, rows: list[list[int]], cache: KVCache) -> tuple[Tensor, Tensor]:
        """The logits after more ids (k, V), and their hidden states (k, T, C)."""
        found: list[Tensor] = []  # of each piece that a long text is computed in
        hook = self._reader.register_forward_hook(lambda _, inputs, output: found.append(output))
        try:
            logits = self._model.extend(torch.tensor(rows, device=self._model.device), cache)
        finally:
            hook.remove()
        states = torch.cat(found, dim=1)[:, -self._model.block_size :].float()
        return logits[:, -1], states

    def _visible(self, ids: list[int]) -> list[int]:
        return ids if self._slides else ids[-self._model.block_size :]

    def _new_cache(self, rows: int) -> KVCache:
        cache = self._model.new_cache(rows, 1)
        assert cache is not None, "it has layers"
        return cache


def _last_layer(model: LanguageModel) -> nn.Module:
    """The part whose output the head reads."""
    if not isinstance(model, GPTModel):
        raise UsageError(
            f"Contrastive search compares hidden states, and a {model.name} model has no layers "
            "that it knows: choose another --strategy."
        )
    return model.blocks[-1] if model.norm is None else model.norm
