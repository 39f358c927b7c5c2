"""Sixty-four neighbouring pixels in one step: compared with a limit, or summed with weights.

These write LLVM vector instructions, which come out in whatever width the processor has; loops would leave it
to the compiler whether they are vectorised at all. Arrays are C-contiguous and indexed flat, and nothing
checks that an index lies inside.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .bits import WORD, instruction

PRECISION_BITS = 22
"""Weights are in units of 2^-22, as Pillow has them."""


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    lanes = ir.VectorType(context.get_data_type(array_type.dtype), WORD)
    return builder.bitcast(builder.gep(data, [index]), ir.PointerType(lanes))


def _loaded(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    load = builder.load(_pointer(context, builder, array_type, array, index))
    load.align = 1
    return load


def _spread(builder: Any, value: Any) -> Any:
    """Return the value in all lanes."""
    vector = ir.VectorType(value.type, WORD)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), WORD), [0] * WORD)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), lanes)


@instruction
def below(typing: Any, values: Any, start: Any, limit: Any) -> Any:
    """Return a word whose bit i is values[start + i] < limit; `limit` has the type of the values."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _loaded(context, builder, signature.args[0], arguments[0], arguments[1])
        limits = _spread(builder, arguments[2])
        if isinstance(signature.args[2], types.Float):
            mask = builder.fcmp_ordered("<", vector, limits)
        else:
            mask = builder.icmp_unsigned("<", vector, limits)
        return builder.bitcast(mask, ir.IntType(WORD))

    return types.uint64(values, types.int64, values.dtype), codegen


def _weighted(taps: int, one_weight_for_all: bool) -> Any:
    @instruction
    def weighted(
        typing: Any,
        result: Any,
        at: Any,
        values: Any,
        start: Any,
        step: Any,
        weights: Any,
        weight_start: Any,
        weight_step: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            result, at, values, start, step, weights, weight_start, weight_step = arguments
            result_type, _, values_type, _, _, weights_type, _, _ = signature.args
            number = context.get_data_type(weights_type.dtype)
            narrow = context.get_data_type(result_type.dtype)
            wide = ir.VectorType(number, WORD)

            def constant(value: int) -> Any:
                return ir.Constant(wide, [value] * WORD)

            total = constant(1 << (PRECISION_BITS - 1))
            for _ in range(taps):
                pixels = builder.zext(_loaded(context, builder, values_type, values, start), wide)
                if one_weight_for_all:
                    data = context.make_array(weights_type)(context, builder, weights).data
                    factors = _spread(builder, builder.load(builder.gep(data, [weight_start])))
                else:
                    factors = _loaded(context, builder, weights_type, weights, weight_start)
                total = builder.add(total, builder.mul(pixels, factors))
                start = builder.add(start, step)
                weight_start = builder.add(weight_start, weight_step)
            total = builder.ashr(total, constant(PRECISION_BITS))
            for bound, sign in ((0, "<"), ((1 << narrow.width) - 1, ">")):
                outside = builder.icmp_signed(sign, total, constant(bound))
                total = builder.select(outside, constant(bound), total)
            lanes = builder.trunc(total, ir.VectorType(narrow, WORD))
            store = builder.store(lanes, _pointer(context, builder, result_type, result, at))
            store.align = 1
            return context.get_dummy_value()

        index = types.int64
        return types.void(result, index, values, index, index, weights, index, index), codegen

    return weighted


weighted_columns_4, weighted_columns_6 = _weighted(4, False), _weighted(6, False)
"""(result, at, values, start, step, weights, weight_start, weight_step): over 4 or 6 taps t, lane i,

result[at + i] = the sum of weights[weight_start + t * weight_step + i] * values[start + t * step + i],
rounded and clipped to the type of the result.
"""
weighted_rows_4, weighted_rows_6 = _weighted(4, True), _weighted(6, True)
"""The same with one weight for all lanes: weights[weight_start + t * weight_step]."""


def _reachable(taps: int, core: range) -> Any:
    @instruction
    def reachable(typing: Any, values: Any, start: Any, step: Any, overshoot: Any, limit: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, start, step, overshoot, limit = arguments

            def extreme(sign: str, a: Any, b: Any) -> Any:
                return b if a is None else builder.select(builder.icmp_unsigned(sign, a, b), a, b)

            near = far = least = None
            for row in range(taps):
                for column in range(taps):
                    index = builder.add(start, ir.Constant(start.type, column))
                    pixels = _loaded(context, builder, signature.args[0], values, index)
                    far, least = extreme(">", far, pixels), extreme("<", least, pixels)
                    if row in core and column in core:
                        near = extreme("<", near, pixels)
                start = builder.add(start, step)

            single = ir.FloatType()
            at_least = builder.fadd(ir.Constant(single, 1.0), overshoot)
            bound = None
            for factor, other, pixels in (
                (at_least, at_least, near),
                (at_least, builder.fmul(ir.Constant(single, -2.0), overshoot), far),
                (overshoot, overshoot, least),
            ):
                grey = builder.uitofp(pixels, ir.VectorType(single, WORD))
                term = builder.fmul(grey, _spread(builder, builder.fmul(factor, other)))
                bound = term if bound is None else builder.fadd(bound, term)
            mask = builder.fcmp_ordered("<", bound, _spread(builder, limit))
            return builder.bitcast(mask, ir.IntType(WORD))

        return types.uint64(values, types.int64, types.int64, types.float32, types.float32), codegen

    return reachable


# The cubic kernel is positive over its two middle taps, Lanczos' also over the outermost.
reachable_4, reachable_6 = _reachable(4, range(1, 3)), _reachable(6, range(6))
"""(values, start, step, overshoot, limit): which of 64 windows may be resampled to something below the limit.

Window i has its corner at values[start + i], 4 x 4 or 6 x 6 taps, and rows `step` apart. With overshoot n,
the largest sum of the negative weights, a pass gives at least (1 + n) min - n max and at most the reverse,
where the minimum counts only taps that can have positive weights. Both passes together:
(1 + n)^2 min_positive - 2 n (1 + n) max + n^2 min.
"""
