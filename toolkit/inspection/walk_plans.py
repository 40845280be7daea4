"""The order of a forward pass: which step follows which, with its equation and the names of what
goes in and comes out. `walkthrough` puts the numbers to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from toolkit.models.anatomy import Anatomy

_ACTIVATIONS = {
    "gelu": "h/2 · (1 + tanh(√(2/π) · (h + 0.044715·h³)))",
    "relu": "max(h, 0)",
    "relu2": "max(h, 0)²",
    "silu": "h / (1 + e^(−h))",
}


@dataclass(frozen=True)
class Plan:
    """A step without its numbers: `walkthrough.Step`, with names."""

    title: str
    equation: str
    layer: int | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stack: str | None = None


@dataclass(frozen=True)
class _Layer:
    """A layer, and what its points are called: `blocks.0`, or `decoder.blocks.0`."""

    number: int
    stack: str | None = None

    @property
    def name(self) -> str:
        stack = "" if self.stack is None else f"{self.stack}."
        return f"{stack}blocks.{self.number}"

    def plan(
        self, title: str, equation: str, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> Plan:
        """A step of it; points without a dot at the front are its own."""
        own = [tuple(self.point(name) for name in names) for names in (inputs, outputs)]
        return Plan(title, equation, self.number, own[0], own[1], self.stack)

    def point(self, name: str) -> str:
        """The full name of a point of the layer; one of another part begins with a dot."""
        return name[1:] if name.startswith(".") else f"{self.name}.{name}"


def plans_of(anatomy: Anatomy) -> Iterator[Plan]:
    """Of a model with one stack of layers, from "ids" to "probabilities"."""
    if anatomy.kind == "bigram":
        yield Plan("Row of the table", "logits_t = W[i_t]", None, ("ids",), ("logits",))
    else:
        yield from _embedding(anatomy)
        if anatomy.kind == "single-head":
            yield from _single_head(anatomy)
        elif anatomy.kind == "average":
            yield from _average()
        else:
            for number in range(anatomy.n_layer):
                yield from _layer(anatomy, number)
            yield from _ending(anatomy)
    yield Plan("Probabilities", "p = softmax(logits)", None, ("logits",), ("probabilities",))


def pair_plans_of(encoder: Anatomy, decoder: Anatomy) -> Iterator[Plan]:
    """Of an encoder–decoder, from "source" and "ids" to "probabilities"."""
    yield _stack_embedding("encoder", "source")
    for number in range(encoder.n_layer):
        yield from _encoder_layer(encoder, _Layer(number, "encoder"))
    memory = f"encoder.blocks.{encoder.n_layer - 1}.resid_post"
    if encoder.norm is not None:
        yield _last_norm(encoder.norm, memory, "encoder.norm.out", "encoder")
        memory = "encoder.norm.out"
    yield _stack_embedding("decoder", "ids")
    for number in range(decoder.n_layer):
        yield from _decoder_layer(decoder, _Layer(number, "decoder"), memory)
    last = f"decoder.blocks.{decoder.n_layer - 1}.resid_post"
    if decoder.norm is not None:
        yield _last_norm(decoder.norm, last, "decoder.norm.out", "decoder")
        last = "decoder.norm.out"
    letter = "x" if decoder.norm is None else "n"
    yield Plan("Logits", f"logits = H {letter}", None, (last,), ("logits",))
    yield Plan("Probabilities", "p = softmax(logits)", None, ("logits",), ("probabilities",))


# -- around the layers ------------------------------------------------------------------------


def _embedding(anatomy: Anatomy) -> Iterator[Plan]:
    row = "E[i_t]" if anatomy.token_scale == 1.0 else "E[i_t] · √C"
    yield Plan("Token embedding", f"e_t = {row}", None, ("ids",), ("embed.token",))
    if anatomy.positions is None and anatomy.pos_emb is None:
        return
    inputs = ("embed.token", "embed.position")
    yield Plan("Token and position", "x_t = e_t + P[t]", None, inputs, ("embed.sum",))


def _stack_embedding(stack: str, ids: str) -> Plan:
    equation, stream = "x_t = E[i_t] · √C + P[t]", f"{stack}.blocks.0.resid_pre"
    return Plan("Token and position", equation, None, (ids,), (stream,), stack)


def _last_norm(norm: nn.Module, stream: str, result: str, stack: str | None = None) -> Plan:
    kind = _norm_name(norm)
    return Plan(f"Last {_NORM_TITLES[kind]}", _NORMS[kind], None, (stream,), (result,), stack)


def _ending(anatomy: Anatomy) -> Iterator[Plan]:
    last = f"blocks.{anatomy.n_layer - 1}.resid_post"
    if anatomy.norm is None:
        yield Plan("Logits", "logits = H x", None, (last,), ("logits",))
        return
    yield _last_norm(anatomy.norm, last, "norm.out")
    yield Plan("Logits", "logits = H n", None, ("norm.out",), ("logits",))


# -- layers -----------------------------------------------------------------------------------


def _single_head(anatomy: Anatomy) -> Iterator[Plan]:
    at = _Layer(0)
    equations = ("q, k, v = W_q x, W_k x, W_v x", "y = w · v")
    yield from _attention(at, "attn", anatomy.head_dim, equations, (".embed.sum",), _CAUSAL)
    yield at.plan("Projection", "a = W_o y", ("attn.heads",), ("attn.out",))
    yield _sum(at, "resid_pre", "attn.out", "resid_post", "a")
    yield Plan("Logits", "logits = H x", None, ("blocks.0.resid_post",), ("logits",))


def _average() -> Iterator[Plan]:
    at = _Layer(0)
    yield at.plan("Values", "v = relu(W x)", (".embed.sum",), ("attn.v",))
    mean = "a_t = 1/(t+1) · Σ_{s ≤ t} v_s"
    yield at.plan("Mean of the past", mean, ("attn.weights", "attn.v"), ("attn.out",))
    yield _sum(at, "resid_pre", "attn.out", "resid_post", "a")
    yield Plan("Logits", "logits = H x", None, ("blocks.0.resid_post",), ("logits",))


def _layer(anatomy: Anatomy, number: int) -> Iterator[Plan]:
    bias = "s[t, s] − m_h · (t − s), " if anatomy.position == "alibi" else ""
    window = f" or s ≤ t − {anatomy.window}" if anatomy.window else ""
    yield from _own_layer(anatomy, _Layer(number), f"s[t, s] = {bias}−∞ where s > t{window}")


def _encoder_layer(anatomy: Anatomy, at: _Layer) -> Iterator[Plan]:
    yield from _own_layer(anatomy, at, "every token sees all of the source")


def _own_layer(anatomy: Anatomy, at: _Layer, mask: str) -> Iterator[Plan]:
    """A layer that reads its own stream alone."""
    parts = anatomy.layers[at.number]
    yield from _self_attention(anatomy, at, mask)
    if anatomy.post:
        yield _sum(at, "resid_pre", "attn.out", "norm1.in", "a")
        yield _norm(at, "norm1.in", "norm1", parts.norm1)
    else:
        yield _sum(at, "resid_pre", "attn.out", "resid_mid", "a")
    yield from _mlp_part(anatomy, at)


def _decoder_layer(anatomy: Anatomy, at: _Layer, memory: str) -> Iterator[Plan]:
    """A layer that reads its own stream, and then the source's."""
    parts = anatomy.layers[at.number]
    assert parts.cross_norm is not None, "a decoder has it"
    yield from _self_attention(anatomy, at, _CAUSAL)
    if anatomy.post:
        yield _sum(at, "resid_pre", "attn.out", "norm1.in", "a")
        yield _norm(at, "norm1.in", "norm1", parts.norm1)
    else:
        yield _sum(at, "resid_pre", "attn.out", "cross_norm.in", "a")
        yield _norm(at, "cross_norm.in", "cross_norm", parts.cross_norm)
    letter, source = ("x", "norm1.out") if anatomy.post else ("n", "cross_norm.out")
    equations = (f"q = {letter} W_q;  k, v = z W_k, z W_v, z of the source", "y_h = w_h · v_h")
    mask = "every token sees all of the source"
    inputs = (source, f".{memory}")
    yield from _attention(at, "cross", anatomy.head_dim, equations, inputs, mask)
    yield at.plan("Projection", "c = [y_1 … y_H] W_o", ("cross.heads",), ("cross.out",))
    if anatomy.post:
        yield _sum(at, "norm1.out", "cross.out", "cross_norm.in", "c")
        yield _norm(at, "cross_norm.in", "cross_norm", parts.cross_norm)
    else:
        yield _sum(at, "cross_norm.in", "cross.out", "resid_mid", "c")
    yield from _mlp_part(anatomy, at)


