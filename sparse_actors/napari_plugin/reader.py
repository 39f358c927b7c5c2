"""Layers of napari for a run: panoramas, regions, candidate sites and phase maps, in micrometres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.recording.mosaic import Mosaic
from sparse_actors.results.picture import Picture
from sparse_actors.results.run import Run

Layer = tuple[Any, dict[str, Any], str]
COARSEST_PX = 2048
STEP = 4
"""Each level of a pyramid is so many times coarser than the one above."""


def get_reader(path: str | list[str]) -> Callable[[str], list[Layer]] | None:
    """Return what reads `run.nxs`; None for other files.

    Parameters
    ----------
    path
        Of the file; several together are refused.
    """
    if isinstance(path, str) and Path(path).suffix == ".nxs" and (Path(path).parent / "journal").exists():
        return layers
    return None


def layers(path: str) -> list[Layer]:
    """Return the layers of the run that a file `run.nxs` belongs to; pixels are read when they are shown.

    Raises
    ------
    JournalError
        The journal beside the file is damaged.
    """
    run = Run.open(Path(path).parent)
    pictures = [picture for picture in (run.panorama_fast, run.panorama_analysis) if picture is not None]
    found: list[Layer] = [_image(picture) for picture in pictures]
    found += [_phases(run, name) for name in run.maps]
    if pictures:
        found += [_regions(run), _sites(run)]
    return found


class Level:
    """A picture with coarser pixels, read as numpy arrays are; what comes is computed of what is shown.

    Parameters
    ----------
    picture
        In full resolution.
    factor
        How many of its pixels make one here, along each side.
    """

    ndim = 2

    def __init__(self, picture: Picture, factor: int) -> None:
        self.picture, self.factor, self.dtype = picture, factor, picture.dtype
        self.shape = picture.shape[0] // factor, picture.shape[1] // factor
        self.size = self.shape[0] * self.shape[1]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        index = key if isinstance(key, tuple) else (key,)
        rows, columns = (range(n)[i] for n, i in zip(self.shape, (*index, slice(None))[:2], strict=True))
        if not (len(rows) and len(columns)):
            return np.zeros((len(rows), len(columns)), self.dtype)
        factor, width = self.factor, len(columns)
        strips = []
        for row in rows:
            # One strip of pixels at a time: all that is shown may be larger than the memory.
            box = PixelBox(columns[0] * factor, row * factor, width * factor, factor)
            squares = self.picture.read(box).reshape(factor, width, factor)
            strips.append(squares.mean(axis=(0, 2)).round().astype(self.dtype))
        return np.stack(strips)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        pixels = self[:, :]
        return pixels if dtype is None else pixels.astype(dtype)


def _image(picture: Picture) -> Layer:
    levels: list[Any] = [picture]
    while max(levels[-1].shape) > COARSEST_PX and min(levels[-1].shape) >= STEP:
        levels.append(Level(picture, STEP ** len(levels)))
    if len(levels) > 1:
        # The coarsest is always shown, in the corner too, and is needed at once.
        levels[-1] = picture.reduced(STEP ** (len(levels) - 1))
    top = np.iinfo(picture.dtype).max
    about = {"multiscale": len(levels) > 1, "contrast_limits": (0, int(top)), "colormap": "gray"}
    return (
        levels if len(levels) > 1 else picture,
        {**about, **_place(picture.name, *_scale(picture))},
        "image",
    )


def _scale(picture: Picture) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (height, width) of a pixel and (y, x) of the first one's middle, um."""
    return picture.pixel_um[::-1], (float(picture.coords["y"][0]), float(picture.coords["x"][0]))


def _place(name: str, scale_um: tuple[float, float], first_um: tuple[float, float]) -> dict[str, Any]:
    return {"name": name, "scale": scale_um, "translate": first_um, "units": ("um", "um")}


def _phases(run: Run, name: str) -> Layer:
    shown = run.maps[name]
    mosaic = Mosaic(run.record.panorama, shown.grid_px)
    left, top = mosaic.origin_px(shown.field.id.tile)
    first_um = tuple((edge + 0.5) * shown.pitch_um for edge in (top + shown.box.top, left + shown.box.left))
    place = _place(f"phases {name}", (shown.pitch_um, shown.pitch_um), (first_um[0], first_um[1]))
    return shown.labels, {**place, "metadata": {"phases": shown.phases}}, "labels"


def _regions(run: Run) -> Layer:
    """Return the outlines of what was rescanned, (n, 4 corners, y and x) in um."""
    corners = []
    for region in run.regions:
        if region.status == "recorded":
            mosaic = Mosaic(run.record.panorama, region.scan.imaging.size_px)
            box = mosaic.place(region.scan.id.partition.tile, region.box)
            ys, xs = (box.top, box.bottom), (box.left, box.right)
            across_um, down_um = region.pixel_um
            outline = [(ys[0], xs[0]), (ys[0], xs[1]), (ys[1], xs[1]), (ys[1], xs[0])]
            corners.append([(y * down_um, x * across_um) for y, x in outline])
    about = {
        "shape_type": "rectangle",
        "edge_color": "orange",
        "face_color": "transparent",
        "edge_width": 0.2,
    }
    return np.array(corners).reshape(-1, 4, 2), {**about, "name": "regions", "units": ("um", "um")}, "shapes"


def _sites(run: Run) -> Layer:
    """Return the candidates, (n, y and x) in um."""
    mosaic = Mosaic(run.record.panorama, run.record.analysis_px)
    width_um, height_um = (size * 1e3 for size in mosaic.pixel_mm)
    origins = {str(tile): mosaic.origin_px(tile) for tile in _tiles(run)}
    sites = run.sites
    rows = [
        ((origins[tile][1] + y) * height_um, (origins[tile][0] + x) * width_um)
        for tile, x, y in zip(sites["tile"], sites["x_px"], sites["y_px"], strict=True)
    ]
    about = {"name": "sites", "size": 1.0, "face_color": "transparent", "border_color": "cyan"}
    return np.array(rows).reshape(-1, 2), {**about, "units": ("um", "um")}, "points"


def _tiles(run: Run) -> set[TileIndex]:
    return {partition.tile for partition in run.record.pois}
