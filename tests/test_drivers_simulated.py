from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_actors.drivers.instrument_log import idle_share, log_entries
from sparse_actors.drivers.simulated import SimulatedMicroscope, Specimen
from sparse_actors.drivers.simulated.specimen import Grid

from sparse_actors import plugins
from sparse_actors.contracts.microscope import Microscope
from sparse_actors.errors import CapabilityError, MicroscopeError, StageError
from sparse_actors.geometry import PixelBox, full_frame
from sparse_actors.testing.microscope_contract import MicroscopeContract

WINDOW = (96, 64)
FRAME = full_frame(WINDOW)
PITCH_UM = 0.033


class TestSimulated(MicroscopeContract):
    @pytest.fixture
    def microscope(self) -> Microscope:
        return plugins.build("microscope", "simulated", {"seed": 3, "stage_settle_s": 0.0, "time_scale": 100})


class TestSixteenBitsWithoutMask(MicroscopeContract):
    @pytest.fixture
    def microscope(self) -> Microscope:
        return SimulatedMicroscope(
            pixel_type="uint16", has_mask_scan=False, stage_settle_s=0.0, time_scale=100
        )


def ready(**options: object) -> SimulatedMicroscope:
    microscope = SimulatedMicroscope(**{"time_scale": 0, **options})  # type: ignore[arg-type]
    microscope.connect()
    microscope.prepare()
    return microscope


def grid(x_um: float = 0.0, y_um: float = 0.0) -> Grid:
    return Grid((x_um, y_um), (PITCH_UM, 0.0), (0.0, PITCH_UM))


# -- specimen -------------------------------------------------------------------------------


def test_specimen_is_a_function_of_seed_and_position() -> None:
    first = Specimen(5).signal(grid(1e4, -3e3), 0, 0, (80, 120), 0.025)
    again = Specimen(5)
    again.signal(grid(), 0, 0, (10, 10), 0.025)
    np.testing.assert_array_equal(again.signal(grid(1e4, -3e3), 0, 0, (80, 120), 0.025), first)
    assert not np.array_equal(Specimen(6).signal(grid(1e4, -3e3), 0, 0, (80, 120), 0.025), first)


@pytest.fixture(scope="module")
def at_block_corner() -> tuple[Specimen, Grid, np.ndarray]:
    """A specimen, a grid around a point where four blocks of objects meet, and its frame."""
    specimen, around = Specimen(2), grid(100 - 6.6, 100 - 6.6)
    return specimen, around, specimen.signal(around, 0, 0, (400, 400), 0.025)


@settings(deadline=None, max_examples=40)
@given(left=st.integers(0, 380), top=st.integers(0, 380), width=st.integers(1, 20), height=st.integers(1, 20))
def test_any_box_equals_the_crop_across_blocks(
    at_block_corner: tuple[Specimen, Grid, np.ndarray], left: int, top: int, width: int, height: int
) -> None:
    specimen, around, frame = at_block_corner
    found = specimen.signal(around, left, top, (height, width), 0.025)
    np.testing.assert_array_equal(found, frame[top : top + height, left : left + width])


def test_phases_and_damage_are_those_of_the_steel() -> None:
    specimen = Specimen(1)
    coarse = Grid((0.0, 0.0), (0.7, 0.0), (0.0, 0.7))
    grey = specimen.signal(coarse, 0, 0, (600, 600), 0.025)
    assert 0.33 < (grey > 135).mean() < 0.39
    assert np.median(grey[grey < 135]) == pytest.approx(97, abs=4)
    # 30 to 100 voids and cracks in a field of 100 um.
    for x_mm in (0.0, 1.0, -2.0):
        assert 15 < len(specimen.voids_in((x_mm, 0.0, 0.2, 0.2)).xy_mm) / 4 < 100


