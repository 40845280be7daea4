"""Loads from byte buffers, and keys that stand for short byte strings.

The buffers are uint8 arrays with at least `PADDING` zero bytes after the text, so that loads of
many bytes at a time may run past its end. Array indexing in Numba first asks whether the index is
negative; these loads do not ask, which is most of why scanning is fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from toolkit.jit import inlined, machine, part

# Numba finds the types of elements and of all that is computed from them; mypy need not.
Bytes = npt.NDArray[Any]  # uint8
Ids = npt.NDArray[Any]  # uint32, or int32 while training
Ints = npt.NDArray[Any]  # int64
Words = npt.NDArray[Any]  # uint64
Word = Any  # one uint64
Int = Any  # one int64
to_int: Any = np.int64

PADDING = 64
SHORT = 16
"""Byte strings shorter than this are their own key; longer ones are hashed."""


@machine
def byte_at(typing_context: Any, array: Any, index: Any) -> Any:
    """`array[index]` of a uint8 array as int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        value = builder.load(builder.gep(data, [arguments[1]]))
        return builder.zext(value, ir.IntType(64))

    return types.int64(array, types.int64), generate


@machine
def word_at(typing_context: Any, array: Any, index: Any) -> Any:
    """The eight bytes at `index` of a uint8 array, at any alignment, the first one lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.gep(data, [arguments[1]])
        pointer = builder.bitcast(pointer, ir.IntType(64).as_pointer())
        return builder.load(pointer, align=1)

    return types.uint64(array, types.int64), generate


@machine
def item_at(typing_context: Any, array: Any, index: Any) -> Any:
    """`array[index]` of any array, in its own type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load(builder.gep(data, [arguments[1]]))

    return array.dtype(array, types.int64), generate


@machine
def fetch_ahead(typing_context: Any, array: Any, index: Any) -> Any:
    """Have the processor bring `array[index]` into its cache while it goes on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        lane, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), lane)
        kind = ir.FunctionType(ir.VoidType(), [lane, flag, flag, flag])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [lane], kind)
        # For reading, to be kept near, data.
        builder.call(prefetch, [pointer, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.none(array, types.int64), generate


@machine
def put(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """`array[index] = value`, the value cut to the array's width."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        width = ir.IntType(signature.args[0].dtype.bitwidth)
        builder.store(builder.trunc(arguments[2], width), builder.gep(data, [arguments[1]]))
        return context.get_dummy_value()

    return types.none(array, types.int64, value), generate


@machine
def bytes_between(
    typing_context: Any, array: Any, index: Any, fold: Any, low: Any, high: Any
) -> Any:
    """Which of the 64 bytes at `index` are, after `| fold`, from `low` to `high`: a bit for each.

    The first byte's bit is the lowest. This is where the processor's widest registers are used.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lane, lanes = ir.IntType(8), ir.VectorType(ir.IntType(8), 64)

        def splat(value: Any) -> Any:
            one = builder.insert_element(
                ir.Constant(lanes, ir.Undefined), builder.trunc(value, lane), ir.IntType(32)(0)
            )
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
            return builder.shuffle_vector(one, ir.Constant(lanes, ir.Undefined), zeros)

        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), lanes.as_pointer())
        text = builder.or_(builder.load(pointer, align=1), splat(arguments[2]))
        above = builder.sub(text, splat(arguments[3]))
        found = builder.icmp_unsigned("<=", above, splat(builder.sub(arguments[4], arguments[3])))
        return builder.bitcast(found, ir.IntType(64))

    number = types.int64
    return types.uint64(array, number, number, number, number), generate


@machine
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """How many bits below the lowest set one; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@machine
def leading_zeros(typing_context: Any, value: Any) -> Any:
    """How many bits above the highest set one; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@machine
def ones(typing_context: Any, value: Any) -> Any:
    """How many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


# -- keys ---------------------------------------------------------------------------------------
#
# A byte string shorter than 16 bytes is two words: its bytes, and its length in the highest byte,
# which is never zero. A longer one gets two hashes and the highest byte 255; whoever finds such a
# key compares the bytes as well.

_ALL = 0xFFFFFFFFFFFFFFFF
_FIRST_MASKS = np.array([(1 << 8 * min(length, 8)) - 1 for length in range(SHORT)], np.uint64)
_SECOND_MASKS = np.array([(1 << 8 * max(length - 8, 0)) - 1 for length in range(SHORT)], np.uint64)
TAGS = np.array([length << 56 for length in range(SHORT)], np.uint64)
_LONG_TAG = np.uint64(255 << 56)
# Odd constants with well mixed bits: the golden ratio's (Knuth 6.4) and two primes of xxHash's.
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_MIX_3 = np.uint64(0x165667B19E3779F9)


@inlined
def first_key(buffer: Bytes, start: Int, length: Int) -> Word:
    """The first word of a short string's key."""
    return word_at(buffer, start) & item_at(_FIRST_MASKS, length)


@inlined
def second_key(buffer: Bytes, start: Int, length: Int) -> Word:
    """The second word of a short string's key, its length on top."""
    return (word_at(buffer, start + 8) & item_at(_SECOND_MASKS, length)) | item_at(TAGS, length)


@part
def long_keys(buffer: Bytes, start: Int, length: Int) -> tuple[Word, Word]:
    """The key of a string of 16 bytes or more."""
    first = np.uint64(length) * _MIX
    second = first ^ _MIX_3
    position = 0
    while position + 8 <= length:
        word = word_at(buffer, start + position)
        first = (first ^ word) * _MIX_2
        first ^= first >> np.uint64(29)
        second = (second + word) * _MIX
        second ^= second >> np.uint64(31)
        position += 8
    if position < length:
        word = word_at(buffer, start + position) & item_at(_FIRST_MASKS, length - position)
        first = (first ^ word) * _MIX_2
        second = (second + word) * _MIX
    first ^= first >> np.uint64(32)
    second ^= second >> np.uint64(32)
    return first, second | _LONG_TAG


@inlined
def hash_keys(first: Word, second: Word) -> Word:
    """One well mixed word; its high bits are the best ones."""
    return (first ^ (second * _MIX_2)) * _MIX


@part
def same_bytes(one: Bytes, start: Int, other: Bytes, other_start: Int, length: Int) -> bool:
    """Whether two stretches of bytes are equal."""
    position = 0
    while position + 8 <= length:
        if word_at(one, start + position) != word_at(other, other_start + position):
            return False
        position += 8
    while position < length:
        if byte_at(one, start + position) != byte_at(other, other_start + position):
            return False
        position += 1
    return True
