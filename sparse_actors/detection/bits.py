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


def compiled(function: _F) -> _F:
    """Compile a function on its first call, keep the result on disk, and run it without the GIL.

    Numba keeps it beside the source, or in the user's cache folder when that is read-only. It looks only at
    the file of the function itself: after a change of `bits` or `lanes` remove what is kept.
    """
    result: _F
    try:
        result = njit(cache=True, nogil=True)(function)
    except RuntimeError:
        # Neither place can be written to: every process compiles for itself.
        result = njit(nogil=True)(function)
    return result


def instruction(function: Callable[..., Any]) -> Any:
    """Make a function of compiled code from one that writes its machine instructions."""
    return intrinsic(function)


def _one_word(emit: Callable[[Any, Any], Any]) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit(builder, arguments[0])

    return types.int64(types.uint64), codegen


@instruction
def bit_count(typing: Any, word: Any) -> Any:
    """Return the number of ones in a word."""
    return _one_word(lambda builder, value: builder.ctpop(value))


@instruction
def lowest_bit(typing: Any, word: Any) -> Any:
    """Return the index of the lowest one; 64 for an empty word."""
    return _one_word(lambda builder, value: builder.cttz(value, ir.Constant(ir.IntType(1), 0)))
