"""Masks and points as a stream program: text that lists lines of pixels, scanned in that order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import CapabilityError

STREAM_SINCE = (3, 1, 16)


def program_of(runs: NDArray[np.int64], dwell_ns: int, window_px: tuple[int, int]) -> str:
    """Return the program that scans runs of pixels, one after the other.

    Parameters
    ----------
    runs
        (n, 3): first column, row and length of each, in pixels.
    dwell_ns
        Time on each pixel.
    window_px
        (width, height) of the grid, which must be square.

    Raises
    ------
    CapabilityError
        The grid is not square, or a run leaves it.
    """
    lines = ["[HEADER]", 'TescanStreamFileVersion="1.0"', "[BODY]", "UNBLANK()"]
    for column, row, length in runs.tolist():
        x1, y = fraction_of_field(column, row, window_px)
        x2, _ = fraction_of_field(column + length - 1, row, window_px)
        lines.append(f"LINE({x1:.9f},{y:.9f},{x2:.9f},{y:.9f},{length},{dwell_ns})")
    return "\n".join([*lines, "BLANK()"]) + "\n"


def fraction_of_field(x_px: float, y_px: float, window_px: tuple[int, int]) -> tuple[float, float]:
    """Return the centre of a pixel as fractions 0..1 of the view field.

    Raises
    ------
    CapabilityError
        The pixel lies outside, or the grid is not square: the protocol leaves open what a fraction
        of the height is then.
    """
    width, height = window_px
    if width != height:
        raise CapabilityError(
            f"single points on a grid of {width} x {height}: SharkSEM names them as fractions of the view "
            "field, which is defined for square grids only"
        )
    if not (0 <= x_px < width and 0 <= y_px < height):
        raise CapabilityError(f"point ({x_px}, {y_px}) lies outside the grid {width} x {height}")
    return (x_px + 0.5) / width, (y_px + 0.5) / height