def _self_attention(anatomy: Anatomy, at: _Layer, mask: str) -> Iterator[Plan]:
    parts = anatomy.layers[at.number]
    qkv = "q, k, v = n W_q, n W_k, n W_v" if not anatomy.post else "q, k, v = x W_q, x W_k, x W_v"
    if getattr(parts.attn, "q_norm", None) is not None:
        qkv += ";  q, k = RMSNorm(q), RMSNorm(k)"
    if anatomy.position == "rotary":
        qkv += ";  q, k rotated by their position"
    shared = anatomy.n_head // anatomy.n_kv_head
    values = "y_h = w_h · v_h" if shared == 1 else f"y_h = w_h · v_g,  {shared} heads share a g"
    if not anatomy.post:
        yield _norm(at, "resid_pre", "norm1", parts.norm1)
    source = "resid_pre" if anatomy.post else "norm1.out"
    yield from _attention(at, "attn", anatomy.head_dim, (qkv, values), (source,), mask)
    yield at.plan("Projection", "a = [y_1 … y_H] W_o", ("attn.heads",), ("attn.out",))


def _attention(
    at: _Layer,
    part: str,
    d: int,
    equations: tuple[str, str],
    sources: tuple[str, ...],
    mask: str,
) -> Iterator[Plan]:
    """From queries, keys and values to the output of each head; `equations` are of q, k, v and of
    the values' sum."""
    q, k, v = f"{part}.q", f"{part}.k", f"{part}.v"
    raw, scaled = f"{part}.scores_raw", f"{part}.scores_scaled"
    masked, weights = f"{part}.scores_masked", f"{part}.weights"
    yield at.plan(_TITLES[part], equations[0], sources, (q, k, v))
    yield at.plan("Scores", "s = q · kᵀ", (q, k), (raw,))
    yield at.plan("Scaling", f"s = s / √D = s / {math.sqrt(d):.4g}", (raw,), (scaled,))
    yield at.plan("Mask", mask, (scaled,), (masked,))
    yield at.plan("Attention weights", "w = softmax(s)", (masked,), (weights,))
    yield at.plan("Head outputs", equations[1], (weights, v), (f"{part}.heads",))


