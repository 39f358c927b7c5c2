"""Candidates in a fast image, the local minima, and what surrounds each of them, in numbers.

A site is often so small that the beam of a fast scan meets its edge only; no threshold on the grey value
tells it from an etch pit then. What surrounds the minimum does better: its depth against rings around it, its
curvature and extent, the brightness of its rim, the texture it lies in, and how many others are near.

Everything depends on pixels within REACH_PX of the candidate only, and on nothing that changes with where the
image was cut, so that a tile detected part by part gives the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

WINDOW_PX = 8
"""Fast pixels to each side of a candidate that its features are made of."""
REACH_PX = WINDOW_PX + 2
"""Candidates in the window are told by their own neighbours, one pixel further; and one more."""
RINGS_PX = (1.0, 1.5, 2.3, 3.3, 4.7, 6.5, 8.5)
"""Outer radii of the rings around a candidate; each begins where the one before ends."""
_PATCH = 2
_ALIKE_GREY = 10

FEATURES = (
    "value",
    "depth",
    "lowest_between",
    "second",
    *(f"ring_{n}_mean" for n in range(len(RINGS_PX))),
    *(f"ring_{n}_low" for n in range(len(RINGS_PX))),
    *(f"ring_{n}_high" for n in range(len(RINGS_PX))),
    "near_spread",
    "wide_spread",
    "low_decile",
    "median",
    "high_decile",
    "curvature_most",
    "curvature_least",
    "slope",
    "slope_x",
    "slope_y",
    "blob_area",
    "blob_width",
    "blob_height",
    "blob_mean",
    "darker_near",
    "nearest_darker",
    *(
        f"patch_{row:+d}_{column:+d}"
        for row in range(-_PATCH, _PATCH + 1)
        for column in range(-_PATCH, _PATCH + 1)
        if row or column
    ),
)
"""Names of the columns. `value` is a grey level of 0-255, others are differences of such, or fast pixels."""
DEPTH = FEATURES.index("depth")
"""How much darker than the mean of the window."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Local minima of an image and their features."""

    row_column: NDArray[np.int64]
    """(n, 2) fast pixels."""
    features: NDArray[np.float32]
    """(n, len(FEATURES))."""
    boxes: NDArray[np.int64]
    """(n, 4): left, top, width, height of the pixels around each that are darker than half its depth."""

    def __len__(self) -> int:
        return len(self.row_column)


