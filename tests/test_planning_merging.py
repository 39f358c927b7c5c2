"""Merging regions into scans, and masks into what microscopes can do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox, bounding_box
from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.planning import mask_cover
from sparse_actors.planning.agglomeration import agglomerate
from sparse_actors.planning.exact_merging import best_partition
from sparse_actors.planning.merging import MergedPlan, MergedScan, Strategy, compile_merging, improve, merge
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
    lambda dwell_ns, *timing: (Imaging(FIELD, dwell_ns), ScanTiming(*timing)),
    st.floats(1, 1e6),
    st.floats(0, 1e4),
    st.floats(0, 1e3),
    st.floats(0.5, 3),
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
    return (
        timing.dwell_factor * imaging.dwell_ns * 1e-9,
        timing.row_overhead_us * 1e-6,
        timing.scan_overhead_ms * 1e-3,
    )


def corners_of(regions: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.hstack([regions[:, :2], regions[:, :2] + regions[:, 2:]])


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(regions=region_arrays(), model=models)
@settings(deadline=None)
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
@settings(deadline=None)
def test_the_order_of_the_regions_does_not_matter(
    strategy: Strategy, regions: NDArray[np.int64], model: Model, random: Random
) -> None:
    order = list(range(len(regions)))
    random.shuffle(order)
    twice = np.concatenate([regions[order], regions[:3]])
    assert merge(twice, strategy, *model) == merge(regions, strategy, *model)


@given(regions=region_arrays(), model=models)
@settings(deadline=None)
def test_predicted_time_is_that_of_the_scans(regions: NDArray[np.int64], model: Model) -> None:
    for strategy in ("bounding_box", "greedy"):
        plan = merge(regions, strategy, *model)
        assert plan.predicted_s == pytest.approx(total_s([scan.box for scan in plan.scans], model))
    mask = mask_of(regions)
    imaging, timing = model
    expected = timing.duration_s(int(mask.sum()), int(mask.any(axis=1).sum()), imaging.dwell_ns)
    assert merge(regions, "mask", *model).predicted_s == pytest.approx(expected if len(regions) else 0)


@given(regions=region_arrays())
@settings(deadline=None)
def test_bounding_boxes_are_those_of_the_paper(regions: NDArray[np.int64]) -> None:
    plan = merge(regions, "bounding_box", Imaging(FIELD, 100), ScanTiming())
    assert {scan.box for scan in plan.scans} == set(overlapping_merged(pixel_boxes(regions), None))


@given(regions=region_arrays(), model=models, random=st.randoms(use_true_random=False))
@settings(deadline=None)
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


def best_first_merged(corners: NDArray[np.int64], model: Model) -> NDArray[np.int64]:
    """Merge the two boxes that save most, until no two save anything, looking at all pairs."""
    dwell_s, row_s, overhead_s = model_s(model)

    def scans_s(corners: NDArray[np.int64]) -> NDArray[np.float64]:
        width, height = np.moveaxis(corners[..., 2:] - corners[..., :2], -1, 0)
        return width * height * dwell_s + height * row_s + overhead_s

    while True:
        first, other = np.triu_indices(len(corners), 1)
        a, b = corners[first], corners[other]
        both = np.hstack([np.minimum(a[:, :2], b[:, :2]), np.maximum(a[:, 2:], b[:, 2:])])
        saved_s = scans_s(a) + scans_s(b) - scans_s(both)
        if saved_s.max(initial=0) <= 1e-12:
            return corners
        best = saved_s.argmax()
        corners = np.vstack([np.delete(corners, [first[best], other[best]], axis=0), both[best]])


@pytest.mark.parametrize("field", [200, 600, 2000])
@pytest.mark.parametrize("model", REGIMES[::3], ids=str)
def test_the_search_among_near_boxes_misses_no_better_merging(model: Model, field: int) -> None:
    random = np.random.default_rng(field)
    for n in (2, 10, 80):
        corners = corners_of(random_regions(random, n, field, (1, 90)))
        groups = agglomerate(corners, model_s(model), False, True)
        hulls = [
            [*corners[groups == g, :2].min(axis=0), *corners[groups == g, 2:].max(axis=0)]
            for g in set(groups.tolist())
        ]
        assert sorted(hulls) == sorted(best_first_merged(corners, model).tolist())


def groupings(n: int) -> Iterator[list[list[int]]]:
    """Yield every way to put n boxes into groups."""
    if n == 0:
        yield []
        return
    for smaller in groupings(n - 1):
        yield [*smaller, [n - 1]]
        for k in range(len(smaller)):
            yield [*smaller[:k], [*smaller[k], n - 1], *smaller[k + 1 :]]


@given(region_arrays(), models)
@settings(max_examples=30, deadline=None)
def test_the_optimum_is_that_of_trying_everything(regions: NDArray[np.int64], model: Model) -> None:
    boxes = pixel_boxes(regions[:6])
    assume(boxes)
    time_s, groups = best_partition(corners_of(regions[:6]), model_s(model))
    least_s = min(
        sum(scan_s(bounding_box(boxes[i] for i in group), model) for group in grouping)
        for grouping in groupings(len(boxes))
    )
    assert time_s == pytest.approx(least_s)
    hulls = [bounding_box(boxes[i] for i in np.flatnonzero(groups == g)) for g in set(groups.tolist())]
    assert total_s(hulls, model) == pytest.approx(time_s)


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


def assert_near_the_optimum(instances: int) -> None:
    for model in REGIMES:
        ratios = ratios_to_the_optimum(model, instances, 12)
        assert ratios.min() > 1 - 1e-9
        assert ratios.mean() < 1.005, model


def test_improved_merging_is_near_the_optimum() -> None:
    assert_near_the_optimum(40)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_improved_merging_is_near_the_optimum_in_500_instances_of_each_regime() -> None:
    assert_near_the_optimum(500)


@pytest.mark.parametrize("model", REGIMES, ids=str)
def test_few_regions_are_merged_optimally(model: Model) -> None:
    random = np.random.default_rng(5)
    for field in (300, 1200, 3000):
        regions = random_regions(random, 12, field, (40, 150))
        plan = merge(regions, "greedy", *model)
        assert plan.strategy == "exact"
        assert plan.predicted_s == pytest.approx(best_partition(corners_of(regions), model_s(model))[0])


def test_time_left_improves_a_merging_and_never_worsens_it() -> None:
    model = (Imaging((6000, 6000), 32_000), ScanTiming(10, 1000))
    regions = random_regions(np.random.default_rng(0), 2100, 6000, (64, 64))
    plan = first = merge(regions, "greedy", *model)
    for seed in range(1, 6):
        better = improve(plan, regions, *model, seed=seed, work=3_000_000)
        assert better.predicted_s <= plan.predicted_s
        plan = better
    assert plan.predicted_s < first.predicted_s
    for region in pixel_boxes(regions):
        assert any(scan.box.contains(region) for scan in plan.scans)


def test_a_plan_of_other_regions_is_not_improved() -> None:
    model = (Imaging((600, 600), 1000), ScanTiming())
    random = np.random.default_rng(0)
    plan = merge(random_regions(random, 20, 600, (20, 20)), "greedy", *model)
    with pytest.raises(ValueError, match="not one for these regions"):
        improve(plan, random_regions(random, 20, 600, (20, 20)), *model, seed=1)


def test_a_mask_has_nothing_to_improve() -> None:
    model = (Imaging(FIELD, 1000), ScanTiming())
    regions = np.array([[0, 0, 10, 10], [5, 5, 10, 10]])
    plan = merge(regions, "mask", *model)
    assert improve(plan, regions, *model, seed=1) is plan


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_found_is_nothing_to_scan(strategy: Strategy) -> None:
    plan = merge(np.empty((0, 4), dtype=np.int64), strategy, Imaging(FIELD, 100), ScanTiming())
    assert plan == MergedPlan(strategy, (), 0.0)


@pytest.mark.parametrize("bad", [[-1, 0, 5, 5], [0, 0, 0, 5], [396, 0, 5, 5], [0, 299, 5, 2]])
def test_a_region_outside_the_field_is_refused(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="leaves the field of view"):
        merge(np.array([[1, 1, 5, 5], bad]), "greedy", Imaging(FIELD, 100), ScanTiming())


def test_many_regions_are_merged() -> None:
    model = (Imaging((16384, 16384), 32_000), ScanTiming(10, 200))
    regions = random_regions(np.random.default_rng(0), 10_000, 16384, (64, 64))
    plan = merge(regions, "greedy", *model)
    assert plan.strategy == "best first"
    assert plan.predicted_s < merge(regions, "bounding_box", *model).predicted_s
    whole = bounding_box(pixel_boxes(regions))
    quick = (Imaging((16384, 16384), 100), ScanTiming(10, 40))
    assert merge(regions, "greedy", *quick).scans == (MergedScan(whole),)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_compiling_ahead_leaves_nothing_to_compile(strategy: Strategy) -> None:
    compile_merging(strategy)
    compiled = [len(routine.signatures) for routine in (agglomerate, best_partition, regroup)]
    merge(
        random_regions(np.random.default_rng(0), 40, 300, (5, 40)),
        strategy,
        Imaging(FIELD, 100),
        ScanTiming(),
    )
    assert [len(routine.signatures) for routine in (agglomerate, best_partition, regroup)] == compiled


@given(region_arrays())
@settings(deadline=None)
def test_rectangles_cover_a_mask_once(regions: NDArray[np.int64]) -> None:
    count = np.zeros(FIELD[::-1], dtype=np.int64)
    for box in pixel_boxes(mask_cover.rectangles(regions)):
        count[box.slices] += 1
    assert (count == mask_of(regions)).all()


@given(region_arrays())
@settings(max_examples=25, deadline=None)
def test_pixels_and_rows_of_a_mask_are_counted(regions: NDArray[np.int64]) -> None:
    mask = mask_of(regions)
    assert mask_cover.pixels_and_rows(regions) == (mask.sum(), mask.any(axis=1).sum())


@given(region_arrays(), models)
@settings(deadline=None)
def test_a_mask_is_covered_by_rectangles(regions: NDArray[np.int64], model: Model) -> None:
    assume(len(regions))
    plan = merge(regions, "mask", *model, mask_form="mask as rectangles")
    assert plan.strategy == "mask as rectangles"
    assert sum(scan.box.area for scan in plan.scans) == mask_of(regions).sum()
    assert plan.predicted_s == pytest.approx(total_s([scan.box for scan in plan.scans], model))


@given(region_arrays(), models)
@settings(max_examples=25, deadline=None)
def test_a_stream_of_points_has_no_line_ends(regions: NDArray[np.int64], model: Model) -> None:
    assume(len(regions))
    imaging, timing = model
    plan, bitmap = (merge(regions, "mask", *model, mask_form=form) for form in ("mask as points", "mask"))
    assert plan.strategy == "mask as points"
    (scan,), (other,) = plan.scans, bitmap.scans
    assert scan.is_point_stream
    assert (scan.box, scan.mask_boxes) == (other.box, other.mask_boxes)
    expected_s = timing.duration_s(int(mask_of(regions).sum()), 0, imaging.dwell_ns)
    assert plan.predicted_s == pytest.approx(expected_s)


def test_one_rectangle_stays_one() -> None:
    assert mask_cover.rectangles(np.array([[2, 3, 5, 6], [4, 3, 9, 6]])).tolist() == [[2, 3, 11, 6]]
