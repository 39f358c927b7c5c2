"""The map of a run: the fast scans as one picture, and over it tiles, regions and sites as layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import JournalError
from sparse_actors.geometry import PixelBox, TileIndex, full_frame
from sparse_actors.planning.audit import AUDIT
from sparse_actors.recording.mosaic import Mosaic
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.tables import recorded_scans

from .pictures import GreyRange, jpeg, resized
from .sites import Sites

MOST_PX = 2000
"""Longer side of the picture."""
MOST_DRAWN = 30_000
"""Regions or sites of one layer; more would make the page slow."""
BAR_SHARE = 0.2
"""Longest scale bar, of the width of the map."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Boxes or points that can be shown or hidden."""

    key: str
    """Its class in the style sheet."""
    name: str
    count: int
    path: str
    left_out: int = 0
    """Not drawn, as there are too many."""


@dataclass(frozen=True, slots=True)
class PanoramaMap:
    """What the page draws; places in analysis pixels of the picture."""

    width_px: int
    height_px: int
    pixel_um: tuple[float, float]
    picture: str
    """Data URI; empty where nothing was scanned fast."""
    reduced: float
    """Analysis pixels in one of the picture."""
    layers: tuple[Layer, ...]
    bar_um: float
    to_stage: tuple[float, ...]
    """Stage x and y (mm) of the top left corner, and per pixel to the right and down."""
    columns_px: list[int]
    rows_px: list[int]
    """Where the columns and rows of tiles begin."""
    tile_px: tuple[int, int]
    damaged: tuple[str, ...]
    """Images that are not shown because they cannot be read."""

    @property
    def corners_mm(self) -> list[tuple[float, float]]:
        """Stage positions of top left, top right and bottom left."""
        x, y, right_x, right_y, down_x, down_y = self.to_stage
        w, h = self.width_px, self.height_px
        return [(x, y), (x + right_x * w, y + right_y * w), (x + down_x * h, y + down_y * h)]


def panorama_map(record: RunRecord, mosaic: Mosaic, sites: Sites) -> tuple[PanoramaMap, GreyRange]:
    """Compose the map; also returns the grey range that all images of the page share."""
    height, width = mosaic.shape
    picture, damaged = _picture(record, mosaic)
    greys = GreyRange.of(picture)
    x, y = mosaic.stage_mm(TileIndex(0, 0), 0, 0)
    right, down = mosaic.stage_mm(TileIndex(0, 0), 1, 0), mosaic.stage_mm(TileIndex(0, 0), 0, 1)
    panorama = mosaic.panorama
    pixel_um = (mosaic.pixel_mm[0] * 1e3, mosaic.pixel_mm[1] * 1e3)
    shown = PanoramaMap(
        width_px=width,
        height_px=height,
        pixel_um=pixel_um,
        picture=jpeg(greys.eight_bits(picture)) if picture.size else "",
        reduced=max(width, height) / max(*picture.shape, 1),
        layers=tuple(layer for layer in _layers(record, mosaic, sites) if layer.count),
        bar_um=round_length(BAR_SHARE * width * pixel_um[0]),
        to_stage=(x, y, right[0] - x, right[1] - y, down[0] - x, down[1] - y),
        columns_px=[mosaic.origin_px(TileIndex(0, column))[0] for column in range(panorama.columns)],
        rows_px=[mosaic.origin_px(TileIndex(row, 0))[1] for row in range(panorama.rows)],
        tile_px=mosaic.size_px,
        damaged=tuple(damaged),
    )
    return shown, greys


