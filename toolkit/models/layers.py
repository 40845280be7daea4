"""The parts of a transformer: norms, attention, MLPs, and the block that joins them.

Each part is its equation. Shapes: B batch, T time, C channels (`n_embd`), H query heads, G
key/value heads (`n_kv_head`), D head width, I hidden channels of the MLP (`n_inner`).

Nothing here draws random numbers: weights of matrices and embeddings are unset until the model
that owns them fills them, from its own generator. Positions have a file of their own, `positions`,
and so have the keys and values that generation keeps from token to token, `cache`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.models.config import LayerConfig
from toolkit.models.fused import rms_norm_in_training

if TYPE_CHECKING:
    from toolkit.models.cache import LayerCache
    from toolkit.models.row_cache import LayerRows

# Turns queries or keys (B, H, T, D) by their positions: `Rotary` or one of its methods.
Rotation = Callable[[Tensor], Tensor]


def linear(n_in: int, n_out: int, *, bias: bool = False) -> nn.Linear:
    """A linear layer whose numbers are unset: torch's own would be drawn from a global generator,
    only to be overwritten.

    The layer's own way out of the meta device (`to_empty`) and an embedding's way in load torch's
    compiler, which takes a second; new parameters in place of the old do not.
    """
    layer = nn.Linear(n_in, n_out, bias=bias, device="meta")
    layer.weight = nn.Parameter(torch.empty(n_out, n_in))
    if bias:
        layer.bias = nn.Parameter(torch.empty(n_out))
    return layer


def embedding(n_rows: int, n_channels: int) -> nn.Embedding:
    """An embedding whose numbers are unset, for the same reasons."""
    numbers = torch.empty(n_rows, n_channels)
    made: nn.Embedding = nn.Embedding.from_pretrained(numbers, freeze=False)  # type: ignore[no-untyped-call]  # torch's
    return made


class RMSNorm(nn.Module):
    """Root mean square layer normalisation, over the last dimension.

        y = x / sqrt(mean(x²) + eps) · weight

    LayerNorm without centring and without a bias. Zhang and Sennrich 2019, arXiv:1910.07467.

    >>> round(RMSNorm(2)(torch.tensor([3.0, 4.0])).pow(2).mean().item(), 5)
    1.0
    """

    def __init__(self, n_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = rms_norm_in_training(x, self.weight, self.eps)
        if y is not None:
            return y
        # Under autocast x may be bfloat16 and the weight float32; mixed, torch has no fused kernel.
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class LayerNorm(nn.Module):
    """Layer normalisation, over the last dimension.

        y = (x − mean(x)) / sqrt(var(x) + eps) · weight + bias

    Ba et al. 2016, arXiv:1607.06450.
    """

    def __init__(self, n_channels: int, eps: float = 1e-5, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def make_norm(config: LayerConfig) -> nn.Module:
    """The norm that a config names, over the residual stream."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.n_embd, config.norm_eps)
    return LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)


def attention_mask(
    queries: Tensor, keys: Tensor, *, window: int = 0, slopes: Tensor | None = None
) -> Tensor:
    """Which keys a query reads, and how much less the far ones count.

    A query at position t sees the keys at s ≤ t; with a window those at t − window < s ≤ t, which
    are `window` of them with its own (Beltagy et al. 2020, arXiv:2004.05150; counted as in Mistral
    and in transformers' `sliding_window`). With ALiBi's slopes m, head h adds m_h · (s − t) to the
    score of what it sees.

    Args:
        queries: positions (T).
        keys: positions (S); those of the queries too, where nothing is kept from before.
        window: 0 for no bound.
        slopes: (H), see `alibi_slopes`.

    Returns:
        Booleans (T, S), True where the key is seen; with slopes, numbers (1, H, T, S) in their
        dtype to be added to the scores, −inf where it is not.

    >>> attention_mask(torch.arange(3), torch.arange(3), window=2).int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    distance = queries[:, None] - keys[None, :]  # (T, S)
    seen = distance >= 0
    if window:
        seen &= distance < window
    if slopes is None:
        return seen
    bias = -slopes[:, None, None] * distance  # (H, T, S)
    return bias.masked_fill(~seen, float("-inf"))[None]  # (1, H, T, S)


class CausalSelfAttention(nn.Module):
    """Every position reads from itself and from the positions before it.

        attention(q, k, v) = softmax(q·kᵀ / sqrt(D), over the past only) · v

    in H heads side by side, each with its own projections of x to D channels; `out` mixes the
    heads (Vaswani et al. 2017, arXiv:1706.03762). With fewer key/value heads than query heads,
    H/G neighbouring query heads share one (grouped-query attention, Ainslie et al. 2023,
    arXiv:2305.13245). With `qk_norm`, queries and keys are RMS-normalised in each head before
    they are rotated (Henry et al. 2020, arXiv:2010.04245; here with a weight for each channel,
    as in Qwen3), which bounds the scores and lets the learning rate be higher.

    The three projections are one matrix, queries first: one product instead of three, which is a
    few percent faster on a CPU and saves two launches on a GPU.
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head = config.n_head, config.n_kv_head
        self.head_dim, self.dropout = config.head_dim, config.dropout
        self.n_query, self.n_kv = self.n_head * self.head_dim, self.n_kv_head * self.head_dim
        self.qkv = linear(config.n_embd, self.n_query + 2 * self.n_kv, bias=config.bias)
        self.proj = linear(self.n_query, config.n_embd, bias=config.bias)
        self.proj_dropout = nn.Dropout(config.dropout)
        self.q_norm: RMSNorm | None = None
        self.k_norm: RMSNorm | None = None
        if config.qk_norm:
            self.q_norm = RMSNorm(self.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(self.head_dim, config.norm_eps)

    def forward(
        self,
        x: Tensor,
        rotary: Rotation | None,
        mask: Tensor | None = None,
        cache: LayerCache | LayerRows | None = None,
    ) -> Tensor:
        """(B, T, C) to (B, T, C).

        The mask is `attention_mask`'s, or any other of True where a key is seen, as an encoder
        has it (which looks forward too); None is the causal one. With a cache the positions before
        these are read from it and the new ones kept in it; None then means that all is seen.
        """
        b, t, _ = x.shape
        q, k, v = self.qkv(x).split((self.n_query, self.n_kv, self.n_kv), dim=-1)
        q = q.view(b, t, self.n_head, self.head_dim).transpose(1, 2)  # (B, H, T, D)
        k = k.view(b, t, self.n_kv_head, self.head_dim).transpose(1, 2)  # (B, G, T, D)
        v = v.view(b, t, self.n_kv_head, self.head_dim).transpose(1, 2)  # (B, G, T, D)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotary(q), rotary(k)
        causal = mask is None
        if cache is not None:
            causal = causal and cache.starts
            k, v = cache.append(k, v)  # (B, G, S, D) each
        y = self._attend(q, k, v, mask, causal=causal)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(b, t, self.n_query)  # (B, T, H·D)
        out: Tensor = self.proj_dropout(self.proj(y))  # (B, T, C)
        return out

    def fused_rows(self) -> dict[str, tuple[int, ...]]:
        """The rows of the matrices that are one parameter: queries, keys, values."""
        return {"qkv.weight": (self.n_query, self.n_kv, self.n_kv)}

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool
    ) -> Tensor:
        # Without a mask to read, the kernels skip the half of the scores that is not needed.
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
            enable_gqa=self.n_kv_head != self.n_head,
        )