def test_true_voids_are_dark_and_little_else_is() -> None:
    specimen = Specimen(1)
    voids = specimen.voids_in((0.0, 0.0, 0.05, 0.05))
    large = voids.xy_mm[(voids.radius_mm > 1e-4) & (voids.length_mm < 1e-3)]
    assert len(large) > 0
    for x_mm, y_mm in large:
        centre = specimen.signal(grid(x_mm * 1e3, y_mm * 1e3), -1, -1, (3, 3), 0.025)
        assert centre.max() < 55
    grey = specimen.signal(grid(), 0, 0, (1500, 1500), 0.025)
    assert 0 < (grey < 55).mean() < 0.005
    assert (grey > 70).mean() > 0.98


def test_voids_in_neighbouring_boxes_are_those_of_their_union() -> None:
    specimen = Specimen(4)
    parts = [specimen.voids_in((x, -0.07, 0.09, 0.2)).xy_mm for x in (-0.08, 0.01)]
    together = specimen.voids_in((-0.08, -0.07, 0.18, 0.2)).xy_mm
    assert sorted(map(tuple, np.concatenate(parts))) == sorted(map(tuple, together))


# -- signal -----------------------------------------------------------------------------------


def test_noise_falls_with_dwell_time_and_current() -> None:
    clean = ready(shot_noise_grey_us_na=0.0, read_noise_grey=0.0).scan_area(FRAME, 32000, WINDOW)

    def sigma(dwell_ns: float, **options: object) -> float:
        noisy = ready(**options).scan_area(FRAME, dwell_ns, WINDOW)
        return float((noisy.astype(float) - clean)[clean < 120].std())

    # Variance k I / (dwell current) + read noise, and 1/12 by rounding, at a signal of about 97.
    assert sigma(32000) == pytest.approx(2.2, rel=0.1)
    assert sigma(2000) == pytest.approx((4.3 * 97 / 6 + 0.44) ** 0.5, rel=0.1)
    assert sigma(32000, beam_current_na=0.3) == pytest.approx((4.3 * 97 / 9.6 + 0.44) ** 0.5, rel=0.1)


def test_noise_differs_between_places_grids_and_dwell_times() -> None:
    def noise(microscope: SimulatedMicroscope, dwell_ns: float, window: tuple[int, int]) -> np.ndarray:
        image = microscope.scan_area(PixelBox(0, 0, 16, 16), dwell_ns, window).astype(float)
        return image - ready(shot_noise_grey_us_na=0.0).scan_area(PixelBox(0, 0, 16, 16), dwell_ns, window)

    reference = noise(ready(), 1000, (64, 64))
    for other in (noise(ready(), 1001, (64, 64)), noise(ready(seed=2), 1000, (64, 64))):
        assert abs(np.corrcoef(reference.ravel(), other.ravel())[0, 1]) < 0.3


def test_black_level_and_gain_act_on_the_grey_values() -> None:
    microscope = ready(shot_noise_grey_us_na=0.0, read_noise_grey=0.0)
    neutral = microscope.scan_area(FRAME, 1000, WINDOW).astype(float)
    microscope.set_brightness_contrast(60, 50)
    np.testing.assert_allclose(
        microscope.scan_area(FRAME, 1000, WINDOW), (neutral + 25.5).clip(0, 255), atol=1
    )
    microscope.set_brightness_contrast(50, 40)
    halved = microscope.scan_area(FRAME, 1000, WINDOW)
    np.testing.assert_allclose(halved[neutral < 255], neutral[neutral < 255] / 2, atol=1)


def test_tilted_specimen_is_sharp_only_at_the_distance_of_its_place() -> None:
    microscope = ready(tilt_deg=(2.0, 0.0), read_noise_grey=0.0, shot_noise_grey_us_na=0.0)
    microscope.set_view_field(0.01)

    def sharpness() -> float:
        image = microscope.scan_area(full_frame((300, 300)), 1000, (300, 300)).astype(float)
        return float(np.abs(np.diff(image, axis=1)).mean())

    microscope.move_stage(1.0, 0.0)
    blurred = sharpness()
    microscope.set_working_distance(10.0 + np.tan(np.radians(2.0)))
    assert sharpness() > 1.5 * blurred


