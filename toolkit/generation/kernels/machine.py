"""What compiled generation needs of the machine and Numba has no name for: atomic counters, numbers
at an address, bfloat16, and the inner loop of a matrix product in vector registers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from toolkit.jit import COMPILED, machine

F = TypeVar("F", bound=Callable[..., Any])

carray = cast(Any, numba).carray
_BYTES = ir.IntType(8).as_pointer()
# llvm.prefetch's: to read, into the second cache, data.
_TO_READ_SOON = (0, 2, 1)
_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def _part(fastmath: set[str] | bool) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        if not COMPILED:
            return function
        options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        compiled = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, **options)
        return cast(F, compiled(function))

    return decorate


# Functions that compiled ones call, Python never does.
part = _part(False)
# A product and a sum may be one instruction; nothing else changes.
exact = _part({"contract"})
# Sums may be taken in any order, or no loop would use more than one lane; nan and infinity stay.
fast = _part({"reassoc", "contract", "nsz", "arcp"})


@machine
def add_atomically(typing: Any, array: Any, value: Any) -> Any:
    """Add to array[0] so that no thread's addition is lost; what it was before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, arguments[1], "seq_cst")

    return types.int64(array, types.int64), generate


@machine
def read_atomically(typing: Any, array: Any, index: Any) -> Any:
    """array[index] as the other threads have left it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "seq_cst", 8)

    return types.int64(array, types.int64), generate


if COMPILED and sys.platform != "win32":
    _sched_yield = types.ExternalFunction("sched_yield", types.int32())

    @part
    def let_others_run() -> None:
        _sched_yield()
else:

    @part
    def let_others_run() -> None:
        pass


@machine
def bits_as_float(typing: Any, bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.uint32), generate


@machine
def pointer(typing: Any, address: Any, like: Any) -> Any:
    """An address as a pointer to numbers of the dtype of an array."""
    result = cast(Any, types).CPointer(like.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(result))

    return result(types.int64, like), generate


def widen(number: Any) -> Any:
    """A stored number as float32."""
    raise NotImplementedError("compiled code only")


def _widen_overload(number: Any) -> Any:
    def upper_half(number: Any) -> Any:
        return bits_as_float(np.uint32(number) << np.uint32(16))

    def as_it_is(number: Any) -> Any:
        return np.float32(number)

    # NumPy knows no bfloat16: it is what comes as uint16.
    return upper_half if number == types.uint16 else as_it_is


overload(widen, inline="always")(_widen_overload)


# -- a matrix times several columns ---------------------------------------------------------------

# The lanes of one vector. Where registers are shorter LLVM takes several for it.
LANES = 16


class Tile(NamedTuple):
    """What stays in registers during a loop: sums of so many rows × vectors of columns."""

    rows: int
    vectors: int


def _tile_of_this_machine() -> Tile:
    """With AVX-512 there are 32 registers of 16 lanes. Elsewhere a vector takes two registers of 16
    (AVX2) or four of 32 (NEON)."""
    has_long_vectors = bool(llvm.get_host_cpu_features().get("avx512f"))
    return Tile(8, 2) if has_long_vectors else Tile(4, 1)


TILE = _tile_of_this_machine()


def _product(tile: Tile) -> Callable[..., Any]:
    """A function that computes `tile` sums.

    Its arguments: the addresses of the first row of a matrix, of the columns, the scales, the
    biases and the results; the width (of a row of the matrix); how many numbers a row of the
    columns and of the results has; an array of the matrix's dtype.

    Sum (r, c) = scales[r] · Σₖ matrix[r, k]·columns[k, c] + biases[r], with k in its order: a
    column has the same sum whatever is in the others.
    """

    @machine
    def product(
        typing: Any,
        matrix: Any,
        columns: Any,
        scales: Any,
        biases: Any,
        results: Any,
        width: Any,
        stride: Any,
        like: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _build_product(builder, tile, like.dtype, arguments[:7])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7, like), generate

    return product


def _build_product(builder: Any, tile: Tile, stored: Any, arguments: Sequence[Any]) -> None:
    matrix, columns, scales, biases, results, width, stride = arguments
    vector = ir.VectorType(_FLOAT, LANES)
    rows, vectors = range(tile.rows), range(tile.vectors)
    kind = {types.float32: _FLOAT, types.uint16: ir.IntType(16), types.int8: ir.IntType(8)}[stored]
    name = f"llvm.fmuladd.v{LANES}f32"
    fma = builder.module.declare_intrinsic(name, (), ir.FunctionType(vector, [vector] * 3))
    prefetch_type = ir.FunctionType(ir.VoidType(), [_BYTES, _INT32, _INT32, _INT32])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch.p0i8", (), prefetch_type)
    none, first = ir.Constant(vector, ir.Undefined), ir.Constant(_INT32, 0)
    same = ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)

    def at(address: Any, index: Any, kind: Any) -> Any:
        start = builder.inttoptr(address, kind.as_pointer())
        return builder.gep(start, [index])

    def vectors_at(address: Any, row: Any) -> list[Any]:
        start = at(address, builder.mul(row, stride), _FLOAT)
        offsets = [builder.gep(start, [ir.Constant(_INT64, v * LANES)]) for v in vectors]
        return [builder.bitcast(offset, vector.as_pointer()) for offset in offsets]

    def spread(number: Any) -> Any:
        return builder.shuffle_vector(builder.insert_element(none, number, first), none, same)

    def widened(number: Any) -> Any:
        if stored == types.uint16:
            bits = builder.shl(builder.zext(number, _INT32), ir.Constant(_INT32, 16))
            return builder.bitcast(bits, _FLOAT)
        return builder.sitofp(number, _FLOAT) if stored == types.int8 else number

    starts = [at(matrix, builder.mul(width, ir.Constant(_INT64, r)), kind) for r in rows]
    before = builder.block
    loop, after = builder.append_basic_block("product"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_INT64)
    k.add_incoming(ir.Constant(_INT64, 0), before)
    sums = [[builder.phi(vector) for _ in vectors] for _ in rows]
    # The rows after these come next. They are asked for now, in the order in which they lie.
    after_these = builder.mul(ir.Constant(_INT64, tile.rows), builder.add(width, k))
    ahead = builder.bitcast(at(matrix, after_these, kind), _BYTES)
    builder.call(prefetch, [ahead, *(ir.Constant(_INT32, flag) for flag in _TO_READ_SOON)])
    read = [builder.load(place, align=4) for place in vectors_at(columns, k)]
    grown = []
    for r in rows:
        weight = spread(widened(builder.load(builder.gep(starts[r], [k]))))
        grown.append([builder.call(fma, [weight, read[v], sums[r][v]]) for v in vectors])
    following = builder.add(k, ir.Constant(_INT64, 1))
    k.add_incoming(following, loop)
    for r in rows:
        for v in vectors:
            sums[r][v].add_incoming(ir.Constant(vector, [0.0] * LANES), before)
            sums[r][v].add_incoming(grown[r][v], loop)
    builder.cbranch(builder.icmp_signed("<", following, width), loop, after)
    builder.position_at_end(after)
    for r in rows:
        row = ir.Constant(_INT64, r)
        scale = spread(builder.load(at(scales, row, _FLOAT)))
        bias = spread(builder.load(at(biases, row, _FLOAT)))
        for v, place in enumerate(vectors_at(results, row)):
            builder.store(builder.call(fma, [grown[r][v], scale, bias]), place, align=4)


# Those of a whole tile, and what is left over of rows or columns.
product_of_tile = _product(TILE)
product_of_rows = _product(Tile(TILE.rows, 1))
product_of_row = _product(Tile(1, 1))
