"""Where things are: stage millimetres, tiles of the panorama, pixels of a field of view.

Frames
------
stage
    Millimetres. At scan rotation 0, image x (columns) grows with stage x and image y (rows,
    downwards) grows with stage y; a driver turns its instrument's axes so that this holds.
panorama
    Millimetres from the first corner, along the two sides of the panorama.
fov
    Pixels of one field of view, origin at its top left corner; boxes are half-open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

TileOrder = Literal["serpentine", "rows"]


@dataclass(frozen=True, slots=True, order=True)
class TileIndex:
    """A field of view within the panorama."""

    row: int
    column: int

    def __str__(self) -> str:
        return f"r{self.row:03d}c{self.column:03d}"


@dataclass(frozen=True, slots=True, order=True)
class PartitionId:
    """An equal part of a tile, the unit in which scanning and detecting overlap."""

    tile: TileIndex
    index: int

    def __str__(self) -> str:
        return f"{self.tile}p{self.index}"


@dataclass(frozen=True, slots=True, order=True)
class PixelBox:
    """A half-open rectangle in pixels: columns left..left+width, rows top..top+height."""

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a box needs at least one pixel, got {self.width} x {self.height}")

    def __str__(self) -> str:
        return f"{self.left}_{self.top}_{self.width}_{self.height}"

    @property
    def right(self) -> int:
        """First column after the box."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """First row after the box."""
        return self.top + self.height

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box in an array (rows, columns)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def shifted(self, columns: int, rows: int) -> PixelBox:
        """Return the box moved by whole pixels."""
        return PixelBox(self.left + columns, self.top + rows, self.width, self.height)

    def scaled(self, factor: int) -> PixelBox:
        """Return the same box on a grid `factor` times finer."""
        return PixelBox(self.left * factor, self.top * factor, self.width * factor, self.height * factor)

    def union(self, other: PixelBox) -> PixelBox:
        """Return the bounding box of both."""
        left, top = min(self.left, other.left), min(self.top, other.top)
        right, bottom = max(self.right, other.right), max(self.bottom, other.bottom)
        return PixelBox(left, top, right - left, bottom - top)

    def intersection(self, other: PixelBox) -> PixelBox | None:
        """Return the common part, or None when there is none."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        if right <= left or bottom <= top:
            return None
        return PixelBox(left, top, right - left, bottom - top)

    def contains(self, other: PixelBox) -> bool:
        """Whether every pixel of `other` lies in this box."""
        return self.union(other) == self


def full_frame(size_px: tuple[int, int]) -> PixelBox:
    """Return the box of a whole field of view of (width, height) pixels."""
    return PixelBox(0, 0, *size_px)


def bounding_box(boxes: Iterable[PixelBox]) -> PixelBox:
    """Return the smallest box around one or more boxes."""
    iterator = iter(boxes)
    result = next(iterator)
    for box in iterator:
        result = result.union(box)
    return result


