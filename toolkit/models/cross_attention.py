"""What a decoder has beside the parts in `layers`: attention to the source, and its block.

Shapes: B batch, T targets, S source tokens, C channels, H heads, D head width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.models.config import LayerConfig
from toolkit.models.layers import MLP, CausalSelfAttention, SwiGLUMLP, linear, make_norm

if TYPE_CHECKING:
    from toolkit.models.cache import LayerCache

KeysAndValues = tuple[Tensor, Tensor]
"""Of the source, (B, H, S, D) each."""


class CrossAttention(nn.Module):
    """Every target position reads from all of the source (Vaswani et al. 2017, section 3.2.3).

        attention(q, k, v) = softmax(q·kᵀ / sqrt(D), over the source's tokens) · v

    Queries are projections of the target's stream, keys and values of what the encoder made of the
    source. They do not change while a target is written, so generation computes them once.
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.n_head, self.head_dim, self.dropout = config.n_head, config.head_dim, config.dropout
        self.n_query = self.n_head * self.head_dim
        self.q = linear(config.n_embd, self.n_query, bias=config.bias)
        self.kv = linear(config.n_embd, 2 * self.n_query, bias=config.bias)
        self.proj = linear(self.n_query, config.n_embd, bias=config.bias)
        self.proj_dropout = nn.Dropout(config.dropout)

    def read(self, memory: Tensor) -> KeysAndValues:
        """Keys and values of a source (B, S, C)."""
        b, s, _ = memory.shape
        k, v = self.kv(memory).split(self.n_query, dim=-1)  # (B, S, H·D) each
        k = k.view(b, s, self.n_head, self.head_dim).transpose(1, 2)  # (B, H, S, D)
        v = v.view(b, s, self.n_head, self.head_dim).transpose(1, 2)  # (B, H, S, D)
        return k, v

    def forward(self, x: Tensor, source: Tensor | KeysAndValues, seen: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C).

        Args:
            source: what the encoder gave, (B, S, C), or what `read` made of it.
            seen: (B, 1, 1, S), True where there is a token of the source.
        """
        b, t, _ = x.shape
        k, v = self.read(source) if isinstance(source, Tensor) else source  # (B, H, S, D)
        q = self.q(x).view(b, t, self.n_head, self.head_dim).transpose(1, 2)  # (B, H, T, D)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=seen, dropout_p=self.dropout if self.training else 0.0
        )  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(b, t, self.n_query)  # (B, T, H·D)
        out: Tensor = self.proj_dropout(self.proj(y))  # (B, T, C)
        return out

    def fused_rows(self) -> dict[str, tuple[int, ...]]:
        """The rows of the matrices that are one parameter: keys, values."""
        return {"kv.weight": (self.n_query, self.n_query)}


class DecoderBlock(nn.Module):
    """One layer of a decoder: attention to the target so far, attention to the source, the MLP.

    pre                                post
    x = x + attn(norm1(x))             x = norm1(x + attn(x))
    x = x + cross(cross_norm(x))       x = cross_norm(x + cross(x))
    x = x + mlp(norm2(x))              x = norm2(x + mlp(x))
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.post = config.norm_order == "post"
        self.norm1 = make_norm(config)
        self.attn = CausalSelfAttention(config)
        self.cross_norm = make_norm(config)
        self.cross = CrossAttention(config)
        self.norm2 = make_norm(config)
        self.mlp = SwiGLUMLP(config) if config.mlp == "swiglu" else MLP(config)

    def forward(
        self,
        x: Tensor,
        source: Tensor | KeysAndValues,
        seen: Tensor,
        cache: LayerCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) to (B, T, C); the source as for `CrossAttention`, the rest as for
        `CausalSelfAttention`."""
        y: Tensor
        if self.post:
            x = self.norm1(x + self.attn(x, None, mask, cache))  # (B, T, C)
            x = self.cross_norm(x + self.cross(x, source, seen))  # (B, T, C)
            y = self.norm2(x + self.mlp(x))  # (B, T, C)
        else:
            x = x + self.attn(self.norm1(x), None, mask, cache)  # (B, T, C)
            x = x + self.cross(self.cross_norm(x), source, seen)  # (B, T, C)
            y = x + self.mlp(self.norm2(x))  # (B, T, C)
        return y
