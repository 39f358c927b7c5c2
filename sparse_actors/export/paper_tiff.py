"""The folder tree of the SPARSE paper (section 2.5.6): a folder for each tile, a TIFF for each scan.

    config.toml
    tile_00000/position.json
    tile_00000/0_0_1536_1536.tiff       x_y_width_height
    tile_00000/512_1024_128_128.tiff

Names are boxes on the grid of the analysis scan for fast scans too, so that each image finds its place
in the tile by its name alone; a fast scan has fewer pixels than its box.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparse_actors.geometry import PixelBox
from sparse_actors.messages import Scan
from sparse_actors.results.run import Run
from sparse_actors.results.tile import Tile

from .tiff_files import write_tiff


def write_paper_tree(run: Run, folder: Path) -> None:
    """Write the tree; masks are painted into their bounding box, 0 elsewhere."""
    folder.mkdir()
    (folder / "config.toml").write_text(run.record.sessions[-1].config_toml, encoding="utf-8")
    of_tile: dict[str, list[Scan]] = {}
    for scan_id in run.record.recorded:
        of_tile.setdefault(str(scan_id.partition.tile), []).append(run.record.scans[scan_id])
    for number, tile in enumerate(run.tiles.values()):
        inside = folder / f"tile_{number:05d}"
        inside.mkdir()
        position = _position(run, tile)
        position["images"] = [
            _write(run, scan, inside, position) for scan in sorted(of_tile.get(tile.name, ()), key=_order)
        ]
        position["images"] = [entry for entry in position["images"] if entry]
        text = json.dumps(position, indent=2)
        (inside / "position.json").write_text(text, encoding="utf-8")


def analysis_box(run: Run, scan: Scan) -> PixelBox:
    """Return the box of a scan on the grid of the analysis scan; to the nearest pixel for odd grids."""
    (width, height), (of_width, of_height) = run.record.analysis_px, scan.imaging.size_px
    left, right = (round(x * width / of_width) for x in (scan.box.left, scan.box.right))
    top, bottom = (round(y * height / of_height) for y in (scan.box.top, scan.box.bottom))
    return PixelBox(left, top, max(1, right - left), max(1, bottom - top))


def _order(scan: Scan) -> str:
    return str(scan.id)


def _position(run: Run, tile: Tile) -> dict[str, Any]:
    """Return what is said of a tile."""
    stage = tile.read_back_mm or tile.stage_mm
    field_mm = run.record.panorama.tile_fov_mm
    config = run.config
    return {
        "tile": tile.name,
        "row": tile.index.row,
        "column": tile.index.column,
        "stage_x_mm": stage[0],
        "stage_y_mm": stage[1],
        "planned_x_mm": tile.stage_mm[0],
        "planned_y_mm": tile.stage_mm[1],
        "scan_rotation_deg": run.record.panorama.rotation_deg,
        "view_field_um": [field_mm[0] * 1e3, field_mm[1] * 1e3],
        "grid_px": list(run.record.analysis_px),
        "working_distance_mm": tile.working_distance_mm,
        "brightness_pct": tile.brightness_pct,
        "contrast_pct": tile.contrast_pct,
        "beam_kev": config.get("eds", {}).get("beam_kev"),
        "beam_current_pa": config.get("microscope", {}).get("beam_current_pa"),
        "microscope": tile.metadata,
    }


def _write(run: Run, scan: Scan, folder: Path, position: dict[str, Any]) -> dict[str, Any]:
    """Write a scan and return what is said of it; nothing where it cannot be read."""
    image = run.scan_image(scan)
    if image is None:
        return {}
    box, recorded = analysis_box(run, scan), run.record.recorded[scan.id]
    path = folder / f"{box}.tiff"
    if path.exists():
        # A whole partition that was rescanned has the box of its fast scan.
        path = folder / f"{box}_{scan.id}.tiff"
    width_um, height_um = position["view_field_um"]
    pixel_um = width_um / scan.imaging.size_px[0], height_um / scan.imaging.size_px[1]
    about: dict[str, Any] = {
        "file": path.name,
        "scan": str(scan.id),
        "kind": "fast" if scan.id.is_fast else "analysis",
        "box_px": [box.left, box.top, box.width, box.height],
        "scan_box_px": [scan.box.left, scan.box.top, scan.box.width, scan.box.height],
        "scan_grid_px": list(scan.imaging.size_px),
        "pixel_um": list(pixel_um),
        "dwell_ns": recorded.dwell_ns,
        "started": datetime.fromtimestamp(recorded.started_s, UTC).isoformat(),
    }
    if scan.mask_boxes:
        about["mask_boxes_px"] = [[b.left, b.top, b.width, b.height] for b in scan.mask_boxes]
    write_tiff(path, image, pixel_um, {**about, **position})
    return about
