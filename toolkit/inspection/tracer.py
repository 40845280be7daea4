"""Every number of a forward pass, by its name, without changing the model or its results.

    with Tracer(model, "blocks.*.attn.weights") as trace:
        model(ids)
    trace["blocks.0.attn.weights"]  # (B, H, T, S)

Forward hooks read what goes into modules and what comes out. What an attention does inside is read
where it calls torch: its queries, keys and values are those that the kernel got, and the weights,
which a fused kernel never writes down, are computed from them again. Hooks and listening end with
the `with`; outside of it a model has neither.

Left out: the backward pass, compiled models, and kernels other than torch's own
`scaled_dot_product_attention` and Hugging Face's "eager".
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.anatomy import Anatomy, LayerParts, anatomy_of
from toolkit.models.taps import tap_names

DEFAULT_MAX_BYTES = 2**30
_SCORES = ("scores_raw", "scores_scaled", "scores_masked", "weights")


class Tracer(Mapping[str, Tensor]):
    """What one forward pass computed: a mapping from names (`toolkit.models.taps`) to tensors.

    The tensors are copies, detached, on the model's device. Of several calls inside the `with` the
    last one is kept. A point that a call did not reach has no tensor.

    >>> from toolkit.models import create_model
    >>> model = create_model("gpt", 9, size="nano")
    >>> with Tracer(model, "blocks.*.attn.weights") as trace:
    ...     _ = model(torch.tensor([[1, 2, 3]]))
    >>> list(trace), trace["blocks.1.attn.weights"].shape
    (['blocks.0.attn.weights', 'blocks.1.attn.weights'], torch.Size([1, 2, 3, 3]))
    """

    def __init__(
        self, model: nn.Module, *patterns: str, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        """
        Args:
            model: of toolkit's, or a GPT-2, Llama, Mistral or Qwen3 of Hugging Face's.
            patterns: names, with `*` and `?` for any characters and for one; none: all.
            max_bytes: what may be held, in bytes.

        Raises:
            UsageError: another model, or a pattern that fits no name of this one.
        """
        self.anatomy = anatomy_of(model)
        names = tap_names(self.anatomy)
        chosen = set()
        for pattern in patterns or ("*",):
            fitting = fnmatch.filter(names, pattern)
            if not fitting:
                raise UnknownNameError("point of this model fits", pattern, names)
            chosen.update(fitting)
        self._model = model
        self._store = _Store(tuple(name for name in names if name in chosen), max_bytes)
        self._handles: list[RemovableHandle] = []
        self._mode: _AttentionMode | None = None

    def __enter__(self) -> Tracer:
        if self._handles:
            raise UsageError("This Tracer is tracing already; make another one.")
        # The first one: what is left of an earlier call goes before anything is written.
        self._handles.append(self._model.register_forward_pre_hook(self._start))
        self._install()
        self._handles.append(self._model.register_forward_hook(self._finish))
        if self._mode is not None:
            self._mode.__enter__()  # type: ignore[no-untyped-call]  # torch's
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._mode is not None:
            self._mode.__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]  # torch's
            self._mode = None

    def __getitem__(self, name: str) -> Tensor:
        if name in self._store.tensors:
            return self._store.tensors[name]
        if name in self._store.names:
            raise KeyError(f"{name}: no forward pass has computed it while this was tracing")
        raise KeyError(f"{name}: this trace listens to {', '.join(self._store.names)}")

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._store.names if name in self._store.tensors)

    def __len__(self) -> int:
        return len(self._store.tensors)

    # -- hooks --------------------------------------------------------------------------------

    def _start(self, module: nn.Module, inputs: Any) -> None:
        self._store.tensors.clear()
        self._store.is_open = True
        if self._mode is not None:
            self._mode.layer = None

    def _finish(self, module: nn.Module, inputs: Any, output: Any) -> None:
        logits = output.logits if hasattr(output, "logits") else output[0]
        self._store.record("logits", logits)
        # What a backward pass computes once more (`gradient_checkpointing`) is no news.
        self._store.is_open = False

    def _install(self) -> None:
        kind = self.anatomy.kind
        if kind == "bigram":
            return
        self._embeddings()
        if kind == "single-head":
            self._single_head(self._model)
        elif kind == "average":
            self._average(self._model)
        else:
            for number, layer in enumerate(self.anatomy.layers):
                self._layer(f"blocks.{number}", layer)
            wanted = [name for name in self._store.names if ".attn." in name]
            if any(not name.endswith(".out") for name in wanted):
                self._mode = _AttentionMode(self._store, self.anatomy)
                for number, layer in enumerate(self.anatomy.layers):
                    self._listen(self._mode, f"blocks.{number}.attn", layer.attn)
        if self.anatomy.norm is not None:
            self._on_input(self.anatomy.norm, "norm.in")
            self._on_output(self.anatomy.norm, "norm.out")

    def _embeddings(self) -> None:
        anatomy, store = self.anatomy, self._store
        scale = anatomy.token_scale

        def positions(module: nn.Module, inputs: Any) -> None:
            if anatomy.positions is not None:
                store.record("embed.position", anatomy.positions(inputs[0].size(1)))

        def token(module: nn.Module, inputs: Any, output: Tensor) -> None:
            store.record("embed.token", output if scale == 1.0 else output * scale)

        def position(module: nn.Module, inputs: Any, output: Tensor) -> None:
            store.record("embed.position", output.reshape(-1, output.size(-1)))  # (T, C)

        self._handles.append(anatomy.tok_emb.register_forward_hook(token))
        if anatomy.pos_emb is not None:
            self._handles.append(anatomy.pos_emb.register_forward_hook(position))
        assert anatomy.summed is not None
        if anatomy.summed is anatomy.tok_emb:  # nothing is added
            self._on_output(anatomy.summed, "embed.sum")
        else:
            self._handles.append(anatomy.summed.register_forward_pre_hook(positions))
            self._on_input(anatomy.summed, "embed.sum")

    def _layer(self, name: str, layer: LayerParts) -> None:
        post = self.anatomy.post
        self._on_input(layer.block, f"{name}.resid_pre")
        self._on_input(layer.norm1, f"{name}.norm1.in")
        self._on_output(layer.norm1, f"{name}.norm1.out")
        self._on_output(layer.attn, f"{name}.attn.out")
        if post:
            self._on_output(layer.norm1, f"{name}.resid_mid")
        else:
            self._on_input(layer.norm2, f"{name}.resid_mid")
        self._on_input(layer.norm2, f"{name}.norm2.in")
        self._on_output(layer.norm2, f"{name}.norm2.out")
        self._mlp(name, layer)
        self._on_input(layer.down, f"{name}.mlp.hidden")
        self._on_output(layer.mlp, f"{name}.mlp.out")
        self._on_output(layer.block, f"{name}.resid_post")

    def _mlp(self, name: str, layer: LayerParts) -> None:
        if len(layer.up) == 2:
            self._on_output(layer.up[0], f"{name}.mlp.pre")
            self._on_output(layer.up[1], f"{name}.mlp.up")
        elif self.anatomy.gated:
            self._on_output(layer.up[0], f"{name}.mlp.pre", lambda both: both.chunk(2, dim=-1)[0])
            self._on_output(layer.up[0], f"{name}.mlp.up", lambda both: both.chunk(2, dim=-1)[1])
        else:
            self._on_output(layer.up[0], f"{name}.mlp.pre")

    def _single_head(self, model: Any) -> None:
        name, found = "blocks.0", {}

        def keep(part: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                found[part] = output.detach()[:, None]  # (B, 1, T, D)

            return hook

        def attend(module: nn.Module, inputs: Any) -> None:
            heads = inputs[0][:, None]  # (B, 1, T, D)
            _record_attention(
                self._store, f"{name}.attn", found["q"], found["k"], found["v"], heads, causal=True
            )

        self._on_input(model.query, f"{name}.resid_pre")
        for part, module in (("q", model.query), ("k", model.key), ("v", model.value)):
            self._handles.append(module.register_forward_hook(keep(part)))
        self._handles.append(model.proj.register_forward_pre_hook(attend))
        self._on_output(model.proj, f"{name}.attn.out")
        self._on_input(model.head, f"{name}.resid_post")

    def _average(self, model: Any) -> None:
        name, store = "blocks.0", self._store

        def average(module: nn.Module, inputs: Any, output: Tensor) -> None:
            with torch.no_grad():
                values = output.relu()  # (B, T, C)
                mean = model.average(values)
                b, t, _ = values.shape
                ones = values.new_ones(t, t).tril()
                weights = ones / ones.sum(dim=1, keepdim=True)
            store.record(f"{name}.attn.v", values[:, None])
            store.record(f"{name}.attn.weights", weights.expand(b, 1, t, t))
            store.record(f"{name}.attn.heads", mean[:, None])
            store.record(f"{name}.attn.out", mean)

        self._on_input(model.value, f"{name}.resid_pre")
        self._handles.append(model.value.register_forward_hook(average))
        self._on_input(model.head, f"{name}.resid_post")

    def _on_input(self, module: nn.Module, name: str) -> None:
        if name in self._store.names:

            def hook(module: nn.Module, inputs: Any) -> None:
                self._store.record(name, inputs[0])

            self._handles.append(module.register_forward_pre_hook(hook))

    def _on_output(
        self, module: nn.Module, name: str, part: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        if name in self._store.names:

            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                tensor = output[0] if isinstance(output, tuple) else output
                self._store.record(name, tensor if part is None else part(tensor))

            self._handles.append(module.register_forward_hook(hook))

    def _listen(self, mode: _AttentionMode, name: str, attn: nn.Module) -> None:
        def enter(module: nn.Module, inputs: Any) -> None:
            mode.start(name, module)

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            mode.finish()

        self._handles.append(attn.register_forward_pre_hook(enter))
        self._handles.append(attn.register_forward_hook(leave))


class _Store:
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


class _AttentionMode(TorchFunctionMode):
    """Listens to what an attention asks of torch, while a layer's attention is running.

    Two forms are understood: the fused `scaled_dot_product_attention`, and a softmax between two
    products, which is how Hugging Face's "eager" writes it.
    """

    def __init__(self, store: _Store, anatomy: Anatomy) -> None:
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
        _record_attention(
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


def _record_attention(
    store: _Store,
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
