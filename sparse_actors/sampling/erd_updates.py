"""What changes when points become known: the compiled part of `erd_map`.

A new point enters the lists of the pixels in its cell; they vote again, and where the reconstruction changes
the gradients of the four pixels beside it change. Exactly these pixels get a new ERD, so that the cost of a
measurement is proportional to what it changes, about 10 / density pixels, at any size of the field.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .erd_refresh import refresh_stale
from .erd_state import ERD_ONLY, NOWHERE, SPREAD, VOTE, Plain, State, call, named, set_value
from .features import FEATURES, set_distances, set_gradients
from .kriging import KRIGED
from .neighbours import NEIGHBOURS, fill_lists, find_point, list_point, unlist_point
from .peaks import highest


@compiled
def update(
    plain: Plain,
    pixels: NDArray[np.int64],
    values: NDArray[np.float32],
    listed: NDArray[np.bool_],
) -> None:
    """Set the values of pixels, and whether they are points; none of them is picked from now on."""
    state, _ = named(plain)
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
            walked[0], walked[1] = pixel if listed[i] else NOWHERE, n
        state.taken[pixel] = True
        queued = call(state.stale, state.queue, state.queued[0], pixel, ERD_ONLY)
        if listed[i]:
            state.dissent[pixel] = state.spread[pixel] = 0
            queued = set_value(state.values, lists.shape, state.stale, state.queue, queued, pixel, values[i])
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
    state, _ = named(plain)
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
        state.stale[pixel] = VOTE
    state.queued[0], state.walked[0] = len(state.queue), NOWHERE


@compiled
def refresh(plain: Plain) -> None:
    """Bring the reconstruction and the ERD up to date."""
    state, rule = named(plain)
    refresh_stale(state, rule)


@compiled
def pick(plain: Plain, n: int) -> NDArray[np.int64]:
    """Make up to n pixels points, each the one of largest ERD, with their reconstruction as value."""
    state, rule = named(plain)
    picked = np.empty(n, np.int64)
    for i in range(n):
        refresh_stale(state, rule)
        pixel = highest(state.erd)
        if state.erd.heights[pixel] == -np.inf:
            return picked[:i]
        picked[i] = pixel
        state.taken[pixel] = True
        found = list_point(state.lists, pixel, state.found)
        state.walked[0], state.walked[1] = pixel, found
        state.dissent[pixel] = state.spread[pixel] = 0
        queued = call(state.stale, state.queue, state.queued[0], pixel, ERD_ONLY)
        state.queued[0] = _call_voters(state, queued, found, pixel, True, state.values[pixel])
    return picked


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
            what = ERD_ONLY
        else:
            what = VOTE
            y = pixel // columns
            dx, dy = px - (pixel - y * columns), py - y
            for place in range(KRIGED, NEIGHBOURS):
                if offsets[pixel, 0, place] == dx and offsets[pixel, 1, place] == dy:
                    what = SPREAD
        queued = call(stale, queue, queued, pixel, what)
    return queued


@compiled
def farthest(plain: Plain, candidates: NDArray[np.int64]) -> int:
    """Return the first of those candidates farthest from all points that may be picked; -1: none may."""
    state, _ = named(plain)
    best, most = -1, -1
    for pixel in candidates:
        dx, dy = int(state.lists.offsets[pixel, 0, 0]), int(state.lists.offsets[pixel, 1, 0])
        if not state.taken[pixel] and dx * dx + dy * dy > most:
            best, most = pixel, dx * dx + dy * dy
    return best


@compiled
def features_of(plain: Plain, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the features (n, 6) of pixels that are no points."""
    state, rule = named(plain)
    offsets, _, _, points, shape = state.lists
    n = min(points[0], NEIGHBOURS)
    features = np.empty((len(pixels), FEATURES), np.float64)
    for i in range(len(pixels)):
        pixel = pixels[i]
        features[i, 0], features[i, 1] = state.dissent[pixel], state.spread[pixel]
        set_distances(offsets, n, pixel, rule.crowding_radius2, features[i])
        set_gradients(state.values, shape, pixel, rule.continuous, features[i])
    return features
