"""Sixty-four pixels in one word: the few machine instructions that numba does not offer by name.

A bitmap is an array (rows, words) of uint64. Bit `i` of word `w` is the pixel in column 64 w + i; bits
beyond the last column are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

WORD = 64

_F = TypeVar("_F", bound=Callable[..., Any])
_BITS = ir.IntType(WORD)


def compiled(function: _F) -> _F:
    """Compile a function on its first call, keep the result on disk, and run it without the GIL."""
    result: _F = njit(cache=True, nogil=True)(function)
    return result


def _instruction(function: _F) -> _F:
    result: _F = intrinsic(function)
    return result


def _one_word(emit: Callable[[Any, Any], Any]) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit(builder, arguments[0])

    return types.int64(types.uint64), codegen


@_instruction
def bit_count(typing: Any, word: Any) -> Any:
    """Return the number of ones in a word."""
    return _one_word(lambda builder, value: builder.ctpop(value))


@_instruction
def lowest_bit(typing: Any, word: Any) -> Any:
    """Return the index of the lowest one; 64 for an empty word."""
    return _one_word(lambda builder, value: builder.cttz(value, ir.Constant(ir.IntType(1), 0)))


def _vector(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Load 64 elements of a C-contiguous array, from the flat `index` on."""
    data = context.make_array(array_type)(context, builder, array).data
    element = context.get_data_type(array_type.dtype)
    pointer = builder.gep(data, [index])
    pointer = builder.bitcast(pointer, ir.PointerType(ir.VectorType(element, WORD)))
    load = builder.load(pointer)
    load.align = 1
    return load


def _splat(builder: Any, value: Any) -> Any:
    vector = ir.VectorType(value.type, WORD)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), WORD), [0] * WORD)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), lanes)


@_instruction
def below(typing: Any, values: Any, start: Any, limit: Any) -> Any:
    """Compare 64 neighbours with a limit: bit i of the result is values.flat[start + i] < limit.

    `values` is C-contiguous and reaches to start + 63; `limit` has its dtype.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _vector(context, builder, signature.args[0], arguments[0], arguments[1])
        limits = _splat(builder, arguments[2])
        if isinstance(signature.args[2], types.Float):
            mask = builder.fcmp_ordered("<", vector, limits)
        elif signature.args[2].signed:
            mask = builder.icmp_signed("<", vector, limits)
        else:
            mask = builder.icmp_unsigned("<", vector, limits)
        return builder.bitcast(mask, _BITS)

    return types.uint64(values, types.int64, values.dtype), codegen


@_instruction
def weighted_below(typing: Any, values: Any, start: Any, step: Any, weights: Any, limit: Any) -> Any:
    """Compare 64 weighted sums with a limit.

    Bit i of the result is sum_t weights[t] * values.flat[start + t * step + i] < limit. `weights` is a
    tuple of one signed integer type, in which the sums are formed; `limit` has this type, `values` is
    C-contiguous and unsigned.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, start, step, factors, limit = arguments
        wide = ir.VectorType(limit.type, WORD)
        total = None
        for t in range(len(signature.args[3])):
            narrow = _vector(context, builder, signature.args[0], array, start)
            term = builder.mul(builder.zext(narrow, wide), _splat(builder, builder.extract_value(factors, t)))
            total = term if total is None else builder.add(total, term)
            start = builder.add(start, step)
        mask = builder.icmp_signed("<", total, _splat(builder, limit))
        return builder.bitcast(mask, _BITS)

    return types.uint64(values, types.int64, types.int64, weights, weights.dtype), codegen