def round_length(most: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at most so long."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(f"{max(n * power for n in (1, 2, 5) if n * power <= most * 1.0001):.6g}")


def _picture(record: RunRecord, mosaic: Mosaic) -> tuple[NDArray[Any], list[str]]:
    """Return the fast scans side by side, reduced, and what could not be read; empty if there are none."""
    fast = [scan for scan in recorded_scans(record) if scan.id.is_fast][::-1]  # the first gets on top
    if not fast:
        return np.empty((0, 0), np.uint8), []
    coarse = Mosaic(mosaic.panorama, fast[0].imaging.size_px)
    rows, columns = coarse.shape
    factor = max(1.0, max(rows, columns) / MOST_PX)
    picture = None
    damaged = []
    for scan in fast:
        if scan.imaging != fast[0].imaging:
            continue  # pairs compare several settings; one picture shows one of them
        try:
            image = record.image(scan.id)
        except (JournalError, OSError) as error:
            damaged.append(f"scan {scan.id}: {error}")
            continue
        if picture is None:
            picture = np.zeros((int(rows / factor), int(columns / factor)), image.dtype)
        placed = coarse.place(scan.id.partition.tile, scan.box)
        left, top = int(placed.left / factor), int(placed.top / factor)
        right = min(picture.shape[1], max(left + 1, round(placed.right / factor)))
        bottom = min(picture.shape[0], max(top + 1, round(placed.bottom / factor)))
        picture[top:bottom, left:right] = resized(image, right - left, bottom - top)
    return (np.empty((0, 0), np.uint8) if picture is None else picture), damaged


def _layers(record: RunRecord, mosaic: Mosaic, sites: Sites) -> Iterator[Layer]:
    frame = full_frame(mosaic.size_px)
    tiles: dict[str, list[PixelBox]] = {"finished": [], "unfinished": [], "skipped": [], "untouched": []}
    mapped = {field.tile for field, mapped in record.maps.mapped.items() if mapped.is_complete}
    finished = record.finished_tiles | mapped
    for tile in mosaic.panorama.tiles("rows"):
        state = "unfinished" if tile in record.tiles else "untouched"
        state = "skipped" if tile in record.skipped_tiles else "finished" if tile in finished else state
        tiles[state].append(mosaic.place(tile, frame))
    for state, name in (
        ("finished", "finished tiles"),
        ("unfinished", "tiles not finished"),
        ("skipped", "tiles skipped"),
        ("untouched", "tiles not begun"),
    ):
        yield _boxes(f"tile-{state}", name, tiles[state])
    kinds: dict[str, list[PixelBox]] = {"rescanned": [], "audit": [], "proposed": [], "missing": []}
    for partition, planned in record.regions.items():
        kind = {"": "rescanned", AUDIT: "audit"}.get(planned.source, "proposed")
        # Pairs have whole fast scans of several settings among them, on grids of their own.
        for scan in (scan for scan in planned.scans if scan.imaging.size_px == mosaic.size_px):
            is_done = scan.id in record.recorded
            parts = scan.mask_boxes or (scan.box,)
            kinds[kind if is_done else "missing"] += [mosaic.place(partition.tile, part) for part in parts]
    yield _boxes("rescanned", "rescanned regions", kinds["rescanned"])
    yield _boxes("proposed", "regions that somebody proposed", kinds["proposed"])
    yield _boxes("audit", "random windows of the audit", kinds["audit"])
    yield _boxes("missing", "regions without an image", kinds["missing"])
    left_out = [
        mosaic.place(p.tile, box) for p, planned in record.regions.items() for box in planned.left_out
    ]
    yield _boxes("left-out", "left out for the dose", left_out)
    points = sites.picture_px[:MOST_DRAWN].round().astype(int).tolist()
    path = "".join(f"M{x} {y}h0" for x, y in points)
    yield Layer("sites", "sites found", len(sites), path, len(sites) - len(points))


def _boxes(key: str, name: str, boxes: Iterable[PixelBox]) -> Layer:
    every = list(boxes)
    drawn = every[:MOST_DRAWN]
    path = "".join(f"M{b.left} {b.top}h{b.width}v{b.height}h-{b.width}z" for b in drawn)
    return Layer(key, name, len(every), path, len(every) - len(drawn))
