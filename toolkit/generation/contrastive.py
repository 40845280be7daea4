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
from toolkit.generation.decoding import evaluation_mode
from toolkit.generation.requests import Request, Rows
from toolkit.generation.samplers import require_count, require_fraction
from toolkit.models import GPTModel, LanguageModel


@dataclass(frozen=True)
class ContrastiveSearch:
    """Likely and unlike what stands before.

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
        self._search = search
        self._request = request
        self._reader = _last_layer(request.model)
        self._rows = len(request.contexts)
        self._ids = list(request.prompt_ids)
        self._logits: Tensor | None = None  # (V), of the token after self._ids

    @torch.inference_mode()
    def draw(self) -> list[int]:
        with evaluation_mode(self._request.model):
            if self._logits is None:
                self._logits = self._compute([self._ids])[0][0]
            token_id = self._choose(self._logits)
        self._ids.append(token_id)
        return [token_id] * self._rows

    def keep(self, rows: Sequence[int]) -> None:
        self._rows = len(rows)

    def _choose(self, logits: Tensor) -> int:
        sampler, vocab_size = self._request.sampler, self._request.vocab_size
        contexts = [self._request.contexts[0]]
        probabilities = sampler.probabilities(logits[None, :vocab_size], contexts)[0]  # (V)
        best = probabilities.topk(min(self._search.contrast_k, vocab_size))
        possible = int((best.values > 0).sum())  # processors may leave fewer
        candidates = best.indices[:possible].tolist()
        following, hidden = self._compute([[*self._ids, each] for each in candidates])
        last, before = hidden[:, -1:], hidden[:, :-1]  # (k, 1, C), (k, T, C)
        similarity = F.cosine_similarity(last, before, dim=-1).amax(dim=-1)  # (k)
        alpha = self._search.contrast_alpha
        scores = (1 - alpha) * best.values[:possible] - alpha * similarity
        winner = int(scores.argmax())
        self._logits = following[winner]
        token_id: int = candidates[winner]
        return token_id

    def _compute(self, sequences: list[list[int]]) -> tuple[Tensor, Tensor]:
        """The logits after sequences of one length (k, V), and their hidden states (k, T, C)."""
        model = self._request.model
        windows = [each[-model.block_size :] for each in sequences]
        found: list[Tensor] = []
        hook = self._reader.register_forward_hook(lambda _, inputs, output: found.append(output))
        try:
            logits = model(torch.tensor(windows, device=model.device)).logits[:, -1]
        finally:
            hook.remove()
        return logits, found[0].float()


def _last_layer(model: LanguageModel) -> nn.Module:
    """The part whose output the head reads."""
    if not isinstance(model, GPTModel):
        raise UsageError(
            f"Contrastive search compares hidden states, and a {model.name} model has no layers "
            "that it knows: choose another --strategy."
        )
    return model.blocks[-1] if model.norm is None else model.norm
