"""The highest pixel of a map that changes in places: maxima of square tiles, and of rows of tiles.

Of equal pixels the first in reading order is the highest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

TILE_PX = 16


class Peaks(NamedTuple):
    """Where the highest pixels are."""

    heights: NDArray[np.float32]
    """(pixels,): the map, in reading order."""
    tile: NDArray[np.int32]
    """(tile rows, tile columns): the highest pixel of each tile; -1: to be looked for."""
    row: NDArray[np.int32]
    """(tile rows,): the highest pixel of each row of tiles; -1: to be looked for."""
    shape: tuple[int, int]
    """(rows, columns) of the map."""


def peaks_of(heights: NDArray[np.float32], shape: tuple[int, int]) -> Peaks:
    """Return the peaks of a map; what is written to the map goes through `put` from then on."""
    tiles = [-(-side // TILE_PX) for side in shape]
    return Peaks(heights, np.full(tiles, -1, np.int32), np.full(tiles[0], -1, np.int32), shape)


@compiled
def put(
    heights: NDArray[np.float32],
    tile: NDArray[np.int32],
    row: NDArray[np.int32],
    columns: int,
    pixel: int,
    height: float,
) -> None:
    """Set the height of a pixel of a map with so many columns."""
    before, after = heights[pixel], np.float32(height)
    if before == after:
        return
    heights[pixel] = after
    y = pixel // columns
    r, c = y // TILE_PX, (pixel - y * columns) // TILE_PX
    top = tile[r, c]
    if pixel == top:
        if after < before:
            tile[r, c] = -1
        row[r] = -1
    elif top >= 0 and _is_higher(heights, pixel, top):
        tile[r, c] = pixel
        row[r] = -1


@compiled
def highest(peaks: Peaks) -> int:
    """Return the highest pixel of all."""
    heights, tile, row, shape = peaks
    best = -1
    for r in range(len(row)):
        if row[r] < 0:
            for c in range(tile.shape[1]):
                if tile[r, c] < 0:
                    tile[r, c] = _highest_of_tile(heights, shape, r, c)
                if row[r] < 0 or _is_higher(heights, tile[r, c], row[r]):
                    row[r] = tile[r, c]
        if best < 0 or _is_higher(heights, row[r], best):
            best = row[r]
    return best


@compiled
def _is_higher(heights: NDArray[np.float32], a: int, b: int) -> bool:
    return heights[a] > heights[b] or (heights[a] == heights[b] and a < b)


@compiled
def _highest_of_tile(heights: NDArray[np.float32], shape: tuple[int, int], r: int, c: int) -> int:
    rows, columns = shape
    left, right = c * TILE_PX, min((c + 1) * TILE_PX, columns)
    top = r * TILE_PX * columns + left
    for y in range(r * TILE_PX, min((r + 1) * TILE_PX, rows)):
        for pixel in range(y * columns + left, y * columns + right):
            if heights[pixel] > heights[top]:
                top = pixel
    return top
