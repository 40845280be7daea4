"""One pass over several tokens at once: a prompt, or the next token of several rows of a cache.

The parts and their order are those of `one_token`. But what costs most is no longer to read the
weights, it is to multiply them with all tokens; so what is computed lies with the tokens side by
side, (channels, W), and a matrix product holds its sums in registers (see `machine`). Every token
goes through the same operations in the same order whatever the others are: a text is the same, to
the last bit, in a batch of any size and at any place in it.

Tokens of one row must follow each other, and none may take the place of one that another still
sees. Shapes as in `layers`.
"""

from __future__ import annotations

import math
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
    attend,
    meet,
    multiply,
    share,
    turn_head,
)
from toolkit.generation.kernels.machine import (
    LANES,
    TILE,
    carray,
    fast,
    part,
    pointer,
    product_of_row,
    product_of_rows,
    product_of_tile,
    widen,
)
from toolkit.jit import kernel

_TILE_ROWS, _TILE_COLUMNS = TILE.rows, TILE.vectors * LANES


class Tokens(NamedTuple):
    """What is computed.

    Attributes:
        ids: (N).
        rows: in which row of the cache each is (N).
        positions: and at which position (N).
        first: of the tokens from this one on the logits are wanted.
        cos, sin: what rotates each (N, D); of models that do not rotate anything.
    """

    ids: Ints
    rows: Ints
    positions: Ints
    first: int
    cos: Floats
    sin: Floats


class Memory(NamedTuple):
    """What a pass writes.

    Attributes:
        keys, values: the cache (L, R, G, S, D).
        streams: each thread's residual stream (P, C, W).
        inputs: each thread's input of the next matrix (P, C, W).
        heads: each thread's product of one head, or of some rows of the head (P, rows, W).
        queries: (N, H·D).
        mixed: the heads' outputs (H·D, W).
        delta: what a matrix adds to the stream (C, W).
        hidden, gates: (I, W); gates of a gated MLP.
        scores: each thread's (P, S or more).
        vectors: each thread's (P, 2, C or D, the larger).
        logits: (N, V).
        arrived: as in `one_token`.
    """

    keys: Floats
    values: Floats
    streams: Floats
    inputs: Floats
    heads: Floats
    queries: Floats
    mixed: Floats
    delta: Floats
    hidden: Floats
    gates: Floats
    scores: Floats
    vectors: Floats
    logits: Floats
    arrived: Ints


@part
def _multiply_all(
    address: int, like: Any, scales: Floats, biases: Floats, x: Floats, out: Floats, rows: int
) -> None:
    """out[r, c] = W[r]·x[:, c] · scales[r] + biases[r] for the first `rows` rows of W.

    x (width, W) and out (rows, W) have whole rows of `LANES` numbers.
    """
    width, columns = x.shape
    item, row = np.int64(like.itemsize), 0
    while row < rows:
        matrix = address + row * width * item
        scale, bias = scales[row:].ctypes.data, biases[row:].ctypes.data
        result, column = out[row:].ctypes.data, 0
        some = row + _TILE_ROWS <= rows
        while column < columns:
            start, end = x.ctypes.data + column * 4, result + column * 4
            if some and column + _TILE_COLUMNS <= columns:
                product_of_tile(matrix, start, scale, bias, end, width, columns, like)
                column += _TILE_COLUMNS
            elif some:
                product_of_rows(matrix, start, scale, bias, end, width, columns, like)
                column += LANES
            else:
                product_of_row(matrix, start, scale, bias, end, width, columns, like)
                column += LANES
        row += _TILE_ROWS if some else 1


@fast
def _normalise_all(
    x: Floats, norm: Floats, rms: bool, eps: float, sums: Floats, out: Floats
) -> None:
    """`RMSNorm` or `LayerNorm` of each column of x (C, W); sums is scratch (2, W)."""
    channels, columns = x.shape
    means, factors = sums[0], sums[1]
    for c in range(columns):
        means[c] = np.float32(0.0)
        factors[c] = np.float32(0.0)
    if not rms:
        for i in range(channels):
            for c in range(columns):
                means[c] += x[i, c]
        for c in range(columns):
            means[c] /= np.float32(channels)
    for i in range(channels):
        for c in range(columns):
            centred = x[i, c] - means[c]
            factors[c] += centred * centred
    for c in range(columns):
        factors[c] = np.float32(1.0 / math.sqrt(factors[c] / np.float32(channels) + eps))
    for i in range(channels):
        for c in range(columns):
            out[i, c] = (x[i, c] - means[c]) * factors[c] * norm[0, i] + norm[1, i]


