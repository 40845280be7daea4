"""A forward pass in words, equations and numbers: one step after the other, as it is computed.

`walk(model, ids)` traces one pass and orders what it saw into steps; each has its equation, the
tensors that go in and come out, and of each tensor its shape, its statistics and a corner of its
numbers. Left out: printing, which is `toolkit.trace_view`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.inspection.modes import evaluating
from toolkit.inspection.tracer import DEFAULT_MAX_BYTES, Tracer
from toolkit.models.anatomy import Anatomy, anatomy_of
from toolkit.models.taps import tap_of

EXCERPT_ROWS, EXCERPT_COLUMNS = 4, 6
_ACTIVATIONS = {
    "gelu": "h/2 · (1 + tanh(√(2/π) · (h + 0.044715·h³)))",
    "relu2": "max(h, 0)²",
    "silu": "h / (1 + e^(−h))",
}


@dataclass(frozen=True)
class Numbers:
    """A tensor, for reading.

    Attributes:
        name: of the point (`toolkit.models.taps`), or "ids" and "probabilities".
        letters: the shape in letters, as "B, T, C".
        shape: in numbers.
        mean, std, min, max: over all that are finite; the deviation is that of the population.
        excerpt: the first rows and columns of the last two dimensions, of the first sequence and
            head; −inf where a score is masked.
    """

    name: str
    letters: str
    shape: tuple[int, ...]
    mean: float
    std: float
    min: float
    max: float
    excerpt: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Step:
    """One operation of the forward pass; `layer` is None outside of the layers."""

    title: str
    equation: str
    layer: int | None
    inputs: tuple[Numbers, ...]
    outputs: tuple[Numbers, ...]


@dataclass(frozen=True)
class Walk:
    """All steps for one text.

    Attributes:
        ids: the tokens.
        steps: in the order of the computation.
        next_tokens: the likeliest next ones after the last, with their probabilities.
    """

    ids: tuple[int, ...]
    steps: tuple[Step, ...]
    next_tokens: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class _Plan:
    title: str
    equation: str
    layer: int | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def walk(
    model: nn.Module,
    ids: Sequence[int],
    *,
    top: int = 5,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Walk:
    """Trace one forward pass over `ids` and tell it in steps.

    The model is left as it was; it is in evaluation mode while this lasts.

    >>> from toolkit.models import create_model
    >>> steps = walk(create_model("bigram", 9), [1, 2, 3]).steps
    >>> [(step.title, step.equation) for step in steps]
    [('Row of the table', 'logits_t = W[i_t]'), ('Probabilities', 'p = softmax(logits)')]

    Raises:
        UsageError: no ids, ids that the model refuses, a class of models that is not known, or a
            trace that takes more than `max_bytes`.
    """
    if not ids:
        raise UsageError("There is nothing to trace: the text has no tokens.")
    anatomy = anatomy_of(model)
    batch = torch.tensor([list(ids)], device=next(model.parameters()).device)  # (1, T)
    with evaluating(model), torch.no_grad(), Tracer(model, max_bytes=max_bytes) as trace:
        model(batch)
    tensors: dict[str, Tensor] = {"ids": batch, **trace}
    tensors["probabilities"] = trace["logits"].float().softmax(dim=-1)
    described = {name: _describe(name, tensor) for name, tensor in tensors.items()}
    steps = tuple(
        Step(
            plan.title,
            plan.equation,
            plan.layer,
            tuple(described[name] for name in plan.inputs),
            tuple(described[name] for name in plan.outputs),
        )
        for plan in _plans(anatomy)
    )
    likeliest = tensors["probabilities"][0, -1].topk(min(top, trace["logits"].size(-1)))
    found = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
    return Walk(tuple(ids), steps, tuple(found))


def _describe(name: str, tensor: Tensor) -> Numbers:
    letters = {"ids": "B, T", "probabilities": "B, T, V"}.get(name) or tap_of(name).shape
    numbers = tensor.double()
    finite = numbers[numbers.isfinite()]
    corner = numbers
    while corner.dim() > 2:
        corner = corner[0]
    rows = corner[:EXCERPT_ROWS, :EXCERPT_COLUMNS].tolist()
    return Numbers(
        name,
        letters,
        tuple(tensor.shape),
        finite.mean().item(),
        finite.std(correction=0).item(),
        finite.min().item(),
        finite.max().item(),
        tuple(tuple(row) for row in rows),
    )


# -- the order of things ----------------------------------------------------------------------


def _plans(anatomy: Anatomy) -> Iterator[_Plan]:
    if anatomy.kind == "bigram":
        yield _Plan("Row of the table", "logits_t = W[i_t]", None, ("ids",), ("logits",))
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
    yield _Plan("Probabilities", "p = softmax(logits)", None, ("logits",), ("probabilities",))


def _embedding(anatomy: Anatomy) -> Iterator[_Plan]:
    row = "E[i_t]" if anatomy.token_scale == 1.0 else "E[i_t] · √C"
    yield _Plan("Token embedding", f"e_t = {row}", None, ("ids",), ("embed.token",))
    if anatomy.positions is None and anatomy.pos_emb is None:
        return
    inputs = ("embed.token", "embed.position")
    yield _Plan("Token and position", "x_t = e_t + P[t]", None, inputs, ("embed.sum",))


def _attention(
    layer: int, d: int, equations: tuple[str, str], source: str, mask: str
) -> Iterator[_Plan]:
    """From queries, keys and values to the output of each head; `equations` are of q, k, v and of
    the values' sum."""
    name = f"blocks.{layer}.attn"
    qkv = (f"{name}.q", f"{name}.k", f"{name}.v")
    yield _Plan("Queries, keys, values", equations[0], layer, (source,), qkv)
    raw, scaled = f"{name}.scores_raw", f"{name}.scores_scaled"
    masked, weights = f"{name}.scores_masked", f"{name}.weights"
    yield _Plan("Scores", "s = q · kᵀ", layer, qkv[:2], (raw,))
    yield _Plan("Scaling", f"s = s / √D = s / {math.sqrt(d):.4g}", layer, (raw,), (scaled,))
    yield _Plan("Mask", mask, layer, (scaled,), (masked,))
    yield _Plan("Attention weights", "w = softmax(s)", layer, (masked,), (weights,))
    yield _Plan("Head outputs", equations[1], layer, (weights, qkv[2]), (f"{name}.heads",))


