from __future__ import annotations

import math

import numpy as np
import pytest

from sparse_actors.contracts.detector import Pois
from sparse_actors.evaluation.matching import Found, Sites
from sparse_actors.evaluation.measures import Scanning, TileScore, measures, score, wilson
from sparse_actors.geometry import partition_boxes
from sparse_actors.imaging import Imaging, ScanTiming

TIMING = ScanTiming(row_overhead_us=20.0, scan_overhead_ms=5.0)


def scanning(**changes: object) -> Scanning:
    given: dict[str, object] = {
        "fast": Imaging((768, 768), 32_000.0),
        "analysis": Imaging((3072, 3072), 32_000.0),
        "timing": TIMING,
        "partitions": 4,
        "merging": "mask",
    }
    return Scanning(**given | changes)  # type: ignore[arg-type]


def found_at(*boxes: tuple[int, int, int, int]) -> Found:
    centres = [(left + width / 2, top + height / 2) for left, top, width, height in boxes]
    return Found(Pois.at(centres, boxes_px=list(boxes)))


def tile(name: str, sites: int, found: int, rescanned: float) -> TileScore:
    return TileScore(
        tile=name,
        sites=sites,
        found=found,
        whole=found,
        sites_by_size=(sites, 0, 0, 0, 0, 0, 0),
        found_by_size=(found, 0, 0, 0, 0, 0, 0),
        detections=found,
        area_px=1000,
        rescanned_px=int(1000 * rescanned),
        ideal_px=40,
        fast_share=1 / 16,
        scan_s=1.0,
        conventional_s=4.0,
    )


def test_equations_4_to_6_for_the_papers_operating_point() -> None:
    result = measures([tile("a", 100, 99, 0.5), tile("b", 100, 99, 0.54)])
    assert result.recall == pytest.approx(0.99)
    assert result.efficiency == pytest.approx(0.48)
    assert result.total_time == pytest.approx(17 / 16 - 0.48)
    assert result.max_efficiency == pytest.approx(0.96)
    assert result.full_time == pytest.approx(0.25)
    assert result.efficiency_ci == pytest.approx((0.46, 0.50))


def test_score_counts_by_size_and_by_what_a_region_shows() -> None:
    sites = Sites.of(found_at((10, 10, 4, 4), (100, 100, 10, 10), (200, 20, 2, 2)), (256, 256))
    regions = np.array([[0, 0, 40, 40], [95, 95, 10, 10]], np.int64)
    ideal = np.array([[0, 0, 40, 40]], np.int64)
    got = score(
        "t",
        sites,
        found_at((23, 10, 2, 2), (95, 95, 2, 2)),
        regions,
        ideal,
        scanning(fast=Imaging((64, 64), 8_000.0), analysis=Imaging((256, 256), 32_000.0)),
    )
    # The first is touched 10 px beyond its right edge; the second found, but not shown as a whole.
    assert (got.sites, got.found, got.whole) == (3, 2, 1)
    assert got.sites_by_size == (1, 0, 1, 0, 0, 1, 0)
    assert got.found_by_size == (0, 0, 1, 0, 0, 1, 0)
    assert (got.rescanned_px, got.ideal_px) == (1700, 1600)
    assert got.fast_share == pytest.approx(1 / 64)
    fast_s = 4 * TIMING.duration_s(32 * 32, 32, 8_000.0)
    rescan_s = TIMING.duration_s(1700, 50, 32_000.0)
    assert got.scan_s == pytest.approx(fast_s + rescan_s)
    assert TileScore.from_json(got.to_json()) == got


@pytest.mark.parametrize("partitions", [1, 2, 4, 9])
def test_the_fast_scan_is_charged_partition_by_partition(partitions: int) -> None:
    boxes = partition_boxes((768, 768), partitions)
    wanted = sum(TIMING.duration_s(box.area, box.height, 32_000.0) for box in boxes)
    assert scanning(partitions=partitions).fast_s == pytest.approx(wanted)


def test_intervals_come_from_the_tiles_and_from_wilson_where_these_are_all_alike() -> None:
    mixed = measures([tile(str(n), 40, 40 - n % 3, 0.1) for n in range(25)])
    low, high = mixed.recall_ci
    assert low < mixed.recall < high
    assert high - low < 0.05
    perfect = measures([tile(str(n), 40, 40, 0.1) for n in range(25)])
    assert perfect.recall_ci == wilson(1000, 1000)
    assert perfect.recall_ci[0] < 1
    assert measures([tile(str(n), 40, 40 - n % 3, 0.1) for n in range(25)]).recall_ci == mixed.recall_ci


def test_wilson_is_that_of_the_literature() -> None:
    # Brown, Cai, DasGupta 2001 (doi:10.1214/ss/1009213286) write the same formula; 81 of 263.
    low, high = wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
    assert 0 < wilson(1, 10)[0] < 0.1 < wilson(1, 10)[1]


def test_without_sites_there_is_no_detection_rate() -> None:
    result = measures([tile("a", 0, 0, 0.1)])
    assert math.isnan(result.recall)
    assert math.isnan(result.recall_by_size[0])
    assert result.efficiency == pytest.approx(0.9)
