"""The expected reduction in distortion (ERD) of every pixel, kept exact while points are measured.

A new point enters the lists of the pixels in its cell; they vote again, and where the reconstruction changes
the gradients of the four pixels beside it change. Exactly these pixels get a new ERD, so that the cost of a
measurement is proportional to what it changes, about 10 / density pixels, at any size of the field.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .erd_model import ErdModel
from .features import (
    FEATURES,
    all_terms,
    crowding_radius2_px2,
    mean_of_values,
    polynomial,
    set_distances,
    set_gradients,
    vote_of_labels,
)
from .neighbours import (
    LARGEST_SIDE_PX,
    NEIGHBOURS,
    NearLists,
    empty_lists,
    fill_lists,
    find_point,
    list_point,
    unlist_point,
)
from .peaks import Peaks, highest, peaks_of, put

_LIST, _REVALUE, _UNLIST, _TAKE = 0, 1, 2, 3
_ERD, _VOTE = 1, 2
"""What of a pixel is out of date: its ERD only, or its vote too."""


class _Rule(NamedTuple):
    coefficients: NDArray[np.float64]
    crowding_radius2: int
    continuous: bool


class _State(NamedTuple):
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
    found: NDArray[np.int32]


class ErdMap:
    """The reconstruction and the ERD of a field, from any set of its pixels with their values.

    The state depends on the set of points and their values alone, not on the order of calls.
    Pixels are numbered in reading order: pixel = row * columns + column.

    Parameters
    ----------
    shape
        (rows, columns).
    model
        How the ERD follows from the features.
    mask
        (rows, columns), which pixels belong to the field; None: all. The reconstruction covers the whole
        rectangle; pixels outside are never picked.
    """

    def __init__(
        self, shape: tuple[int, int], model: ErdModel, mask: NDArray[np.bool_] | None = None
    ) -> None:
        if not 0 < min(shape) <= max(shape) <= LARGEST_SIDE_PX:
            raise ValueError(f"shape {shape}: sides must be 1 to {LARGEST_SIDE_PX} pixels")
        if mask is not None and mask.shape != shape:
            raise ValueError(f"the mask is {mask.shape}, the field {shape}")
        self.shape = shape
        pixels = shape[0] * shape[1]
        taken = np.zeros(pixels, np.bool_) if mask is None else ~mask.ravel()
        erd = np.where(taken, -np.inf, 0).astype(np.float32)
        self._rule = _Rule(
            all_terms(model.coefficients),
            crowding_radius2_px2(model.features, pixels),
            model.values == "continuous",
        )
        self._state = _State(
            lists=empty_lists(shape),
            values=np.zeros(pixels, np.float32),
            dissent=np.zeros(pixels, np.float32),
            spread=np.zeros(pixels, np.float32),
            erd=peaks_of(erd, shape),
            taken=taken,
            stale=np.zeros(pixels, np.uint8),
            queue=np.empty(pixels, np.int32),
            found=np.empty(pixels, np.int32),
        )

    @property
    def points(self) -> int:
        """How many points the reconstruction is made from."""
        return int(self._state.lists.points[0])

    @property
    def listed(self) -> NDArray[np.bool_]:
        """(pixels,): where these points are; not to be written to, like all arrays here."""
        return self._state.lists.listed

    @property
    def values(self) -> NDArray[np.float32]:
        """(pixels,): the reconstruction, 0 while there is no point."""
        return self._state.values

    @property
    def dissent(self) -> NDArray[np.float32]:
        """(pixels,): for labels the share of the votes that went to others; 0 at the points."""
        return self._state.dissent

    @property
    def erd(self) -> NDArray[np.float32]:
        """(pixels,): the expected reduction in distortion, -inf where nothing is to be picked."""
        return self._state.erd.heights

    def update(
        self, pixels: NDArray[np.int64], values: NDArray[np.float32], listed: NDArray[np.bool_]
    ) -> None:
        """Set what is known of different pixels.

        Parameters
        ----------
        pixels, values
            (n,), the pixels and what was measured there. None of them is picked from now on.
        listed
            (n,), whether the value counts in the reconstruction; else the pixel itself is reconstructed.
        """
        before = self.listed[pixels]
        news = ~(before & listed & (self.values[pixels] == values))
        if not news.any():
            return
        orders = np.where(listed, np.where(before, _REVALUE, _LIST), np.where(before, _UNLIST, _TAKE))
        update = _rebuild if len(pixels) > self.points else _update
        update(self._state, self._rule, pixels, values, orders)

    def pick(self, n: int) -> NDArray[np.int64]:
        """Take n pixels of largest ERD, one after the other, each as if measured with its reconstruction.

        Of equal ones the first in reading order is taken. Returns fewer when no more are left, and none
        while there is no point.
        """
        if self.points == 0:
            return np.empty(0, np.int64)
        return _pick(self._state, self._rule, n)

    def features(self, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the six features (n, 6) of pixels that are no points; see `features`."""
        if self.points == 0:
            raise ValueError("there are no features before the first point")
        return _features(self._state, self._rule, pixels)


