"""How the functions of this part are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F) -> _F:
    """Compile a function on its first call, keep the result on disk, and run it without the GIL.

    Division by zero gives what numpy gives. What is called for every pixel takes plain arrays: taking them
    out of a tuple counts references each time, which costs more than the work.
    Numba keeps it beside the source, or in the user's cache folder when that is read-only, and looks only
    at the file of the function itself: after a change in another file that it calls remove what is kept.
    """
    result: _F
    try:
        result = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        # Neither place can be written to: every process compiles for itself.
        result = njit(nogil=True, error_model="numpy")(function)
    return result