def test_drift_shifts_the_specimen_with_the_time_scanned() -> None:
    options = {"read_noise_grey": 0.0, "shot_noise_grey_us_na": 0.0, "scan_overhead_ms": 1000.0}
    still, drifting = ready(**options), ready(drift_nm_per_s=(1000.0, 0.0), **options)
    for microscope in (still, drifting):
        microscope.set_view_field(0.1)
        microscope.scan_area(PixelBox(0, 0, 1, 1), 1, (100, 100))
    # One second at 1000 nm/s is one pixel of a grid of 1 um.
    expected = still.scan_area(PixelBox(1, 0, 99, 100), 1, (100, 100)).astype(int)
    found = drifting.scan_area(PixelBox(0, 0, 99, 100), 1, (100, 100))
    assert np.abs(found - expected).mean() < 0.5
    assert np.abs(found - still.scan_area(PixelBox(0, 0, 99, 100), 1, (100, 100)).astype(int)).mean() > 5


def test_scan_rotation_turns_from_x_to_y() -> None:
    microscope = ready(read_noise_grey=0.0, shot_noise_grey_us_na=0.0)
    straight = microscope.scan_area(full_frame((41, 41)), 1000, (41, 41)).astype(int)
    microscope.set_scan_rotation(90.0)
    turned = microscope.scan_area(full_frame((41, 41)), 1000, (41, 41)).astype(int)
    # Going right in the turned image is going down, towards +y, in the straight one.
    assert np.abs(turned - np.rot90(straight, 1)).max() <= 1


# -- clock, log, state ----------------------------------------------------------------------


