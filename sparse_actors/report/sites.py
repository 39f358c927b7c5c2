"""The sites that a survey found: each once, with its place, its size, and the area in which was looked."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.recording.mosaic import Mosaic
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.tables import recorded_scans


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """Sites in the picture of the panorama on the analysis grid, and where was looked for them."""

    tiles: list[TileIndex]
    """In which each was found."""
    xy_px: NDArray[np.float64]
    """(n, 2): x, y in the tile, analysis pixels."""
    picture_px: NDArray[np.float64]
    """(n, 2): x, y in the picture."""
    box_px: NDArray[np.int64]
    """(n, 2): width and height of what was found; 1 where the detector tells points only."""
    pixel_um: tuple[float, float]
    """(width, height) of an analysis pixel."""
    searched_px: NDArray[np.float64]
    """(m, 4): boxes of the picture that were scanned fast; they do not overlap."""
    seen_twice: int
    """Sites left out: they lie where tiles overlap, and count in the other tile."""

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def size_um(self) -> NDArray[np.float64]:
        """(n,): square root of the area of the box around each."""
        width, height = self.pixel_um
        area_um2: NDArray[np.float64] = self.box_px[:, 0] * width * (self.box_px[:, 1] * height)
        return np.sqrt(area_um2)

    @property
    def has_sizes(self) -> bool:
        """Whether the detector told more than points."""
        return bool((self.box_px > 1).any())

    @property
    def searched_um2(self) -> float:
        """Area in which was looked."""
        return float((self.searched_px[:, 2] * self.searched_px[:, 3]).sum()) * np.prod(self.pixel_um).item()


def found_sites(record: RunRecord, mosaic: Mosaic) -> Sites:
    """Return the sites of a run.

    Where tiles overlap, what lies there is found once in each. It counts in the tile that is on top in the
    picture, as in `Mosaic.visible_parts`.
    """
    coarse, scale = _grid(record, mosaic)
    searched = _searched(record, coarse)
    last_px = np.array(mosaic.size_px) - 1e-6
    tiles: list[TileIndex] = []
    xy, boxes, seen_twice = [np.empty((0, 2))], [np.empty((0, 2), np.int64)], 0
    picture = [np.empty((0, 2))]
    for partition in sorted(record.pois):
        pois, tile = record.pois[partition].pois, partition.tile
        placed = pois.xy_px + np.array(mosaic.origin_px(tile))
        own = np.zeros(len(pois), np.bool_)
        x, y = (np.minimum(pois.xy_px, last_px) / scale + np.array(coarse.origin_px(tile))).T
        for part in searched.get(tile, ()):
            own |= (x >= part.left) & (x < part.right) & (y >= part.top) & (y < part.bottom)
        tiles += [tile] * int(own.sum())
        xy.append(pois.xy_px[own])
        picture.append(placed[own])
        boxes.append(pois.boxes_px[own, 2:])
        seen_twice += int((~own).sum())
    width_mm, height_mm = mosaic.pixel_mm
    areas = [(p.left, p.top, p.width, p.height) for parts in searched.values() for p in parts]
    return Sites(
        tiles=tiles,
        xy_px=np.concatenate(xy),
        picture_px=np.concatenate(picture),
        box_px=np.concatenate(boxes),
        pixel_um=(width_mm * 1e3, height_mm * 1e3),
        searched_px=np.array(areas, np.float64).reshape(-1, 4) * scale,
        seen_twice=seen_twice,
    )


def _grid(record: RunRecord, mosaic: Mosaic) -> tuple[Mosaic, int]:
    """Return the picture on the grid of the fast scans, and the analysis pixels in one of theirs."""
    size_px = tuple(record.config["scan"]["fast"]["size_px"])
    return Mosaic(mosaic.panorama, size_px), mosaic.size_px[0] // size_px[0]


def _searched(record: RunRecord, coarse: Mosaic) -> dict[TileIndex, list[PixelBox]]:
    """Return what each tile shows of the picture, by its recorded fast scans; fast pixels."""
    fast = [scan for scan in recorded_scans(record) if scan.id.is_fast]
    found: defaultdict[TileIndex, list[PixelBox]] = defaultdict(list)
    for scan, parts in coarse.visible_parts(fast):
        found[scan.id.partition.tile] += [place for place, _ in parts]
    return found
