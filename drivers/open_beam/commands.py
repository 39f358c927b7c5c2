"""What the Open Beam Interface understands: bytes without framing, numbers big-endian.

Each command begins with one byte, its type in the high half and flags in the low one. As read in the
public sources of the interface and seen in a simulation of its gateware (docs/open_beam.md).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODES = 1 << 14
"""Positions that the converters tell apart along each axis."""
MAX_RUN = 1 << 16
"""Most pixels of one run, and most elements of one array."""
DWELL_UNIT_NS = 125.0
MIN_DWELL_FIELD, MAX_DWELL_FIELD = 2, 0xFFFF
"""A field d means d + 1 units. Below 2 raster and vector pixels differ, so nothing below is used."""
PIXEL_SHIFT = 2
"""A pixel of 14 bits stands in the high bits of its 16; 0xFFFF, which begins a reply, is none."""


class Command(IntEnum):
    """Types, in the high half of the first byte."""

    SYNCHRONIZE = 0
    ABORT = 1
    FLUSH = 2
    EXTERNAL_CONTROL = 3
    BEAM_SELECT = 4
    BLANK = 5
    DELAY = 6
    ARRAY = 8
    RASTER_REGION = 0xA
    RASTER_PIXEL = 0xB
    RASTER_PIXEL_RUN = 0xC
    RASTER_FREE_RUN = 0xD
    VECTOR_PIXEL = 0xE
    VECTOR_PIXEL_MIN_DWELL = 0xF


OUTPUTS = {"uint16": 0, "uint8": 1}
"""How pixels come back: whole, or their upper byte."""
ELECTRONS = 1
"""The beam to select."""


def head(command: Command, flags: int = 0) -> int:
    """Return the first byte of a command."""
    return command << 4 | flags


def synchronize(cookie: int, *, is_raster: bool, pixel_type: str) -> bytes:
    """Begin a scan: the answer is `reply_to(cookie)`, after everything that came before."""
    return struct.pack(">BH", head(Command.SYNCHRONIZE, is_raster | OUTPUTS[pixel_type] << 1), cookie)


def reply_to(cookie: int) -> bytes:
    """Return what answers `synchronize`."""
    return struct.pack(">HH", 0xFFFF, cookie)


def simple(command: Command, flags: int = 0) -> bytes:
    """Return a command that is one byte long: abort, flush, external control, beam, blank."""
    return bytes([head(command, flags)])


def raster_region(x: tuple[int, int, int], y: tuple[int, int, int]) -> bytes:
    """Say where the next raster pixels are; x and y are (first code, pixels, step in 1/256 of a code)."""
    return struct.pack(">B6H", head(Command.RASTER_REGION), *x, *y)


def raster_run(pixels: int, dwell_field: int) -> bytes:
    """Scan the next pixels of the region, up to `MAX_RUN`."""
    return struct.pack(">BHH", head(Command.RASTER_PIXEL_RUN), pixels - 1, dwell_field)


def vector_points(codes: NDArray[np.int64], dwell_fields: NDArray[np.int64]) -> bytes:
    """Scan points in their order.

    Parameters
    ----------
    codes
        (n, 2) of x, y, n up to `MAX_RUN`.
    dwell_fields
        (n,): each point has its own.
    """
    payload = np.column_stack([codes, dwell_fields]).astype(">u2").tobytes()
    return struct.pack(">BH", head(Command.ARRAY, Command.VECTOR_PIXEL), len(codes) - 1) + payload


def dwell_field(dwell_ns: float) -> int:
    """Return the field for the nearest dwell time that there is."""
    return min(max(round(dwell_ns / DWELL_UNIT_NS) - 1, MIN_DWELL_FIELD), MAX_DWELL_FIELD)


def dwell_ns_of(field: int) -> float:
    """Return the dwell time that a field means."""
    return (field + 1) * DWELL_UNIT_NS


def codes_of(points_px: NDArray[Any], window_px: tuple[int, int]) -> NDArray[np.int64]:
    """Return the codes (n, 2) of the centres of pixels (n, 2) of a grid.

    The grid is as wide as the converters reach, its pixels are square, and it lies in the middle.
    """
    width, height = window_px
    points = np.asarray(points_px, dtype=np.int64)
    x = (2 * points[:, 0] + 1) * CODES // (2 * width)
    y = (CODES * width + (2 * points[:, 1] + 1 - height) * CODES) // (2 * width)
    return np.column_stack([x, y])
