"""Where the pixels of each scan lie in the picture of the whole panorama."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sparse_actors.geometry import Panorama, PixelBox, Point, TileIndex
from sparse_actors.messages import Scan


@dataclass(frozen=True, slots=True)
class Mosaic:
    """The panorama as one picture on the pixel grid of one set of imaging parameters.

    Parameters
    ----------
    panorama
        Where the tiles lie.
    size_px
        (width, height) of a field of view on this grid. Tiles are placed to the nearest pixel.
    """

    panorama: Panorama
    size_px: tuple[int, int]

    @property
    def pixel_mm(self) -> Point:
        """(width, height) of a pixel."""
        width, height = self.panorama.tile_fov_mm
        return width / self.size_px[0], height / self.size_px[1]

    def origin_px(self, tile: TileIndex) -> tuple[int, int]:
        """Return the (column, row) of a tile's first pixel; (0, 0) for the first tile."""
        x0, y0 = self.panorama.centre_panorama_mm(TileIndex(0, 0))
        x, y = self.panorama.centre_panorama_mm(tile)
        return round((x - x0) / self.pixel_mm[0]), round((y - y0) / self.pixel_mm[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the picture."""
        left, top = self.origin_px(TileIndex(self.panorama.rows - 1, self.panorama.columns - 1))
        return top + self.size_px[1], left + self.size_px[0]

    def place(self, tile: TileIndex, box: PixelBox) -> PixelBox:
        """Return where a box of a tile lies in the picture."""
        return box.shifted(*self.origin_px(tile))

    def stage_mm(self, tile: TileIndex, x_px: float, y_px: float) -> Point:
        """Return the nominal stage position of a point of a tile, in pixels from its corner."""
        x, y = self.panorama.centre_panorama_mm(tile)
        dx = (x_px - self.size_px[0] / 2) * self.pixel_mm[0]
        dy = (y_px - self.size_px[1] / 2) * self.pixel_mm[1]
        return self.panorama.to_stage((x + dx, y + dy))

    def visible_parts(self, scans: Iterable[Scan]) -> list[tuple[Scan, list[tuple[PixelBox, PixelBox]]]]:
        """Cut what several scans show into parts that do not overlap; the first scan is on top.

        A virtual dataset needs this: where its sources overlap, HDF5 may leave pixels unfilled.

        Returns
        -------
        list of (scan, parts)
            Each part is a box of the picture and the same box from the corner of `scan.box`.
        """
        taken: dict[tuple[int, int], list[PixelBox]] = {}
        result = []
        for scan in scans:
            left, top = self.origin_px(scan.id.partition.tile)
            parts = []
            for area in scan.mask_boxes or (scan.box,):
                placed = area.shifted(left, top)
                cells = _cells(placed, self.size_px)
                near = dict.fromkeys(box for cell in cells for box in taken.get(cell, ()))
                for part in uncovered(placed, near):
                    parts.append((part, part.shifted(-left - scan.box.left, -top - scan.box.top)))
                    for cell in _cells(part, self.size_px):
                        taken.setdefault(cell, []).append(part)
            result.append((scan, parts))
        return result


def uncovered(box: PixelBox, covers: Iterable[PixelBox]) -> list[PixelBox]:
    """Return boxes that make up what of `box` no other box covers."""
    parts = [box]
    for cover in covers:
        parts = [left for part in parts for left in _without(part, cover)]
    return parts


def _without(box: PixelBox, cover: PixelBox) -> list[PixelBox]:
    common = box.intersection(cover)
    if common is None:
        return [box]
    parts = []
    if common.top > box.top:
        parts.append(PixelBox(box.left, box.top, box.width, common.top - box.top))
    if common.bottom < box.bottom:
        parts.append(PixelBox(box.left, common.bottom, box.width, box.bottom - common.bottom))
    if common.left > box.left:
        parts.append(PixelBox(box.left, common.top, common.left - box.left, common.height))
    if common.right < box.right:
        parts.append(PixelBox(common.right, common.top, box.right - common.right, common.height))
    return parts


def _cells(box: PixelBox, size_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the cells of a coarse grid that a box touches, to find neighbours quickly."""
    width, height = size_px
    columns = range(box.left // width, (box.right - 1) // width + 1)
    rows = range(box.top // height, (box.bottom - 1) // height + 1)
    return [(row, column) for row in rows for column in columns]
