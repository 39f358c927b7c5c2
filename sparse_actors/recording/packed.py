"""Packed files: the images of a run, chunked and compressed, for the time after the acquisition.

``data/fast.h5`` holds all fast images as one stack ``real`` [tile, row, column]; ``data/regions.h5``
one dataset for each rescan, in a group for each tile. Scans of a mask are painted into their bounding
box, 0 where nothing was scanned. Both are written under another name, read back against the checksums
of the journal, and only then get their name: a packed file that exists is whole. Compression is gzip
level 1 with shuffle, the one filter that every HDF5 reader has.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import h5py
import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import JournalError
from sparse_actors.geometry import TileIndex
from sparse_actors.messages import Scan

from . import disk
from .hdf5_file import written
from .run_folder import RunFolder
from .slabs import DAMAGE, PIXELS, dataset_names, describe, mask_table, pixel_bytes

CHUNK_PX = 512
MOST_PER_PIXEL_BYTE, MOST_PER_IMAGE_BYTES = 1.01, 8192
"""What packing takes where nothing is gained: gzip's frame of each chunk, and the description of an image."""
FILTERS: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


@dataclass(frozen=True, slots=True)
class Packable:
    """An image to be packed."""

    scan: Scan
    pixel_type: str
    crc32: int
    read: Callable[[], NDArray[Any]]
    """Returns the checked pixels, `scan.shape`."""


class PackedFile:
    """One packed file, opened for each access.

    Parameters
    ----------
    path
        May not exist: then it holds nothing.

    Raises
    ------
    JournalError, OSError
        It is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checksums: dict[str, int] = {}
        self.places: dict[str, tuple[str, int]] = {}
        if path.exists():
            try:
                with h5py.File(path, "r") as file:
                    scans = file["scans"]
                    columns = [scans[k].asstr()[()] for k in ("scan_id", "path")]
                    columns += [scans[k][()].tolist() for k in ("plane", "crc32")]
            except DAMAGE as error:
                raise JournalError(f"{path} is not a packed file of sparse-actors: {error}") from None
            for scan_id, dataset, plane, checksum in zip(*columns, strict=True):
                self.places[scan_id] = (dataset, plane)
                self.checksums[scan_id] = checksum

    def read(self, scan: Scan) -> NDArray[Any]:
        """Return the image of a scan, `scan.shape`, unchecked."""
        try:
            name, plane = self.places[str(scan.id)]
        except KeyError:
            raise JournalError(f"no pixels of scan {scan.id} in {self.path}") from None
        try:
            with h5py.File(self.path, "r") as file:
                dataset = file[name]
                image: NDArray[Any] = dataset[(plane, *scan.box.slices)] if plane >= 0 else dataset[()]
        except DAMAGE as error:
            raise JournalError(f"scan {scan.id} in {self.path}: {error}") from None
        return image[scan.mask()] if scan.mask_boxes else image


class PackedImages:
    """Both packed files of a run, read when first needed."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._files: dict[Path, PackedFile] = {}

    def read(self, scan: Scan) -> NDArray[Any]:
        """Return the image of a scan, `scan.shape`, unchecked; JournalError when it is not there."""
        path = self._folder.packed_fast if scan.id.is_fast else self._folder.packed_regions
        if path not in self._files:
            self._files[path] = PackedFile(path)
        return self._files[path].read(scan)


def is_packed(path: Path, images: Sequence[Packable]) -> bool:
    """Whether a packed file holds exactly these images; one that is damaged holds none."""
    try:
        return PackedFile(path).checksums == {str(image.scan.id): image.crc32 for image in images}
    except (JournalError, OSError):
        return False


