"""The fast tiles with the places where they lie, for programs that stitch."""

from __future__ import annotations

from pathlib import Path

from sparse_actors.errors import ExportError
from sparse_actors.results.run import Run

from .tiff_files import write_imagej


def write_tile_configuration(run: Run, folder: Path) -> None:
    """Write `TileConfiguration.txt` of Fiji's Stitching plugin and of BigStitcher, px of the fast scan.

    The names have the row and the column, as MIST asks for: ``tile_r{rrr}_c{ccc}.tif``.
    """
    lines = [f"{name}; ; ({x}.0, {y}.0)" for name, x, y in _tiles(run, folder)]
    text = "# Define the number of dimensions we are working on\ndim = 2\n\n# Define the image coordinates\n"
    (folder / "TileConfiguration.txt").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


def write_trakem2(run: Run, folder: Path) -> None:
    """Write `trakem2.txt` for TrakEM2's "Import from text file": name, x and y in px, layer; by tabs."""
    lines = [f"{name}\t{x}\t{y}\t0" for name, x, y in _tiles(run, folder)]
    (folder / "trakem2.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _tiles(run: Run, folder: Path) -> list[tuple[str, int, int]]:
    """Write each fast tile; returns the file's name and the place of its first pixel, px."""
    folder.mkdir()
    found = []
    for tile in run.tiles.values():
        if tile.fast is None:
            continue
        name = f"tile_r{tile.index.row:03d}_c{tile.index.column:03d}.tif"
        write_imagej(folder / name, tile.fast)
        places = zip(tile.fast.origin_um, tile.fast.pixel_um, strict=True)
        x, y = (round(origin / size) for origin, size in places)
        found.append((name, x, y))
    if not found:
        raise ExportError(f"{run.path}: there are no fast images to stitch")
    return found
