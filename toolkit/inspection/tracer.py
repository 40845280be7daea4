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
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from toolkit.errors import UnknownNameError, UsageError
from toolkit.inspection.listening import AttentionMode, TensorStore, record_attention
from toolkit.models.anatomy import LayerParts, stacks_of
from toolkit.models.taps import tap_names, tap_of

DEFAULT_MAX_BYTES = 2**30


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
            model: of toolkit's, or a GPT-2, Llama, Mistral, Qwen3, Marian or Pegasus of Hugging
                Face's.
            patterns: names, with `*` and `?` for any characters and for one; none: all.
            max_bytes: what may be held, in bytes.

        Raises:
            UsageError: another model, or a pattern that fits no name of this one.
        """
        self._stacks = stacks_of(model)
        self.anatomy = next(iter(self._stacks.values()))
        self._patterns = patterns or ("*",)
        names = tap_names(model)
        chosen = set()
        for pattern in self._patterns:
            fitting = fnmatch.filter(names, pattern)
            if not fitting:
                general = {tap_of(name).name for name in names}
                raise UnknownNameError("point of this model", pattern, general)
            chosen.update(fitting)
        self._model = model
        self._store = TensorStore(tuple(name for name in names if name in chosen), max_bytes)
        self._handles: list[RemovableHandle] = []
        self._mode: AttentionMode | None = None

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
        raise KeyError(f"{name}: this trace listens to {', '.join(self._patterns)}")

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
        if "" in self._stacks:  # two stacks may share an embedding, and how it is dropped out
            self._embeddings()
        if kind == "single-head":
            self._single_head(self._model)
        elif kind == "average":
            self._average(self._model)
        else:
            layers = {
                f"{stack}blocks.{number}": layer
                for stack, anatomy in self._stacks.items()
                for number, layer in enumerate(anatomy.layers)
            }
            for name, layer in layers.items():
                self._layer(name, layer)
            wanted = [name for name in self._store.names if ".attn." in name or ".cross." in name]
            if any(not name.endswith(".out") for name in wanted):
                self._mode = AttentionMode(self._store, self.anatomy)
                for name, layer in layers.items():
                    self._listen(self._mode, f"{name}.attn", layer.attn)
                    if layer.cross is not None:
                        self._listen(self._mode, f"{name}.cross", layer.cross)
        for stack, anatomy in self._stacks.items():
            if anatomy.norm is not None:
                self._on_input(anatomy.norm, f"{stack}norm.in")
                self._on_output(anatomy.norm, f"{stack}norm.out")

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
        if layer.cross is not None:
            self._on_output(layer.cross, f"{name}.cross.out")
        if layer.cross_norm is not None:
            self._on_input(layer.cross_norm, f"{name}.cross_norm.in")
            self._on_output(layer.cross_norm, f"{name}.cross_norm.out")
        if post and layer.cross is not None:
            self._on_input(layer.up[0], f"{name}.resid_mid")
        elif post:
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
            record_attention(
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

    def _listen(self, mode: AttentionMode, name: str, attn: nn.Module) -> None:
        def enter(module: nn.Module, inputs: Any) -> None:
            mode.start(name, module)

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            mode.finish()

        self._handles.append(attn.register_forward_pre_hook(enter))
        self._handles.append(attn.register_forward_hook(leave))
