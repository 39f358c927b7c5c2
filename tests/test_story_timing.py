"""A survey on an instrument whose true timing is not the configured one, on virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from story import DETECTION_S, ModelMicroscope, ModelPool, Story, survey

from sparse_actors.app import run_survey
from sparse_actors.cli.progress import Figures, Progress
from sparse_actors.config import parse_config
from sparse_actors.contracts.detector import Pois
from sparse_actors.geometry import PixelBox
from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.instrument_times import read_times
from sparse_actors.messages import (
    After,
    DetectImage,
    DetectionReturned,
    Effect,
    Message,
    MicroscopePrepared,
    PartitionScanned,
    Recorded,
    RegionScanned,
    RegionsPlanned,
    TileFinished,
    TimingLearned,
)
from sparse_actors.planning.learnt_times import LearntTimes
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.recording.journal import read_journal
from sparse_actors.recording.run_folder import RunFolder

CONFIGURED = ScanTiming(row_overhead_us=20.0, scan_overhead_ms=5.0)
TRUE = {
    "all three times as long": ScanTiming(60.0, 15.0, 3.0),
    "all a third": ScanTiming(20 / 3, 5 / 3, 1 / 3),
    "overheads three times as long": ScanTiming(60.0, 15.0, 1.0),
    "overheads thirty times as long": ScanTiming(600.0, 150.0, 1.0),
}
TILES = 12


class SlowMicroscope(ModelMicroscope):
    """Takes the time it takes, whatever it declares; hangs for seconds now and then."""

    true = CONFIGURED
    hiccup_s = 0.0

    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Any:
        wrong = self.limits.timing.duration_s(box.area, box.height, dwell_ns)
        right = self.true.duration_s(box.area, box.height, dwell_ns)
        self._spend(right - wrong)
        if len(self.scans) % 97 == 50:
            self._spend(self.hiccup_s)
        return super().scan_area(box, dwell_ns, window_px)


class ManyPois(ModelPool):
    """Finds as many points in every image, elsewhere in each."""

    def handle(self, message: DetectImage | DetectionReturned) -> Iterator[Effect]:
        for effect in super().handle(message):
            if isinstance(effect, After) and isinstance(effect.message, DetectionReturned):
                place = message.partition.tile.column, message.partition.index
                side = message.image.shape[0] * message.scale if isinstance(message, DetectImage) else 0
                xy = np.random.default_rng(place).uniform(0, side, (12, 2))
                yield After(DETECTION_S, replace(effect.message, pois=Pois.at(xy.tolist())))
            else:
                yield effect


def told(true: ScanTiming, hiccup_s: float = 0.0) -> tuple[SurveyPlan, list[Message]]:
    plan = survey(
        columns=TILES,
        fast=Imaging((256, 256), 3200.0),
        analysis=Imaging((1024, 1024), 3200.0),
        region_px=(64, 64),
        timing=CONFIGURED,
    )
    story = Story(plan)
    microscope = SlowMicroscope(lambda seconds: story.bus.spend(seconds))
    microscope.true, microscope.hiccup_s = true, hiccup_s
    story.microscope = microscope
    story.pool = ManyPois
    return plan, story.tell()


def after_tile(plan: SurveyPlan, messages: list[Message], number: int) -> tuple[Figures, float]:
    """Return the figures when a tile is finished, and the time it then still took."""
    progress = Progress(
        tiles=TILES, partitions=4, analysis=plan.analysis, timing=plan.timing, tile_distance_mm=0.1
    )
    ends = [i for i, message in enumerate(messages) if isinstance(message, TileFinished)]
    for i, message in enumerate(messages[: ends[number - 1] + 1]):
        progress.observe(message, i)
    seen = [m for m in messages[: ends[number - 1]] if isinstance(m, PartitionScanned | RegionScanned)]
    last = [m for m in messages if isinstance(m, PartitionScanned | RegionScanned)][-1]
    return progress.figures(), last.finished_s - seen[-1].finished_s


@pytest.mark.parametrize("true", TRUE.values(), ids=TRUE)
def test_after_the_first_tile_the_time_left_is_right_within_five_percent(true: ScanTiming) -> None:
    plan, messages = told(true)
    # Under overheads thirty times as long the first tile is merged in another way than the others.
    tiles = (2, 6) if true.scan_overhead_ms > 100 else (1, 3, 6)
    for tile in tiles:
        figures, left_s = after_tile(plan, messages, tile)
        assert figures.eta_s == pytest.approx(left_s, rel=0.05), f"after tile {tile}"
        assert figures.eta_low_s is not None
        assert figures.eta_high_s is not None
        assert figures.eta_low_s < left_s < figures.eta_high_s


def test_hiccups_count_in_the_time_left() -> None:
    plan, messages = told(TRUE["all three times as long"], hiccup_s=2.0)
    figures, left_s = after_tile(plan, messages, 4)
    assert figures.eta_s == pytest.approx(left_s, rel=0.05)


@pytest.mark.parametrize("true", TRUE.values(), ids=TRUE)
def test_the_planner_goes_by_what_was_learnt_and_the_journal_says_so(true: ScanTiming) -> None:
    _, messages = told(true)
    scanned = {m.scan.id: m for m in messages if isinstance(m, RegionScanned)}
    planned = [m for m in messages if isinstance(m, RegionsPlanned)]
    for plan_of in planned[4:]:
        took_s = sum(scanned[scan.id].finished_s - scanned[scan.id].started_s for scan in plan_of.scans)
        assert plan_of.predicted_s == pytest.approx(took_s, rel=0.05)
    said = [m for m in messages if isinstance(m, TimingLearned)]
    assert said[0].timing == CONFIGURED
    assert 2 <= len(said) <= 12
    assert said[-1].scans > said[0].scans == 0
    # The prediction of every plan follows from the fact in the journal that stands before it.
    timing = ScanTiming()
    for message in messages:
        if isinstance(message, TimingLearned):
            timing = message.timing
        elif isinstance(message, RegionsPlanned) and message.scans:
            expected_s = sum(timing.duration_s(s.pixels, s.rows, s.imaging.dwell_ns) for s in message.scans)
            assert message.predicted_s == pytest.approx(expected_s)


def test_what_is_learnt_live_is_learnt_from_the_journal() -> None:
    plan, messages = told(TRUE["overheads three times as long"])
    live, twice = LearntTimes(plan.timing), LearntTimes(plan.timing)
    for message in messages:
        live.learn(message)
        twice.learn(message)
        twice.learn(message)
    assert live.scans.count == sum(isinstance(m, Recorded) for m in messages)
    assert live.to_json() == twice.to_json()


def test_a_right_timing_is_not_news() -> None:
    _, messages = told(CONFIGURED)
    assert sum(isinstance(m, TimingLearned) for m in messages) == 1
    assert any(isinstance(m, MicroscopePrepared) for m in messages)


# -- the daemon ------------------------------------------------------------------------------

CONFIG = """
[microscope]
driver = "simulated"
options = { time_scale = 0.0 }
[panorama]
corners_mm = [[0.0, 0.0], [0.01, 0.0], [0.0, 0.01]]
tile_fov_um = 10.0
[scan.fast]
size_px = [64, 64]
dwell_ns = 100.0
[scan.analysis]
size_px = [128, 128]
dwell_ns = 100.0
[scan.timing]
row_overhead_us = 1e6
[detect.options]
threshold = 100
[regions]
size_px = [16, 16]
[workers]
local = 1
[limits]
min_free_disk_gb = 0.0
"""


def test_the_next_run_begins_with_what_this_one_learnt(tmp_path: Path) -> None:
    config, times = parse_config(CONFIG), tmp_path / "times"
    said = []
    for name in ("first", "second"):
        assert run_survey(config, out=tmp_path / name, times_folder=times).outcome == "completed"
        journal = read_journal(RunFolder(tmp_path / name).journal)
        said.append(next(m for m in journal if isinstance(m, TimingLearned)))
    first, second = said
    assert (first.scans, first.timing.row_overhead_us) == (0, 1e6)
    assert second.scans >= 4
    assert second.timing.row_overhead_us < 1e5  # it does not wait at all
    known = read_times(times, config.microscope)
    assert known is not None
    assert known["scans"]["count"] > second.scans


def test_a_run_does_not_fail_because_its_times_cannot_be_kept(tmp_path: Path) -> None:
    folder = tmp_path / "times"
    folder.write_text("a file where the folder should be", encoding="utf-8")
    result = run_survey(parse_config(CONFIG), out=tmp_path / "run", times_folder=folder)
    assert (result.outcome, result.problems) == ("completed", ())
    assert "times of the instrument were not kept" in RunFolder(tmp_path / "run").log.read_text("utf-8")
