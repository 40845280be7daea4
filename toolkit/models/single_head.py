"""One head of attention between an embedding and a linear head: the weights of the mean, learned.

    x_t     = token_t + position_t
    q, k, v = W_q x, W_k x, W_v x
    w       = softmax(q·kᵀ / √D, over the past only)
    logits  = head(x + W_o (w v))

Scaled dot-product attention written out step by step (Vaswani et al. 2017, arXiv:1706.03762,
section 3.2.1): every matrix of it can be looked at. With all scores 0 it is `averaging`; with
several heads, norms, an MLP and more layers it is `gpt`, whose attention computes the same in one
fused call. Left out: all of those.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models.base import LanguageModel, LMOutput, next_token_loss
from toolkit.models.config import SingleHeadConfig
from toolkit.models.layers import embedding, linear

INIT_STD = 0.02


def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    """How well each query fits each key: q·kᵀ / √D, (B, T, D) twice to (B, T, T).

    A product of two vectors of D independent numbers of variance 1 has variance D; divided by √D
    it has variance 1 at every width. Unscaled, a softmax of wide heads would begin as all or
    nothing, where its gradient is near 0. D is the head's width, not the model's.

    >>> scaled_scores(torch.ones(1, 1, 16), torch.ones(1, 1, 16)).item()  # 16 / √16
    4.0

    Raises:
        UsageError: q and k are not (B, T, D) of one shape.
    """
    if q.dim() != 3 or q.shape != k.shape or 0 in q.shape:
        raise UsageError(
            "Queries and keys must both be (B, T, D), each at least 1; "
            f"got {tuple(q.shape)} and {tuple(k.shape)}."
        )
    return q @ k.transpose(1, 2) / math.sqrt(q.size(-1))  # (B, T, T)


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """How much each position takes from itself and each one before: (B, T, D) twice to (B, T, T).

        w[t, s] = exp(score[t, s]) / Σ_{r ≤ t} exp(score[t, r]) where s ≤ t, else 0

    Every row is a distribution over the past.

    >>> attention_weights(torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)).tolist()
    [[[1.0, 0.0], [0.5, 0.5]]]

    Raises:
        UsageError: as `scaled_scores`.
    """
    scores = scaled_scores(q, k)  # (B, T, T)
    t = scores.size(-1)
    future = torch.ones(t, t, dtype=torch.bool, device=scores.device).triu(diagonal=1)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)


class SingleHeadModel(LanguageModel):
    """Token and position embedding, one causal head of attention, a residual, a linear head.

    >>> model = SingleHeadModel(SingleHeadConfig(vocab_size=5, n_embd=8, head_dim=4))
    >>> model(torch.tensor([[1, 2, 3]])).logits.shape, model.query.weight.shape
    (torch.Size([1, 3, 5]), torch.Size([4, 8]))

    `pos_emb` is None without positions.
    """

    name: ClassVar[str] = "single-head"
    config: SingleHeadConfig

    def __init__(
        self,
        config: SingleHeadConfig,
        generator: torch.Generator | None = None,
        *,
        init: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        c, d = config.n_embd, config.head_dim
        learned = config.position == "learned"
        self.tok_emb = embedding(config.vocab_size, c)
        self.pos_emb = embedding(config.block_size, c) if learned else None
        self.query, self.key, self.value = linear(c, d), linear(c, d), linear(c, d)
        self.proj = linear(d, c)
        self.head = linear(c, config.vocab_size)
        if init:
            self.init_weights(generator or torch.Generator().manual_seed(0))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights anew: normal, with a small deviation, so that the scores are near 0
        and the head begins as an average."""
        for parameter in self.parameters():
            parameter.normal_(std=INIT_STD, generator=generator)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        self.check_inputs(ids, targets)
        x = self.embed(ids)  # (B, T, C)
        weights = attention_weights(self.query(x), self.key(x))  # (B, T, T)
        x = x + self.proj(weights @ self.value(x))  # (B, T, D) -> (B, T, C)
        logits = self.head(x)  # (B, T, V)
        return LMOutput(logits, None if targets is None else next_token_loss(logits, targets))

    def embed(self, ids: Tensor) -> Tensor:
        """Ids (B, T) to x (B, T, C): the token's row, plus the position's."""
        x: Tensor = self.tok_emb(ids)
        return x if self.pos_emb is None else x + self.pos_emb.weight[: ids.size(1)]

    def flops_per_token(self) -> int:
        """6 for each number of the matrices, 12·D·T for scores and weighted values: as `GPTModel`
        counts them."""
        in_matrices = sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Linear))
        return 6 * in_matrices + 12 * self.config.head_dim * self.block_size
