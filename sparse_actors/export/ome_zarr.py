"""The panoramas as OME-Zarr (OME-NGFF 0.4, on Zarr 2: what most programs read)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_actors.errors import ExportError
from sparse_actors.results.picture import Picture
from sparse_actors.results.run import Run

from .ome_tiff import halved, level_shapes
from .pictures import pictures_of

CHUNK_PX = 512


def write_ome_zarr(run: Run, path: Path) -> None:
    """Write each panorama as an image of its own, "fast_scans" and "analysis_scans", with its pyramid.

    Raises
    ------
    ExportError
        The package zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise ExportError("ome-zarr needs the package zarr: pip install sparse-actors[zarr]") from error
    pictures = pictures_of(run)
    root = zarr.open_group(path, mode="w-", zarr_format=2)
    for picture in pictures:
        image = root.create_group(picture.name.replace(" ", "_"))
        image.attrs.update(_metadata(picture, run.name))
        _write_pyramid(image, picture)


def _write_pyramid(image: Any, picture: Picture) -> None:
    above = None
    for level, shape in enumerate(level_shapes(picture.shape)):
        array = image.create_array(
            str(level),
            shape=shape,
            chunks=(min(CHUNK_PX, shape[0]), min(CHUNK_PX, shape[1])),
            dtype=picture.dtype,
            chunk_key_encoding={"name": "v2", "separator": "/"},
            fill_value=0,
        )
        if above is None:
            for box, pixels in picture.blocks(CHUNK_PX, shape[1]):
                array[box.slices] = pixels
        else:
            for top in range(0, shape[0], CHUNK_PX):
                rows = min(CHUNK_PX, shape[0] - top)
                array[top : top + rows] = halved(above[top * 2 : (top + rows) * 2])[:, : shape[1]]
        above = array


def _metadata(picture: Picture, name: str) -> dict[str, Any]:
    """Return the multiscales of https://ngff.openmicroscopy.org/0.4, y before x, in micrometres."""
    (width_um, height_um), (x_um, y_um) = picture.pixel_um, picture.origin_um
    datasets = []
    for level in range(len(level_shapes(picture.shape))):
        factor = 2**level
        # A pixel's place is that of its middle, which moves when pixels are joined.
        shift = [y_um + (factor - 1) / 2 * height_um, x_um + (factor - 1) / 2 * width_um]
        transformations: list[dict[str, Any]] = [
            {"type": "scale", "scale": [height_um * factor, width_um * factor]},
            {"type": "translation", "translation": shift},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in ("y", "x")]
    return {
        "multiscales": [
            {"version": "0.4", "name": f"{name}, {picture.name}", "axes": axes, "datasets": datasets}
        ]
    }
