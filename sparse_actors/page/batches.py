"""What a browser is sent: everything that it has not seen, in one binary message.

A message is the length of its header (4 bytes, big-endian), the header (JSON) and then blocks of bytes,
of which the header tells kind and length. docs/page.md describes it.
"""

from __future__ import annotations

import struct
import time
from typing import Any, TypeVar

import msgspec

from sparse_actors.cli.progress import Figures
from sparse_actors.config import Config
from sparse_actors.dose import scan_dose_e_per_nm2
from sparse_actors.geometry import PartitionId, TileIndex, full_frame
from sparse_actors.imaging import Imaging, dose_e_per_nm2
from sparse_actors.messages import Scan, ScanId

from .pictures import Pictures
from .tiles import STATES, TileView
from .view import RunView, Unseen

TILES = 500
"""Most tiles in one message: the first of a large run come soon."""
FIELDS = 500
"""Most small maps in one message."""
PICTURES = 100
"""Most small images of tiles in one message."""
PICTURES_S = 0.05
"""Longest that they are read for it."""

T = TypeVar("T")
Blocks = list[tuple[list[Any], bytes]]


def packed(header: dict[str, Any], blocks: Blocks) -> bytes:
    """Return a message; `header["blocks"]` gets the description and length of each block."""
    header["blocks"] = [[*described, len(block)] for described, block in blocks]
    content = msgspec.json.encode(header)
    return b"".join([struct.pack(">I", len(content)), content, *(block for _, block in blocks)])


def batch(view: RunView, unseen: Unseen, pictures: Pictures | None) -> bytes | None:
    """Return what a browser has not seen, and count it as seen; None if there is nothing. Holds the lock."""
    header: dict[str, Any] = {}
    blocks: Blocks = []
    with view.lock:
        run = f"{view.folder} {view.begun_s}"
        if unseen.run != run:
            unseen.run = run
            header["layout"] = layout(view)
        columns = view.panorama.columns if view.panorama else 1
        if unseen.tiles:
            header["tiles"] = [
                {"i": tile.row * columns + tile.column, **_tile(view.tiles[tile], unseen)}
                for tile in _some(unseen.tiles, TILES)
            ]
        if view.events and view.events[-1][0] > unseen.since:
            header["events"] = [event for event in view.events if event[0] > unseen.since]
            unseen.since = view.events[-1][0]
        for field_id in _some(unseen.fields, FIELDS):
            field, small = view.maps.small(field_id)
            box = (field.box.left, field.box.top, field.box.width, field.box.height)
            blocks.append((["field", str(field_id), box, field.grid_px, small.shape[::-1]], small.tobytes()))
        if unseen.map_version != view.maps.version:
            unseen.map_version = view.maps.version
            header["map"], arrays = view.maps.to_browser()
            blocks += [
                ([kind], block) for kind, block in zip(("measured", "phases", "erd"), arrays, strict=False)
            ]
        # What is told comes first, then the pictures of it.
        wanted = [view.tiles[t] for t in _some(unseen.pictures, PICTURES if not header else 0)]
    end_s = time.monotonic() + PICTURES_S
    for tile in wanted:
        if time.monotonic() > end_s:
            unseen.pictures.add(tile.index)
            continue
        if pictures is not None and (image := pictures.small(tile)) is not None:
            number = tile.index.row * columns + tile.index.column
            blocks.append((["tile", number, image.shape[::-1]], image.tobytes()))
    return packed(header, blocks) if header or blocks else None


def _some(waiting: set[T], most: int) -> list[T]:
    return [waiting.pop() for _ in range(min(most, len(waiting)))]


def _tile(tile: TileView, unseen: Unseen) -> dict[str, Any]:
    shown = tile.progress()
    if tile.index in unseen.findings:
        unseen.findings.discard(tile.index)
        shown |= tile.findings()
    return shown


def layout(view: RunView) -> dict[str, Any]:
    """Return where the tiles of a run lie, and what does not change."""
    panorama, config = view.panorama, view.config
    if panorama is None or config is None:
        return {"name": ""}
    first, last = (
        panorama.centre_panorama_mm(tile)
        for tile in (TileIndex(0, 0), TileIndex(panorama.rows - 1, panorama.columns - 1))
    )
    counts = (panorama.columns, panorama.rows)
    return {
        "name": view.name,
        "folder": str(view.folder),
        "sample": config.sample.name,
        "columns": panorama.columns,
        "rows": panorama.rows,
        "first": first,
        "step": [(b - a) / max(1, n - 1) for a, b, n in zip(first, last, counts, strict=True)],
        "fov": panorama.tile_fov_mm,
        "size": config.analysis.size_px,
        "corners": panorama.corners_mm,
        "area": panorama.size_mm,
        "region": config.regions.size_px,
        "states": STATES,
        "hasSurvey": config.eds is None or config.eds.where == "regions",
        "hasMaps": config.eds is not None,
        "hasAudit": config.audit is not None,
        "dose": _dose(config),
    }


def _dose(config: Config) -> dict[str, float | None]:
    """Return what scans and a spectrum leave on a pixel or point, and the limit, electrons per nm^2."""
    current_pa = config.microscope.beam_current_pa
    field_nm = config.panorama.tile_fov_um * 1e3

    def of(imaging: Imaging) -> float | None:
        if current_pa is None:
            return None
        scan = Scan(ScanId(PartitionId(TileIndex(0, 0), 0)), full_frame(imaging.size_px), imaging)
        return scan_dose_e_per_nm2(scan, field_nm, current_pa)

    spectrum = None
    if config.eds is not None and current_pa is not None:
        pitch_nm = field_nm / config.eds.grid_px[0]
        spectrum = dose_e_per_nm2(current_pa, config.eds.live_time_ms * 1e6, pitch_nm)
    return {
        "spectrum": spectrum,
        "fast": of(config.fast),
        "analysis": of(config.analysis),
        "limit": config.limits.max_dose_e_per_nm2,
    }


def run_block(view: RunView, state: str, waits_for: str, may_order: bool) -> dict[str, Any]:
    """Return the figures of the header and the panels. Holds the lock."""
    with view.lock:
        figures = view.progress.figures() if view.progress is not None else None
        tiles = view.tiles.values()
        return {
            "state": state,
            "reason": view.reason,
            "waitsFor": waits_for,
            "begun": view.begun_s,
            "mayOrder": may_order,
            "workers": view.workers,
            "backlog": sum(tile.undetected_parts for tile in tiles if not tile.is_finished),
            "found": sum(tile.pois_found for tile in tiles),
            "beam": None if view.beam is None else [str(view.beam[0]), *_numbers(view.beam[1]), view.beam[2]],
            "figures": None if figures is None else {**figures.to_json(), "share": _share(figures)},
        }


def _numbers(box: Any) -> list[int]:
    return [box.left, box.top, box.width, box.height]


def _share(figures: Figures) -> float | None:
    """Return the part of the run's time that is over; without an ETA the part of its tiles."""
    spent_s = figures.scan_s + figures.stage_s + sum(figures.idle_s.values())
    spent_s += figures.maps.spectra_s if figures.maps else 0.0
    if figures.eta_s is not None and spent_s + figures.eta_s > 0:
        return spent_s / (spent_s + max(0.0, figures.eta_s))
    return figures.tiles_done / figures.tiles_total if figures.tiles_total else None
