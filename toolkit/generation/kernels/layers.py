"""The parts of a compiled step: what a model is to it, and a layer's mathematics for one token.

The equations are those of `models.layers`; `GPTModel.extend` is the reference. Weights are read
where they are, in the format that they are stored in (see `models.stored`), and widened to float32
in registers: a bfloat16 is the upper half of a float32.

Shapes: L layers, C channels, H query heads, G key/value heads, D head width, R rows and S slots of
the cache, I hidden channels of the MLP, V vocabulary, P threads, N tokens of a step, W numbers in a
row of what is computed for several tokens.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from toolkit.generation.kernels.machine import (
    add_atomically,
    bits_as_float,
    carray,
    exact,
    fast,
    let_others_run,
    part,
    pointer,
    read_atomically,
    widen,
)

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


@part
def meet(arrived: Ints, threads: int, met: int) -> int:
    """Wait until all threads are here; `met` is what `arrived` was when all had met last."""
    target = met + threads
    if threads > 1:
        add_atomically(arrived, 1)
        looks = 0
        while read_atomically(arrived, 0) < target:
            looks += 1
            if looks > _PATIENCE:
                if read_atomically(arrived, 1):
                    break
                let_others_run()
    return target


@part
def share(count: int, thread: int, threads: int) -> tuple[int, int]:
    """Which of `count` rows are a thread's."""
    return count * thread // threads, count * (thread + 1) // threads


@exact
def exp(x: Any) -> Any:
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
    return y * bits_as_float(np.uint32(n + np.int32(127)) << np.uint32(23))


@fast
def multiply(
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
    matrix = carray(pointer(address, like), (end, width))
    for row in range(begin, end):
        total = np.float32(0.0)
        for column in range(width):
            total += widen(matrix[row, column]) * x[column]
        out[row] = total * scales[row] + biases[row]


@fast
def normalise(x: Floats, norm: Floats, rms: bool, eps: float, out: Floats) -> None:
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
def turn_head(
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
def attend(
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
    # Four slots at a time: what they have in common is read once.
    fours = filled - filled % 4
    for s in range(0, fours, 4):
        a = b = c = d = np.float32(0.0)
        for i in range(width):
            q = query[i]
            a += q * keys[s, i]
            b += q * keys[s + 1, i]
            c += q * keys[s + 2, i]
            d += q * keys[s + 3, i]
        scores[s], scores[s + 1], scores[s + 2], scores[s + 3] = a, b, c, d
    for s in range(fours, filled):
        a = np.float32(0.0)
        for i in range(width):
            a += query[i] * keys[s, i]
        scores[s] = a
    largest = np.float32(-np.inf)
    for s in range(filled):
        distance = slot - s if s <= slot else slot - s + slots
        scores[s] = scores[s] * scale - slope * np.float32(distance)
        largest = max(largest, scores[s])
    total = np.float32(0.0)
    for s in range(filled):
        scores[s] = exp(scores[s] - largest)
        total += scores[s]
    for i in range(width):
        out[i] = np.float32(0.0)
    for s in range(0, fours, 4):
        a, b, c, d = scores[s], scores[s + 1], scores[s + 2], scores[s + 3]
        for i in range(width):
            first = a * values[s, i] + b * values[s + 1, i]
            out[i] += first + (c * values[s + 2, i] + d * values[s + 3, i])
    for s in range(fours, filled):
        for i in range(width):
            out[i] += scores[s] * values[s, i]
    for i in range(width):
        out[i] /= total


@fast
def activate(hidden: Floats, gates: Floats, mlp: int, begin: int, end: int) -> None:
    """The nonlinearity over a thread's hidden channels."""
    if mlp == GELU:
        # tanh(u) = 1 − 2 / (e^2u + 1), so h/2 · (1 + tanh(u)) = h − h / (e^2u + 1).
        for i in range(begin, end):
            h = hidden[i]
            twice = np.float32(1.5957691216057308) * (h + np.float32(0.044715) * h * h * h)
            hidden[i] = h - h / (exp(twice) + np.float32(1.0))
    elif mlp == RELU2:
        for i in range(begin, end):
            h = max(hidden[i], np.float32(0.0))
            hidden[i] = h * h
    else:
        for i in range(begin, end):
            g = gates[i]
            hidden[i] *= g / (np.float32(1.0) + exp(-g))


@fast
def add(stream: Floats, delta: Floats) -> None:
    for i in range(len(delta)):
        stream[i] += delta[i]
