"""One step of generation for one row as compiled code: the forward pass of `GPTModel` for a token.

Called operation by operation, a small model spends its time between the operations; and what a
large one needs is each weight read once, in order, by all processors together. So the whole step is
one function, and as many threads as there are processors run it side by side. Each takes its share
of the heads or rows of every matrix, and waits for the others where it needs what they computed:
five times in a layer. What is cheap (norms, the sum of the residual stream) each computes itself.

Weights are read where they are, in the format that they are stored in (see `models.stored`), and
widened to float32 in registers: a bfloat16 is the upper half of a float32.

The equations are those of `models.layers`; `GPTModel.extend` is the reference. Everything here is
in one file because Numba keeps what it compiled until this file changes.

Shapes: L layers, C channels, H query heads, G key/value heads, D head width, S slots of the cache,
I hidden channels of the MLP, V vocabulary, P threads.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

F = TypeVar("F", bound=Callable[..., Any])

COMPILED = not cast(Any, numba).config.DISABLE_JIT
carray = cast(Any, numba).carray

# Sums may be taken in any order, or no loop would use more than one lane; nan and infinity stay.
_FAST = {"reassoc", "contract", "nsz", "arcp"}
# How often a thread looks before it lets others run: some 10 µs, more than the others are late
# where each has its own processor.
_PATIENCE = 10_000

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# The rows of `Weights.matrices` and their order in a layer.
QKV, PROJ, UP, DOWN = range(4)
GELU, RELU2, SWIGLU = range(3)


class Shape(NamedTuple):
    """What a config says, as numbers that compiled code takes."""

    n_layer: int
    n_head: int
    n_kv_head: int
    head_dim: int
    n_embd: int
    n_inner: int
    vocab_size: int
    mlp: int
    rms: bool
    post: bool
    qk_norm: bool
    rotary: bool
    norm_eps: float
    embedding_scale: float


class Weights(NamedTuple):
    """Where the weights are.

    Attributes:
        matrices: the addresses of the layers' matrices (L, 4).
        embedding, head: theirs.
        scales, biases: of the matrices' rows (L, 4, the longest of them).
        embedding_scales, head_scales, head_biases: (V).
        norms: weights and biases (L, 2, 2, C): of both norms of a layer, and of the last one.
        head_norms: weights (L, 2, D) of the queries' and keys' norms.
        added: what position p adds to the token's embedding (positions, C); empty if nothing.
        slopes: ALiBi's (H); empty for other models.
    """

    matrices: Ints
    embedding: int
    head: int
    scales: Floats
    biases: Floats
    embedding_scales: Floats
    head_scales: Floats
    head_biases: Floats
    norms: Floats
    last_norm: Floats
    head_norms: Floats
    added: Floats
    slopes: Floats


class Memory(NamedTuple):
    """What a step writes.

    Attributes:
        keys, values: the cache (L, G, S, D).
        streams: each thread's residual stream (P, C).
        inputs: each thread's input of the next matrix (P, max of C, H·D and I).
        queries: (H·D).
        mixed: the heads' outputs (H·D).
        delta: what a matrix adds to the stream (C).
        hidden: (I).
        gates: each thread's (P, I), of a gated MLP.
        scores: each thread's (P, S).
        logits: (V).
        arrived: how many threads have come to a meeting, all in all; and whether one never will,
            so that none should wait for it.
    """

    keys: Floats
    values: Floats
    streams: Floats
    inputs: Floats
    queries: Floats
    mixed: Floats
    delta: Floats
    hidden: Floats
    gates: Floats
    scores: Floats
    logits: Floats
    arrived: Ints


def _compiled(**options: Any) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        if not COMPILED:
            return function
        return cast(F, numba.njit(nogil=True, error_model="numpy", **options)(function))

    return decorate


def machine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that returns a signature and a generator of LLVM code callable in others; its
    first argument is Numba's, not the caller's."""
    return cast(Callable[..., Any], intrinsic(function))


part = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True)
exact = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath={"contract"})
fast = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath=_FAST)


# -- what Numba has no name for ----------------------------------------------------------------


@machine
def _add_atomically(typing: Any, array: Any, value: Any) -> Any:
    """Add to array[0] so that no thread's addition is lost; what it was before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, arguments[1], "seq_cst")

    return types.int64(array, types.int64), generate


@machine
def _read_atomically(typing: Any, array: Any, index: Any) -> Any:
    """array[index] as the other threads have left it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "seq_cst", 8)

    return types.int64(array, types.int64), generate


