"""A mask, the union of boxes, as disjoint boxes: every pixel of the mask once and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def rectangles(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cover a mask by disjoint boxes: those of whole rows or of whole columns, whichever are fewer.

    Parameters
    ----------
    boxes
        (n, 4): left, top, width, height in px; they may overlap.

    Returns
    -------
    NDArray[np.int64]
        (m, 4) likewise, ordered by top, left.
    """
    swap = [1, 0, 3, 2]
    by_rows = _row_rectangles(np.asarray(boxes, dtype=np.int64))
    by_columns = _row_rectangles(np.asarray(boxes, dtype=np.int64)[:, swap])[:, swap]
    fewer = by_columns if len(by_columns) < len(by_rows) else by_rows
    return np.ascontiguousarray(fewer[np.lexsort((fewer[:, 0], fewer[:, 1]))])


def pixels_and_rows(boxes: NDArray[np.int64]) -> tuple[int, int]:
    """Return how many pixels a mask has, and on how many rows."""
    cover = _row_rectangles(np.asarray(boxes, dtype=np.int64))
    begun = np.zeros(1 + int((cover[:, 1] + cover[:, 3]).max(initial=0)), dtype=np.int64)
    np.add.at(begun, cover[:, 1], 1)
    np.add.at(begun, cover[:, 1] + cover[:, 3], -1)
    return int((cover[:, 2] * cover[:, 3]).sum()), int((begun.cumsum() > 0).sum())


def _row_rectangles(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the disjoint boxes of greatest width, joined over the rows where they stay the same."""
    if len(boxes) == 0:
        return np.empty((0, 4), dtype=np.int64)
    corners = boxes.copy()
    corners[:, 2:] += corners[:, :2]
    by_left = np.ascontiguousarray(corners[np.argsort(corners[:, 0], kind="stable")])
    edges = np.unique(corners[:, [1, 3]])
    cover: NDArray[np.int64] = _sweep(by_left, np.argsort(by_left[:, 1], kind="stable"), edges)
    cover[:, 2:] -= cover[:, :2]
    return cover


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sweep(boxes: Any, by_top: Any, edges: Any) -> Any:
    """Sweep a line over the rows; `boxes` are corners ordered by left, `edges` their tops and bottoms."""
    n = len(boxes)
    active = np.empty(n, np.int64)  # the boxes on the line, by left
    count, entered = 0, 0
    done = [(0, 0, 0, 0) for _ in range(0)]
    above = [(0, 0, 0) for _ in range(0)]  # left, right and top of the boxes that end on this line
    for band in range(len(edges) - 1):
        top = edges[band]
        kept = 0
        for k in range(count):
            if boxes[active[k], 3] > top:
                active[kept] = active[k]
                kept += 1
        count = kept
        while entered < n and boxes[by_top[entered], 1] == top:
            i = by_top[entered]
            place = count
            while place > 0 and active[place - 1] > i:
                active[place] = active[place - 1]
                place -= 1
            active[place] = i
            count += 1
            entered += 1
        here = [(0, 0, 0) for _ in range(0)]
        k = 0
        while k < count:
            left, right = boxes[active[k], 0], boxes[active[k], 2]
            k += 1
            while k < count and boxes[active[k], 0] <= right:
                right = max(right, boxes[active[k], 2])
                k += 1
            here.append((left, right, top))
        # What goes on unchanged keeps the top it has; what does not is done.
        k = 0
        for left, right, since in above:
            while k < len(here) and here[k][0] < left:
                k += 1
            if k < len(here) and here[k][0] == left and here[k][1] == right:
                here[k] = (left, right, since)
            else:
                done.append((left, since, right, top))
        above = here
    for left, right, since in above:
        done.append((left, since, right, edges[-1]))
    cover = np.empty((len(done), 4), np.int64)
    for k in range(len(done)):
        cover[k, 0], cover[k, 1], cover[k, 2], cover[k, 3] = done[k]
    return cover
