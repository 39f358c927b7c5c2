"""Pairwise merging of boxes, compiled; the search for partners goes over a grid of cells.

One routine serves the three rules of `merging`: which pairs may merge and in which order differs,
the search does not. Merging two boxes of w1 x h1 and w2 x h2 px into their W x H px bounding box
saves, by eqs. 2 and 3 of the SPARSE paper,

    t_separate - t_merge = t_overhead - t_dwell (W H - w1 h1 - w2 h2) - t_row (H - h1 - h2).

With a gap of g columns between the two this is at most t_overhead + t_row h1 - t_dwell h1 g, with a
gap of g rows at most t_overhead - (t_dwell w1 + t_row) g. The search for the best partner of a box
therefore looks at the cells around it, ring by ring, and ends where no better one can follow.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def agglomerate(
    boxes: NDArray[np.int64], model: tuple[float, float, float], only_overlapping: bool, best_first: bool
) -> NDArray[np.int64]:
    """Merge pairs of boxes while that saves time.

    Parameters
    ----------
    boxes
        (n, 4): left, top, right, bottom; n >= 1.
    model
        t_dwell, t_row and t_overhead of eq. 1, in s.
    only_overlapping
        Whether a pair must share pixels to merge.
    best_first
        Whether the pair that saves most goes first; else the boxes are taken in their order, each
        with the first partner found.

    Returns
    -------
    NDArray[np.int64]
        (n,): the number of the group each box is in, from 0.
    """
    n = len(boxes)
    box = np.empty((2 * n - 1, 4), np.int64)
    parent = np.arange(2 * n - 1)

    # A cell is about as large as a box, and there are not many more cells than boxes.
    left, top = boxes[:, 0].min(), boxes[:, 1].min()
    x_span, y_span = boxes[:, 2].max() - left, boxes[:, 3].max() - top
    side = np.sqrt(x_span * y_span / n)
    cell_w = max(1, int(max(side, (boxes[:, 2] - boxes[:, 0]).mean())))
    cell_h = max(1, int(max(side, (boxes[:, 3] - boxes[:, 1]).mean())))
    columns = (x_span - 1) // cell_w + 1
    grid = (left, top, cell_w, cell_h, columns, (y_span - 1) // cell_h + 1)

    # A cell holds a linked list of entries: the boxes that touch it. A box that was merged keeps
    # its entries and stands for what it became; `parent` leads there.
    cells = (
        np.full(columns * grid[5], -1, np.int64),  # the first entry of a cell
        [0 for _ in range(0)],  # the next entry after one
        [0 for _ in range(0)],  # the box of an entry
        np.full(2 * n - 1, -1, np.int64),  # the last search that met a box
        np.full(2 * n - 1, -1, np.int64),  # the last cell it was met in
    )
    # A pair is found in the search of the later box. While a box waits in the queue with a partner
    # that has gone, what it hoped to save is a bound on what it can save with any other.
    queue = [(0.0, 0, 0) for _ in range(0)]
    searches = 0
    made = 0
    while made < n or queue:
        if made < n:
            k = made
            box[k] = boxes[k]
            a = b = (0, 0, -1, -1)
            made += 1
        else:
            _, k, j = heappop(queue)
            if parent[k] != k:
                continue
            a = b = _cells_of(box[k], grid)
            if parent[j] == j:
                b = _cells_of(box[j], grid)
                parent[k] = parent[j] = made
                for axis in range(2):
                    box[made, axis] = min(box[k, axis], box[j, axis])
                    box[made, axis + 2] = max(box[k, axis + 2], box[j, axis + 2])
                k = made
                made += 1
        saved_s, j = _best_partner(k, searches, box, parent, grid, cells, model, only_overlapping, best_first)
        searches += 1
        if j >= 0:
            heappush(queue, (-saved_s if best_first else 0.0, k, j))
        # The cells of the two parts hold it already.
        first, after, owner, _, _ = cells
        c0, r0, c1, r1 = _cells_of(box[k], grid)
        for row in range(r0, r1 + 1):
            for column in range(c0, c1 + 1):
                if not (_is_in(column, row, a) or _is_in(column, row, b)):
                    after.append(first[row * columns + column])
                    owner.append(k)
                    first[row * columns + column] = len(owner) - 1
    groups = np.empty(n, np.int64)
    number = np.full(made, -1, np.int64)
    count = 0
    for i in range(n):
        whole = _merged(i, parent)
        if number[whole] < 0:
            number[whole] = count
            count += 1
        groups[i] = number[whole]
    return groups


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _best_partner(
    i: int,
    search: int,
    box: Any,
    parent: Any,
    grid: Any,
    cells: Any,
    model: tuple[float, float, float],
    only_overlapping: bool,
    best_first: bool,
) -> tuple[float, int]:
    """Return the time saved in s and the best, or first, partner of box i; -1 if none saves time."""
    left, top, cell_w, cell_h, columns, rows = grid
    first, after, owner, last_search, last_cell = cells
    dwell_s, row_s, overhead_s = model
    x0, y0, x1, y1 = box[i]
    w, h = x1 - x0, y1 - y0
    c0, r0, c1, r1 = _cells_of(box[i], grid)
    last_search[i] = search
    best_s, best = 0.0, -1
    ring = 0
    while True:
        if ring > 0:
            # A box that touches no smaller ring is at least so far away on each side.
            step_x, step_y = dwell_s * h, dwell_s * w + row_s
            hope_x, hope_y = overhead_s + row_s * h - best_s, overhead_s - best_s
            on_left = c0 >= ring and step_x * (x0 - left - (c0 - ring + 1) * cell_w) <= hope_x
            on_right = c1 + ring < columns and step_x * (left + (c1 + ring) * cell_w - x1) <= hope_x
            on_top = r0 >= ring and step_y * (y0 - top - (r0 - ring + 1) * cell_h) <= hope_y
            on_bottom = r1 + ring < rows and step_y * (top + (r1 + ring) * cell_h - y1) <= hope_y
            if only_overlapping or not (on_left or on_right or on_top or on_bottom):
                return best_s, best
        for row in range(max(0, r0 - ring), min(rows - 1, r1 + ring) + 1):
            is_edge = ring == 0 or (row == r0 - ring and on_top) or (row == r1 + ring and on_bottom)
            column, last, step = max(0, c0 - ring), min(columns - 1, c1 + ring), 1
            if not is_edge:
                # Only the two ends of this row belong to the ring.
                step = c1 - c0 + 2 * ring
                column = c0 - ring if on_left else c1 + ring
                last = c1 + ring if on_right else c0 - ring
            for cell in range(row * columns + column, row * columns + last + 1, step):
                entry, kept = first[cell], -1
                while entry >= 0:
                    j = owner[entry]
                    if parent[j] != j:
                        j = _merged(j, parent)
                        owner[entry] = j
                        if last_search[j] == search and last_cell[j] == cell:
                            # Two boxes of this cell have become one: one entry is enough.
                            entry = after[entry]
                            after[kept] = entry
                            continue
                    last_cell[j] = cell
                    kept, entry = entry, after[entry]
                    if last_search[j] == search:
                        continue
                    last_search[j] = search
                    u0, v0, u1, v1 = box[j]
                    if only_overlapping and (u0 >= x1 or u1 <= x0 or v0 >= y1 or v1 <= y0):
                        continue
                    saved_s = _saved_s(box[i], box[j], model)
                    if saved_s > best_s or (saved_s == best_s and j < best):
                        best_s, best = saved_s, j
                        if not best_first:
                            return best_s, best
        ring += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _saved_s(a: Any, b: Any, model: tuple[float, float, float]) -> Any:
    """Return the time that merging two boxes saves, in s."""
    height_a, height_b = a[3] - a[1], b[3] - b[1]
    height = max(a[3], b[3]) - min(a[1], b[1])
    pixels = (max(a[2], b[2]) - min(a[0], b[0])) * height
    more_pixels = pixels - (a[2] - a[0]) * height_a - (b[2] - b[0]) * height_b
    return model[2] - model[0] * more_pixels - model[1] * (height - height_a - height_b)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _cells_of(box: Any, grid: Any) -> tuple[int, int, int, int]:
    """Return the first column and row and the last column and row of the cells a box touches."""
    left, top, cell_w, cell_h, _, _ = grid
    return (
        (box[0] - left) // cell_w,
        (box[1] - top) // cell_h,
        (box[2] - 1 - left) // cell_w,
        (box[3] - 1 - top) // cell_h,
    )


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _is_in(column: int, row: int, cells: tuple[int, int, int, int]) -> bool:
    return cells[0] <= column <= cells[2] and cells[1] <= row <= cells[3]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _merged(i: int, parent: Any) -> int:
    """Return what box i became."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i
