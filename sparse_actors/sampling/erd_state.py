"""What is kept of each pixel of a map, and which pixels are out of date."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .neighbours import NearLists
from .peaks import Peaks

ERD_ONLY, SPREAD, VOTE = 1, 2, 3
"""What of a pixel is out of date: its ERD only, the spread too, which looks at more points than kriging, or
all of its vote."""
NOWHERE = -1


class Rule(NamedTuple):
    """How the ERD follows from the features."""

    coefficients: NDArray[np.float64]
    crowding_radius2: int
    continuous: bool
    kriged: bool


class State(NamedTuple):
    """Every array is (pixels,) in reading order."""

    lists: NearLists
    values: NDArray[np.float32]
    """The reconstruction: the value of each listed point, and what its nearest points elect for the rest."""
    dissent: NDArray[np.float32]
    spread: NDArray[np.float32]
    erd: Peaks
    taken: NDArray[np.bool_]
    """Never to be picked: listed, measured without being listed, or not of the field."""
    stale: NDArray[np.uint8]
    queue: NDArray[np.int32]
    """The pixels that are stale."""
    queued: NDArray[np.int64]
    """(1,): how many there are."""
    found: NDArray[np.int32]
    """The pixels that have the point walked about last in their lists."""
    walked: NDArray[np.int64]
    """(2,): this point, or -1, and how many pixels they are."""


Plain = tuple[tuple[Any, ...], tuple[Any, ...]]
"""A state and a rule as plain tuples."""


@compiled
def named(plain: Plain) -> tuple[State, Rule]:
    """Return a state and a rule with the names of their parts."""
    (lists, values, dissent, spread, erd, taken, stale, queue, queued, found, walked), rule = plain
    near, peaks = NearLists(*lists), Peaks(*erd)
    state = State(near, values, dissent, spread, peaks, taken, stale, queue, queued, found, walked)
    return state, Rule(*rule)


@compiled
def call(stale: NDArray[np.uint8], queue: NDArray[np.int32], queued: int, pixel: int, what: int) -> int:
    """Queue a pixel for `erd_refresh`; return how many are queued."""
    if stale[pixel] == 0:
        queue[queued] = pixel
        queued += 1
    if stale[pixel] < what:
        stale[pixel] = what
    return queued


@compiled
def set_value(
    values: NDArray[np.float32],
    shape: tuple[int, int],
    stale: NDArray[np.uint8],
    queue: NDArray[np.int32],
    queued: int,
    pixel: int,
    value: np.float32,
) -> int:
    """Set the reconstruction of a pixel and queue those whose gradient this changes."""
    if values[pixel] == value:
        return queued
    values[pixel] = value
    rows, columns = shape
    y = pixel // columns
    x = pixel - y * columns
    if x > 0:
        queued = call(stale, queue, queued, pixel - 1, ERD_ONLY)
    if x + 1 < columns:
        queued = call(stale, queue, queued, pixel + 1, ERD_ONLY)
    if y > 0:
        queued = call(stale, queue, queued, pixel - columns, ERD_ONLY)
    if y + 1 < rows:
        queued = call(stale, queue, queued, pixel + columns, ERD_ONLY)
    return queued
