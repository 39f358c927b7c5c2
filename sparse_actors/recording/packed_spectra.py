"""All spectra of a run in one file, each field as a spectrum image: for the time after the acquisition.

``data/spectra.h5`` holds for each field ``counts`` [row, column, channel] and ``live_time_s`` [row,
column], both 0 where nothing was measured: chunks without a spectrum take no room. It is written under
another name, read back against the checksums of the journal, and only then gets its name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import h5py
import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import JournalError
from sparse_actors.messages import MapField, SpectraRecorded

from . import disk
from .hdf5_file import written
from .packed import FILTERS
from .slabs import DAMAGE

CHUNK_POINTS = 4
"""Neighbours along a row that share a chunk."""

Read = Callable[[SpectraRecorded], tuple[NDArray[Any], EnergyAxis]]


class PackedSpectra:
    """The packed file, opened for each access.

    Parameters
    ----------
    path
        May not exist: then it holds nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, recorded: SpectraRecorded) -> tuple[NDArray[Any], EnergyAxis]:
        """Return counts (n, channels) of a batch and their energy axis, checked.

        Raises
        ------
        JournalError
            They are not there, or not those that were recorded.
        """
        what = f"batch {recorded.batch} of {recorded.field} in {self.path}"
        try:
            with h5py.File(self.path, "r") as file:
                group = file[str(recorded.field)]
                image, attributes = group["counts"], group.attrs
                corner = attributes["left_px"], attributes["top_px"]
                counts = np.array([image[y, x] for x, y in (recorded.points_px - corner).tolist()])
                axis = EnergyAxis(
                    channels=image.shape[2],
                    offset_kev=float(attributes["energy_offset_keV"]),
                    scale_kev=float(attributes["energy_scale_keV"]),
                )
        except (OSError, *DAMAGE) as error:
            raise JournalError(f"{what}: {error}") from None
        if crc32(counts.data.cast("B")) != recorded.crc32:
            raise JournalError(f"{what}: the checksum is not that of the journal")
        counts.flags.writeable = False
        return counts, axis

    def holds(self, batches: Sequence[SpectraRecorded]) -> bool:
        """Whether the file was made of exactly these batches."""
        if not self.path.exists():
            return False
        try:
            with h5py.File(self.path, "r") as file:
                found: list[str] = file["batches"].asstr()[()].tolist()
        except (OSError, *DAMAGE):
            return False
        return found == _names(batches)


def pack_spectra(path: Path, fields: Mapping[MapField, Sequence[SpectraRecorded]], read: Read) -> None:
    """Pack the spectra of all fields unless `path` holds them already.

    Raises
    ------
    JournalError
        Spectra are not those that were recorded, or do not read back as they were written.
    OSError
        The disk refused; nothing is left of the file.
    """
    batches = [recorded for of_field in fields.values() for recorded in of_field]
    if not batches or PackedSpectra(path).holds(batches):
        return
    temporary = path.with_name(path.name + ".tmp")
    with written(temporary) as (file, check):
        file.attrs["creator"] = "sparse-actors"
        file.create_dataset("batches", data=_names(batches), dtype=h5py.string_dtype())
        for field, of_field in fields.items():
            if of_field:
                pack_field(file.create_group(str(field.id)), field, of_field, read)
                check()
    packed = PackedSpectra(temporary)
    for recorded in batches:
        packed.read(recorded)
    disk.publish(temporary, path)


def pack_field(group: Any, field: MapField, batches: Sequence[SpectraRecorded], read: Read) -> None:
    """Write the spectra of one field into an empty group; raises as `read`."""
    first, axis = read(batches[0])
    group.attrs.update(
        left_px=field.box.left,
        top_px=field.box.top,
        grid_px=np.array(field.grid_px, dtype="i8"),
        energy_offset_keV=axis.offset_kev,
        energy_scale_keV=axis.scale_kev,
    )
    rows, columns = field.shape
    image = group.create_dataset(
        "counts",
        shape=(rows, columns, axis.channels),
        dtype=first.dtype,
        chunks=(1, min(CHUNK_POINTS, columns), axis.channels),
        fillvalue=0,
        **FILTERS,
    )
    live_time_s = np.zeros((rows, columns))
    # Batches follow the beam, chunks the rows: which chunk gets what is known before any is written.
    places: defaultdict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    for number, recorded in enumerate(batches):
        local = recorded.points_px - (field.box.left, field.box.top)
        live_time_s[local[:, 1], local[:, 0]] = recorded.live_time_s
        for row_in_batch, (x, y) in enumerate(local.tolist()):
            places[y, x // CHUNK_POINTS].append((x, number, row_in_batch))
    spectra = [read(recorded)[0] for recorded in batches]
    for (y, block), points in sorted(places.items()):
        left = block * CHUNK_POINTS
        chunk = np.zeros((min(CHUNK_POINTS, columns - left), axis.channels), first.dtype)
        for x, number, row_in_batch in points:
            chunk[x - left] = spectra[number][row_in_batch]
        image[y, left : left + len(chunk)] = chunk
    group.create_dataset("live_time_s", data=live_time_s, **FILTERS)


def _names(batches: Sequence[SpectraRecorded]) -> list[str]:
    return [f"{one.field} {one.batch} {one.crc32:08x}" for one in batches]
