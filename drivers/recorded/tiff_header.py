"""What a TIFF says of its size, its scale and the place of the stage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

_UM = {"um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3}
NM_PER_UNIT = {"m": 1e9, "cm": 1e7, "mm": 1e6, **_UM, "nm": 1.0, "pm": 1e-3}
_TESCAN_TAG = 50431


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """Of the first image of a file."""

    shape: tuple[int, int]
    """(rows, columns)."""
    dtype: str
    pixel_nm: float | None
    stage_mm: tuple[float, float] | None
    """(x, y) of the middle of the image."""


def tiff_header(path: Path) -> TiffHeader:
    """Read it: the scale of OME, Zeiss, FEI, TESCAN, ImageJ or plain TIFF, the stage of the first four.

    Raises
    ------
    ValueError
        It is no TIFF, or not of one channel.
    """
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if len(page.shape) != 2:
                raise ValueError(f"it has {page.shape} values; expected grey levels (rows, columns)")
            said = _ome(file) or _zeiss(file) or _fei(file) or _tescan(page) or (None, None)
            pixel_nm = said[0] or _resolution(file, page)
            return TiffHeader(page.shape, str(page.dtype), pixel_nm, said[1])
    except (OSError, ValueError, KeyError, TypeError, tifffile.TiffFileError) as error:
        raise ValueError(f"{path} cannot be used: {type(error).__name__} {error}") from error


_Said = tuple[float | None, tuple[float, float] | None] | None


def _ome(file: Any) -> _Said:
    if not file.is_ome:
        return None
    image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    pixel_nm = None
    if "PhysicalSizeX" in pixels:
        pixel_nm = float(pixels["PhysicalSizeX"]) * NM_PER_UNIT[pixels.get("PhysicalSizeXUnit", "µm")]
    plane = pixels.get("Plane", {})
    plane = plane[0] if isinstance(plane, list) else plane
    if "PositionX" not in plane or "PositionY" not in plane:
        return pixel_nm, None
    x_nm, y_nm = (
        float(plane[f"Position{axis}"]) * NM_PER_UNIT[plane.get(f"Position{axis}Unit", "")] for axis in "XY"
    )
    return pixel_nm, (x_nm * 1e-6, y_nm * 1e-6)


def _zeiss(file: Any) -> _Said:
    said = file.sem_metadata
    if not said:
        return None
    _, size, unit = said["ap_image_pixel_size"]
    stage_nm = [said[f"ap_stage_at_{axis}"] for axis in "xy"]
    x_mm, y_mm = (value * NM_PER_UNIT[unit] * 1e-6 for _, value, unit in stage_nm)
    return size * NM_PER_UNIT[unit], (x_mm, y_mm)


def _fei(file: Any) -> _Said:
    said = file.fei_metadata
    if not said:
        return None
    stage = said.get("Stage", {})
    place = (stage["StageX"] * 1e3, stage["StageY"] * 1e3) if "StageX" in stage else None
    return said["Scan"]["PixelWidth"] * 1e9, place


def _tescan(page: Any) -> _Said:
    if _TESCAN_TAG not in page.tags:
        return None
    value = page.tags[_TESCAN_TAG].value
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    found = dict(re.findall(r"(PixelSizeX|StageX|StageY)\s*=\s*([-+.\deE]+)", text))
    if "PixelSizeX" not in found:
        return None
    place = (float(found["StageX"]) * 1e3, float(found["StageY"]) * 1e3) if "StageY" in found else None
    return float(found["PixelSizeX"]) * 1e9, place


def _resolution(file: Any, page: Any) -> float | None:
    """Return the size of a pixel by the tag of pixels per unit; None where these are dots per inch."""
    if "XResolution" not in page.tags:
        return None
    count, of = page.tags["XResolution"].value
    if not count:
        return None
    if file.is_imagej:
        unit = str((file.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
    else:
        unit = "cm" if page.tags["ResolutionUnit"].value == 3 else ""
    return of / count * NM_PER_UNIT[unit] if unit in NM_PER_UNIT else None