@machine
def _bits_as_float(typing: Any, bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@machine
def _pointer(typing: Any, address: Any, like: Any) -> Any:
    """An address as a pointer to numbers of the dtype of an array."""
    result = cast(Any, types).CPointer(like.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(result))

    return result(types.int64, like), generate


def _widen(number: Any) -> Any:
    """A stored number as float32."""
    raise NotImplementedError("compiled code only")


def _widen_overload(number: Any) -> Any:
    def upper_half(number: Any) -> Any:
        return _bits_as_float(np.uint32(number) << np.uint32(16))

    def as_it_is(number: Any) -> Any:
        return np.float32(number)

    # NumPy knows no bfloat16: it is what comes as uint16.
    return upper_half if number == types.uint16 else as_it_is


overload(_widen, inline="always")(_widen_overload)


if COMPILED and sys.platform != "win32":
    _sched_yield = types.ExternalFunction("sched_yield", types.int32())

    @part
    def _let_others_run() -> None:
        _sched_yield()
else:

    @part
    def _let_others_run() -> None:
        pass


# -- parts ----------------------------------------------------------------------------------------


@part
def _meet(arrived: Ints, threads: int, met: int) -> int:
    """Wait until all threads are here; `met` is what `arrived` was when all had met last."""
    target = met + threads
    if threads > 1:
        _add_atomically(arrived, 1)
        looks = 0
        while _read_atomically(arrived, 0) < target:
            looks += 1
            if looks > _PATIENCE:
                if _read_atomically(arrived, 1):
                    break
                _let_others_run()
    return target


@part
def _share(count: int, thread: int, threads: int) -> tuple[int, int]:
    """Which of `count` rows are a thread's."""
    return count * thread // threads, count * (thread + 1) // threads


@exact
def _exp(x: Any) -> Any:
    """e^x in float32, without a branch, so that a loop over it uses all lanes.

    x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r by its series to r⁷ (the rest is below 6e-9), and 2ⁿ by
    its bits. Beyond ±87, where float32 ends, it stays at e^±87.
    """
    x = np.float32(-87.0) if x < np.float32(-87.0) else x
    x = np.float32(87.0) if x > np.float32(87.0) else x
    half = np.float32(0.5) if x >= np.float32(0.0) else np.float32(-0.5)
    n = np.int32(x * np.float32(1.4426950408889634) + half)
    whole = np.float32(n)
    # ln 2 in two parts, the first with few bits: its product with n is exact.
    r = (x - whole * np.float32(0.693359375)) + whole * np.float32(2.12194440e-4)
    y = np.float32(1.0 / 5040.0)
    y = y * r + np.float32(1.0 / 720.0)
    y = y * r + np.float32(1.0 / 120.0)
    y = y * r + np.float32(1.0 / 24.0)
    y = y * r + np.float32(1.0 / 6.0)
    y = y * r + np.float32(0.5)
    y = y * r + np.float32(1.0)
    y = y * r + np.float32(1.0)
    return y * _bits_as_float(np.uint32(n + np.int32(127)) << np.uint32(23))


@fast
def _multiply(
    address: int,
    like: Any,
    scales: Floats,
    biases: Floats,
    x: Floats,
    out: Floats,
    begin: int,
    end: int,
    width: int,
) -> None:
    """out[r] = W[r]·x · scales[r] + biases[r] for the rows begin ≤ r < end of W (rows, width)."""
    matrix = carray(_pointer(address, like), (end, width))
    for row in range(begin, end):
        total = np.float32(0.0)
        for column in range(width):
            total += _widen(matrix[row, column]) * x[column]
        out[row] = total * scales[row] + biases[row]


@fast
def _normalise(x: Floats, norm: Floats, rms: bool, eps: float, out: Floats) -> None:
    """`RMSNorm` or `LayerNorm` of x; norm is weight and bias (2, width)."""
    width = norm.shape[1]
    mean = np.float32(0.0)
    if not rms:
        for i in range(width):
            mean += x[i]
        mean /= np.float32(width)
    square = np.float32(0.0)
    for i in range(width):
        centred = x[i] - mean
        square += centred * centred
    factor = np.float32(1.0 / math.sqrt(square / np.float32(width) + eps))
    for i in range(width):
        out[i] = (x[i] - mean) * factor * norm[0, i] + norm[1, i]


@fast
def _turn_head(
    head: Floats, weight: Floats, shape: Shape, cos: Floats, sin: Floats, scratch: Floats
) -> None:
    """Normalise and rotate a query or key (D), in place."""
    width = shape.head_dim
    if shape.qk_norm:
        square = np.float32(0.0)
        for i in range(width):
            square += head[i] * head[i]
        factor = np.float32(1.0 / math.sqrt(square / np.float32(width) + shape.norm_eps))
        for i in range(width):
            head[i] = head[i] * factor * weight[i]
    if shape.rotary:
        half = width // 2
        for i in range(width):
            scratch[i] = head[i]
        for i in range(half):
            head[i] = scratch[i] * cos[i] + scratch[i + half] * sin[i]
            head[i + half] = scratch[i + half] * cos[i + half] + scratch[i] * sin[i + half]


@fast
def _attend(
    query: Floats,
    keys: Floats,
    values: Floats,
    filled: int,
    slot: int,
    slope: Any,
    scores: Floats,
    out: Floats,
) -> None:
    """softmax(q·Kᵀ/√D − slope·distance)·V of one head: keys and values (S, D), the newest in
    `slot`."""
    slots, width = keys.shape
    scale = np.float32(1.0 / math.sqrt(width))
    largest = np.float32(-np.inf)
    for s in range(filled):
        score = np.float32(0.0)
        for i in range(width):
            score += query[i] * keys[s, i]
        distance = slot - s if s <= slot else slot - s + slots
        score = score * scale - slope * np.float32(distance)
        scores[s] = score
        largest = max(largest, score)
    total = np.float32(0.0)
    for s in range(filled):
        scores[s] = _exp(scores[s] - largest)
        total += scores[s]
    for i in range(width):
        out[i] = np.float32(0.0)
    for s in range(filled):
        share = scores[s] / total
        for i in range(width):
            out[i] += share * values[s, i]


@fast
def _activate(hidden: Floats, gates: Floats, mlp: int, begin: int, end: int) -> None:
    """The nonlinearity over a thread's hidden channels."""
    if mlp == GELU:
        # tanh(u) = 1 − 2 / (e^2u + 1), so h/2 · (1 + tanh(u)) = h − h / (e^2u + 1).
        for i in range(begin, end):
            h = hidden[i]
            twice = np.float32(1.5957691216057308) * (h + np.float32(0.044715) * h * h * h)
            hidden[i] = h - h / (_exp(twice) + np.float32(1.0))
    elif mlp == RELU2:
        for i in range(begin, end):
            h = max(hidden[i], np.float32(0.0))
            hidden[i] = h * h
    else:
        for i in range(begin, end):
            g = gates[i]
            hidden[i] *= g / (np.float32(1.0) + _exp(-g))


@fast
def _add(stream: Floats, delta: Floats) -> None:
    for i in range(len(delta)):
        stream[i] += delta[i]


# -- the step ----------------------------------------------------------------------------------


@part
def _project(
    layer: int,
    thread: int,
    threads: int,
    shape: Shape,
    weights: Weights,
    memory: Memory,
    x: Floats,
    slot: int,
    cos: Floats,
    sin: Floats,
    like: Any,
) -> None:
    """A thread's share of the queries, keys and values: whole heads, turned and put in place."""
    heads, groups, width = shape.n_head, shape.n_kv_head, shape.head_dim
    address = weights.matrices[layer, QKV]
    scales, biases = weights.scales[layer, QKV], weights.biases[layer, QKV]
    begin, end = _share(heads + 2 * groups, thread, threads)
    scratch = memory.scores[thread]
    for head in range(begin, end):
        first = head * width
        if head < heads:
            out = memory.queries[first : first + width]
        elif head < heads + groups:
            out = memory.keys[layer, head - heads, slot]
        else:
            out = memory.values[layer, head - heads - groups, slot]
        rows = slice(first, first + width)
        start = address + first * shape.n_embd * like.itemsize
        _multiply(start, like, scales[rows], biases[rows], x, out, 0, width, shape.n_embd)
        if head < heads:
            _turn_head(out, weights.head_norms[layer, 0], shape, cos, sin, scratch)
        elif head < heads + groups:
            _turn_head(out, weights.head_norms[layer, 1], shape, cos, sin, scratch)


@part
def _raise(
    layer: int,
    thread: int,
    threads: int,
    shape: Shape,
    weights: Weights,
    memory: Memory,
    x: Floats,
    like: Any,
) -> None:
    """A thread's share of the MLP's hidden channels."""
    inner, width = shape.n_inner, shape.n_embd
    address = weights.matrices[layer, UP]
    scales, biases = weights.scales[layer, UP], weights.biases[layer, UP]
    begin, end = _share(inner, thread, threads)
    gates = memory.gates[thread]
    if shape.mlp == SWIGLU:
        _multiply(address, like, scales, biases, x, gates, begin, end, width)
        address += inner * width * like.itemsize
        scales, biases = scales[inner:], biases[inner:]
    _multiply(address, like, scales, biases, x, memory.hidden, begin, end, width)
    _activate(memory.hidden, gates, shape.mlp, begin, end)


def _decode(
    thread: int,
    threads: int,
    token: int,
    position: int,
    shape: Shape,
    weights: Weights,
    memory: Memory,
    cos: Floats,
    sin: Floats,
    like: Any,
    met: int,
) -> None:
    """A thread's share of one step: the logits of what comes after `token` at `position`.

    Args:
        thread, threads: which of how many this is; all must be called, each in a thread of its own.
        cos, sin: what rotates position `position` (D); of other models anything.
        like: an array of the dtype in which the matrices are stored.
        met: what `memory.arrived` is before any of the threads begins.
    """
    channels, width = shape.n_embd, shape.head_dim
    slots = memory.keys.shape[2]
    slot, filled = position % slots, min(position + 1, slots)
    stream, normed = memory.streams[thread], memory.inputs[thread]
    embedding = carray(_pointer(weights.embedding, like), (shape.vocab_size, channels))
    factor = weights.embedding_scales[token] * np.float32(shape.embedding_scale)
    for i in range(channels):
        stream[i] = _widen(embedding[token, i]) * factor
    if len(weights.added):
        _add(stream, weights.added[position])
    for layer in range(shape.n_layer):
        norms = weights.norms[layer]
        x = stream
        if not shape.post:
            _normalise(stream, norms[0], shape.rms, shape.norm_eps, normed)
            x = normed
        _project(layer, thread, threads, shape, weights, memory, x, slot, cos, sin, like)
        met = _meet(memory.arrived, threads, met)

        begin, end = _share(shape.n_head, thread, threads)
        for head in range(begin, end):
            group = head * shape.n_kv_head // shape.n_head
            first = head * width
            slope = weights.slopes[head] if len(weights.slopes) else np.float32(0.0)
            _attend(
                memory.queries[first : first + width],
                memory.keys[layer, group],
                memory.values[layer, group],
                filled,
                slot,
                slope,
                memory.scores[thread],
                memory.mixed[first : first + width],
            )
        met = _meet(memory.arrived, threads, met)

        begin, end = _share(channels, thread, threads)
        _multiply(
            weights.matrices[layer, PROJ],
            like,
            weights.scales[layer, PROJ],
            weights.biases[layer, PROJ],
            memory.mixed,
            memory.delta,
            begin,
            end,
            shape.n_head * width,
        )
        met = _meet(memory.arrived, threads, met)
        _add(stream, memory.delta)
        if shape.post:
            _normalise(stream, norms[0], shape.rms, shape.norm_eps, stream)
        else:
            _normalise(stream, norms[1], shape.rms, shape.norm_eps, normed)
        _raise(layer, thread, threads, shape, weights, memory, x, like)
        met = _meet(memory.arrived, threads, met)

        _multiply(
            weights.matrices[layer, DOWN],
            like,
            weights.scales[layer, DOWN],
            weights.biases[layer, DOWN],
            memory.hidden,
            memory.delta,
            begin,
            end,
            shape.n_inner,
        )
        met = _meet(memory.arrived, threads, met)
        _add(stream, memory.delta)
        if shape.post:
            _normalise(stream, norms[1], shape.rms, shape.norm_eps, stream)
    x = stream
    if not shape.post:
        _normalise(stream, weights.last_norm, shape.rms, shape.norm_eps, normed)
        x = normed
    begin, end = _share(shape.vocab_size, thread, threads)
    scales, biases = weights.head_scales, weights.head_biases
    _multiply(weights.head, like, scales, biases, x, memory.logits, begin, end, channels)
    _meet(memory.arrived, threads, met)


def _kernel(function: F) -> F:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    if not COMPILED:
        return function
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # Numba found no folder that it can write to
        return cast(F, numba.njit(**options)(function))


decode = _kernel(_decode)
