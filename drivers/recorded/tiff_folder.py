"""A folder of TIFFs that say themselves where the stage was."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .recording import Patch, Recording, decode
from .tiff_header import tiff_header


def read_tiff_folder(folder: Path, mirror_stage: str) -> Recording:
    """Read where the images lie, by the stage coordinates that OME, Zeiss, FEI or TESCAN TIFFs hold.

    Parameters
    ----------
    folder
        Of the images.
    mirror_stage
        "x", "y" or "xy": axes of the stage that grow against the image's columns and rows.

    Raises
    ------
    ValueError
        An image does not say where the stage was, or they differ in pixel size.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".tif", ".tiff"))
    headers = [tiff_header(path) for path in files]
    silent = [path.name for path, h in zip(files, headers, strict=True) if not (h.stage_mm and h.pixel_nm)]
    if silent or not files:
        raise ValueError(
            f"{folder}: {len(silent)} of {len(files)} TIFFs do not say where the stage was and how large a "
            f"pixel is (first: {silent[0] if silent else 'there are none'}); expected OME-TIFF with "
            "PositionX and PhysicalSizeX, or TIFFs of Zeiss, FEI or TESCAN; or beside them a list of places: "
            "TileConfiguration.txt, global positions of MIST, or layout.csv"
        )
    sizes_nm = [header.pixel_nm or 0.0 for header in headers]
    pixel_nm = sizes_nm[0]
    if max(sizes_nm) > min(sizes_nm) * 1.001:
        raise ValueError(
            f"{folder}: pixels of {min(sizes_nm):g} to {max(sizes_nm):g} nm; expected one size in all images"
        )
    patches = []
    for path, header in zip(files, headers, strict=True):
        (rows, columns), (x_mm, y_mm) = header.shape, header.stage_mm or (0.0, 0.0)
        x_px = round(x_mm * 1e6 / pixel_nm) * (-1 if "x" in mirror_stage else 1)
        y_px = round(y_mm * 1e6 / pixel_nm) * (-1 if "y" in mirror_stage else 1)
        left, top = x_px - columns // 2, y_px - rows // 2
        patches.append(Patch(left, top, columns, rows, path, partial(decode, path)))
    return Recording(tuple(patches), pixel_nm)