def partition_boxes(size_px: tuple[int, int], count: int) -> tuple[PixelBox, ...]:
    """Cut a field of view into `count` parts, row by row.

    Parameters
    ----------
    size_px
        (width, height) of the field of view.
    count
        A square number, or 2: then the cut is horizontal, which adds no scan lines.

    Raises
    ------
    ValueError
        For another count, or when a part would be empty.
    """
    side = math.isqrt(count)
    if count == 2:
        rows, columns = 2, 1
    elif count >= 1 and side * side == count:
        rows = columns = side
    else:
        raise ValueError(f"partitions = {count}: expected 2 or a square number such as 1, 4, 9, 16")
    width, height = size_px
    if rows > height or columns > width:
        raise ValueError(f"partitions = {count}: more than {width} x {height} pixels allow")
    xs = [width * i // columns for i in range(columns + 1)]
    ys = [height * i // rows for i in range(rows + 1)]
    return tuple(
        PixelBox(xs[c], ys[r], xs[c + 1] - xs[c], ys[r + 1] - ys[r])
        for r in range(rows)
        for c in range(columns)
    )


Point = tuple[float, float]
GAP = 0.01
"""Corners set by hand may leave this much between tiles that do not overlap, as a share of the field."""
ROUNDING = 1e-4
"""Of corners, in fields of view: 1.02 - 1.0 is a little more than 0.02."""


@dataclass(frozen=True, slots=True)
class Panorama:
    """A rectangular area of the specimen, at any rotation, covered by tiles.

    Parameters
    ----------
    corners_mm
        Top left, top right and bottom left corner of the area, stage (x, y).
    tile_fov_mm
        (width, height) of a field of view.
    overlap
        Least overlap of neighbouring tiles, as a fraction of the field of view. The tiles are
        spread evenly, so that the outermost end where the area ends.
    """

    corners_mm: tuple[Point, Point, Point]
    tile_fov_mm: tuple[float, float]
    overlap: float = 0.0
    grid: tuple[int, int] | None = None
    """(rows, columns) of tiles; None: as many as the overlap needs."""

    def __post_init__(self) -> None:
        (x0, y0), (x1, y1), (x2, y2) = self.corners_mm
        ux, uy, vx, vy = x1 - x0, y1 - y0, x2 - x0, y2 - y0
        width, height = math.hypot(ux, uy), math.hypot(vx, vy)
        if not (width > 0 and height > 0):
            raise ValueError("the three corners must be three different points")
        sine = (ux * vy - uy * vx) / (width * height)
        if sine < 0:
            raise ValueError(
                "the corners are mirrored: give top left, top right, bottom left as seen in the image"
            )
        if sine < math.cos(math.radians(2)):
            raise ValueError("the sides from the first corner must be at right angles, within 2 degrees")
        if not 0 <= self.overlap < 0.9:
            raise ValueError(f"overlap {self.overlap} must be at least 0 and below 0.9")
        for axis, name in enumerate(("columns", "rows")):
            count, side, fov = self._count(axis), self.size_mm[axis], self.tile_fov_mm[axis]
            if side > fov * (count + GAP * (count - 1) + ROUNDING):
                raise ValueError(
                    f"{count} {name} of {fov * 1e3:g} um leave gaps on a side of {side * 1e3:g} um"
                )

    @property
    def size_mm(self) -> tuple[float, float]:
        """(width, height) of the area."""
        (x0, y0), (x1, y1), (x2, y2) = self.corners_mm
        return math.hypot(x1 - x0, y1 - y0), math.hypot(x2 - x0, y2 - y0)

    @property
    def rotation_deg(self) -> float:
        """Angle of the top side against stage x, counter-clockwise from +x to +y."""
        (x0, y0), (x1, y1), _ = self.corners_mm
        return math.degrees(math.atan2(y1 - y0, x1 - x0))

    @property
    def columns(self) -> int:
        """Number of tiles in a row."""
        return self._count(0)

    @property
    def rows(self) -> int:
        """Number of rows of tiles."""
        return self._count(1)

    def _count(self, axis: int) -> int:
        side, fov = self.size_mm[axis], self.tile_fov_mm[axis]
        if self.grid is not None:
            return self.grid[1 - axis]
        # A side that is a whole number of pitches must not gain a tile by rounding.
        return max(1, math.ceil((side - fov) / (fov * (1 - self.overlap)) - ROUNDING) + 1)

    def centre_panorama_mm(self, tile: TileIndex) -> Point:
        """Return the centre of a tile in the panorama frame (mm)."""
        centre = []
        for axis, (index, count) in enumerate(((tile.column, self.columns), (tile.row, self.rows))):
            side, fov = self.size_mm[axis], self.tile_fov_mm[axis]
            centre.append(side / 2 if count == 1 else fov / 2 + index * (side - fov) / (count - 1))
        return centre[0], centre[1]

    def plane(self, values: tuple[float, float, float], tile: TileIndex) -> float:
        """Interpolate a quantity set at the three corners at the centre of a tile."""
        x, y = self.centre_panorama_mm(tile)
        width, height = self.size_mm
        at_origin, at_right, at_bottom = values
        return at_origin + (at_right - at_origin) * x / width + (at_bottom - at_origin) * y / height

    def to_stage(self, point_mm: Point) -> Point:
        """Turn a point of the panorama frame (mm) into stage coordinates (mm)."""
        (x0, y0), (x1, y1), (x2, y2) = self.corners_mm
        a, b = point_mm[0] / self.size_mm[0], point_mm[1] / self.size_mm[1]
        return x0 + a * (x1 - x0) + b * (x2 - x0), y0 + a * (y1 - y0) + b * (y2 - y0)

    def centre_mm(self, tile: TileIndex) -> Point:
        """Return the stage position (mm) that puts a tile in the field of view."""
        return self.to_stage(self.centre_panorama_mm(tile))

    def tiles(self, order: TileOrder) -> Iterator[TileIndex]:
        """Yield every tile in the order of the stage's travel."""
        for row in range(self.rows):
            columns = range(self.columns)
            turn = order == "serpentine" and row % 2 == 1
            for column in reversed(columns) if turn else columns:
                yield TileIndex(row, column)
