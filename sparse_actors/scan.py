"""What is exposed: one scan of a box or a mask, or single points of a field; and their names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .geometry import PartitionId, PixelBox, TileIndex
from .imaging import Imaging


@dataclass(frozen=True, slots=True, order=True)
class ScanId:
    """Names one exposure: the fast scan of a partition, or one of its regions."""

    partition: PartitionId
    region: int | None = None

    def __str__(self) -> str:
        return str(self.partition) if self.region is None else f"{self.partition}r{self.region:04d}"

    @property
    def is_fast(self) -> bool:
        """Whether this is the fast scan of the partition."""
        return self.region is None


@dataclass(frozen=True, slots=True)
class Scan:
    """One exposure: a box, or within it the union of some boxes (a mask)."""

    id: ScanId
    box: PixelBox
    """On the grid `imaging.size_px`."""
    imaging: Imaging
    mask_boxes: tuple[PixelBox, ...] = ()
    """Empty: all of `box`. Else only their union is scanned, `box` is their bounding box."""
    is_point_stream: bool = False
    """Whether a mask goes to the microscope pixel by pixel: the beam jumps, and no line costs a flyback."""

    def mask(self) -> NDArray[np.bool_]:
        """Return which pixels of `box` are scanned, (rows, columns)."""
        if not self.mask_boxes:
            return np.ones((self.box.height, self.box.width), dtype=np.bool_)
        mask = np.zeros((self.box.height, self.box.width), dtype=np.bool_)
        for part in self.mask_boxes:
            mask[part.shifted(-self.box.left, -self.box.top).slices] = True
        return mask

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the acquired array: (rows, columns), or (n,) values of a mask in row-major order."""
        if self.mask_boxes:
            return (int(self.mask().sum()),)
        return self.box.height, self.box.width

    @property
    def pixels(self) -> int:
        """Number of pixels exposed."""
        return int(np.prod(self.shape))

    @property
    def rows(self) -> int:
        """Number of scan lines that end with a flyback."""
        if self.is_point_stream:
            return 0
        return int(self.mask().any(axis=1).sum()) if self.mask_boxes else self.box.height


NOT_KNOWN = -1
"""The label of a point of a field that is not measured."""


@dataclass(frozen=True, slots=True, order=True)
class FieldId:
    """Names a field of a tile in which a map is made."""

    tile: TileIndex
    index: int

    def __str__(self) -> str:
        return f"{self.tile}m{self.index:04d}"


@dataclass(frozen=True, slots=True)
class MapField:
    """A rectangle of a tile in which spectra are taken at single points."""

    id: FieldId
    box: PixelBox
    """On the grid `grid_px`."""
    grid_px: tuple[int, int]
    """(width, height): the points of a map that would fill the whole field of view."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the map."""
        return self.box.height, self.box.width
