"""Merging regions into scans, and masks into what scan generators accept."""

from __future__ import annotations

from itertools import permutations, product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox, bounding_box
from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.planning import mask_cover
from sparse_actors.planning.exact_merging import best_partition
from sparse_actors.planning.merging import MergedPlan, Strategy, improve, merge
from sparse_actors.planning.regrouping import regroup

STRATEGIES: tuple[Strategy, ...] = ("mask", "bounding_box", "greedy")
FIELD = (400, 300)
REGIMES = [
    (Imaging((3072, 3072), dwell_ns), ScanTiming(row_overhead_us=row_us, scan_overhead_ms=overhead_ms))
    for dwell_ns, overhead_ms, row_us in product((32_000, 1_000, 100), (40, 200, 1000), (0, 100))
]


@st.composite
def region_arrays(draw: st.DrawFn) -> NDArray[np.int64]:
    n = draw(st.integers(0, 30))
    regions = np.empty((n, 4), dtype=np.int64)
    for region in regions:
        region[2:] = draw(st.integers(1, 60)), draw(st.integers(1, 60))
        region[:2] = draw(st.integers(0, FIELD[0] - region[2])), draw(st.integers(0, FIELD[1] - region[3]))
    return regions


models = st.builds(
    lambda dwell_ns, row_us, overhead_ms: (Imaging(FIELD, dwell_ns), ScanTiming(row_us, overhead_ms)),
    st.floats(1, 1e6),
    st.floats(0, 1e4),
    st.floats(0, 1e3),
)
Model = tuple[Imaging, ScanTiming]


def random_regions(
    random: np.random.Generator, n: int, field: int, sizes: tuple[int, int]
) -> NDArray[np.int64]:
    size = random.integers(sizes[0], sizes[1] + 1, (n, 2))
    return np.hstack([(random.random((n, 2)) * (field - size)).astype(np.int64), size])


def scan_s(box: PixelBox, model: Model) -> float:
    imaging, timing = model
    return timing.duration_s(box.area, box.height, imaging.dwell_ns)


def total_s(boxes: list[PixelBox], model: Model) -> float:
    return sum(scan_s(box, model) for box in boxes)


def pixel_boxes(regions: NDArray[np.int64]) -> list[PixelBox]:
    return [PixelBox(*region) for region in regions.tolist()]


def overlapping_merged(boxes: list[PixelBox], model: Model | None) -> list[PixelBox]:
    """Merge overlapping pairs as they come: all (bounding box) or those that save time (greedy)."""
    boxes = list(boxes)
    k = 0
    while k < len(boxes):
        for other in boxes[:k]:
            both = other.union(boxes[k])
            if other.intersection(boxes[k]) and (
                model is None or scan_s(both, model) < scan_s(other, model) + scan_s(boxes[k], model)
            ):
                boxes = [both, *(box for box in boxes if box is not other and box is not boxes[k])]
                k = 0
                break
        else:
            k += 1
    return boxes


