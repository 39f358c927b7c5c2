"""The ten nearest measured points of every pixel, kept exact while points come and go.

The lists depend on the set of points alone and not on the order in which they came: of two points equally
far from a pixel the first in reading order (rows from the top, each from the left) is the nearer.

A point p is in the lists of its cell, the places q with fewer than ten points nearer to them than p. The
cell is star-shaped about p: for a place t on the way from p to q the disk about t through p lies in the disk
about q through p, so that no more points are nearer to t than to q. The search therefore goes outwards from
p over the four sides of growing squares, and on each side only over the directions that were still in the
cell one square before. Between two pixels of a side the cell could slip through: there the distance to p
grows by at most 1/sqrt(2) a pixel along the side and the distance to the tenth point by at most 1, so that
half a pixel from a pixel s a place is in the cell only if

    |s - p| <= d10(s) + (1 + 1/sqrt(2)) / 2.

Pixels within this margin keep their direction open; where none does, nothing further out can change.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

NEIGHBOURS = 10
"""As many as the SLADS authors' code takes."""
UNREACHED = 2**31 - 1
LARGEST_SIDE_PX = 32767
"""Offsets are kept in 16 bits, and the largest squared distance then just fits into 32."""

_MARGIN_PX = 0.5 * (1 + 0.5**0.5) + 1e-9


Offsets = NDArray[np.int16]


class NearLists(NamedTuple):
    """For each pixel, in reading order, its nearest points, nearest first."""

    offsets: Offsets
    """(pixels, 2, NEIGHBOURS): columns and rows from the pixel to the point."""
    reach2: NDArray[np.int32]
    """(pixels,): squared distance (px2) of the last of them, UNREACHED while there are fewer."""
    listed: NDArray[np.bool_]
    """(pixels,): where the points are."""
    points: NDArray[np.int64]
    """(1,): how many there are; a list holds so many, up to NEIGHBOURS."""
    shape: tuple[int, int]
    """(rows, columns)."""


def empty_lists(shape: tuple[int, int]) -> NearLists:
    """Return the lists of a field without points; 45 bytes a pixel."""
    pixels = shape[0] * shape[1]
    return NearLists(
        offsets=np.zeros((pixels, 2, NEIGHBOURS), np.int16),
        reach2=np.full(pixels, UNREACHED, np.int32),
        listed=np.zeros(pixels, np.bool_),
        points=np.zeros(1, np.int64),
        shape=shape,
    )


@compiled
def fill_lists(lists: NearLists) -> None:
    """Make all lists anew from the points that are marked as listed; quicker than one by one for many.

    Each pixel looks through square cells with about two points each, outwards, until the cells not yet
    seen are further away than its tenth point.
    """
    offsets, reach2, listed, points, (rows, columns) = lists
    found = np.flatnonzero(listed)
    points[0] = len(found)
    side = max(1, int(np.sqrt(2 * len(listed) / max(len(found), 1))))
    cell_rows, cell_columns = (rows - 1) // side + 1, (columns - 1) // side + 1
    begin = np.zeros(cell_rows * cell_columns + 1, np.int64)
    cells = found // columns // side * cell_columns + found % columns // side
    for cell in cells:
        begin[cell + 1] += 1
    begin = np.cumsum(begin)
    at_x, at_y, end = np.empty_like(found), np.empty_like(found), begin.copy()
    for i in range(len(found)):
        place = end[cells[i]]
        at_y[place], at_x[place] = found[i] // columns, found[i] % columns
        end[cells[i]] += 1
    for pixel in range(len(listed)):
        y, x = pixel // columns, pixel % columns
        row, column = y // side, x // side
        reach2[pixel] = UNREACHED
        count = 0
        for ring in range(max(cell_rows, cell_columns)):
            top, bottom = max(row - ring, 0), min(row + ring, cell_rows - 1)
            for r in range(top, bottom + 1):
                step = 1 if abs(r - row) == ring else 2 * ring
                for c in range(column - ring, column + ring + 1, step):
                    if not 0 <= c < cell_columns:
                        continue
                    for i in range(begin[r * cell_columns + c], begin[r * cell_columns + c + 1]):
                        dx, dy = int(at_x[i]) - x, int(at_y[i]) - y
                        if _belongs(offsets, reach2, pixel, dx, dy):
                            _enter(offsets, reach2, pixel, dx, dy, count)
                            count = min(count + 1, NEIGHBOURS)
            beyond_x = min(x - (column - ring) * side, (column + ring + 1) * side - 1 - x) + 1
            beyond_y = min(y - (row - ring) * side, (row + ring + 1) * side - 1 - y) + 1
            if reach2[pixel] < min(beyond_x, beyond_y) ** 2:
                break