@fast
def _add_all(stream: Floats, delta: Floats) -> None:
    for i in range(stream.shape[0]):
        for c in range(stream.shape[1]):
            stream[i, c] += delta[i, c]


@part
def _embed(tokens: Tokens, shape: Shape, weights: Weights, like: Any, stream: Floats) -> None:
    """The tokens' embeddings, and their positions', as columns."""
    channels = shape.n_embd
    embedding = carray(pointer(weights.embedding, like), (shape.vocab_size, channels))
    for n in range(len(tokens.ids)):
        token = tokens.ids[n]
        factor = weights.embedding_scales[token] * np.float32(shape.embedding_scale)
        for i in range(channels):
            stream[i, n] = widen(embedding[token, i]) * factor
        if len(weights.added):
            for i in range(channels):
                stream[i, n] += weights.added[tokens.positions[n], i]


@part
def _project_all(
    layer: int,
    thread: int,
    threads: int,
    tokens: Tokens,
    shape: Shape,
    weights: Weights,
    memory: Memory,
    x: Floats,
    like: Any,
) -> None:
    """A thread's share of the queries, keys and values: whole heads, turned and put in place."""
    heads, groups, width = shape.n_head, shape.n_kv_head, shape.head_dim
    slots = memory.keys.shape[3]
    address = weights.matrices[layer, QKV]
    scales, biases = weights.scales[layer, QKV], weights.biases[layer, QKV]
    begin, end = share(heads + 2 * groups, thread, threads)
    scratch, product = memory.scores[thread], memory.heads[thread, :width]
    for head in range(begin, end):
        first = head * width
        start = address + first * shape.n_embd * like.itemsize
        _multiply_all(start, like, scales[first:], biases[first:], x, product, width)
        for n in range(len(tokens.ids)):
            row, slot = tokens.rows[n], tokens.positions[n] % slots
            if head < heads:
                out = memory.queries[n, first : first + width]
            elif head < heads + groups:
                out = memory.keys[layer, row, head - heads, slot]
            else:
                out = memory.values[layer, row, head - heads - groups, slot]
            for i in range(width):
                out[i] = product[i, n]
            if head < heads + groups:
                norm = weights.head_norms[layer, 0 if head < heads else 1]
                turn_head(out, norm, shape, tokens.cos[n], tokens.sin[n], scratch)


@part
def _attend_all(
    layer: int,
    thread: int,
    threads: int,
    tokens: Tokens,
    shape: Shape,
    weights: Weights,
    memory: Memory,
) -> None:
    """A thread's share of the heads of all tokens."""
    width, slots = shape.head_dim, memory.keys.shape[3]
    out = memory.vectors[thread, 0, :width]
    begin, end = share(len(tokens.ids) * shape.n_head, thread, threads)
    for number in range(begin, end):
        n, head = number // shape.n_head, number % shape.n_head
        row, position = tokens.rows[n], tokens.positions[n]
        group = head * shape.n_kv_head // shape.n_head
        first = head * width
        attend(
            memory.queries[n, first : first + width],
            memory.keys[layer, row, group],
            memory.values[layer, row, group],
            min(position + 1, slots),
            position % slots,
            weights.slopes[head] if len(weights.slopes) else np.float32(0.0),
            memory.scores[thread],
            out,
        )
        for i in range(width):
            memory.mixed[first + i, n] = out[i]


