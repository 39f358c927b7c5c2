"""A recorded map: its dose, its energies for HyperSpy, what was left out, and what verify says of it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recorded_run import CONFIG
from story import ModelMicroscope

from sparse_actors.contracts.microscope import MicroscopeState, ScanLimits
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.imaging import dose_e_per_nm2
from sparse_actors.messages import (
    NOT_KNOWN,
    FieldId,
    FieldMapped,
    MapField,
    MicroscopePrepared,
    RunFinished,
    RunStarted,
    SpectraClassified,
    SpectraMeasured,
    SpotsSpared,
    SpotsStarted,
)
from sparse_actors.recording.dose_maps import dose_overview, tile_dose
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.nexus import finalize
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.spectra import SpectraStore
from sparse_actors.recording.verify import verify

TILE = TileIndex(0, 0)
AXIS = EnergyAxis(channels=20, offset_kev=-0.1, scale_kev=0.02)
CURRENT_PA, LIVE_S, SETTLING_S = 100.0, 0.01, 0.001


def recorded_map(
    folder: Path, grid_px: tuple[int, int] = (16, 12), took_s: float = 0.0, session: int = 1
) -> tuple[FieldId, np.ndarray[Any, Any]]:
    """Write a run that mapped a field of 4 x 4 points from four of them, one batch exposed twice."""
    run = RunFolder(folder)
    run.create()
    field = MapField(FieldId(TILE, 0), PixelBox(2, 2, 4, 4), grid_px)
    points_px = np.array([[2, 2], [4, 3], [3, 5], [5, 5]])
    live_time_s = np.full(4, LIVE_S)
    config = CONFIG.replace('driver = "simulated"', f'driver = "simulated"\nbeam_current_pa = {CURRENT_PA}')
    config += f'[eds]\nwhere = "field"\ngrid_px = [{grid_px[0]}, {grid_px[1]}]\n'
    limits = replace(ScanLimits(), spectrum_overhead_s=SETTLING_S)
    started = SpotsStarted(
        field=field.id, batch=0, attempt=1, points_px=points_px, live_time_s=live_time_s, started_s=1.0
    )
    measured = SpectraMeasured(
        field=field.id,
        batch=0,
        attempt=2,
        points_px=points_px,
        counts=np.arange(80, dtype=np.uint16).reshape(4, 20),
        live_time_s=live_time_s,
        axis=AXIS,
        grid_px=grid_px,
        started_s=2.0,
        finished_s=2.0 + took_s,
    )
    with contextlib.closing(Journal.create(run.journal)) as journal:
        for fact in (
            RunStarted(name="m", session=0, started_s=1.0, seed=1, version="0", config_toml=config),
            MicroscopePrepared(
                name="model",
                capabilities=replace(ModelMicroscope(print).capabilities, limits=limits),
                initial=MicroscopeState(x_mm=0, y_mm=0),
            ),
            started,
            replace(started, attempt=2, started_s=2.0),
            SpectraStore(folder).write(measured),
            SpotsSpared(field=field.id, batch=1, points_px=np.array([[2, 3]]), labels=np.array([NOT_KNOWN])),
            SpectraClassified(
                field=field.id, batch=0, labels=np.ones(4, np.int64), confidence=np.ones(4), worker="w"
            ),
            FieldMapped(
                field=field,
                is_complete=True,
                reason="points",
                points_px=points_px,
                labels=np.ones(4, np.int64),
                distortion=-1.0,
                distortion_range=(0.0, 1.0),
                phase_map=np.ones((4, 4), np.uint8),
                confidence=np.ones((4, 4), np.float32),
                erd=np.zeros((4, 4), np.float32),
                unclassified=3,
            ),
            RunFinished(outcome="completed", reason=""),
        ):
            journal.append(fact)
    return field.id, points_px


@pytest.mark.parametrize("grid_px", [(16, 12), (64, 48), (256, 192), (80, 60)])
@pytest.mark.parametrize("took_s", [0.0, 0.2])
def test_every_spectrum_counts_with_all_its_time_and_no_electron_twice(
    tmp_path: Path, grid_px: tuple[int, int], took_s: float
) -> None:
    """Also on map grids finer than the analysis grid of 64 x 48, and such as do not divide it."""
    _, points_px = recorded_map(tmp_path, grid_px, took_s)
    record = RunRecord.open(tmp_path)
    dose, pixel_nm = tile_dose(record, TILE), 1000.0
    seconds = 4 * (LIVE_S + SETTLING_S) + max(4 * (LIVE_S + SETTLING_S), took_s)
    electrons = dose_e_per_nm2(CURRENT_PA, seconds * 1e9, 1.0)
    assert dose.sum() * pixel_nm**2 == pytest.approx(electrons, rel=1e-4)
    exposed = np.zeros(grid_px[::-1])
    exposed[points_px[:, 1], points_px[:, 0]] = 1
    if grid_px == (16, 12):
        np.testing.assert_array_equal(dose > 0, exposed.repeat(4, axis=0).repeat(4, axis=1) > 0)
    for factor in (1, 7):
        overview = dose_overview(record, factor)
        assert overview.sum() * (factor * pixel_nm) ** 2 == pytest.approx(electrons, rel=1e-4)


def test_hyperspy_gets_the_middle_of_each_channel(tmp_path: Path) -> None:
    field, _ = recorded_map(tmp_path)
    assert finalize(tmp_path) == ()
    with h5py.File(tmp_path / "run.hspy") as file:
        axis = dict(file[f"Experiments/{field}_spectra/axis-2"].attrs)
    assert axis["offset"] == pytest.approx(AXIS.offset_kev + AXIS.scale_kev / 2)
    assert axis["scale"] == pytest.approx(AXIS.scale_kev)
    with h5py.File(tmp_path / "run.nxs") as file:
        attributes = file[f"entry/maps/{field}"].attrs
        assert (attributes["points_left_out"], attributes["points_unclassified"]) == (1, 3)


def test_room_for_spectra_that_nobody_came_to_use_is_no_problem(tmp_path: Path) -> None:
    field, _ = recorded_map(tmp_path)
    data = RunFolder(tmp_path).data
    (slab,) = data.glob("*-spectra0000.h5")
    (data / f"{field}-spectra0001.h5").write_bytes(slab.read_bytes())
    report = verify(tmp_path)
    assert report.problems == []
    assert [text for text in report.warnings if "spectra0001" in text]
    (data / "r000c000p0-fast.h5").write_bytes(b"no slab")
    assert verify(tmp_path).problems
