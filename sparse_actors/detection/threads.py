"""An image worked on in strips, by several threads of one process.

Compiled functions run without the GIL, so that plain threads are enough: numba's own threading layers are
not the same everywhere, and the one that is always there must not be entered by two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Threads:
    """The calling thread and helpers, which end when nobody has this object any more.

    Parameters
    ----------
    count
        How many threads work, the calling one included.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._helpers = ThreadPoolExecutor(count - 1, "strip") if count > 1 else None

    def strips(self, rows: int, worthwhile: int) -> list[tuple[int, int]]:
        """Return first and end of the strips into which rows are divided, one for each thread.

        Handing one over takes some 0.1 ms: there are no more than `worthwhile`, but at least one.
        """
        n = max(1, min(self._count, worthwhile))
        return [(rows * i // n, rows * (i + 1) // n) for i in range(n)]

    def map(self, function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
        """Return what the function makes of each item, in order; the calling thread takes the first."""
        if self._helpers is None or len(items) == 1:
            return [function(item) for item in items]
        others = [self._helpers.submit(function, item) for item in items[1:]]
        return [function(items[0]), *(other.result() for other in others)]


ALONE = Threads(1)
"""The calling thread."""
