"""One large picture of HyperSpy or OME-Zarr, read in blocks."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sparse_actors.contracts.microscope import Image

from .recording import Patch, Recording
from .tiff_header import NM_PER_UNIT

BLOCK_PX = 2048
_UNITS = {**NM_PER_UNIT, "nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9}


def read_hspy(path: Path, image: str) -> Recording:
    """Read the picture in a file `.hspy`.

    Parameters
    ----------
    path
        Of the file.
    image
        Title of the signal; empty where there is one picture only.

    Raises
    ------
    ValueError
        It is no such file, or has no picture or several.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            signals = file["Experiments"]
            pictures = {name: signals[name] for name in signals if signals[name]["data"].ndim == 2}
            name = _chosen(path, image, list(pictures))
            # Not by name: some files number their axes from 0, some give them other names.
            row = pictures[name]["axis-0"].attrs
            scale_nm = _size_nm(float(row["scale"]), str(row["units"]))
            rows, columns = pictures[name]["data"].shape
    except (OSError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a file of HyperSpy with a picture: {error}") from error
    return Recording(_blocks(path, rows, columns, partial(_read_hspy, path, name)), scale_nm)


def read_ome_zarr(path: Path, image: str) -> Recording:
    """Read the picture in a folder of OME-Zarr, its finest level.

    Parameters
    ----------
    path
        Of the folder.
    image
        Name of the group of the picture; empty where there is one only.

    Raises
    ------
    ValueError
        It is no such folder, has no picture or several, or the package zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise ValueError(f"{path}: OME-Zarr needs zarr: pip install sparse-actors[zarr]") from error
    try:
        root = zarr.open_group(path, mode="r")
        pictures = {name: group for name, group in root.groups() if _multiscales(group)}
        group = root if _multiscales(root) else pictures[_chosen(path, image, list(pictures))]
        scales = _multiscales(group)[0]
        axes, finest = scales["axes"], scales["datasets"][0]
        array: Any = group[finest["path"]]
        if array.ndim < 2 or any(size != 1 for size in array.shape[:-2]):
            raise ValueError(f"it has {array.shape} values; expected (rows, columns)")
        scale = next(t["scale"] for t in finest["coordinateTransformations"] if t["type"] == "scale")
        scale_nm = _size_nm(float(scale[-1]), str(axes[-1].get("unit", "")))
    except (OSError, KeyError, TypeError, ValueError, json.JSONDecodeError, StopIteration) as error:
        raise ValueError(f"{path} is not OME-Zarr with a picture: {error}") from error
    rows, columns = array.shape[-2:]
    return Recording(_blocks(path, rows, columns, partial(_read_array, array)), scale_nm)


def _multiscales(group: Any) -> Any:
    return group.attrs.get("multiscales") or group.attrs.get("ome", {}).get("multiscales")


def _chosen(path: Path, image: str, names: list[str]) -> str:
    if image in names:
        return image
    if not image and len(names) == 1:
        return names[0]
    raise ValueError(
        f"{path} holds {len(names)} pictures ({', '.join(names) or 'none'}); "
        f"expected the name of one of them in image, got {image!r}"
    )


def _size_nm(scale: float, unit: str) -> float | None:
    return scale * _UNITS[unit] if unit in _UNITS else None


def _blocks(path: Path, rows: int, columns: int, read: Any) -> tuple[Patch, ...]:
    patches = []
    for top in range(0, rows, BLOCK_PX):
        for left in range(0, columns, BLOCK_PX):
            width, height = min(BLOCK_PX, columns - left), min(BLOCK_PX, rows - top)
            patches.append(Patch(left, top, width, height, path, partial(read, left, top, width, height)))
    return tuple(patches)


def _read_hspy(path: Path, name: str, left: int, top: int, width: int, height: int) -> Image:
    with h5py.File(path, "r", locking=False) as file:
        return np.asarray(file["Experiments"][name]["data"][top : top + height, left : left + width])


def _read_array(array: Any, left: int, top: int, width: int, height: int) -> Image:
    index = (0,) * (array.ndim - 2)
    return np.asarray(array[(*index, slice(top, top + height), slice(left, left + width))])
