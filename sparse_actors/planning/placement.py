"""Regions placed freely: as few as cover everything that was found, each with its margin."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois

Boxes = NDArray[np.int64]


def regions_covering(
    pois: Pois, region_px: tuple[int, int], field_px: tuple[int, int], margin_px: int
) -> Boxes:
    """Place regions so that few of them hold all that was found.

    The greedy rule for set cover: the region that holds most of what no region holds yet comes
    next, and it needs at most 1 + ln n times as many regions as the best choice (Chvatal 1979,
    doi:10.1287/moor.4.3.233). A region that could be shifted is centred on what it holds.

    Parameters
    ----------
    pois
        Points and the boxes of what was found, in pixels of the field of view.
    region_px
        (width, height) of a region. What does not fit into one gets a region of its own size.
    field_px
        (width, height) of the field of view, on the same grid.
    margin_px
        What a region must show around each box, as far as the field reaches.

    Returns
    -------
    NDArray[np.int64]
        (n, 4): left, top, width, height, without duplicates, ordered by top, left, height, width.
    """
    field = np.array(field_px)
    corners = pois.boxes_px.copy()
    corners[:, 2:] += corners[:, :2] + margin_px
    corners[:, :2] -= margin_px
    corners[:, :2] = np.clip(corners[:, :2], 0, field - 1)
    corners[:, 2:] = np.maximum(np.clip(corners[:, 2:], 1, field), corners[:, :2] + 1)
    swap = [1, 0, 3, 2]
    corners = np.ascontiguousarray(np.unique(corners[:, swap], axis=0)[:, swap])
    size = np.minimum(region_px, field)
    fits = ((corners[:, 2:] - corners[:, :2]) <= size).all(axis=1)
    small = np.ascontiguousarray(corners[fits])
    held = [_hull(corners[[i]]) for i in np.flatnonzero(~fits)]
    held += [_hull(small[group]) for group in _groups(small, int(size[0]), int(size[1]))]
    regions = np.empty((len(held), 4), dtype=np.int64)
    for number, hull in enumerate(held):
        extent = np.maximum(hull[2:] - hull[:2], size)
        start = (hull[:2] + hull[2:] - extent) // 2
        regions[number] = np.concatenate([np.clip(start, 0, field - extent), extent])
    return np.ascontiguousarray(np.unique(regions[:, swap], axis=0)[:, swap])


def _hull(corners: Boxes) -> Boxes:
    return np.concatenate([corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)])


def _groups(corners: Boxes, width: int, height: int) -> list[Boxes]:
    """Divide boxes, ordered by top, into groups that each fit into width x height."""
    free = np.ones(len(corners), dtype=np.bool_)
    queue = []
    for i in range(len(corners)):
        count, left, top = _best_window(corners, free, i, width, height)
        queue.append((-count, i, left, top))
    heapq.heapify(queue)
    groups = []
    while queue:
        promised, i, _, _ = queue[0]
        if not free[i]:
            heapq.heappop(queue)
            continue
        # Others may have been taken since: what a window holds can only have become less.
        count, left, top = _best_window(corners, free, i, width, height)
        if -count > promised:
            heapq.heapreplace(queue, (-count, i, left, top))
            continue
        heapq.heappop(queue)
        group = _held(corners, free, left, top, width, height)
        free[group] = False
        groups.append(group)
    return groups


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _best_window(corners: Any, free: Any, i: int, width: int, height: int) -> tuple[int, int, int]:
    """Return how many free boxes the best window that holds box i holds, and its left and top.

    A window can be pushed right and down until it touches a left and a top side of boxes it holds.
    """
    n = len(corners)
    first = np.searchsorted(corners[:, 1], corners[i, 3] - height)
    near = np.empty(n - first, dtype=np.int64)
    m = 0
    for j in range(first, n):
        if corners[j, 1] >= corners[i, 1] + height:
            break
        if free[j] and abs(corners[j, 0] - corners[i, 0]) < width and corners[j, 3] <= corners[i, 1] + height:
            near[m] = j
            m += 1
    best, best_left, best_top = 0, corners[i, 0], corners[i, 1]
    for a in range(m):
        left = corners[near[a], 0]
        if left > corners[i, 0] or left + width < corners[i, 2]:
            continue
        for b in range(m):
            top = corners[near[b], 1]
            if top > corners[i, 1] or top + height < corners[i, 3]:
                continue
            count = 0
            for k in range(m):
                box = corners[near[k]]
                if box[0] >= left and box[1] >= top and box[2] <= left + width and box[3] <= top + height:
                    count += 1
            if count > best:
                best, best_left, best_top = count, left, top
    return best, best_left, best_top


def _held(corners: Boxes, free: NDArray[np.bool_], left: int, top: int, width: int, height: int) -> Boxes:
    inside = (corners >= (left, top, left, top)).all(axis=1) & free
    inside &= (corners[:, 2] <= left + width) & (corners[:, 3] <= top + height)
    return np.flatnonzero(inside)