def candidates(image: NDArray[Any], least_depth_grey: float) -> Candidates:
    """Find the local minima of an image that are deep enough, and describe them.

    Parameters
    ----------
    image
        (rows, columns) of uint8 or uint16; 16 bits are taken to span the same grey levels 0-255.
    least_depth_grey
        How much darker a candidate is, at least, than the mean of its window. It is compared with the lowest
        value to be expected between the pixels, so that minima count whose deepest point the beam has missed.

    Returns
    -------
    Candidates
        In row-major order.
    """
    levels = np.iinfo(image.dtype).max
    grey = image.astype(np.float32) * np.float32(255 / levels)
    # Mirrored at the edges of the image, as there is nothing to be seen beyond.
    padded = np.pad(grey, REACH_PX, mode="symmetric")
    places = _minima(padded, np.float32(least_depth_grey))
    features = np.empty((len(places), len(FEATURES)), np.float32)
    boxes = np.empty((len(places), 4), np.int64)
    _describe(padded, places, np.array(RINGS_PX), features, boxes)
    boxes[:, :2] -= REACH_PX
    end = np.minimum(boxes[:, :2] + boxes[:, 2:], image.shape[::-1])
    boxes[:, :2] = np.maximum(boxes[:, :2], 0)
    boxes[:, 2:] = end - boxes[:, :2]
    return Candidates(places - REACH_PX, features, boxes)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _is_minimum(grey: Any, row: int, column: int) -> bool:
    """Whether no neighbour is darker; of equal ones the first counts."""
    value = grey[row, column]
    for dr in range(-1, 2):
        for dc in range(-1, 2):
            if dr == 0 and dc == 0:
                continue
            other = grey[row + dr, column + dc]
            if other < value or (other == value and (dr < 0 or (dr == 0 and dc < 0))):
                return False
    return True


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _lowest_between(grey: Any, row: int, column: int) -> Any:
    """Lowest point of the parabolas through a minimum and its neighbours, in x and in y added up."""
    value = grey[row, column]
    drop = np.float32(0.0)
    for axis in range(2):
        before = grey[row, column - 1] if axis == 0 else grey[row - 1, column]
        after = grey[row, column + 1] if axis == 0 else grey[row + 1, column]
        bend = before + after - 2 * value
        if bend > 0:
            drop += (before - after) * (before - after) / (8 * bend)
    return value - drop


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _minima(grey: Any, least_depth: Any) -> Any:
    rows, columns = grey.shape
    # Of two equal neighbours one only is a minimum, so that there are at most half as many as pixels.
    found = np.empty(((rows * columns) // 2 + 1, 2), np.int64)
    n = 0
    for row in range(REACH_PX, rows - REACH_PX):
        for column in range(REACH_PX, columns - REACH_PX):
            if _is_minimum(grey, row, column):
                total = 0.0
                for dr in range(-WINDOW_PX, WINDOW_PX + 1):
                    for dc in range(-WINDOW_PX, WINDOW_PX + 1):
                        total += grey[row + dr, column + dc]
                mean = total / ((2 * WINDOW_PX + 1) * (2 * WINDOW_PX + 1))
                if mean - _lowest_between(grey, row, column) >= least_depth:
                    found[n, 0] = row
                    found[n, 1] = column
                    n += 1
    return found[:n].copy()


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _describe(grey: Any, places: Any, rings: Any, features: Any, boxes: Any) -> None:
    side = 2 * WINDOW_PX + 1
    window = np.empty(side * side, np.float32)
    mask = np.zeros((side, side), np.bool_)
    stack = np.empty(side * side, np.int64)
    n_rings = len(rings)
    for i in range(len(places)):
        row, column = places[i]
        value = grey[row, column]
        out = features[i]
        # Rings, the spread near and wide, and darker candidates in the window.
        total = np.zeros(n_rings, np.float64)
        count = np.zeros(n_rings, np.int64)
        low = np.full(n_rings, np.float32(1e9))
        high = np.full(n_rings, np.float32(-1e9))
        near_sum = near_square = wide_sum = wide_square = 0.0
        near_count = 0
        darker, nearest = 0, float(side)
        second = np.float32(1e9)
        k = 0
        for dr in range(-WINDOW_PX, WINDOW_PX + 1):
            for dc in range(-WINDOW_PX, WINDOW_PX + 1):
                other = grey[row + dr, column + dc]
                window[k] = other
                k += 1
                depth = float(other - value)
                wide_sum += depth
                wide_square += depth * depth
                if abs(dr) <= 3 and abs(dc) <= 3:
                    near_sum += depth
                    near_square += depth * depth
                    near_count += 1
                if dr == 0 and dc == 0:
                    continue
                if abs(dr) <= 1 and abs(dc) <= 1 and other < second:
                    second = other
                distance = np.sqrt(float(dr * dr + dc * dc))
                for ring in range(n_rings):
                    if distance <= rings[ring]:
                        total[ring] += depth
                        count[ring] += 1
                        low[ring] = min(low[ring], other)
                        high[ring] = max(high[ring], other)
                        break
                if (
                    other <= value + _ALIKE_GREY
                    and distance > 1.5
                    and _is_minimum(grey, row + dr, column + dc)
                ):
                    darker += 1
                    nearest = min(nearest, distance)
        k = 0
        wide = float(side * side)
        lowest = _lowest_between(grey, row, column)
        out[k] = value
        out[k + 1] = wide_sum / wide + value - lowest
        out[k + 2] = lowest - value
        out[k + 3] = second - value
        k += 4
        for ring in range(n_rings):
            out[k + ring] = total[ring] / count[ring]
            out[k + n_rings + ring] = low[ring] - value
            out[k + 2 * n_rings + ring] = high[ring] - value
        k += 3 * n_rings
        out[k] = np.sqrt(max(near_square / near_count - (near_sum / near_count) ** 2, 0.0))
        out[k + 1] = np.sqrt(max(wide_square / wide - (wide_sum / wide) ** 2, 0.0))
        ordered = np.sort(window)
        middle = ordered[len(ordered) // 2]
        out[k + 2] = ordered[len(ordered) // 10] - value
        out[k + 3] = middle - value
        out[k + 4] = ordered[9 * len(ordered) // 10] - value
        k += 5
        left, right = grey[row, column - 1], grey[row, column + 1]
        above, below = grey[row - 1, column], grey[row + 1, column]
        xx, yy = left + right - 2 * value, above + below - 2 * value
        xy = (
            grey[row + 1, column + 1]
            + grey[row - 1, column - 1]
            - grey[row + 1, column - 1]
            - grey[row - 1, column + 1]
        ) / 4
        root = np.sqrt((xx - yy) * (xx - yy) / 4 + xy * xy)
        out[k] = (xx + yy) / 2 + root
        out[k + 1] = (xx + yy) / 2 - root
        # Slope across the site: one side of what lies in shadow is darker over a longer way.
        slope_x = slope_y = 0.0
        for dr in range(-3, 4):
            for dc in range(-3, 4):
                slope_x += dc * float(grey[row + dr, column + dc])
                slope_y += dr * float(grey[row + dr, column + dc])
        out[k + 2] = np.sqrt(slope_x * slope_x + slope_y * slope_y) / 196
        out[k + 3] = slope_x / 196
        out[k + 4] = slope_y / 196
        k += 5
        # The blob: connected pixels darker than half way from the minimum to the median around it.
        half = value + max((middle - value) / 2, np.float32(0.0))
        mask[:] = False
        mask[WINDOW_PX, WINDOW_PX] = True
        stack[0] = WINDOW_PX * side + WINDOW_PX
        filled, area = 1, 0
        first_row = last_row = first_column = last_column = WINDOW_PX
        blob_sum = 0.0
        while filled:
            filled -= 1
            r, c = stack[filled] // side, stack[filled] % side
            area += 1
            blob_sum += float(grey[row + r - WINDOW_PX, column + c - WINDOW_PX] - value)
            first_row, last_row = min(first_row, r), max(last_row, r)
            first_column, last_column = min(first_column, c), max(last_column, c)
            for step in range(4):
                nr = r + (step == 0) - (step == 1)
                nc = c + (step == 2) - (step == 3)
                if (
                    0 <= nr < side
                    and 0 <= nc < side
                    and not mask[nr, nc]
                    and grey[row + nr - WINDOW_PX, column + nc - WINDOW_PX] < half
                ):
                    mask[nr, nc] = True
                    stack[filled] = nr * side + nc
                    filled += 1
        out[k] = area
        out[k + 1] = last_column - first_column + 1
        out[k + 2] = last_row - first_row + 1
        out[k + 3] = blob_sum / area
        out[k + 4] = darker
        out[k + 5] = nearest
        boxes[i, 0] = column + first_column - WINDOW_PX
        boxes[i, 1] = row + first_row - WINDOW_PX
        boxes[i, 2] = last_column - first_column + 1
        boxes[i, 3] = last_row - first_row + 1
        k += 6
        for dr in range(-_PATCH, _PATCH + 1):
            for dc in range(-_PATCH, _PATCH + 1):
                if dr or dc:
                    out[k] = grey[row + dr, column + dc] - value
                    k += 1
