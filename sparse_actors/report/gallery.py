"""Sites one beside the other, by size: what the fast scan saw, and what the rescan shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import JournalError
from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import Scan, ScanId
from sparse_actors.recording.mosaic import Mosaic
from sparse_actors.recording.run_record import RunRecord

from .pictures import GreyRange, jpeg, resized
from .sites import Sites

LARGEST, OTHERS = 16, 32
"""So many sites are shown: the largest, and of the rest some, evenly by size."""
AROUND = 3.0
"""Side of what is shown, in sides of the site's box."""
SIDES_PX = (48, 512)
"""Least and largest side of what is shown, analysis pixels."""
SHOWN_PX = 128
"""Side of an image in the page."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One site."""

    tile: str
    stage_mm: tuple[float, float]
    size_um: float
    width_um: float
    """Of what the images show."""
    fast: str
    rescan: str
    """Data URIs."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Sites by falling size."""

    shown: tuple[Shown, ...]
    with_rescan: int
    """Sites that lie in a recorded rescan."""


def gallery(record: RunRecord, mosaic: Mosaic, sites: Sites, greys: GreyRange) -> Gallery:
    """Choose sites with a rescan and cut out what was seen of them; what cannot be read is left out."""
    rescans = _rescans_of(record, sites)
    there = np.flatnonzero([scan is not None for scan in rescans])
    order = there[np.argsort(-sites.size_um[there], kind="stable")]
    rest = order[LARGEST:]
    some = np.unique(np.linspace(0, len(rest) - 1, min(OTHERS, len(rest))).round().astype(int))
    chosen = [*order[:LARGEST].tolist(), *rest[some].tolist()]
    pictures = _Pictures(record, greys)
    shown = {}
    for number in sorted(chosen, key=lambda number: sites.tiles[number]):
        if (scan := rescans[number]) is not None:
            try:
                shown[number] = _shown(pictures, mosaic, sites, number, scan)
            except (JournalError, OSError):
                continue  # `verify` tells which
    return Gallery(tuple(shown[n] for n in chosen if n in shown), len(there))


def _rescans_of(record: RunRecord, sites: Sites) -> list[Scan | None]:
    """Return for each site the recorded rescan in which it lies deepest."""
    by_tile: defaultdict[TileIndex, list[Scan]] = defaultdict(list)
    for planned in record.regions.values():
        for scan in planned.scans:
            if scan.id in record.recorded:
                by_tile[scan.id.partition.tile].append(scan)
    edges = {
        tile: np.array([(s.box.left, s.box.top, s.box.right, s.box.bottom) for s in scans])
        for tile, scans in by_tile.items()
    }
    found: list[Scan | None] = []
    for tile, (x, y) in zip(sites.tiles, sites.xy_px.tolist(), strict=True):
        if tile not in edges:
            found.append(None)
            continue
        left, top, right, bottom = edges[tile].T
        depth = np.minimum.reduce([x - left, y - top, right - x, bottom - y])
        best = int(depth.argmax())
        found.append(by_tile[tile][best] if depth[best] >= 0 else None)
    return found


class _Pictures:
    """Recorded images as they are shown; those of one tile are kept, as its sites come in turn."""

    def __init__(self, record: RunRecord, greys: GreyRange) -> None:
        self._record = record
        self._greys = greys
        self._kept: dict[ScanId, NDArray[Any]] = {}
        self._fast: defaultdict[TileIndex, list[Scan]] = defaultdict(list)
        for scan_id in record.recorded:
            if scan_id.is_fast:
                self._fast[scan_id.partition.tile].append(record.scans[scan_id])

    def of(self, scan: Scan, box: PixelBox) -> NDArray[np.uint8]:
        """Return a box of the tile as far as a scan shows it, on the grid of the scan; black elsewhere."""
        picture = np.zeros((box.height, box.width), np.uint8)
        self._paint(picture, scan, box)
        return picture

    def fast(self, tile: TileIndex, box: PixelBox, grid_px: tuple[int, int]) -> NDArray[np.uint8]:
        """Return a box on the analysis grid as the fast scans of a tile show it."""
        scans = self._fast[tile]
        scale = grid_px[0] // scans[0].imaging.size_px[0] if scans else 1
        left, top = box.left // scale, box.top // scale
        right, bottom = -(-box.right // scale), -(-box.bottom // scale)
        coarse = PixelBox(left, top, right - left, bottom - top)
        picture = np.zeros((coarse.height, coarse.width), np.uint8)
        for scan in scans:
            self._paint(picture, scan, coarse)
        whole = resized(picture, coarse.width * scale, coarse.height * scale)
        y, x = box.top - top * scale, box.left - left * scale
        return np.ascontiguousarray(whole[y : y + box.height, x : x + box.width])

    def _paint(self, picture: NDArray[np.uint8], scan: Scan, box: PixelBox) -> None:
        common = scan.box.intersection(box)
        if common is not None:
            image = self._image(scan)[common.shifted(-scan.box.left, -scan.box.top).slices]
            picture[common.shifted(-box.left, -box.top).slices] = self._greys.eight_bits(image)

    def _image(self, scan: Scan) -> NDArray[Any]:
        if scan.id not in self._kept:
            tile = scan.id.partition.tile
            self._kept = {
                scan_id: one for scan_id, one in self._kept.items() if scan_id.partition.tile == tile
            }
            self._kept[scan.id] = self._read(scan)
        return self._kept[scan.id]

    def _read(self, scan: Scan) -> NDArray[Any]:
        values = self._record.image(scan.id)
        if not scan.mask_boxes:
            return values
        mask = scan.mask()
        picture = np.zeros(mask.shape, values.dtype)
        picture[mask] = values
        return picture


def _shown(pictures: _Pictures, mosaic: Mosaic, sites: Sites, number: int, scan: Scan) -> Shown:
    tile, (x, y) = sites.tiles[number], sites.xy_px[number].tolist()
    side = int(np.clip(AROUND * sites.box_px[number].max(), *SIDES_PX))
    box = PixelBox(max(0, round(x - side / 2)), max(0, round(y - side / 2)), side, side)
    box = box.intersection(scan.box) or scan.box
    images = list(_scaled(pictures.fast(tile, box, mosaic.size_px), pictures.of(scan, box)))
    return Shown(
        tile=str(tile),
        stage_mm=mosaic.stage_mm(tile, x, y),
        size_um=float(sites.size_um[number]),
        width_um=box.width * sites.pixel_um[0],
        fast=images[0],
        rescan=images[1],
    )


def _scaled(*images: NDArray[np.uint8]) -> Iterator[str]:
    for image in images:
        factor = SHOWN_PX / max(image.shape)
        size = round(image.shape[1] * factor), round(image.shape[0] * factor)
        yield jpeg(resized(image, *size) if factor < 1 else image, 90)
