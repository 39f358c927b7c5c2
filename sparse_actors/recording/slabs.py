"""A slab: an HDF5 file made before the exposures, into which pixels are then written in place.

libhdf5 lays the file out once and never touches it again, so that a crash can never leave its
bookkeeping half-written: pixels go by plain writes to where each dataset lies. A slab describes
itself. Beside the images it holds the table ``recorded`` with, for each image in order, whether its
pixels were written and their crc32; any HDF5 reader opens it at any moment.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import h5py
import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import JournalError
from sparse_actors.messages import Scan

from . import disk
from .hdf5_file import TakesAll

DAMAGE = (KeyError, TypeError, ValueError, RuntimeError)
"""What h5py raises, beside OSError, at a file that is not what it was."""
STATE = np.dtype([("is_recorded", "<u4"), ("crc32", "<u4")])
PIXELS: dict[str, np.dtype[Any]] = {"uint8": np.dtype("u1"), "uint16": np.dtype("<u2")}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies in its slab."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    state_offset: int


def dataset_names(scans: Sequence[Scan]) -> list[str]:
    """Name each scan by its box, `x_y_width_height`; a box that comes twice gets the scan's name too."""
    names: list[str] = []
    for scan in scans:
        name = str(scan.box)
        names.append(f"{name}_{scan.id}" if name in names else name)
    return names


def describe(dataset: Any, scan: Scan) -> None:
    """Write what a reader must know about an image as attributes, units in their names."""
    dataset.attrs["scan_id"] = str(scan.id)
    dataset.attrs["grid_px"] = np.array(scan.imaging.size_px, dtype="i8")
    dataset.attrs["x_px"], dataset.attrs["y_px"] = scan.box.left, scan.box.top
    dataset.attrs["width_px"], dataset.attrs["height_px"] = scan.box.width, scan.box.height
    dataset.attrs["dwell_ns"] = scan.imaging.dwell_ns
    dataset.attrs["units"] = "grey level"


def mask_table(scan: Scan) -> NDArray[np.int64]:
    """Return the boxes of a mask, (n, 4): left, top, width, height."""
    boxes = [(box.left, box.top, box.width, box.height) for box in scan.mask_boxes]
    return np.array(boxes, dtype=np.int64).reshape(-1, 4)


def pixel_bytes(image: NDArray[Any]) -> memoryview:
    """Return the pixels in the byte order of the file, row by row."""
    little_endian = image.dtype.newbyteorder("<")
    return np.ascontiguousarray(image, dtype=little_endian).data.cast("B")