def pack_fast(path: Path, images: Sequence[Packable]) -> list[TileIndex]:
    """Pack the fast images unless `path` holds them already; returns the tile of each plane.

    A partition that is missing is 0 in its tile's plane.
    """
    tiles = sorted({image.scan.id.partition.tile for image in images})
    if not images or is_packed(path, images):
        return tiles
    sizes = {(image.scan.imaging.size_px, image.pixel_type) for image in images}
    if len(sizes) != 1:
        raise JournalError(f"fast scans of one run differ in grid or pixel type: {sorted(sizes)}")
    ((width, height), pixel_type) = sizes.pop()

    def fill(file: Any, check: Callable[[], None]) -> dict[str, tuple[str, int]]:
        stack = file.create_dataset(
            "real",
            shape=(len(tiles), height, width),
            dtype=PIXELS[pixel_type],
            chunks=(1, min(height, CHUNK_PX), min(width, CHUNK_PX)),
            **FILTERS,
        )
        places = {}
        for plane, tile in enumerate(tiles):
            frame = np.zeros((height, width), dtype=PIXELS[pixel_type])
            for image in images:
                if image.scan.id.partition.tile == tile:
                    frame[image.scan.box.slices] = _painted(image)
                    places[str(image.scan.id)] = ("real", plane)
            stack[plane] = frame
            check()
        return places

    _pack(path, images, fill)
    return tiles


def region_paths(scans: Sequence[Scan]) -> list[str]:
    """Return where each rescan lies in the packed file, "r000c001/x_y_width_height"."""
    of_tile: dict[TileIndex, list[Scan]] = {}
    for scan in scans:
        of_tile.setdefault(scan.id.partition.tile, []).append(scan)
    paths = {
        scan.id: f"{tile}/{name}"
        for tile, group in of_tile.items()
        for scan, name in zip(group, dataset_names(group), strict=True)
    }
    return [paths[scan.id] for scan in scans]


def pack_regions(path: Path, images: Sequence[Packable]) -> None:
    """Pack the rescans unless `path` holds them already."""
    if not images or is_packed(path, images):
        return

    def fill(file: Any, check: Callable[[], None]) -> dict[str, tuple[str, int]]:
        places = {}
        for image, name in zip(images, region_paths([image.scan for image in images]), strict=True):
            box = image.scan.box
            dataset = file.create_dataset(
                name,
                data=_painted(image),
                chunks=(min(box.height, CHUNK_PX), min(box.width, CHUNK_PX)),
                **FILTERS,
            )
            describe(dataset, image.scan)
            if image.scan.mask_boxes:
                file.create_dataset(f"mask_boxes/{name}", data=mask_table(image.scan))
            places[str(image.scan.id)] = (name, -1)
            check()
        return places

    _pack(path, images, fill)


def _painted(image: Packable) -> NDArray[Any]:
    pixels = image.read()
    if not image.scan.mask_boxes:
        return pixels
    mask = image.scan.mask()
    frame = np.zeros(mask.shape, dtype=pixels.dtype)
    frame[mask] = pixels
    return frame


def _pack(
    path: Path,
    images: Sequence[Packable],
    fill: Callable[[Any, Callable[[], None]], Mapping[str, tuple[str, int]]],
) -> None:
    """Write a packed file, read it back against the journal's checksums, and give it its name."""
    _require_space(path.parent, images)
    temporary = path.with_name(path.name + ".tmp")
    with written(temporary) as (file, check):
        file.attrs["creator"] = "sparse-actors"
        places = fill(file, check)
        ids = [str(image.scan.id) for image in images]
        text = h5py.string_dtype()
        file.create_dataset("scans/scan_id", data=ids, dtype=text)
        file.create_dataset("scans/path", data=[places[i][0] for i in ids], dtype=text)
        file.create_dataset("scans/plane", data=np.array([places[i][1] for i in ids], dtype="i8"))
        file.create_dataset("scans/crc32", data=np.array([image.crc32 for image in images], dtype="u4"))
    packed = PackedFile(temporary)
    for image in images:
        if crc32(pixel_bytes(packed.read(image.scan))) != image.crc32:
            raise JournalError(f"{temporary}: scan {image.scan.id} does not read back as it was written")
    disk.publish(temporary, path)


def _require_space(folder: Path, images: Sequence[Packable]) -> None:
    """Raise OSError where images might not fit if they cannot be compressed at all."""
    pixels = sum(image.scan.box.area * PIXELS[image.pixel_type].itemsize for image in images)
    needed = round(MOST_PER_PIXEL_BYTE * pixels) + MOST_PER_IMAGE_BYTES * len(images)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"packing needs up to {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are free",
            str(folder),
        )