@compiled
def list_point(lists: NearLists, point: int, found: NDArray[np.int32]) -> int:
    """Enter a point into the lists it belongs to; write these pixels to `found`, return how many."""
    lists.listed[point] = True
    n = _walk(lists, point, True, found)
    lists.points[0] += 1
    return n


@compiled
def find_point(lists: NearLists, point: int, found: NDArray[np.int32]) -> int:
    """Write the pixels that have a listed point in their lists to `found`, return how many."""
    return _walk(lists, point, False, found)


@compiled
def unlist_point(lists: NearLists, point: int, found: NDArray[np.int32]) -> int:
    """Take a point out of all lists; write the pixels concerned to `found`, return how many."""
    n = _walk(lists, point, False, found)
    lists.listed[point] = False
    lists.points[0] -= 1
    offsets, reach2, listed, points, shape = lists
    length = min(points[0] + 1, NEIGHBOURS)
    last = NEIGHBOURS - 1
    for i in range(n):
        pixel = found[i]
        dx = point % shape[1] - pixel % shape[1]
        dy = point // shape[1] - pixel // shape[1]
        place = 0
        while offsets[pixel, 0, place] != dx or offsets[pixel, 1, place] != dy:
            place += 1
        for j in range(place, length - 1):
            offsets[pixel, 0, j], offsets[pixel, 1, j] = offsets[pixel, 0, j + 1], offsets[pixel, 1, j + 1]
        if points[0] < NEIGHBOURS:
            reach2[pixel] = UNREACHED
        else:
            after_dx, after_dy = offsets[pixel, 0, last - 1], offsets[pixel, 1, last - 1]
            dx, dy = _next_nearest(listed, shape, pixel, after_dx, after_dy)
            offsets[pixel, 0, last], offsets[pixel, 1, last] = dx, dy
            reach2[pixel] = dx * dx + dy * dy
    return n