def _mlp_part(anatomy: Anatomy, at: _Layer) -> Iterator[Plan]:
    parts = anatomy.layers[at.number]
    if anatomy.post:
        yield from _mlp(anatomy, at, "resid_mid")
        yield _sum(at, "resid_mid", "mlp.out", "norm2.in", "m")
        yield _norm(at, "norm2.in", "norm2", parts.norm2)
    else:
        yield _norm(at, "resid_mid", "norm2", parts.norm2)
        yield from _mlp(anatomy, at, "norm2.out")
        yield _sum(at, "resid_mid", "mlp.out", "resid_post", "m")


def _mlp(anatomy: Anatomy, at: _Layer, source: str) -> Iterator[Plan]:
    letter = "x" if anatomy.post else "n"
    function = _ACTIVATIONS.get(anatomy.activation, "f(h)")
    inputs: tuple[str, ...] = ("mlp.pre",)
    if anatomy.gated:
        inputs += ("mlp.up",)
        up, activation = f"h, u = {letter} W_gate, {letter} W_up", f"g = {function} · u"
    else:
        up, activation = f"h = {letter} W_up", f"g = {function}"
    yield at.plan("MLP, up", up, (source,), inputs)
    yield at.plan("MLP, activation", activation, inputs, ("mlp.hidden",))
    yield at.plan("MLP, down", "m = g W_down", ("mlp.hidden",), ("mlp.out",))


def _norm(at: _Layer, source: str, norm: str, module: nn.Module) -> Plan:
    kind = _norm_name(module)
    return at.plan(_NORM_TITLES[kind], _NORMS[kind], (source,), (f"{norm}.out",))


def _sum(at: _Layer, left: str, right: str, result: str, letter: str) -> Plan:
    return at.plan("Added to the stream", f"x = x + {letter}", (left, right), (result,))


_CAUSAL = "s[t, s] = −∞ where s > t"
_TITLES = {
    "attn": "Queries, keys, values",
    "cross": "Queries of the target, keys and values of the source",
}
_NORMS = {
    "rms": "n = x / √(mean(x²) + ε) · w",
    "layer": "n = (x − mean(x)) / √(var(x) + ε) · w + b",
}
_NORM_TITLES = {"rms": "RMSNorm", "layer": "LayerNorm"}


def _norm_name(norm: nn.Module) -> str:
    return "rms" if "RMS" in type(norm).__name__ else "layer"
