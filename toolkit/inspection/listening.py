"""Listening to an attention: what it asks of torch, and what a fused kernel keeps to itself.

`AttentionMode` sees each call of torch while a layer's attention is running, and takes queries,
keys and values from the one that multiplies them; `record_attention` computes scores and weights
from them, which a fused kernel never writes down. `TensorStore` is where a trace keeps what it
wants.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from toolkit.errors import UsageError
from toolkit.models.anatomy import Anatomy

_SCORES = ("scores_raw", "scores_scaled", "scores_masked", "weights")


class TensorStore:
    """The tensors that are wanted, and how much they may take together."""

    def __init__(self, names: tuple[str, ...], max_bytes: int) -> None:
        self.names = dict.fromkeys(names)
        self.max_bytes = max_bytes
        self.tensors: dict[str, Tensor] = {}
        self.is_open = False

    def record(self, name: str, tensor: Tensor) -> None:
        """Keep a copy, if it is wanted and a forward pass is running."""
        if name not in self.names or not self.is_open:
            return
        self.reserve(name, tensor.nbytes)
        self.tensors[name] = tensor.detach().clone(memory_format=torch.contiguous_format)

    def reserve(self, name: str, num_bytes: int) -> None:
        """Check that there is room for so much more, before it is computed."""
        held = sum(tensor.nbytes for tensor in self.tensors.values())
        if held + num_bytes > self.max_bytes:
            raise UsageError(
                f"A trace of all that was asked for takes more than {self.max_bytes / 1e6:,.0f} MB "
                f"(reached at {name}). Choose fewer names (such as 'blocks.0.*'), a shorter text, "
                "or a larger max_bytes."
            )


class AttentionMode(TorchFunctionMode):
    """Listens to what an attention asks of torch, while a layer's attention is running.

    Two forms are understood: the fused `scaled_dot_product_attention`, and a softmax between two
    products, which is how Hugging Face's "eager" writes it.
    """

    def __init__(self, store: TensorStore, anatomy: Anatomy) -> None:
        super().__init__()
        self.layer: str | None = None
        self._store = store
        self._groups = anatomy.n_head // anatomy.n_kv_head
        self._n_head = anatomy.n_head
        self._module: nn.Module | None = None
        self._seen = False
        self._products: list[tuple[Tensor, Tensor, Tensor]] = []
        self._softmax: tuple[Tensor, Tensor] | None = None

    def start(self, layer: str, module: nn.Module) -> None:
        if not self._store.is_open:
            return
        self.layer, self._module, self._seen = layer, module, False
        self._products, self._softmax = [], None

    def finish(self) -> None:
        layer, self.layer = self.layer, None
        if layer is not None and not self._seen:
            kind = type(self._module).__name__
            raise UsageError(
                f"{layer}: this {kind} uses an attention kernel that cannot be traced; expected "
                "torch's scaled_dot_product_attention (attn_implementation 'sdpa') or 'eager'."
            )

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.layer is not None:
            if func is F.scaled_dot_product_attention:
                self._fused(result, *args, **(kwargs or {}))
            elif func is torch.matmul:
                self._products.append((args[0].detach(), args[1].detach(), result.detach()))
                if self._softmax is not None and not self._seen:
                    self._eager(self._softmax)
            elif func is F.softmax:
                self._softmax = (args[0].detach(), result.detach())
        return result

    def _fused(
        self,
        heads: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        assert self.layer is not None
        self._seen = True
        record_attention(
            self._store,
            self.layer,
            query.detach(),
            self._own_heads(key.detach()),
            self._own_heads(value.detach()),
            heads.detach(),
            causal=is_causal,
            mask=attn_mask,
            scale=scale,
        )

    def _eager(self, softmax: tuple[Tensor, Tensor]) -> None:
        assert self.layer is not None
        self._seen = True
        (query, key, raw), (_, value, heads) = self._products
        masked, weights = softmax
        store, layer = self._store, self.layer
        store.record(f"{layer}.q", query)
        store.record(f"{layer}.k", self._own_heads(key.transpose(-1, -2)))
        store.record(f"{layer}.v", self._own_heads(value))
        store.record(f"{layer}.scores_raw", raw)
        scaling: Any = getattr(self._module, "scaling", query.size(-1) ** -0.5)
        store.record(f"{layer}.scores_scaled", raw * scaling)
        # What is not seen has the lowest number of the dtype here; the names promise −∞.
        hidden = masked < torch.finfo(masked.dtype).min / 2
        store.record(f"{layer}.scores_masked", masked.masked_fill(hidden, -torch.inf))
        store.record(f"{layer}.weights", weights)
        store.record(f"{layer}.heads", heads)

    def _own_heads(self, x: Tensor) -> Tensor:
        """One of each group: keys and values may come repeated for the queries of a group."""
        return x[:, :: self._groups] if x.size(1) == self._n_head else x


def record_attention(
    store: TensorStore,
    layer: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: Tensor,
    *,
    causal: bool,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> None:
    """Keep what an attention got and gave, and compute again what it did not write down."""
    store.record(f"{layer}.q", q)
    store.record(f"{layer}.k", k)
    store.record(f"{layer}.v", v)
    wanted = [part for part in _SCORES if f"{layer}.{part}" in store.names]
    if wanted:
        b, h, t, d = q.shape
        s = k.size(2)
        store.reserve(f"{layer}.{wanted[0]}", len(wanted) * b * h * t * s * q.element_size())
        with torch.no_grad():
            keys = k.repeat_interleave(h // k.size(1), dim=1)  # (B, H, S, D)
            raw = q @ keys.transpose(-1, -2)  # (B, H, T, S)
            scaled = raw * (d**-0.5 if scale is None else scale)
            masked = _masked(scaled, causal, mask)
            weights = masked.softmax(dim=-1)
        for part, tensor in zip(_SCORES, (raw, scaled, masked, weights), strict=True):
            store.record(f"{layer}.{part}", tensor)
    store.record(f"{layer}.heads", heads)


def _masked(scores: Tensor, causal: bool, mask: Tensor | None) -> Tensor:
    """Scores (B, H, T, S) with −∞ where a key is not seen, and biases added."""
    if causal:
        t, s = scores.shape[-2:]
        mask = torch.ones(t, s, dtype=torch.bool, device=scores.device).tril()
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -torch.inf)
    return scores + mask