@compiled
def _walk(lists: NearLists, point: int, enters: bool, found: NDArray[np.int32]) -> int:
    """Write the pixels in a point's cell to `found`, return how many; enter it into their lists if asked."""
    offsets, reach2, _, points, (rows, columns) = lists
    py, px = point // columns, point % columns
    count = min(points[0], NEIGHBOURS)
    n = 0
    if _belongs(offsets, reach2, point, 0, 0):
        if enters:
            _enter(offsets, reach2, point, 0, 0, count)
        found[n] = point
        n += 1
    # The directions still open on the left, right, top and bottom side, as positions along it.
    first, last = np.full(4, -1, np.int64), np.full(4, 1, np.int64)
    k, open_sides = 0, 4
    while open_sides:
        k += 1
        open_sides = 0
        for side in range(4):
            if side < 2:
                along, across, middle, place = rows, columns, py, px
            else:
                along, across, middle, place = columns, rows, px, py
            place += k if side % 2 else -k
            low, high = max(first[side], -middle), min(last[side], along - 1 - middle)
            first[side], last[side] = 1, 0
            if not 0 <= place < across:
                continue
            begin, end = 1, 0
            for t in range(low, high + 1):
                if side < 2:
                    pixel = (py + t) * columns + place
                    dx, dy = px - place, -t
                else:
                    pixel = place * columns + px + t
                    dx, dy = -t, py - place
                is_open = _belongs(offsets, reach2, pixel, dx, dy)
                if not is_open:
                    reach = np.sqrt(reach2[pixel]) + _MARGIN_PX
                    is_open = k * k + t * t <= reach * reach
                # The corners are on two sides; those on the left and right enter them.
                elif side < 2 or abs(t) < k:
                    if enters:
                        _enter(offsets, reach2, pixel, dx, dy, count)
                    found[n] = pixel
                    n += 1
                if is_open:
                    if begin > end:
                        begin = t
                    end = t
            if begin <= end:
                # What lies behind these pixels and the halves beside them, one square further out.
                first[side] = max((2 * begin - 1) * (k + 1) // (2 * k), -k - 1)
                last[side] = min(-((-2 * end - 1) * (k + 1) // (2 * k)), k + 1)
                open_sides += 1
    return n


@compiled
def _belongs(offsets: Offsets, reach2: NDArray[np.int32], pixel: int, dx: int, dy: int) -> bool:
    """Whether the point at this offset is in the list of a pixel, or would be if it were listed."""
    d2 = dx * dx + dy * dy
    if d2 != reach2[pixel]:
        return bool(d2 < reach2[pixel])
    last_dx, last_dy = offsets[pixel, 0, NEIGHBOURS - 1], offsets[pixel, 1, NEIGHBOURS - 1]
    return bool(dy < last_dy or (dy == last_dy and dx <= last_dx))


@compiled
def _enter(offsets: Offsets, reach2: NDArray[np.int32], pixel: int, dx: int, dy: int, count: int) -> None:
    """Enter a point into a list that holds `count`; a full one gives up its last."""
    d2 = dx * dx + dy * dy
    place = min(count, NEIGHBOURS - 1)
    while place > 0:
        x, y = int(offsets[pixel, 0, place - 1]), int(offsets[pixel, 1, place - 1])
        other2 = x * x + y * y
        if other2 < d2 or (other2 == d2 and (y < dy or (y == dy and x < dx))):
            break
        offsets[pixel, 0, place], offsets[pixel, 1, place] = x, y
        place -= 1
    offsets[pixel, 0, place], offsets[pixel, 1, place] = dx, dy
    if count >= NEIGHBOURS - 1:
        x, y = int(offsets[pixel, 0, NEIGHBOURS - 1]), int(offsets[pixel, 1, NEIGHBOURS - 1])
        reach2[pixel] = x * x + y * y


@compiled
def _next_nearest(
    listed: NDArray[np.bool_], shape: tuple[int, int], pixel: int, after_dx: int, after_dy: int
) -> tuple[int, int]:
    """Return the offset of the nearest point of a pixel that comes after the one at an offset."""
    rows, columns = shape
    y, x = pixel // columns, pixel % columns
    after2 = int(after_dx) * int(after_dx) + int(after_dy) * int(after_dy)
    best2, best_dx, best_dy = UNREACHED, 0, 0
    # On the square of half side k the distances are k to sqrt(2) k.
    k = int(np.sqrt(after2 / 2))
    while k * k <= best2 and k <= max(rows, columns):
        for dy in range(max(-k, -y), min(k, rows - 1 - y) + 1):
            step = 1 if abs(dy) == k else 2 * k
            for dx in range(-k, k + 1, step):
                if not 0 <= x + dx < columns or not listed[pixel + dy * columns + dx]:
                    continue
                d2 = dx * dx + dy * dy
                if d2 < after2 or (d2 == after2 and (dy < after_dy or (dy == after_dy and dx <= after_dx))):
                    continue
                # An equally near one found on a later square may come first in reading order.
                if d2 < best2 or (d2 == best2 and (dy < best_dy or (dy == best_dy and dx < best_dx))):
                    best2, best_dx, best_dy = d2, dx, dy
        k += 1
    return best_dx, best_dy