def mask_of(boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(FIELD[::-1], dtype=np.bool_)
    for box in pixel_boxes(boxes):
        mask[box.slices] = True
    return mask


def model_s(model: Model) -> tuple[float, float, float]:
    imaging, timing = model
    return imaging.dwell_ns * 1e-9, timing.row_overhead_us * 1e-6, timing.scan_overhead_ms * 1e-3


def corners_of(regions: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.hstack([regions[:, :2], regions[:, :2] + regions[:, 2:]])


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(regions=region_arrays(), model=models)
def test_every_region_is_covered_and_no_scan_leaves_the_field(
    strategy: Strategy, regions: NDArray[np.int64], model: Model
) -> None:
    plan = merge(regions, strategy, *model)
    whole = PixelBox(0, 0, *FIELD)
    assert all(whole.contains(scan.box) for scan in plan.scans)
    for region in pixel_boxes(regions):
        assert any(
            region in scan.mask_boxes if scan.mask_boxes else scan.box.contains(region) for scan in plan.scans
        )
    for scan in plan.scans:
        assert not scan.mask_boxes or bounding_box(scan.mask_boxes) == scan.box


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(regions=region_arrays(), model=models, random=st.randoms(use_true_random=False))
def test_the_order_of_the_regions_does_not_matter(
    strategy: Strategy, regions: NDArray[np.int64], model: Model, random: Random
) -> None:
    order = list(range(len(regions)))
    random.shuffle(order)
    twice = np.concatenate([regions[order], regions[:3]])
    assert merge(twice, strategy, *model) == merge(regions, strategy, *model)


@given(regions=region_arrays(), model=models)
def test_predicted_time_is_that_of_the_scans(regions: NDArray[np.int64], model: Model) -> None:
    for strategy in ("bounding_box", "greedy"):
        plan = merge(regions, strategy, *model)
        assert plan.predicted_s == pytest.approx(total_s([scan.box for scan in plan.scans], model))
    mask = mask_of(regions)
    imaging, timing = model
    expected = timing.duration_s(int(mask.sum()), int(mask.any(axis=1).sum()), imaging.dwell_ns)
    assert merge(regions, "mask", *model).predicted_s == pytest.approx(expected if len(regions) else 0)


@given(regions=region_arrays())
def test_bounding_boxes_are_those_of_the_paper(regions: NDArray[np.int64]) -> None:
    plan = merge(regions, "bounding_box", Imaging(FIELD, 100), ScanTiming())
    assert {scan.box for scan in plan.scans} == set(overlapping_merged(pixel_boxes(regions), None))


@given(regions=region_arrays(), model=models, random=st.randoms(use_true_random=False))
def test_greedy_is_no_worse_than_any_strategy_of_the_paper(
    regions: NDArray[np.int64], model: Model, random: Random
) -> None:
    boxes = pixel_boxes(regions)
    random.shuffle(boxes)
    greedy_s = merge(regions, "greedy", *model).predicted_s * (1 - 1e-9)
    assert greedy_s <= merge(regions, "bounding_box", *model).predicted_s
    if boxes:
        assert greedy_s <= scan_s(bounding_box(boxes), model)
        assert greedy_s <= total_s(overlapping_merged(boxes, None), model)
    if len(boxes) <= 12:
        # Beyond, greedy merging of pairs in some lucky order could win.
        assert greedy_s <= total_s(overlapping_merged(boxes, model), model)


def assert_no_worse_than_the_paper(tiles: int) -> None:
    random = np.random.default_rng(7)
    for tile in range(tiles):
        model = REGIMES[tile % len(REGIMES)]
        n, size = int(random.integers(13, 120)), int(random.choice([32, 64, 128]))
        regions = random_regions(random, n, int(random.choice([600, 1500, 3072])), (size, size))
        greedy_s = merge(regions, "greedy", *model).predicted_s * (1 - 1e-9)
        boxes = sorted(pixel_boxes(np.unique(regions, axis=0)), key=lambda box: (box.top, box.left))
        assert greedy_s <= total_s(overlapping_merged(boxes, None), model)
        assert greedy_s <= total_s(overlapping_merged(boxes, model), model)
        assert greedy_s <= scan_s(bounding_box(boxes), model)


def test_greedy_is_no_worse_than_the_paper_on_random_tiles() -> None:
    assert_no_worse_than_the_paper(60)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_greedy_is_no_worse_than_the_paper_on_2000_random_tiles() -> None:
    assert_no_worse_than_the_paper(2000)


@given(region_arrays(), models)
@settings(max_examples=40)
def test_the_optimum_is_that_of_trying_everything(regions: NDArray[np.int64], model: Model) -> None:
    regions = regions[:6]
    if len(regions) == 0:
        return
    boxes = pixel_boxes(regions)
    everything_s = min(
        sum(scan_s(bounding_box([boxes[i] for i in range(len(boxes)) if groups[i] == g]), model)
            for g in set(groups))
        for groups in product(range(len(boxes)), repeat=len(boxes))
        if groups[0] == 0 and len(boxes) <= 5 or groups == tuple(sorted(groups))
    )
    time_s, groups = best_partition(corners_of(regions), model_s(model))
    assert time_s == pytest.approx(
        total_s([bounding_box([boxes[i] for i in np.flatnonzero(groups == g)]) for g in set(groups)], model)
    )
    assert time_s <= everything_s * (1 + 1e-9)


def ratios_to_the_optimum(model: Model, instances: int, boxes: int) -> NDArray[np.float64]:
    """Return the improved best-first merging beside the optimum, for boxes in fields of all densities."""
    random = np.random.default_rng(3)
    ratios = np.empty(instances)
    for k in range(instances):
        regions = random_regions(random, boxes, int(random.choice([300, 600, 1200, 3000])), (40, 150))
        corners = corners_of(regions)
        optimum_s, _ = best_partition(corners, model_s(model))
        improved = regroup(corners, np.arange(boxes), model_s(model), 8, 10_000_000, 0)
        hulls = [bounding_box(pixel_boxes(regions[improved == g])) for g in set(improved.tolist())]
        ratios[k] = total_s(hulls, model) / optimum_s
    return ratios
