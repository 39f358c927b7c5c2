"""The dose of spectra on the points of the map grid, and what it leaves for scans."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from story import START, ModelMicroscope, survey

from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.imaging import Imaging, dose_e_per_nm2
from sparse_actors.messages import (
    ExposureStarted,
    FieldId,
    MapField,
    MicroscopePrepared,
    RunStarted,
    Scan,
    ScanId,
    SpectraRecorded,
    SpotsStarted,
)
from sparse_actors.planning.dose import DoseBook
from sparse_actors.planning.spot_dose import SpotDoses, highest
from sparse_actors.planning.survey_plan import FieldsPlan, SurveyPlan

TILE = TileIndex(0, 0)
CURRENT_PA, LIVE_S = 500.0, 0.01
POINT = np.array([[3, 2]])
BOOT = RunStarted(name="s", session=0, started_s=0, seed=1, version="0", config_toml="")


def plan(grid: int, limit: float) -> SurveyPlan:
    fields = FieldsPlan(where="regions", grid_px=(grid, grid))
    return survey(1, fields=fields, beam_current_pa=CURRENT_PA, max_dose_e_per_nm2=limit)


def spectrum_dose(grid: int, seconds: float = LIVE_S) -> float:
    return dose_e_per_nm2(CURRENT_PA, seconds * 1e9, 100_000 / grid)


def started(attempt: int = 1, **changes: Any) -> SpotsStarted:
    settings = {"points_px": POINT, "live_time_s": np.array([LIVE_S]), "started_s": 1.0} | changes
    return SpotsStarted(field=FieldId(TILE, 0), batch=0, attempt=attempt, **settings)


def prepared(settling_s: float = 0.0) -> MicroscopePrepared:
    limits = replace(ModelMicroscope.limits, spectrum_overhead_s=settling_s)
    can = replace(ModelMicroscope(print).capabilities, limits=limits)
    return MicroscopePrepared(name="model", capabilities=can, initial=START)


def recorded(took_s: float) -> SpectraRecorded:
    return SpectraRecorded(
        field=FieldId(TILE, 0),
        batch=0,
        attempt=1,
        slab="s",
        first=0,
        points_px=POINT,
        live_time_s=np.array([LIVE_S]),
        crc32=0,
        started_s=1.0,
        finished_s=1.0 + took_s,
    )


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    wanted=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_the_highest_of_all_cells_that_are_touched(
    shape: tuple[int, int], wanted: tuple[int, int], seed: int
) -> None:
    values = np.random.default_rng(seed).random(shape).astype(np.float32)

    def touched(cell: int, cells: int, size: int) -> slice:
        return slice(cell * size // cells, math.ceil((cell + 1) * size / cells))

    expected = [
        [
            values[touched(y, wanted[0], shape[0]), touched(x, wanted[1], shape[1])].max()
            for x in range(wanted[1])
        ]
        for y in range(wanted[0])
    ]
    np.testing.assert_array_equal(highest(values, wanted), expected)


@pytest.mark.parametrize("grid", [16, 64, 128, 40])
def test_a_scan_is_not_repeated_where_spectra_used_up_the_dose(grid: int) -> None:
    limits = plan(grid, 1.1 * spectrum_dose(grid))
    x, y = ((POINT[0] + 0.5) * 64 / grid).astype(int).tolist()
    dwell_ns = 0.2e9 * LIVE_S * (grid / 64) ** 2  # a fifth of the dose of a spectrum
    one = Scan(ScanId(PartitionId(TILE, 0), 0), PixelBox(x, y, 1, 1), Imaging((64, 64), dwell_ns))
    far = replace(one, box=PixelBox(60, 60, 2, 2))
    book = DoseBook(limits)
    assert book.allows(one)
    book.learn(started())
    assert not book.allows(one)
    assert book.allows(far)


def test_scans_count_at_the_points_that_they_touch() -> None:
    book = DoseBook(plan(32, 1e9))
    scan = book._plan.fast_scans(TILE)[0]
    field = MapField(FieldId(TILE, 0), PixelBox(12, 12, 8, 8), (32, 32))
    assert not book.on_field(field).any()
    book.learn(ExposureStarted(scan_id=scan.id, attempt=1, started_s=0.0))
    dose = book.on_field(field)
    one = dose_e_per_nm2(CURRENT_PA, 1000, 100_000 / 16)
    np.testing.assert_allclose(dose[:4, :4], one, rtol=1e-6)
    assert not dose[4:].any()
    assert not dose[:, 4:].any()


def allowed(doses: SpotDoses) -> bool:
    field = MapField(FieldId(TILE, 0), PixelBox(0, 0, 16, 16), (16, 16))
    return bool(doses.allowed(field, POINT, np.array([LIVE_S]), None)[0])


def test_an_order_counts_once_until_the_microscope_is_prepared_anew() -> None:
    doses = SpotDoses(plan(16, 2.5 * spectrum_dose(16)))
    for fact in (BOOT, prepared(), started(), started()):
        doses.learn(fact)
    assert allowed(doses)
    doses.learn(prepared())
    doses.learn(started())
    assert not allowed(doses)


def test_a_repeated_attempt_counts_and_so_does_one_in_a_later_session() -> None:
    for again in ([started(2)], [BOOT, started()]):
        doses = SpotDoses(plan(16, 2.5 * spectrum_dose(16)))
        for fact in (BOOT, prepared(), started(), *again):
            doses.learn(fact)
        assert not allowed(doses)


def test_settling_and_dead_time_expose_too() -> None:
    quick, slow, dead = (SpotDoses(plan(16, 2.1 * spectrum_dose(16))) for _ in range(3))
    for doses, facts in (
        (quick, [prepared(), started(), recorded(LIVE_S)]),
        (slow, [prepared(settling_s=LIVE_S / 2), started(), recorded(LIVE_S * 1.5)]),
        (dead, [prepared(), started(), recorded(LIVE_S * 1.5)]),
    ):
        for fact in facts:
            doses.learn(fact)
    assert (allowed(quick), allowed(slow), allowed(dead)) == (True, False, False)


def test_the_dead_time_expected_counts_until_a_batch_tells_better() -> None:
    limits = plan(16, 3.1 * spectrum_dose(16))
    assert limits.fields is not None
    for share, facts, expected in (
        (0.0, [], True),
        (0.5, [], False),  # two for the spectrum begun, and two for one more
        (0.5, [recorded(LIVE_S)], True),
        (0.0, [recorded(2 * LIVE_S)], False),
    ):
        doses = SpotDoses(replace(limits, fields=replace(limits.fields, dead_share=share)))
        for fact in (prepared(), started(), *facts):
            doses.learn(fact)
        assert allowed(doses) is expected


def test_without_a_limit_everything_is_allowed() -> None:
    doses = SpotDoses(replace(plan(16, 1.0), max_dose_e_per_nm2=None))
    for attempt in range(1, 9):
        doses.learn(started(attempt))
    assert allowed(doses)
