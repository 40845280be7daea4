"""One step of generation for one row: the forward pass of `GPTModel` for a token.

Called operation by operation, a small model spends its time between the operations; and what a
large one needs is each weight read once, in order, by all processors together. So the whole step is
one function, and as many threads as there are processors run it side by side. Each takes its share
of the heads or rows of every matrix, and waits for the others where it needs what they computed:
five times in a layer. What is cheap (norms, the sum of the residual stream) each computes itself.

Shapes as in `layers`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from toolkit.generation.kernels.layers import (
    DOWN,
    PROJ,
    QKV,
    SWIGLU,
    UP,
    Floats,
    Ints,
    Shape,
    Weights,
    activate,
    add,
    attend,
    meet,
    multiply,
    normalise,
    share,
    turn_head,
)
from toolkit.generation.kernels.machine import carray, part, pointer, widen
from toolkit.jit import kernel


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
    begin, end = share(heads + 2 * groups, thread, threads)
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
        multiply(start, like, scales[rows], biases[rows], x, out, 0, width, shape.n_embd)
        if head < heads:
            turn_head(out, weights.head_norms[layer, 0], shape, cos, sin, scratch)
        elif head < heads + groups:
            turn_head(out, weights.head_norms[layer, 1], shape, cos, sin, scratch)


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
    begin, end = share(inner, thread, threads)
    gates = memory.gates[thread]
    if shape.mlp == SWIGLU:
        multiply(address, like, scales, biases, x, gates, begin, end, width)
        address += inner * width * like.itemsize
        scales, biases = scales[inner:], biases[inner:]
    multiply(address, like, scales, biases, x, memory.hidden, begin, end, width)
    activate(memory.hidden, gates, shape.mlp, begin, end)


@kernel
def decode(
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
    embedding = carray(pointer(weights.embedding, like), (shape.vocab_size, channels))
    factor = weights.embedding_scales[token] * np.float32(shape.embedding_scale)
    for i in range(channels):
        stream[i] = widen(embedding[token, i]) * factor
    if len(weights.added):
        add(stream, weights.added[position])
    for layer in range(shape.n_layer):
        norms = weights.norms[layer]
        x = stream
        if not shape.post:
            normalise(stream, norms[0], shape.rms, shape.norm_eps, normed)
            x = normed
        _project(layer, thread, threads, shape, weights, memory, x, slot, cos, sin, like)
        met = meet(memory.arrived, threads, met)

        begin, end = share(shape.n_head, thread, threads)
        for head in range(begin, end):
            group = head * shape.n_kv_head // shape.n_head
            first = head * width
            slope = weights.slopes[head] if len(weights.slopes) else np.float32(0.0)
            attend(
                memory.queries[first : first + width],
                memory.keys[layer, group],
                memory.values[layer, group],
                filled,
                slot,
                slope,
                memory.scores[thread],
                memory.mixed[first : first + width],
            )
        met = meet(memory.arrived, threads, met)

        begin, end = share(channels, thread, threads)
        multiply(
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
        met = meet(memory.arrived, threads, met)
        add(stream, memory.delta)
        if shape.post:
            normalise(stream, norms[0], shape.rms, shape.norm_eps, stream)
        else:
            normalise(stream, norms[1], shape.rms, shape.norm_eps, normed)
        _raise(layer, thread, threads, shape, weights, memory, x, like)
        met = meet(memory.arrived, threads, met)

        multiply(
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
        met = meet(memory.arrived, threads, met)
        add(stream, memory.delta)
        if shape.post:
            normalise(stream, norms[1], shape.rms, shape.norm_eps, stream)
    x = stream
    if not shape.post:
        normalise(stream, weights.last_norm, shape.rms, shape.norm_eps, normed)
        x = normed
    begin, end = share(shape.vocab_size, thread, threads)
    scales, biases = weights.head_scales, weights.head_biases
    multiply(weights.head, like, scales, biases, x, memory.logits, begin, end, channels)
    meet(memory.arrived, threads, met)
