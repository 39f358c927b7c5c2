"""Advice on partitions and workers follows the simulation."""

from __future__ import annotations

import dataclasses

import kills
import pytest

from sparse_actors.cli.advise import advise, measured_detection_s, sentences
from sparse_actors.config import Config, parse_config
from sparse_actors.imaging import ScanTiming

TIMING = ScanTiming(row_overhead_us=20, scan_overhead_ms=5)


def config(*changes: str) -> Config:
    return parse_config(kills.CONFIG.format(time_scale=0, log="", state=""), changes)


def test_with_a_fast_detector_what_is_configured_stays() -> None:
    # More partitions cost a little flyback and overhead each: not worth a change.
    mine, best = advise(config(), ScanTiming(1, 0.1), detection_s=1e-4, cores=4)
    assert best == mine
    assert (mine.partitions, mine.workers) == (4, 3)
    assert mine.idle_share < 1e-3
    assert len(sentences(mine, best, 1e-4)) == 1


def test_a_slow_detector_wants_more_partitions_or_workers_and_gains_by_them() -> None:
    fast_tile_s = TIMING.duration_s(192 * 192, 192, 8000.0)
    one = config("panorama.partitions=1", "workers.local=1")
    mine, best = advise(one, TIMING, detection_s=2 * fast_tile_s, cores=4)
    assert mine.idle_share > 0.2
    assert best.partitions > 1
    assert best.workers > 1
    assert best.tile_s < mine.tile_s
    assert "advice: panorama.partitions" in sentences(mine, best, 1.0)[1]


def test_more_workers_or_a_faster_detector_never_make_a_tile_slower() -> None:
    slow = config("workers.local=1")
    times = [
        advise(config(f"workers.local={workers}"), TIMING, 1.0, cores=9)[0].tile_s for workers in (1, 2, 4, 8)
    ]
    assert times == sorted(times, reverse=True)
    assert advise(slow, TIMING, 0.1, cores=2)[0].tile_s <= advise(slow, TIMING, 1.0, cores=2)[0].tile_s


@pytest.mark.parametrize("pixel_type", ["uint8", "uint16"])
def test_the_detector_is_timed_on_an_image_like_the_surveys(pixel_type: str) -> None:
    assert 0 < measured_detection_s(config(), pixel_type) < 10


def test_advice_can_be_printed_as_json() -> None:
    mine, _ = advise(config(), TIMING, 0.01, cores=2)
    assert set(dataclasses.asdict(mine)) == {"partitions", "workers", "tile_s", "idle_share"}
