"""The reconstruction and the ERD of pixels that are out of date."""

from __future__ import annotations

import numpy as np

from .compiled import compiled
from .erd_state import SPREAD, VOTE, Rule, State, set_value
from .features import (
    FEATURES,
    mean_of_values,
    polynomial,
    set_distances,
    set_gradients,
    vote_of_labels,
)
from .kriging import KRIGED, LANES, elect, kriging_lanes
from .neighbours import NEIGHBOURS
from .peaks import put

_LEAST_DISSENT = 1e-6
"""A dissent of 0 is kept for points that all agree, those too that are not weighed in kriging."""


@compiled
def refresh_stale(state: State, rule: Rule) -> None:
    """Vote again and compute the ERD again where they are stale."""
    if state.queued[0] == 0:
        return
    if rule.kriged:
        _krige_again(state)
    else:
        _vote_again(state, rule.continuous)
    _score_again(state, rule)
    state.queued[0] = 0


@compiled
def _vote_again(state: State, continuous: bool) -> None:
    offsets, listed, shape = state.lists.offsets, state.lists.listed, state.lists.shape
    values, stale, queue = state.values, state.stale, state.queue
    all_dissent, all_spread = state.dissent, state.spread
    n = min(state.lists.points[0], NEIGHBOURS)
    scratch = np.empty((NEIGHBOURS, 3), np.float64)
    queued, i = state.queued[0], 0
    while i < queued:
        pixel = queue[i]
        i += 1
        if stale[pixel] < SPREAD or listed[pixel]:
            continue
        if n == 0:
            value, dissent, spread = np.float32(0), 0.0, 0.0
        elif continuous:
            value, dissent, spread = mean_of_values(offsets, n, values, shape[1], pixel, scratch)
        else:
            value, dissent, spread = vote_of_labels(offsets, n, values, shape[1], pixel, scratch)
        all_dissent[pixel], all_spread[pixel] = dissent, spread
        queued = set_value(values, shape, stale, queue, queued, pixel, value)
    state.queued[0] = queued


@compiled
def _krige_again(state: State) -> None:
    """Do the same with kriging where the points disagree; the spread is that of the vote by distance."""
    offsets, listed, shape = state.lists.offsets, state.lists.listed, state.lists.shape
    values, stale, queue = state.values, state.stale, state.queue
    dissent, spread = state.dissent, state.spread
    n = min(state.lists.points[0], NEIGHBOURS)
    weighed = min(n, KRIGED)
    scratch, lanes = np.empty((NEIGHBOURS, 3), np.float64), kriging_lanes()
    dx, dy, labels, _, elected, share = lanes
    in_lane = np.empty(LANES, np.int64)
    queued, i = state.queued[0], 0
    while i < queued:
        used = 0
        while i < queued and used < LANES:
            pixel = queue[i]
            i += 1
            if stale[pixel] < SPREAD or listed[pixel]:
                continue
            value, against, deviation = np.float32(0), 0.0, 0.0
            if n > 0:
                value, against, deviation = vote_of_labels(offsets, n, values, shape[1], pixel, scratch)
            spread[pixel] = deviation
            if against == 0:
                dissent[pixel] = 0
                queued = set_value(values, shape, stale, queue, queued, pixel, value)
            elif stale[pixel] == VOTE:
                for j in range(weighed):
                    x, y = np.int64(offsets[pixel, 0, j]), np.int64(offsets[pixel, 1, j])
                    dx[j, used], dy[j, used] = x, y
                    labels[j, used] = values[pixel + y * shape[1] + x]
                in_lane[used] = pixel
                used += 1
            else:
                dissent[pixel] = max(dissent[pixel], np.float32(_LEAST_DISSENT))
        elect(lanes, weighed, used)
        for lane in range(used):
            pixel = in_lane[lane]
            dissent[pixel] = max(1 - share[lane], _LEAST_DISSENT)
            value = np.float32(elected[lane])
            queued = set_value(values, shape, stale, queue, queued, pixel, value)
    state.queued[0] = queued


@compiled
def _score_again(state: State, rule: Rule) -> None:
    offsets, shape, taken, values = state.lists.offsets, state.lists.shape, state.taken, state.values
    dissent, spread, stale, queue = state.dissent, state.spread, state.stale, state.queue
    heights, tile, row, _ = state.erd
    coefficients, crowding_radius2, continuous, _ = rule
    n = min(state.lists.points[0], NEIGHBOURS)
    features = np.empty(FEATURES, np.float64)
    for i in range(state.queued[0]):
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