class Slab:
    """One slab file, made by `create` or opened by its path.

    Parameters
    ----------
    path
        An existing slab.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[str, Place] = {}
        self.descriptions: dict[str, tuple[Any, ...]] = {}
        self._sync_failed = False
        try:
            with h5py.File(path, "r") as file:
                state_start = file["recorded"].id.get_offset()
                for index, name in enumerate(file["order"].asstr()[()]):
                    dataset = file[name]
                    scan_id = str(dataset.attrs["scan_id"])
                    self.places[scan_id] = Place(
                        offset=dataset.id.get_offset(),
                        shape=dataset.shape,
                        dtype=dataset.dtype,
                        state_offset=state_start + index * STATE.itemsize,
                    )
                    self.descriptions[scan_id] = _description(dataset, file["mask_boxes"].get(name))
        except DAMAGE as error:
            raise JournalError(f"{path} is not a slab of sparse-actors: {error}") from None

    @classmethod
    def create(cls, path: Path, scans: Sequence[Scan], pixel_type: str) -> None:
        """Make the file, with room for every scan; raises as `create`."""
        names = dataset_names(scans)

        def lay_out(file: Any) -> None:
            file.create_dataset("order", data=names, dtype=h5py.string_dtype())
            file.create_dataset("recorded", data=np.zeros(len(scans), dtype=STATE))
            masks = file.create_group("mask_boxes")
            for name, scan in zip(names, scans, strict=True):
                describe(room(file, name, scan.shape, PIXELS[pixel_type]), scan)
                if scan.mask_boxes:
                    masks.create_dataset(name, data=mask_table(scan))

        create(path, lay_out)

    def holds(self, scans: Sequence[Scan], pixel_type: str) -> bool:
        """Whether the slab was made for exactly these scans."""
        wanted = {
            str(scan.id): (
                (scan.shape, PIXELS[pixel_type]),
                (*scan.imaging.size_px, scan.box.left, scan.box.top, scan.box.width, scan.box.height),
                scan.imaging.dwell_ns,
                mask_table(scan).tolist(),
            )
            for scan in scans
        }
        return self.descriptions == wanted

    def write(self, scan: Scan, image: NDArray[Any]) -> int:
        """Write the pixels and their checksum, durably; returns the crc32.

        Raises
        ------
        OSError
            The disk refused; the image counts as not recorded. After a failed sync the slab takes
            nothing more from this process.
        JournalError
            The slab has no such scan, or the image another shape or type.
        """
        place = self._place(scan)
        if image.shape != place.shape or image.dtype != place.dtype:
            raise JournalError(
                f"{self.path}: scan {scan.id} is {place.shape} of {place.dtype}, "
                f"got {image.shape} of {image.dtype}"
            )
        if self._sync_failed:
            raise OSError(errno.EIO, f"{self.path} takes nothing more: an earlier sync failed")
        pixels = pixel_bytes(image)
        checksum = crc32(pixels)
        state = np.array([(1, checksum)], dtype=STATE).tobytes()
        fd = os.open(self.path, os.O_RDWR | disk.BINARY)
        try:
            disk.write_all_at(fd, pixels, place.offset)
            disk.write_all_at(fd, memoryview(state), place.state_offset)
            try:
                disk.sync_file(fd)
            except OSError:
                self._sync_failed = True
                raise
        finally:
            os.close(fd)
        return checksum

    def read(self, scan: Scan) -> NDArray[Any]:
        """Return the pixels as they stand in the file, unchecked; short files raise OSError."""
        place = self._place(scan)
        count = int(np.prod(place.shape))
        with self.path.open("rb") as file:
            file.seek(place.offset)
            block = file.read(count * place.dtype.itemsize)
        if len(block) != count * place.dtype.itemsize:
            raise OSError(errno.EIO, f"{self.path} ends within scan {scan.id}")
        return np.frombuffer(block, dtype=place.dtype).reshape(place.shape)

    def recorded(self) -> Mapping[str, int]:
        """Return the crc32 of each scan whose pixels were written, by scan name."""
        with h5py.File(self.path, "r") as file:
            states = file["recorded"][()]
        return {
            scan_id: int(state["crc32"])
            for scan_id, state in zip(self.places, states, strict=True)
            if state["is_recorded"]
        }

    def _place(self, scan: Scan) -> Place:
        try:
            return self.places[str(scan.id)]
        except KeyError:
            raise JournalError(f"{self.path} has no room for scan {scan.id}") from None


def create(path: Path, lay_out: Callable[[Any], None]) -> None:
    """Make a file with room for what will be written in place, durably and in one step.

    libhdf5 lays it out in memory without its pixels, which it never fills: what it writes are some
    kilobytes of descriptions between the places of the arrays. These go to disk at their offsets.

    Parameters
    ----------
    path
        Of the file.
    lay_out
        Makes the datasets in an open file; the large ones with `room`.

    Raises
    ------
    OSError
        The disk has no room; nothing is left of the file.
    """
    temporary = path.with_name(path.name + ".tmp")
    layout = TakesAll()
    with h5py.File(layout, "w") as file:
        file.attrs["creator"] = "sparse-actors"
        lay_out(file)
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | disk.BINARY, 0o644)
    try:
        try:
            disk.reserve_space(fd, layout.size)
            for offset, data in layout.kept:
                disk.write_all_at(fd, memoryview(data), offset)
        finally:
            os.close(fd)
        disk.publish(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def room(file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Make a contiguous dataset that is allocated at once and not filled."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype), space, dcpl=layout)
    return file[name]


def _description(dataset: Any, mask: Any) -> tuple[Any, ...]:
    """Return what `Slab.holds` compares."""
    attributes = dataset.attrs
    numbers = [*attributes["grid_px"], *(attributes[k] for k in ("x_px", "y_px", "width_px", "height_px"))]
    return (
        (dataset.shape, dataset.dtype),
        tuple(int(number) for number in numbers),
        float(attributes["dwell_ns"]),
        [] if mask is None else mask[()].tolist(),
    )