def _single_head(anatomy: Anatomy) -> Iterator[_Plan]:
    name = "blocks.0"
    equations = ("q, k, v = W_q x, W_k x, W_v x", "y = w · v")
    mask = "s[t, s] = −∞ where s > t"
    yield from _attention(0, anatomy.head_dim, equations, "embed.sum", mask)
    yield _Plan("Projection", "a = W_o y", 0, (f"{name}.attn.heads",), (f"{name}.attn.out",))
    yield from _sum(0, "resid_pre", "attn.out", "resid_post", "x = x + a")
    yield _Plan("Logits", "logits = H x", None, (f"{name}.resid_post",), ("logits",))


def _average() -> Iterator[_Plan]:
    name = "blocks.0"
    weights, values = f"{name}.attn.weights", f"{name}.attn.v"
    yield _Plan("Values", "v = relu(W x)", 0, ("embed.sum",), (values,))
    mean = "a_t = 1/(t+1) · Σ_{s ≤ t} v_s"
    yield _Plan("Mean of the past", mean, 0, (weights, values), (f"{name}.attn.out",))
    yield from _sum(0, "resid_pre", "attn.out", "resid_post", "x = x + a")
    yield _Plan("Logits", "logits = H x", None, (f"{name}.resid_post",), ("logits",))


