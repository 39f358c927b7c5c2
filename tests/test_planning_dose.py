"""Every exposure counts on every pixel, and no pixel gets more than the limit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_run import ANALYSIS as RECORDED_ANALYSIS
from recorded_run import CONFIG, TILES, whole_run
from story import ModelMicroscope, Story, survey

from sparse_actors.config import parse_config
from sparse_actors.dose import dose_map, scan_dose_e_per_nm2
from sparse_actors.errors import ConfigError
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex, full_frame
from sparse_actors.imaging import Imaging, dose_e_per_nm2
from sparse_actors.messages import (
    ExposureStarted,
    Message,
    RegionsPlanned,
    RunFinished,
    RunStarted,
    Scan,
    ScanArea,
    ScanId,
    ScanMissed,
)
from sparse_actors.planning.dose import DoseBook
from sparse_actors.recording.dose_maps import dose_overview, tile_dose
from sparse_actors.recording.nexus import finalize
from sparse_actors.recording.run_record import RunRecord

TILE = TileIndex(0, 0)
FAST, ANALYSIS = Imaging((16, 16), 1000.0), Imaging((64, 64), 1000.0)
FIELD_NM, CURRENT_PA = 100_000.0, 500.0
ONE_FAST = dose_e_per_nm2(CURRENT_PA, 1000.0, FIELD_NM / 16)
ONE_RESCAN = dose_e_per_nm2(CURRENT_PA, 1000.0, FIELD_NM / 64)


def region(number: int, *boxes: PixelBox, partition: int = 0) -> Scan:
    outer = boxes[0]
    for box in boxes:
        outer = outer.union(box)
    mask = boxes if len(boxes) > 1 else ()
    return Scan(ScanId(PartitionId(TILE, partition), number), outer, ANALYSIS, mask)


def boxes(most: int = 63) -> st.SearchStrategy[PixelBox]:
    def made(left: int, top: int, width: int, height: int) -> PixelBox:
        return PixelBox(left, top, min(width, most + 1 - left), min(height, most + 1 - top))

    side, size = st.integers(0, most), st.integers(1, most + 1)
    return st.builds(made, side, side, size, size)


def test_one_exposure_is_current_times_dwell_over_the_pixel() -> None:
    fast = Scan(ScanId(PartitionId(TILE, 0)), PixelBox(0, 0, 8, 8), FAST)
    # 500 pA for 1 us are 3121 electrons; on 6250 nm squared.
    assert scan_dose_e_per_nm2(fast, FIELD_NM, CURRENT_PA) == pytest.approx(3120.75 / 6250**2, rel=1e-5)
    assert ONE_RESCAN == pytest.approx(16 * ONE_FAST)
    dose = dose_map(full_frame((64, 64)), (64, 64), FIELD_NM, CURRENT_PA, [(fast, 1)])
    np.testing.assert_allclose(dose[:32, :32], ONE_FAST, rtol=1e-6)
    assert not dose[32:].any()
    assert not dose[:, 32:].any()


@settings(max_examples=100, deadline=None)
@given(
    box=boxes(),
    areas=st.lists(st.tuples(st.lists(boxes(), min_size=1, max_size=3), st.integers(0, 3)), max_size=5),
)
def test_the_map_is_the_sum_over_every_pixel_of_every_exposure(
    box: PixelBox, areas: list[tuple[list[PixelBox], int]]
) -> None:
    exposures = [(region(n, *parts), times) for n, (parts, times) in enumerate(areas)]
    expected = np.zeros((64, 64))
    for scan, times in exposures:
        for _ in range(times):
            expected[scan.box.slices][scan.mask()] += ONE_RESCAN
    dose = dose_map(box, (64, 64), FIELD_NM, CURRENT_PA, exposures)
    np.testing.assert_allclose(dose, expected[box.slices], rtol=1e-5)


def book(limit: float, *history: Message) -> DoseBook:
    return DoseBook(survey(1, beam_current_pa=CURRENT_PA, max_dose_e_per_nm2=limit), history)


def planned(partition: int, *scans: Scan) -> RegionsPlanned:
    return RegionsPlanned(partition=PartitionId(TILE, partition), scans=scans, strategy="", predicted_s=0.0)


@settings(max_examples=100, deadline=None)
@given(
    before=st.lists(boxes(), max_size=4),
    wanted=st.lists(boxes(), min_size=1, max_size=6),
    rescans=st.integers(1, 3),
)
def test_what_is_wanted_is_divided_exactly_at_the_limit(
    before: list[PixelBox], wanted: list[PixelBox], rescans: int
) -> None:
    limit = ONE_FAST + rescans * ONE_RESCAN
    others = [region(n, box, partition=1) for n, box in enumerate(before)]
    # What is planned of the partition itself does not count: it is being planned anew.
    own = planned(0, region(0, PixelBox(0, 0, 64, 64)))
    allowed, left_out = book(limit, planned(1, *others), own).divided(PartitionId(TILE, 0), wanted)
    times = np.zeros((64, 64), int)
    for box in before:
        times[box.slices] += 1
    is_wanted = np.zeros((64, 64), bool)
    for box in wanted:
        is_wanted[box.slices] = True
    hit, missed = np.zeros((64, 64), int), np.zeros((64, 64), int)
    for box in allowed:
        hit[box.slices] += 1
    for box in left_out:
        missed[box.slices] += 1
    np.testing.assert_array_equal(hit, is_wanted & (times < rescans))
    np.testing.assert_array_equal(missed, is_wanted & (times >= rescans))


def test_an_order_counts_once_however_often_it_is_heard_of() -> None:
    scan = region(0, PixelBox(0, 0, 8, 8))
    doses = book(2 * ONE_RESCAN)
    for _ in range(3):
        doses.learn(planned(0, scan))
        doses.learn(ScanArea(scan=scan, attempt=1))
        doses.learn(ExposureStarted(scan_id=scan.id, attempt=1, started_s=0.0))
    assert doses.allows(scan)
    doses.learn(ScanArea(scan=scan, attempt=2))
    assert not doses.allows(scan)


def test_exposures_of_an_earlier_session_count() -> None:
    scan = region(0, PixelBox(0, 0, 8, 8))
    begun = ExposureStarted(scan_id=scan.id, attempt=1, started_s=0.0)
    sessions = [
        RunStarted(name="", session=n, started_s=0.0, seed=0, version="", config_toml="") for n in (0, 1)
    ]
    history = [sessions[0], planned(0, scan), begun, sessions[1]]
    assert book(2 * ONE_RESCAN, *history).allows(scan)
    assert not book(2 * ONE_RESCAN, *history, begun).allows(scan)


# -- a survey --------------------------------------------------------------------------------


def exposed(story: Story) -> np.ndarray[Any, Any]:
    """Add up what the microscope did on the first tile, failures included."""
    dose = np.zeros((64, 64))
    scale = 4
    for box, window in story.microscope.scans:
        factor = scale if window == (16, 16) else 1
        dose[box.scaled(factor).slices] += ONE_FAST if factor == scale else ONE_RESCAN
    return dose


def limited(limit: float, **changes: Any) -> Story:
    options = {"beam_current_pa": CURRENT_PA, "max_dose_e_per_nm2": limit, "region_px": (20, 20)}
    return Story(survey(1, **options | changes))


def test_without_a_limit_pixels_are_scanned_twice() -> None:
    story = Story(survey(1, region_px=(20, 20)))
    story.tell()
    assert exposed(story).max() > ONE_FAST + 1.5 * ONE_RESCAN


@pytest.mark.parametrize("merging", ["greedy", "bounding_box"])
def test_no_pixel_gets_more_than_the_limit_and_what_is_left_out_is_said(merging: str) -> None:
    free, story = Story(survey(1, region_px=(20, 20))), limited(ONE_FAST + ONE_RESCAN, merging=merging)
    free.tell()
    messages = story.tell()
    assert [m.outcome for m in messages if isinstance(m, RunFinished)] == ["completed"]
    dose = exposed(story)
    assert dose.max() <= (ONE_FAST + ONE_RESCAN) * 1.0001
    plans = [m for m in messages if isinstance(m, RegionsPlanned)]
    assert any(m.left_out for m in plans)
    assert all(("dose limit" in m.strategy) == bool(m.left_out) for m in plans)
    # Nothing is lost: every pixel a survey without a limit rescans is rescanned once.
    assert ((dose > ONE_RESCAN) >= (exposed(free) > ONE_RESCAN)).all()


def test_a_scan_that_failed_is_not_repeated_above_the_limit() -> None:
    class Flaky(ModelMicroscope):
        """Fails once at the first rescan; the beam was on."""

        def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Any:
            image = super().scan_area(box, dwell_ns, window_px)
            if Counter(window for _, window in self.scans)[(64, 64)] == 1 and window_px == (64, 64):
                self.fail_next = 1
                super().scan_area(box, dwell_ns, window_px)
            return image

    for limit, misses in ((ONE_FAST + ONE_RESCAN, 1), (ONE_FAST + 4 * ONE_RESCAN, 0)):
        story = limited(limit)
        story.microscope = Flaky(lambda seconds, story=story: story.bus.spend(seconds))
        messages = story.tell()
        missed = [m for m in messages if isinstance(m, ScanMissed)]
        assert len(missed) == misses
        assert all("max_dose" in m.reason for m in missed)
        assert exposed(story).max() <= limit * 1.0001
        end = [m for m in messages if isinstance(m, RunFinished)][-1]
        assert end.outcome == "completed"


def test_many_scans_refused_in_a_row_are_no_broken_microscope() -> None:
    story = limited(ONE_FAST + ONE_RESCAN, region_px=(4, 4))
    story.tell()
    journal = [m for m in story.disk.journal if not isinstance(m, RunFinished)]
    # Taken up again with every scan begun and none recorded: all are at the limit.
    facts = [m for m in journal if type(m).__name__ in ("RunStarted", "StorageReserved", "RegionsPlanned")]
    again = limited(ONE_FAST, region_px=(4, 4))
    again.disk.journal = [*facts, *story.exposures]
    messages = again.tell()
    assert not again.microscope.scans
    end = [m for m in messages if isinstance(m, RunFinished)][-1]
    assert end.outcome == "completed"
    assert "missing" in end.reason


# -- configuration and record ----------------------------------------------------------------

SURVEY = """
[microscope]
driver = "simulated"
[panorama]
corners_mm = [[0.0, 0.0], [0.2, 0.0], [0.0, 0.1]]
tile_fov_um = 100
[scan.fast]
size_px = [100, 100]
dwell_ns = 1000
[scan.analysis]
size_px = [400, 400]
dwell_ns = 1000
[limits]
max_dose_e_per_nm2 = 0.1
"""


def test_a_limit_needs_the_beam_current() -> None:
    with pytest.raises(ConfigError, match=r"limits\.max_dose_e_per_nm2.*microscope\.beam_current_pa"):
        parse_config(SURVEY)
    config = parse_config(SURVEY, ["microscope.beam_current_pa=500"])
    assert config.limits.max_dose_e_per_nm2 == 0.1


def test_a_limit_that_leaves_nothing_to_rescan_is_a_mistake() -> None:
    # 3121 electrons on 1000 nm squared and on 250 nm squared: 0.0031 + 0.0499.
    with pytest.raises(ConfigError, match=r"expected at least 0\.05305"):
        parse_config(SURVEY, ["microscope.beam_current_pa=500", "limits.max_dose_e_per_nm2=0.05"])


def test_the_record_has_the_dose_of_every_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIG.replace('driver = "simulated"', 'driver = "simulated"\nbeam_current_pa = 500.0')
    monkeypatch.setattr("recorded_run.CONFIG", config)
    whole_run(tmp_path / "run")
    record = RunRecord.open(tmp_path / "run")
    fast = dose_e_per_nm2(500.0, 300.0, 2000.0)
    rescan = dose_e_per_nm2(500.0, RECORDED_ANALYSIS.dwell_ns, 1000.0)
    expected = np.full((48, 64), fast)
    for box in (PixelBox(4, 4, 16, 12), PixelBox(10, 8, 16, 12), PixelBox(50, 0, 14, 14)):
        expected[box.slices] += rescan
    np.testing.assert_allclose(tile_dose(record, TILES[0]), expected, rtol=1e-5)
    # A scan that was begun and never recorded deposits its dose all the same.
    assert tile_dose(record, TILES[2])[4, 22] == pytest.approx(fast + rescan, rel=1e-5)
    mask = tile_dose(record, TILES[1])
    assert mask.max() == pytest.approx(fast + rescan, rel=1e-5)

    # The panorama adds up the tiles where they overlap; reduced, it keeps the number of electrons.
    whole, reduced = dose_overview(record, 1), dose_overview(record, 7)
    assert whole.shape == (90, 120)
    tiles = [tile_dose(record, tile) for tile in TILES]
    assert whole.sum(dtype=float) == pytest.approx(sum(t.sum(dtype=float) for t in tiles), rel=1e-5)
    np.testing.assert_allclose(whole[:20, :20], tiles[0][:20, :20], rtol=1e-5)
    assert 49 * reduced.sum(dtype=float) == pytest.approx(whole.sum(dtype=float), rel=1e-5)
    np.testing.assert_allclose(reduced[0, 0], whole[:7, :7].mean(), rtol=1e-5)

    finalize(tmp_path / "run")
    with h5py.File(tmp_path / "run" / "run.nxs") as file:
        np.testing.assert_array_equal(file["entry/dose/data"][()], whole)
        assert file["entry/dose/data"].attrs["units"] == "1/nm^2"
        assert file["entry/tiles/dose_max_e_per_nm2"][0] == pytest.approx(tiles[0].max())
        assert file["entry/tiles/dose_max_e_per_nm2"].attrs["units"] == "1/nm^2"


def test_without_a_beam_current_the_dose_is_not_known(tmp_path: Path) -> None:
    whole_run(tmp_path / "run")
    record = RunRecord.open(tmp_path / "run")
    with pytest.raises(ValueError, match="beam_current_pa"):
        tile_dose(record, TILES[0])
    with pytest.raises(ValueError, match="beam_current_pa"):
        dose_overview(record, 1)
