"""The folder tree of the SPARSE paper, as `export --to paper-tiff` writes it.

Each folder `tile_...` holds images named `x_y_width_height.tiff`, boxes in the tile on the grid of the
analysis scan, and one JSON file with the place of the tile. An image with fewer pixels than its box was
scanned on a coarser grid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import tifffile

from sparse_actors.contracts.microscope import Image

from .recording import Patch, Recording, decode

_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_(\d+)(_\w+)?\.tiff?")
_POSITIONS = (("planned_x_mm", "planned_y_mm"), ("stage_x_mm", "stage_y_mm"), ("x_mm", "y_mm"))

ROTATION_DEG = 0.01
"""Less does not show in a tile."""


def read_paper_tree(folder: Path, pixel_nm: float) -> Recording:
    """Read where the images lie, without their pixels.

    Parameters
    ----------
    folder
        Of the tree.
    pixel_nm
        Of the analysis scan, for trees that do not tell `view_field_um` and `grid_px`.

    Raises
    ------
    ValueError
        A tile has no place, or there are no images.
    """
    patches: list[Patch] = []
    sizes_nm = set()
    for tile in sorted(path for path in folder.glob("tile_*") if path.is_dir()):
        position = _position(tile)
        if abs(turned_deg := float(position.get("scan_rotation_deg", 0.0))) > ROTATION_DEG:
            raise ValueError(
                f"{tile} was scanned at a rotation of {turned_deg:g} degrees; expected 0: the stage of a "
                "replay goes along the rows and columns of the images"
            )
        own_nm = pixel_nm
        if "view_field_um" in position and "grid_px" in position:
            own_nm = float(position["view_field_um"][0]) * 1e3 / int(position["grid_px"][0])
        sizes_nm.add(own_nm)
        patches += _images(tile, position, own_nm)
    if not patches:
        raise ValueError(f"{folder}: expected folders tile_... with images x_y_width_height.tiff, found none")
    if max(sizes_nm) > min(sizes_nm) * (1 + 1e-6):
        raise ValueError(f"{folder}: pixels of {min(sizes_nm):g} to {max(sizes_nm):g} nm; expected one size")
    return Recording(tuple(patches), sizes_nm.pop())


def _position(tile: Path) -> dict[str, Any]:
    """Read the JSON file of a tile, with its middle as `x_mm`, `y_mm`."""
    files = sorted(tile.glob("*.json"))
    if len(files) != 1:
        raise ValueError(f"{tile}: expected one JSON file with the place of the tile, found {len(files)}")
    try:
        found: dict[str, Any] = json.loads(files[0].read_text(encoding="utf-8"))
        for x, y in _POSITIONS:
            if x in found and y in found:
                return {**found, "x_mm": float(found[x]), "y_mm": float(found[y])}
        keys = ", ".join(found) or "nothing"
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{files[0]} cannot be read: {error}") from error
    wanted = " or ".join(f"{x}, {y}" for x, y in _POSITIONS)
    raise ValueError(f"{files[0]} holds {keys}; expected the middle of the tile as {wanted}")


def _images(tile: Path, position: dict[str, Any], pixel_nm: float) -> Iterator[Patch]:
    """Yield the images of a tile; of a mask, each of its boxes."""
    centre = round(position["x_mm"] * 1e6 / pixel_nm), round(position["y_mm"] * 1e6 / pixel_nm)
    files = [(path, match) for path in sorted(tile.iterdir()) if (match := _NAME.fullmatch(path.name))]
    boxes = {path: [int(number) for number in match.groups()[:4]] for path, match in files}
    grid = position.get("grid_px") or [
        max((x + w for x, _, w, _ in boxes.values()), default=0),
        max((y + h for _, y, _, h in boxes.values()), default=0),
    ]
    known = {entry["file"]: entry for entry in position.get("images", ())}
    for path, (x, y, width, height) in boxes.items():
        entry = known.get(path.name, {})
        columns, rows = entry["scan_box_px"][2:] if "scan_box_px" in entry else _size_px(path)
        pitch = width // columns if columns else 0
        if (columns * pitch, rows * pitch) != (width, height) or pitch < 1:
            raise ValueError(
                f"{path} holds {columns} x {rows} pixels, its name says {width} x {height}; expected "
                "these or a whole part of them"
            )
        # The middle of an odd field of view lies half a pixel before that of the stage, as in a scan.
        left, top = centre[0] - grid[0] // 2 + x, centre[1] - grid[1] // 2 + y
        for part in entry.get("mask_boxes_px") or [[x // pitch, y // pitch, columns, rows]]:
            part_x, part_y = part[0] * pitch - x, part[1] * pitch - y
            yield Patch(
                left=left + part_x,
                top=top + part_y,
                width=part[2] * pitch,
                height=part[3] * pitch,
                file=path,
                read=partial(_part, path, part_x // pitch, part_y // pitch, part[2], part[3]),
                pitch=pitch,
                field_centre=centre,
            )


def _size_px(path: Path) -> tuple[int, int]:
    try:
        with tifffile.TiffFile(path) as file:
            rows, columns = file.pages.first.shape
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise ValueError(f"{path} is not an image of one channel: {error}") from error
    return columns, rows


def _part(path: Path, x: int, y: int, width: int, height: int) -> Image:
    return decode(path)[y : y + height, x : x + width]