def test_scan_takes_the_time_of_equation_one(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    microscope = ready(time_scale=10, row_overhead_us=500, scan_overhead_ms=100, log_file=str(log))
    microscope.scan_area(PixelBox(0, 0, 8, 16), 1e6, WINDOW)
    scan = list(log_entries(log))[-1]
    nominal_s = 8 * 16 * 1e6 * 1e-9 + 16 * 500e-6 + 0.1
    assert scan["nominal_s"] == pytest.approx(nominal_s)
    assert microscope.estimate_time_s(PixelBox(0, 0, 8, 16), 1e6, WINDOW) == pytest.approx(nominal_s)
    assert scan["finished_s"] - scan["started_s"] >= nominal_s / 10 - 1e-3
    assert (scan["pixels"], scan["rows"], scan["box"]) == (128, 16, [0, 0, 8, 16])


def test_rows_of_a_mask_and_of_points(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    microscope = ready(log_file=str(log))
    mask = np.zeros((64, 96), dtype=np.bool_)
    mask[[3, 3, 9], [4, 50, 7]] = True
    microscope.scan_mask(mask, 1000)
    microscope.scan_points(np.array([[4, 3], [50, 3]]), 1000, WINDOW)
    assert [(e["kind"], e["pixels"], e["rows"]) for e in log_entries(log)] == [
        ("mask", 3, 2),
        ("points", 2, 0),
    ]


def test_idle_share_is_what_lies_between_the_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    times = [(100.0, 101.0), (101.5, 103.0), (103.0, 105.0), (105.5, None)]
    lines = [{"started_s": a, "finished_s": b, "time_scale": 1} for a, b in times]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert idle_share(log) == pytest.approx(0.1)
    log.write_text(json.dumps(lines[0] | {"time_scale": 0}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="time_scale 0"):
        idle_share(log)


def test_instrument_outlives_the_program(tmp_path: Path) -> None:
    state_file, log = tmp_path / "sem" / "state.json", tmp_path / "log" / "log.jsonl"
    options = {"state_file": str(state_file), "log_file": str(log)}
    microscope = ready(**options)
    microscope.move_stage(1.5, -0.5)
    microscope.set_working_distance(12.0)
    microscope.scan_area(FRAME, 1000, WINDOW)
    # A program killed in mid-scan leaves the file as it is during the scan.
    seen: list[str] = []
    microscope._before_scan = lambda number: seen.append(state_file.read_text())  # type: ignore[method-assign]
    microscope.scan_area(FRAME, 1000, WINDOW)
    state_file.write_text(seen[0])

    found = SimulatedMicroscope(time_scale=0, fail_scans=[3], **options)  # type: ignore[arg-type]
    found.connect()
    assert found.get_state() == microscope.get_state()
    assert found.get_state().beam_on
    assert [e["outcome"] for e in log_entries(log)] == ["done", "done", "done", "cut off"]
    with pytest.raises(MicroscopeError, match="scan 3"):  # the count of scans goes on too
        found.scan_area(FRAME, 1000, WINDOW)


# -- faults -----------------------------------------------------------------------------------


def test_failed_scan_succeeds_when_repeated(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    microscope = ready(fail_scans=[2, 4], log_file=str(log))
    microscope.scan_area(FRAME, 1000, WINDOW)
    for number in (2, 4):
        with pytest.raises(MicroscopeError, match=f"scan {number}"):
            microscope.scan_area(FRAME, 1000, WINDOW)
        microscope.scan_area(FRAME, 1000, WINDOW)
    assert [e["outcome"] for e in log_entries(log)] == ["done", "failed", "done", "failed", "done"]


def test_stalled_scan_ends_by_abort() -> None:
    microscope = ready(stall_scan=1)
    errors: list[MicroscopeError] = []

    def scan() -> None:
        try:
            microscope.scan_area(FRAME, 1000, WINDOW)
        except MicroscopeError as error:
            errors.append(error)

    thread = threading.Thread(target=scan)
    thread.start()
    while thread.is_alive():
        microscope.abort()
        thread.join(0.01)
    assert "aborted" in str(errors[0])
    microscope.scan_area(FRAME, 1000, WINDOW)


def test_lost_connection_comes_back_by_connect() -> None:
    microscope = ready(lose_connection_at=1)
    state = microscope.get_state()
    with pytest.raises(MicroscopeError, match="connection lost"):
        microscope.scan_area(FRAME, 1000, WINDOW)
    with pytest.raises(MicroscopeError, match="connect"):
        microscope.move_stage(0, 0)
    microscope.connect()
    assert microscope.get_state() == state
    microscope.scan_area(FRAME, 1000, WINDOW)


def test_stage_that_stops_halfway_is_told_and_reset_names_it() -> None:
    microscope = ready(stage_error_at=1)
    found = microscope.get_state()
    with pytest.raises(StageError, match=r"\(1, 0\) mm"):
        microscope.move_stage(2.0, 0.0)
    microscope.move_stage(2.0, 0.0)
    assert microscope.get_state().x_mm == 2.0

    microscope = ready(stage_error_at=2)
    microscope.move_stage(2.0, 0.0)
    microscope.set_working_distance(15.0)
    with pytest.raises(MicroscopeError, match="stage not"):
        microscope.reset_microscope(found)
    assert microscope.get_working_distance() == 10.0


def test_beam_must_be_on_the_specimen() -> None:
    microscope = SimulatedMicroscope(time_scale=0)
    microscope.connect()
    with pytest.raises(MicroscopeError, match="prepare"):
        microscope.scan_area(FRAME, 1000, WINDOW)
    microscope.prepare()
    microscope.set_beam_blank(True)
    with pytest.raises(MicroscopeError, match="blanked"):
        microscope.scan_area(FRAME, 1000, WINDOW)


@pytest.mark.parametrize(
    "options",
    [{"time_scale": -1.0}, {"beam_current_na": 0.0}, {"drift_nm_per_s": (1.0,)}, {"damage": -1.0}],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SimulatedMicroscope(**options)  # type: ignore[arg-type]


def test_empty_mask_is_refused() -> None:
    with pytest.raises(CapabilityError, match="at least one pixel"):
        ready().scan_mask(np.zeros((8, 8), dtype=np.bool_), 1000)