def _layer(anatomy: Anatomy, number: int) -> Iterator[_Plan]:
    name, parts = f"blocks.{number}", anatomy.layers[number]
    norm = _norm_name(parts.norm1)
    qkv = "q, k, v = n W_q, n W_k, n W_v" if not anatomy.post else "q, k, v = x W_q, x W_k, x W_v"
    if getattr(parts.attn, "q_norm", None) is not None:
        qkv += ";  q, k = RMSNorm(q), RMSNorm(k)"
    if anatomy.position == "rotary":
        qkv += ";  q, k rotated by their position"
    bias = "s[t, s] − m_h · (t − s), " if anatomy.position == "alibi" else ""
    window = f" or s ≤ t − {anatomy.window}" if anatomy.window else ""
    mask = f"s[t, s] = {bias}−∞ where s > t{window}"
    source = f"{name}.resid_pre" if anatomy.post else f"{name}.norm1.out"
    shared = anatomy.n_head // anatomy.n_kv_head
    values = "y_h = w_h · v_h" if shared == 1 else f"y_h = w_h · v_g,  {shared} heads share a g"
    if not anatomy.post:
        yield from _norm(number, "resid_pre", "norm1", norm)
    yield from _attention(number, anatomy.head_dim, (qkv, values), source, mask)
    heads, out = f"{name}.attn.heads", f"{name}.attn.out"
    yield _Plan("Projection", "a = [y_1 … y_H] W_o", number, (heads,), (out,))
    if anatomy.post:
        yield from _sum(number, "resid_pre", "attn.out", "norm1.in", "x = x + a")
        yield from _norm(number, "norm1.in", "norm1", norm)
        yield from _mlp(anatomy, number, "resid_mid")
        yield from _sum(number, "resid_mid", "mlp.out", "norm2.in", "x = x + m")
        yield from _norm(number, "norm2.in", "norm2", norm)
    else:
        yield from _sum(number, "resid_pre", "attn.out", "resid_mid", "x = x + a")
        yield from _norm(number, "resid_mid", "norm2", norm)
        yield from _mlp(anatomy, number, "norm2.out")
        yield from _sum(number, "resid_mid", "mlp.out", "resid_post", "x = x + m")


def _mlp(anatomy: Anatomy, number: int, source: str) -> Iterator[_Plan]:
    name, letter = f"blocks.{number}.mlp", "x" if anatomy.post else "n"
    function = _ACTIVATIONS.get(anatomy.activation, "f(h)")
    inputs: tuple[str, ...] = (f"{name}.pre",)
    if anatomy.gated:
        inputs += (f"{name}.up",)
        up, activation = f"h, u = {letter} W_gate, {letter} W_up", f"g = {function} · u"
    else:
        up, activation = f"h = {letter} W_up", f"g = {function}"
    yield _Plan("MLP, up", up, number, (f"blocks.{number}.{source}",), inputs)
    yield _Plan("MLP, activation", activation, number, inputs, (f"{name}.hidden",))
    yield _Plan("MLP, down", "m = g W_down", number, (f"{name}.hidden",), (f"{name}.out",))


def _norm(number: int, source: str, norm: str, kind: str) -> Iterator[_Plan]:
    name = f"blocks.{number}"
    inputs, outputs = (f"{name}.{source}",), (f"{name}.{norm}.out",)
    yield _Plan(_NORM_TITLES[kind], _NORMS[kind], number, inputs, outputs)


def _sum(number: int, left: str, right: str, result: str, equation: str) -> Iterator[_Plan]:
    name = f"blocks.{number}"
    inputs, outputs = (f"{name}.{left}", f"{name}.{right}"), (f"{name}.{result}",)
    yield _Plan("Added to the stream", equation, number, inputs, outputs)


def _ending(anatomy: Anatomy) -> Iterator[_Plan]:
    last = f"blocks.{anatomy.n_layer - 1}.resid_post"
    if anatomy.norm is None:
        yield _Plan("Logits", "logits = H x", None, (last,), ("logits",))
        return
    kind = _norm_name(anatomy.norm)
    yield _Plan(f"Last {_NORM_TITLES[kind]}", _NORMS[kind], None, (last,), ("norm.out",))
    yield _Plan("Logits", "logits = H n", None, ("norm.out",), ("logits",))


_NORMS = {
    "rms": "n = x / √(mean(x²) + ε) · w",
    "layer": "n = (x − mean(x)) / √(var(x) + ε) · w + b",
}
_NORM_TITLES = {"rms": "RMSNorm", "layer": "LayerNorm"}


def _norm_name(norm: nn.Module) -> str:
    return "rms" if "RMS" in type(norm).__name__ else "layer"
