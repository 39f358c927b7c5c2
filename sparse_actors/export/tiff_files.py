"""Single images as TIFF, with their scale."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray

from sparse_actors.errors import ExportError
from sparse_actors.results.picture import Picture

STRIP_ROWS = 512
"""Rows in memory at a time."""
CLASSIC_BYTES = 3 << 30
"""What still fits into a TIFF with offsets of 32 bits, descriptions included."""
MOST_IMAGEJ_PX = 2**31 - 1
"""ImageJ numbers the pixels of an image with 31 bits."""


def resolution(pixel_um: tuple[float, float]) -> dict[str, Any]:
    """Return the pixels per centimetre, for `tifffile`: what most programs take the scale from."""
    return {"resolution": (1e4 / pixel_um[0], 1e4 / pixel_um[1]), "resolutionunit": "CENTIMETER"}


def write_tiff(
    path: Path, image: NDArray[Any], pixel_um: tuple[float, float], header: Mapping[str, Any]
) -> None:
    """Write an image (rows, columns), with a JSON object in its ImageDescription.

    Parameters
    ----------
    path
        Of the file.
    image
        Grey levels.
    pixel_um
        (width, height) of a pixel.
    header
        The object; units stand at the end of its keys.
    """
    tifffile.imwrite(
        path,
        image,
        description=json.dumps(header, ensure_ascii=True),
        metadata=None,
        photometric="minisblack",
        compression="zlib",
        software="sparse-actors",
        **resolution(pixel_um),
    )


def write_imagej(path: Path, picture: Picture) -> None:
    """Write a picture strip by strip, uncompressed, as ImageJ and Fiji open it: in um.

    Raises
    ------
    ExportError
        It has more pixels than ImageJ takes.
    """
    rows, columns = picture.shape
    if rows * columns > MOST_IMAGEJ_PX:
        raise ExportError(
            f"{picture.name}: {rows} x {columns} pixels are more than the {MOST_IMAGEJ_PX} that ImageJ "
            "takes; export to ome-tiff instead, which Fiji opens in parts"
        )
    tifffile.imwrite(
        path,
        _strips(picture),
        shape=picture.shape,
        dtype=picture.dtype,
        imagej=True,
        rowsperstrip=STRIP_ROWS,
        # ImageJ counts pixels per its own unit, here um.
        resolution=(1 / picture.pixel_um[0], 1 / picture.pixel_um[1]),
        # Its own word for um, which other readers of its files know too.
        metadata={"unit": "micron", "axes": "YX", "Labels": [picture.name]},
    )


def _strips(picture: Picture) -> Iterator[NDArray[Any]]:
    for _, pixels in picture.blocks(STRIP_ROWS, picture.shape[1]):
        yield pixels