@part
def _multiply_share(
    layer: int,
    number: int,
    thread: int,
    threads: int,
    weights: Weights,
    like: Any,
    x: Floats,
    out: Floats,
    skipped: int,
) -> None:
    """A thread's share of the rows of a layer's matrix, after so many rows that are skipped."""
    begin, end = share(len(out), thread, threads)
    first = skipped + begin
    address = weights.matrices[layer, number] + first * len(x) * like.itemsize
    scales, biases = weights.scales[layer, number], weights.biases[layer, number]
    _multiply_all(address, like, scales[first:], biases[first:], x, out[begin:], end - begin)


@part
def _read_out(
    thread: int,
    threads: int,
    tokens: Tokens,
    shape: Shape,
    weights: Weights,
    memory: Memory,
    x: Floats,
    like: Any,
) -> None:
    """A thread's share of the logits of the tokens from the first wanted one on."""
    count, channels = len(tokens.ids), shape.n_embd
    begin, end = share(shape.vocab_size, thread, threads)
    scales, biases = weights.head_scales, weights.head_biases
    if tokens.first + 1 == count:
        vector = memory.vectors[thread, 1, :channels]
        for i in range(channels):
            vector[i] = x[i, tokens.first]
        out = memory.logits[tokens.first]
        multiply(weights.head, like, scales, biases, vector, out, begin, end, channels)
    elif tokens.first < count:
        product = memory.heads[thread]
        for row in range(begin, end, _TILE_ROWS):
            some = min(_TILE_ROWS, end - row)
            start = weights.head + row * channels * like.itemsize
            _multiply_all(start, like, scales[row:], biases[row:], x, product, some)
            for n in range(tokens.first, count):
                for i in range(some):
                    memory.logits[n, row + i] = product[i, n]


@kernel
def decode_all(
    thread: int,
    threads: int,
    tokens: Tokens,
    shape: Shape,
    weights: Weights,
    memory: Memory,
    like: Any,
    met: int,
) -> None:
    """A thread's share of one pass; all must be called, each in a thread of its own.

    Args:
        like: an array of the dtype in which the matrices are stored.
        met: what `memory.arrived` is before any of the threads begins.
    """
    stream, normed = memory.streams[thread], memory.inputs[thread]
    hidden, gates, arrived = memory.hidden, memory.gates, memory.arrived
    sums, eps = memory.heads[thread, :2], shape.norm_eps
    _embed(tokens, shape, weights, like, stream)
    for layer in range(shape.n_layer):
        norms = weights.norms[layer]
        x = stream
        if not shape.post:
            _normalise_all(stream, norms[0], shape.rms, eps, sums, normed)
            x = normed
        _project_all(layer, thread, threads, tokens, shape, weights, memory, x, like)
        met = meet(arrived, threads, met)
        _attend_all(layer, thread, threads, tokens, shape, weights, memory)
        met = meet(arrived, threads, met)
        mixed, delta = memory.mixed, memory.delta
        _multiply_share(layer, PROJ, thread, threads, weights, like, mixed, delta, 0)
        met = meet(arrived, threads, met)
        _add_all(stream, delta)
        if shape.post:
            _normalise_all(stream, norms[0], shape.rms, eps, sums, stream)
        else:
            _normalise_all(stream, norms[1], shape.rms, eps, sums, normed)
        above = 0
        if shape.mlp == SWIGLU:
            _multiply_share(layer, UP, thread, threads, weights, like, x, gates, 0)
            above = shape.n_inner
        _multiply_share(layer, UP, thread, threads, weights, like, x, hidden, above)
        begin, end = share(shape.n_inner, thread, threads)
        for i in range(begin, end):
            gate = gates[i] if shape.mlp == SWIGLU else hidden[i]
            activate(hidden[i], gate, shape.mlp, 0, hidden.shape[1])
        met = meet(arrived, threads, met)
        _multiply_share(layer, DOWN, thread, threads, weights, like, hidden, delta, 0)
        met = meet(arrived, threads, met)
        _add_all(stream, delta)
        if shape.post:
            _normalise_all(stream, norms[1], shape.rms, eps, sums, stream)
    x = stream
    if not shape.post:
        _normalise_all(stream, weights.last_norm, shape.rms, eps, sums, normed)
        x = normed
    _read_out(thread, threads, tokens, shape, weights, memory, x, like)
    meet(arrived, threads, met)