def gelu(h: Tensor) -> Tensor:
    """h/2 · (1 + tanh(sqrt(2/π) · (h + 0.044715·h³))): an approximation of h · Φ(h), with which
    GPT-2's weights were trained. Hendrycks and Gimpel 2016, arXiv:1606.08415."""
    return F.gelu(h, approximate="tanh")


def relu2(h: Tensor) -> Tensor:
    """max(h, 0)²: the change to a transformer that helped most in a search over many of them.
    So et al. 2021 ("Primer"), arXiv:2109.08668.

    >>> relu2(torch.tensor([-2.0, 0.5, 3.0])).tolist()
    [0.0, 0.25, 9.0]
    """
    return F.relu(h).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": gelu, "relu": F.relu, "relu2": relu2}


class MLP(nn.Module):
    """Two matrices with a nonlinearity between them, the one that `config.mlp` names.

    y = down(f(up(x))),  f = gelu, relu or relu2
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.up = linear(config.n_embd, config.n_inner, bias=config.bias)
        self.activation = ACTIVATIONS[config.mlp]
        self.down = linear(config.n_inner, config.n_embd, bias=config.bias)
        self.down_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.up(x))  # (B, T, I)
        y: Tensor = self.down_dropout(self.down(hidden))  # (B, T, C)
        return y


class SwiGLUMLP(nn.Module):
    """A gated MLP: one projection decides how much of the other passes.

        y = down(silu(gate(x)) · up(x)),  silu(h) = h / (1 + exp(−h))

    Shazeer 2020, arXiv:2002.05202. Gate and up are one matrix, gate first.
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.gate_up = linear(config.n_embd, 2 * config.n_inner, bias=config.bias)
        self.down = linear(config.n_inner, config.n_embd, bias=config.bias)
        self.down_dropout = nn.Dropout(config.dropout)

    def fused_rows(self) -> dict[str, tuple[int, ...]]:
        """The rows of the matrices that are one parameter: gate, up."""
        n_inner = self.down.in_features
        return {"gate_up.weight": (n_inner, n_inner)}

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (B, T, I) each
        hidden = F.silu(gate) * up  # (B, T, I)
        y: Tensor = self.down_dropout(self.down(hidden))  # (B, T, C)
        return y


class Block(nn.Module):
    """One layer: attention, then the MLP, each added to the residual stream.

        pre                          post
        x = x + attn(norm1(x))       x = norm1(x + attn(x))
        x = x + mlp(norm2(x))        x = norm2(x + mlp(x))

    With the norms first, the stream itself runs from the embedding to the head untouched, and
    gradients with it (Xiong et al. 2020, arXiv:2002.04745). With the norms last, as in the first
    transformers (Vaswani et al. 2017) and the first GPT, every layer ends normalised, and deep
    models need a careful warm-up.
    """

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.post = config.norm_order == "post"
        self.norm1 = make_norm(config)
        self.attn = CausalSelfAttention(config)
        self.norm2 = make_norm(config)
        self.mlp = SwiGLUMLP(config) if config.mlp == "swiglu" else MLP(config)

    def forward(
        self,
        x: Tensor,
        rotary: Rotation | None,
        mask: Tensor | None = None,
        cache: LayerCache | LayerRows | None = None,
    ) -> Tensor:
        y: Tensor
        if self.post:
            x = self.norm1(x + self.attn(x, rotary, mask, cache))  # (B, T, C)
            y = self.norm2(x + self.mlp(x))  # (B, T, C)
        else:
            x = x + self.attn(self.norm1(x), rotary, mask, cache)  # (B, T, C)
            y = x + self.mlp(self.norm2(x))  # (B, T, C)
        return y