@compiled
def _update(
    state: _State,
    rule: _Rule,
    pixels: NDArray[np.int64],
    values: NDArray[np.float32],
    orders: NDArray[np.int64],
) -> None:
    lists, stale, queue, found = state.lists, state.stale, state.queue, state.found
    queued = 0
    for i in range(len(pixels)):
        pixel, order = pixels[i], orders[i]
        if order == _REVALUE and state.values[pixel] == values[i]:
            continue
        n = 0
        if order == _LIST:
            n = list_point(lists, pixel, found)
        elif order == _REVALUE:
            n = find_point(lists, pixel, found)
        elif order == _UNLIST:
            n = unlist_point(lists, pixel, found)
        state.taken[pixel] = True
        queued = _call(stale, queue, queued, pixel, _ERD)
        if lists.listed[pixel]:
            state.dissent[pixel] = state.spread[pixel] = 0
            queued = _set_value(state.values, lists.shape, stale, queue, queued, pixel, values[i])
        queued = _call_voters(state, queued, n, order == _LIST, values[i])
    _refresh(state, rule, queued)


@compiled
def _rebuild(
    state: _State,
    rule: _Rule,
    pixels: NDArray[np.int64],
    values: NDArray[np.float32],
    orders: NDArray[np.int64],
) -> None:
    """Do the same as `_update`, quicker where most points are new."""
    for i in range(len(pixels)):
        pixel = pixels[i]
        state.taken[pixel] = True
        state.lists.listed[pixel] = orders[i] == _LIST or orders[i] == _REVALUE
        if state.lists.listed[pixel]:
            state.values[pixel] = values[i]
            state.dissent[pixel] = state.spread[pixel] = 0
    fill_lists(state.lists)
    for pixel in range(len(state.queue)):
        state.queue[pixel] = pixel
        state.stale[pixel] = _VOTE
    _refresh(state, rule, len(state.queue))


@compiled
def _pick(state: _State, rule: _Rule, n: int) -> NDArray[np.int64]:
    picked = np.empty(n, np.int64)
    for i in range(n):
        pixel = highest(state.erd)
        if state.erd.heights[pixel] == -np.inf:
            return picked[:i]
        picked[i] = pixel
        state.taken[pixel] = True
        found = list_point(state.lists, pixel, state.found)
        state.dissent[pixel] = state.spread[pixel] = 0
        queued = _call(state.stale, state.queue, 0, pixel, _ERD)
        _refresh(state, rule, _call_voters(state, queued, found, True, state.values[pixel]))
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
def _call_voters(state: _State, queued: int, n: int, is_new: bool, value: np.float32) -> int:
    """Queue the n pixels found, whose lists have changed or hold a point of another value now."""
    listed, values, dissent = state.lists.listed, state.values, state.dissent
    stale, queue, found = state.stale, state.queue, state.found
    for i in range(n):
        pixel = found[i]
        if not listed[pixel]:
            # Where all points agree with a new one, the vote is the same and only the distances change.
            agrees = is_new and dissent[pixel] == 0 and values[pixel] == value
            queued = _call(stale, queue, queued, pixel, _ERD if agrees else _VOTE)
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
def _refresh(state: _State, rule: _Rule, queued: int) -> None:
    """Vote again and compute the ERD again where they are stale."""
    lists, values, dissent, spread, erd, taken, stale, queue, _ = state
    offsets, _, listed, points, shape = lists
    heights, tile, row, _ = erd
    coefficients, crowding_radius2, continuous = rule
    n = min(points[0], NEIGHBOURS)
    scratch = np.empty((NEIGHBOURS, 3), np.float64)
    i = 0
    while i < queued:
        pixel = queue[i]
        i += 1
        if stale[pixel] == _VOTE and not listed[pixel]:
            if n == 0:
                value, against, deviation = np.float32(0), 0.0, 0.0
            elif continuous:
                value, against, deviation = mean_of_values(offsets, n, values, shape[1], pixel, scratch)
            else:
                value, against, deviation = vote_of_labels(offsets, n, values, shape[1], pixel, scratch)
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


@compiled
def _features(state: _State, rule: _Rule, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    offsets, _, _, points, shape = state.lists
    n = min(points[0], NEIGHBOURS)
    features = np.empty((len(pixels), FEATURES), np.float64)
    for i in range(len(pixels)):
        pixel = pixels[i]
        features[i, 0], features[i, 1] = state.dissent[pixel], state.spread[pixel]
        set_distances(offsets, n, pixel, rule.crowding_radius2, features[i])
        set_gradients(state.values, shape, pixel, rule.continuous, features[i])
    return features
