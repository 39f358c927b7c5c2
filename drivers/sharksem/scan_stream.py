"""Masks and points as a stream program: text that lists lines of pixels, scanned in that order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .column import fraction_of_field

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
