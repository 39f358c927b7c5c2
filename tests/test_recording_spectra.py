"""Spectra on disk: written in place, found again, damage seen."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import JournalError
from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import FieldId, MapField, SpectraMeasured
from sparse_actors.recording.packed_spectra import PackedSpectra, pack_spectra
from sparse_actors.recording.spectra import ROWS, SpectraStore

AXIS = EnergyAxis(channels=16, offset_kev=-0.1, scale_kev=0.01)
FIELD = FieldId(TileIndex(0, 1), 3)


def batch(number: int, n: int = 5, dtype: Any = np.uint16, axis: EnergyAxis = AXIS) -> SpectraMeasured:
    rng = np.random.default_rng(number)
    return SpectraMeasured(
        field=FIELD,
        batch=number,
        attempt=1,
        points_px=rng.integers(0, 64, (n, 2)),
        counts=rng.integers(0, 1000, (n, axis.channels)).astype(dtype),
        live_time_s=np.full(n, 0.5),
        axis=axis,
        grid_px=(64, 64),
        started_s=1.0,
        finished_s=2.0,
    )


def test_spectra_come_back_in_another_session(tmp_path: Path) -> None:
    store = SpectraStore(tmp_path)
    recorded = []
    for number in range(3):
        recorded.append(store.write(batch(number)))
        store.learn(recorded[-1])
    again = SpectraStore(tmp_path)
    for fact in recorded:
        again.learn(fact)
        counts, axis = again.read(fact)
        assert (counts == batch(fact.batch).counts).all()
        assert axis == AXIS
        assert not counts.flags.writeable
    more = again.write(batch(3))
    assert (more.slab, more.first) == (recorded[0].slab, 15)


def test_any_reader_opens_a_slab_at_any_moment(tmp_path: Path) -> None:
    recorded = SpectraStore(tmp_path).write(batch(0))
    with h5py.File(tmp_path / "data" / f"{recorded.slab}.h5") as file:
        assert (file["counts"][:5] == batch(0).counts).all()
        assert file["counts"].attrs["energy_offset_keV"] == -0.1
        assert file["points"][0]["x_px"] == batch(0).points_px[0, 0]
        assert file["points"][4]["live_time_s"] == 0.5


def test_what_does_not_fit_goes_into_the_next_slab(tmp_path: Path) -> None:
    store = SpectraStore(tmp_path)
    places = []
    for number, changes in enumerate(
        [{"n": ROWS - 1}, {"n": 1}, {"n": 1}, {"dtype": np.uint32}, {"n": ROWS + 7, "dtype": np.uint32}]
    ):
        fact = store.write(batch(number, **changes))
        store.learn(fact)
        places.append((fact.slab[-1], fact.first))
        assert (store.read(fact)[0] == batch(number, **changes).counts).all()
    assert places == [("0", 0), ("0", ROWS - 1), ("1", 0), ("2", 0), ("3", 0)]


def test_rows_that_never_came_into_the_journal_are_taken_again(tmp_path: Path) -> None:
    SpectraStore(tmp_path).write(batch(0))  # and then the power went
    again = SpectraStore(tmp_path)
    fact = again.write(batch(1))
    assert fact.first == 0
    assert (again.read(fact)[0] == batch(1).counts).all()


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    store = SpectraStore(tmp_path)
    fact = store.write(batch(0))
    path = store.folder.slab(fact.slab)
    content = bytearray(path.read_bytes())
    place = bytes(content).index(batch(0).counts.tobytes())
    content[place + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(JournalError, match="checksum"):
        store.read(fact)


@pytest.mark.parametrize("damage", ["gone", "short", "other"])
def test_a_slab_that_is_no_slab_is_named(tmp_path: Path, damage: str) -> None:
    fact = SpectraStore(tmp_path).write(batch(0))
    path = SpectraStore(tmp_path).folder.slab(fact.slab)
    match damage:
        case "gone":
            path.unlink()
        case "short":
            path.write_bytes(path.read_bytes()[:200])
        case "other":
            path.write_text("no HDF5")
    with pytest.raises(JournalError, match=path.name):
        SpectraStore(tmp_path).read(fact)


def test_a_full_disk_refuses_before_anything_is_made(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        SpectraStore(tmp_path, full).write(batch(0))
    assert not list(tmp_path.rglob("*.h5"))


def test_a_slab_that_is_gone_does_not_keep_new_spectra_from_being_written(tmp_path: Path) -> None:
    store = SpectraStore(tmp_path)
    lost = store.write(batch(0))
    store.folder.slab(lost.slab).unlink()
    again = SpectraStore(tmp_path)
    again.learn(lost)
    fact = again.write(batch(1))
    assert (again.read(fact)[0] == batch(1).counts).all()
    with pytest.raises(JournalError):
        again.read(lost)


def test_spectra_are_read_from_the_packed_file_once_their_slab_is_gone(tmp_path: Path) -> None:
    store = SpectraStore(tmp_path)
    points = np.array([[3, 4], [5, 4], [3, 9]])
    measured = replace(batch(0, n=3), points_px=points)
    fact = store.write(measured)
    field = MapField(FIELD, PixelBox(0, 0, 64, 64), (64, 64))
    pack_spectra(store.folder.packed_spectra, {field: [fact]}, store.read)
    store.folder.slab(fact.slab).unlink()
    assert (SpectraStore(tmp_path).read(fact)[0] == measured.counts).all()
    store.folder.packed_spectra.write_bytes(b"garbage")
    assert not PackedSpectra(store.folder.packed_spectra).holds([fact])
    with pytest.raises(JournalError):
        SpectraStore(tmp_path).read(fact)
