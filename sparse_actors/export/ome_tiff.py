"""The panoramas as one pyramidal OME-TIFF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from sparse_actors.results.picture import Picture
from sparse_actors.results.run import Run

from .pictures import pictures_of
from .tiff_files import CLASSIC_BYTES, STRIP_ROWS, resolution

TILE_PX = STRIP_ROWS
SMALLEST_PX = 1024
"""Levels are added until one is not larger."""

Strips = Iterator[NDArray[Any]]


def halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the means of squares of 2 x 2 pixels; an odd row or column at the end is left out."""
    rows, columns = (n // 2 for n in pixels.shape)
    squares = pixels[: rows * 2, : columns * 2].reshape(rows, 2, columns, 2)
    means: NDArray[Any] = squares.mean(axis=(1, 3), dtype=np.float32).round().astype(pixels.dtype)
    return means


def level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the shapes of a pyramid, the full picture first, each level half as large."""
    shapes = [shape]
    while max(shapes[-1]) > SMALLEST_PX and min(shapes[-1]) > 1:
        shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
    return shapes


def write_ome_tiff(run: Run, path: Path) -> None:
    """Write the fast panorama and, on its own grid, that of the rescans; a strip in memory at a time."""
    pictures = pictures_of(run)
    is_big = sum(picture.nbytes for picture in pictures) * 4 / 3 > CLASSIC_BYTES
    with tifffile.TiffWriter(path, ome=True, bigtiff=is_big) as file:
        for picture in pictures:
            _write_pyramid(file, picture, run, path.with_name("level"))


def _write_pyramid(file: Any, picture: Picture, run: Run, scratch: Path) -> None:
    """Write the levels; each leaves the strips of the next in a file that is removed after it."""
    shapes = level_shapes(picture.shape)
    width_um, height_um = picture.pixel_um
    about = {
        "axes": "YX",
        "Name": f"{run.name}, {picture.name}",
        "PhysicalSizeX": width_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": height_um,
        "PhysicalSizeYUnit": "µm",
        "AcquisitionDate": run.started.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    strips: Strips = (pixels for _, pixels in picture.blocks(STRIP_ROWS, picture.shape[1]))
    for level, shape in enumerate(shapes):
        current, following = (scratch.with_name(f"level{n}") for n in (level, level + 1))
        if level:
            strips = _strips_in(current, shape, picture.dtype)
        has_more = level + 1 < len(shapes)
        with following.open("wb") as kept:
            file.write(
                _tiles(strips, kept.write if has_more else None),
                shape=shape,
                dtype=picture.dtype,
                tile=(TILE_PX, TILE_PX),
                compression="zlib",
                compressionargs={"level": 1},
                photometric="minisblack",
                subifds=len(shapes) - 1 if level == 0 else None,
                subfiletype=1 if level else 0,
                metadata=about if level == 0 else None,
                **resolution((width_um * 2**level, height_um * 2**level)),
            )
        current.unlink(missing_ok=True)
        if not has_more:
            following.unlink()


def _tiles(strips: Strips, keep: Callable[[bytes], Any] | None) -> Iterator[NDArray[Any]]:
    """Cut strips into tiles, filled up with 0 at the ends; the strips, halved, are kept."""
    for strip in strips:
        if keep is not None:
            keep(halved(strip).tobytes())
        for left in range(0, strip.shape[1], TILE_PX):
            part = strip[:, left : left + TILE_PX]
            tile = np.zeros((TILE_PX, TILE_PX), strip.dtype)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _strips_in(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> Strips:
    with path.open("rb") as file:
        for top in range(0, shape[0], STRIP_ROWS):
            rows = min(STRIP_ROWS, shape[0] - top)
            yield np.fromfile(file, dtype, rows * shape[1]).reshape(rows, shape[1])
