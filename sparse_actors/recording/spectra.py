"""Spectra on disk, in slabs of their own: rows of counts, filled in the order in which they come.

As with images, libhdf5 lays a slab out before anything is measured into it and never touches it
again; see `slabs`. What a row holds (point, live time, checksum) is in the journal, and beside the
counts for whoever opens the file itself.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import h5py
import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import JournalError
from sparse_actors.messages import FieldId, SpectraMeasured, SpectraRecorded

from . import disk
from .packed_spectra import PackedSpectra
from .run_folder import RunFolder
from .slabs import DAMAGE, create, room

ROWS = 1024
"""Spectra in a slab; a batch never lies in two."""

_SLAB = "-spectra"

_POINT = np.dtype([("x_px", "<i8"), ("y_px", "<i8"), ("live_time_s", "<f8")])


def is_spectra_slab(name: str) -> bool:
    """Whether a slab of this name is one of spectra."""
    return re.fullmatch(rf".+{_SLAB}\d{{4,}}", name) is not None


@dataclass(frozen=True, slots=True)
class _Slab:
    """Where the rows of a slab lie in its file."""

    path: Path
    counts_offset: int
    points_offset: int
    dtype: np.dtype[Any]
    axis: EnergyAxis
    rows: int

    @property
    def row_bytes(self) -> int:
        return self.axis.channels * self.dtype.itemsize


class SpectraStore:
    """The spectra of a run while it goes on.

    Parameters
    ----------
    folder
        The folder of the run.
    check_room
        Called before a slab is made; raises OSError when the disk is too full.
    """

    def __init__(self, folder: Path, check_room: Callable[[], None] = lambda: None) -> None:
        self.folder = RunFolder(folder)
        self._check_room = check_room
        self._slabs: dict[str, _Slab] = {}
        self._ends: dict[FieldId, tuple[str, int]] = {}
        """The last slab of a field, and its first free row."""

    def learn(self, recorded: SpectraRecorded) -> None:
        """Take in what the journal holds; its rows are taken."""
        end = recorded.first + len(recorded.points_px)
        self._ends[recorded.field] = max(self._ends.get(recorded.field, ("", 0)), (recorded.slab, end))

    def write(self, measured: SpectraMeasured) -> SpectraRecorded:
        """Write a batch, synced, and return the fact to be journaled.

        Raises
        ------
        OSError
            The disk refused; nothing counts as recorded.
        """
        n = len(measured.counts)
        name, first = self._ends.get(measured.field, ("", 0))
        number = int(name[-4:]) if name else -1
        dtype = measured.counts.dtype.newbyteorder("<")
        try:
            slab = self._slab(name) if name else None
        except JournalError:
            slab = None  # gone, or packed: what is new goes into a new one
        if slab is None or (slab.dtype, slab.axis) != (dtype, measured.axis) or first + n > slab.rows:
            name, first = f"{measured.field}{_SLAB}{number + 1:04d}", 0
            slab = self._create(name, measured, max(ROWS, n))
        counts = np.ascontiguousarray(measured.counts, dtype=dtype)
        points = np.empty(n, _POINT)
        points["x_px"], points["y_px"] = measured.points_px.T
        points["live_time_s"] = measured.live_time_s
        fd = os.open(slab.path, os.O_RDWR | disk.BINARY)
        try:
            disk.write_all_at(fd, counts.data.cast("B"), slab.counts_offset + first * slab.row_bytes)
            disk.write_all_at(fd, memoryview(points.tobytes()), slab.points_offset + first * _POINT.itemsize)
            disk.sync_file(fd)
        finally:
            os.close(fd)
        return SpectraRecorded(
            field=measured.field,
            batch=measured.batch,
            attempt=measured.attempt,
            slab=name,
            first=first,
            points_px=measured.points_px,
            live_time_s=measured.live_time_s,
            crc32=crc32(counts.data.cast("B")),
            started_s=measured.started_s,
            finished_s=measured.finished_s,
        )

    def read(self, recorded: SpectraRecorded) -> tuple[NDArray[Any], EnergyAxis]:
        """Return counts (n, channels), read-only and checked, and their energy axis; packed ones too.

        Raises
        ------
        JournalError
            The slab is missing or damaged, or the counts are not those whose checksum was journaled.
        """
        is_packed = self.folder.packed_spectra.exists()
        if is_packed and not self.folder.slab(recorded.slab).exists():
            return PackedSpectra(self.folder.packed_spectra).read(recorded)
        slab, n = self._slab(recorded.slab), len(recorded.points_px)
        with slab.path.open("rb") as file:
            file.seek(slab.counts_offset + recorded.first * slab.row_bytes)
            block = file.read(n * slab.row_bytes)
        if len(block) != n * slab.row_bytes:
            raise OSError(errno.EIO, f"{slab.path} ends within batch {recorded.batch} of {recorded.field}")
        if crc32(block) != recorded.crc32:
            raise JournalError(
                f"batch {recorded.batch} of {recorded.field} in {slab.path}: "
                f"checksum {crc32(block):#010x} instead of {recorded.crc32:#010x}"
            )
        return np.frombuffer(block, slab.dtype).reshape(n, slab.axis.channels), slab.axis

    def _create(self, name: str, measured: SpectraMeasured, rows: int) -> _Slab:
        if not self.folder.data.exists():
            self.folder.create()
        self._check_room()
        path, axis = self.folder.slab(name), measured.axis

        def lay_out(file: Any) -> None:
            counts = room(file, "counts", (rows, axis.channels), measured.counts.dtype.newbyteorder("<"))
            counts.attrs["energy_offset_keV"] = axis.offset_kev
            counts.attrs["energy_scale_keV"] = axis.scale_kev
            points = room(file, "points", (rows,), _POINT)
            points.attrs["grid_px"] = np.array(measured.grid_px, dtype="i8")

        create(path, lay_out)
        self._slabs.pop(name, None)
        return self._slab(name)

    def _slab(self, name: str) -> _Slab:
        if name not in self._slabs:
            path = self.folder.slab(name)
            try:
                with h5py.File(path, "r") as file:
                    counts, points = file["counts"], file["points"]
                    self._slabs[name] = _Slab(
                        path=path,
                        counts_offset=counts.id.get_offset(),
                        points_offset=points.id.get_offset(),
                        dtype=counts.dtype,
                        axis=EnergyAxis(
                            channels=counts.shape[1],
                            offset_kev=float(counts.attrs["energy_offset_keV"]),
                            scale_kev=float(counts.attrs["energy_scale_keV"]),
                        ),
                        rows=len(counts),
                    )
            except (OSError, *DAMAGE) as error:
                raise JournalError(f"{path} is no slab of spectra: {error}") from None
        return self._slabs[name]
