"""The points of a field as pixel numbers and back, and which of them are told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

FREE, PENDING, TOLD = 0, 1, 2
"""The status of a pixel."""
TWICE = -1
"""Returned instead of a count."""


@compiled
def points_of(pixels: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    """Return the points (n, 2), x and y, of pixels numbered in reading order."""
    points = np.empty((len(pixels), 2), np.int64)
    for i in range(len(pixels)):
        points[i, 1] = pixels[i] // columns
        points[i, 0] = pixels[i] - points[i, 1] * columns
    return points


@compiled
def pixels_of(points: NDArray[np.int64], rows: int, columns: int) -> tuple[NDArray[np.int64], bool]:
    """Return the pixels of points (n, 2), and whether all of them lie in the field."""
    pixels = np.empty(len(points), np.int64)
    for i in range(len(points)):
        x, y = points[i, 0], points[i, 1]
        if not (0 <= x < columns and 0 <= y < rows):
            return pixels, False
        pixels[i] = y * columns + x
    return pixels, True


@compiled
def mark_told(pixels: NDArray[np.int64], status: NDArray[np.uint8]) -> tuple[int, int]:
    """Mark different pixels as told; return how many of them were pending and how many not told before.

    Nothing is marked and (TWICE, TWICE) returned if a pixel appears twice.
    """
    if len(np.unique(pixels)) < len(pixels):
        return TWICE, TWICE
    pending, new = 0, 0
    for pixel in pixels:
        pending += int(status[pixel] == PENDING)
        new += int(status[pixel] != TOLD)
        status[pixel] = TOLD
    return pending, new
