"""What changes when points become known: the compiled part of `erd_map`.

A new point enters the lists of the pixels in its cell; they vote again, and where the reconstruction changes
the gradients of the four pixels beside it change. Exactly these pixels get a new ERD, so that the cost of a
measurement is proportional to what it changes, about 10 / density pixels, at any size of the field.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .features import (
    FEATURES,
    mean_of_values,
    polynomial,
    set_distances,
    set_gradients,
    vote_of_labels,
)
from .kriging import DX, DY, KRIGED, LABELS, kriged_label, kriging_scratch
from .neighbours import NEIGHBOURS, NearLists, fill_lists, find_point, list_point, unlist_point
from .peaks import Peaks, highest, put

_ERD, _SPREAD, _VOTE = 1, 2, 3
"""What of a pixel is out of date: its ERD only, the spread too, which looks at more points than kriging, or
all of its vote."""
_NOWHERE = -1


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
def _named(plain: Plain) -> tuple[State, Rule]:
    (lists, values, dissent, spread, erd, taken, stale, queue, queued, found, walked), rule = plain
    near, peaks = NearLists(*lists), Peaks(*erd)
    state = State(near, values, dissent, spread, peaks, taken, stale, queue, queued, found, walked)
    return state, Rule(*rule)


@compiled
def update(
    plain: Plain,
    pixels: NDArray[np.int64],
    values: NDArray[np.float32],
    listed: NDArray[np.bool_],
) -> None:
    """Set the values of pixels, and whether they are points; none of them is picked from now on."""
    state, _ = _named(plain)
    lists, walked = state.lists, state.walked
    for i in range(len(pixels)):
        pixel, was_listed = pixels[i], lists.listed[pixels[i]]
        if was_listed and listed[i] and state.values[pixel] == values[i]:
            continue
        n = 0
        if was_listed and listed[i]:
            # Mostly the point picked last, the label of which is known now.
            n = walked[1] if walked[0] == pixel else find_point(lists, pixel, state.found)
        elif listed[i]:
            n = list_point(lists, pixel, state.found)
        elif was_listed:
            n = unlist_point(lists, pixel, state.found)
        if n:
            walked[0], walked[1] = pixel if listed[i] else _NOWHERE, n
        state.taken[pixel] = True
        queued = _call(state.stale, state.queue, state.queued[0], pixel, _ERD)
        if listed[i]:
            state.dissent[pixel] = state.spread[pixel] = 0
            queued = _set_value(state.values, lists.shape, state.stale, state.queue, queued, pixel, values[i])
        is_new = listed[i] and not was_listed
        state.queued[0] = _call_voters(state, queued, n, pixel, is_new, values[i])


@compiled
def rebuild(
    plain: Plain,
    pixels: NDArray[np.int64],
    values: NDArray[np.float32],
    listed: NDArray[np.bool_],
) -> None:
    """Do the same as `update`, quicker where most points are new."""
    state, _ = _named(plain)
    for i in range(len(pixels)):
        pixel = pixels[i]
        state.taken[pixel] = True
        state.lists.listed[pixel] = listed[i]
        if listed[i]:
            state.values[pixel] = values[i]
            state.dissent[pixel] = state.spread[pixel] = 0
    fill_lists(state.lists)
    for pixel in range(len(state.queue)):
        state.queue[pixel] = pixel
        state.stale[pixel] = _VOTE
    state.queued[0], state.walked[0] = len(state.queue), _NOWHERE


@compiled
def refresh(plain: Plain) -> None:
    """Bring the reconstruction and the ERD up to date."""
    state, rule = _named(plain)
    _refresh(state, rule)


@compiled
def pick(plain: Plain, n: int) -> NDArray[np.int64]:
    """Make up to n pixels points, each the one of largest ERD, with their reconstruction as value."""
    state, rule = _named(plain)
    picked = np.empty(n, np.int64)
    for i in range(n):
        _refresh(state, rule)
        pixel = highest(state.erd)
        if state.erd.heights[pixel] == -np.inf:
            return picked[:i]
        picked[i] = pixel
        state.taken[pixel] = True
        found = list_point(state.lists, pixel, state.found)
        state.walked[0], state.walked[1] = pixel, found
        state.dissent[pixel] = state.spread[pixel] = 0
        queued = _call(state.stale, state.queue, state.queued[0], pixel, _ERD)
        state.queued[0] = _call_voters(state, queued, found, pixel, True, state.values[pixel])
    return picked


@compiled
def _call(stale: NDArray[np.uint8], queue: NDArray[np.int32], queued: int, pixel: int, what: int) -> int:
    """Queue a pixel for `_refresh`; return how many are queued."""
    if stale[pixel] == 0:
        queue[queued] = pixel
        queued += 1
    if stale[pixel] < what:
        stale[pixel] = what
    return queued


@compiled
def _call_voters(state: State, queued: int, n: int, point: int, is_new: bool, value: np.float32) -> int:
    """Queue the n pixels found, whose lists have changed or hold a point of another value now."""
    listed, values, dissent = state.lists.listed, state.values, state.dissent
    offsets, columns = state.lists.offsets, state.lists.shape[1]
    stale, queue, found = state.stale, state.queue, state.found
    py = point // columns
    px = point - py * columns
    for i in range(n):
        pixel = found[i]
        if listed[pixel]:
            continue
        if is_new and dissent[pixel] == 0 and values[pixel] == value:
            # All points agree with the new one: the vote is the same and only the distances change.
            what = _ERD
        else:
            what = _VOTE
            y = pixel // columns
            dx, dy = px - (pixel - y * columns), py - y
            for place in range(KRIGED, NEIGHBOURS):
                if offsets[pixel, 0, place] == dx and offsets[pixel, 1, place] == dy:
                    what = _SPREAD
        queued = _call(stale, queue, queued, pixel, what)
    return queued


@compiled
def _set_value(
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
        queued = _call(stale, queue, queued, pixel - 1, _ERD)
    if x + 1 < columns:
        queued = _call(stale, queue, queued, pixel + 1, _ERD)
    if y > 0:
        queued = _call(stale, queue, queued, pixel - columns, _ERD)
    if y + 1 < rows:
        queued = _call(stale, queue, queued, pixel + columns, _ERD)
    return queued


@compiled
def _refresh(state: State, rule: Rule) -> None:
    """Vote again and compute the ERD again where they are stale."""
    lists, values, dissent, spread, erd, taken, stale, queue, _, _, _ = state
    offsets, _, listed, points, shape = lists
    heights, tile, row, _ = erd
    coefficients, crowding_radius2, continuous, kriged = rule
    n = min(points[0], NEIGHBOURS)
    scratch, weighed = np.empty((NEIGHBOURS, 3), np.float64), kriging_scratch()
    queued, i = state.queued[0], 0
    while i < queued:
        pixel = queue[i]
        i += 1
        if stale[pixel] >= _SPREAD and not listed[pixel]:
            if n == 0:
                value, against, deviation = np.float32(0), 0.0, 0.0
            elif continuous:
                value, against, deviation = mean_of_values(offsets, n, values, shape[1], pixel, scratch)
            else:
                value, against, deviation = vote_of_labels(offsets, n, values, shape[1], pixel, scratch)
                if kriged and against > 0:
                    if stale[pixel] == _VOTE:
                        m = min(n, KRIGED)
                        for j in range(m):
                            dx, dy = np.int64(offsets[pixel, 0, j]), np.int64(offsets[pixel, 1, j])
                            weighed[DX, j], weighed[DY, j] = dx, dy
                            weighed[LABELS, j] = values[pixel + dy * shape[1] + dx]
                        label, share = kriged_label(weighed, m)
                        value, against = np.float32(label), 1 - share
                    else:
                        value, against = values[pixel], dissent[pixel]
                    # A dissent of 0 is kept for points that all agree, the farther ones too.
                    against = max(against, 1e-6)
            dissent[pixel], spread[pixel] = against, deviation
            queued = _set_value(values, shape, stale, queue, queued, pixel, value)
    features = np.empty(FEATURES, np.float64)
    for i in range(queued):
        pixel = queue[i]
        stale[pixel] = 0
        height = -np.inf
        if not taken[pixel]:
            height = 0.0
            if n > 0:
                features[0], features[1] = dissent[pixel], spread[pixel]
                set_distances(offsets, n, pixel, crowding_radius2, features)
                set_gradients(values, shape, pixel, continuous, features)
                height = polynomial(coefficients, features)
        put(heights, tile, row, shape[1], pixel, height)
    state.queued[0] = 0


@compiled
def farthest(plain: Plain, candidates: NDArray[np.int64]) -> int:
    """Return the first of those candidates farthest from all points that may be picked; -1: none may."""
    state, _ = _named(plain)
    best, most = -1, -1
    for pixel in candidates:
        dx, dy = int(state.lists.offsets[pixel, 0, 0]), int(state.lists.offsets[pixel, 1, 0])
        if not state.taken[pixel] and dx * dx + dy * dy > most:
            best, most = pixel, dx * dx + dy * dy
    return best


@compiled
def features_of(plain: Plain, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the features (n, 6) of pixels that are no points."""
    state, rule = _named(plain)
    offsets, _, _, points, shape = state.lists
    n = min(points[0], NEIGHBOURS)
    features = np.empty((len(pixels), FEATURES), np.float64)
    for i in range(len(pixels)):
        pixel = pixels[i]
        features[i, 0], features[i, 1] = state.dissent[pixel], state.spread[pixel]
        set_distances(offsets, n, pixel, rule.crowding_radius2, features[i])
        set_gradients(state.values, shape, pixel, rule.continuous, features[i])
    return features
