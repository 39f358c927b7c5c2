"""Merging of regions into scans: the strategies of section 2.4.3 of the SPARSE paper, and better ones.

A merging is a grouping of the regions; the bounding box of each group is scanned. The compiled parts
are imported where they are used, because numba loads slowly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Capabilities
from sparse_actors.geometry import PixelBox
from sparse_actors.imaging import Imaging, ScanTiming

Strategy = Literal["mask", "bounding_box", "greedy"]
MaskForm = Literal["mask", "mask as points", "mask as rectangles"]
"""What a mask becomes: one scan of a bitmap, one of a stream of points, or disjoint scans that cover it."""
Boxes = NDArray[np.int64]
"""(n, 4): left, top, width, height in px of the field of view."""
Groups = NDArray[np.int64]
"""(n,): a number for each region, the same for regions that are scanned together."""

ATOMS = 8
MORE_ATOMS = 11
"""Size of the parts that are solved exactly to improve a merging: many small ones, then few larger ones."""
MOST_REGROUPED = 1000
"""Of more regions `merge` improves nothing: it would take longer than merging them."""
SWEEP_WORK = 6_000_000
"""Most steps of such an improvement, some 10 ms."""
RANDOM_WORK = 3_000_000
"""Steps of each random search that follows, some 3 ms."""


@dataclass(frozen=True, slots=True)
class MergedScan:
    """One scan: a box, or within it the union of some boxes (a mask)."""

    box: PixelBox
    mask_boxes: tuple[PixelBox, ...] = ()
    is_point_stream: bool = False


@dataclass(frozen=True, slots=True)
class MergedPlan:
    """How a set of regions is scanned."""

    strategy: str
    """The merging that was used; for `greedy` the one that won, for `mask` its form."""
    scans: tuple[MergedScan, ...]
    """Ordered by top, left, height, width."""
    predicted_s: float
    """Time of all scans by eq. 1."""


def merge(
    regions: Boxes, strategy: Strategy, imaging: Imaging, timing: ScanTiming, *, mask_form: MaskForm = "mask"
) -> MergedPlan:
    """Combine regions into scans that take little time.

    Parameters
    ----------
    regions
        (n, 4) of int64, inside the field of view of `imaging`, in any order.
    strategy
        `mask`: exactly the union of all, in the form `mask_form`.
        `bounding_box`: regions that overlap become their bounding box, until none overlap.
        `greedy`: the least of those below, the optimum for few regions.
    imaging, timing
        The analysis parameters and the costs of eq. 1.
    mask_form
        The best that the microscope can do, see `mask_form_for`.

    Returns
    -------
    MergedPlan
        Every region lies within one scan or mask. The same for any order of the regions. Its strategy
        for `greedy` is one of `exact`, `best first` (any two that save time, the best first),
        `overlapping pairs` (the paper's greedy merging), `bounding box`, `one scan`, and
        `regrouped`, which improves on the best of them.

    Raises
    ------
    ValueError
        For a region that is empty or leaves the field of view.
    """
    corners = _unique_corners(regions, imaging.size_px)
    if len(corners) == 0:
        return MergedPlan(strategy=strategy, scans=(), predicted_s=0.0)
    if strategy == "mask":
        return _mask(corners, imaging, timing, mask_form)
    model = _model(imaging, timing)
    if strategy == "bounding_box":
        return _plan("bounding_box", corners, _overlapping(corners), model)
    return _least(corners, model)


def mask_form_for(microscope: Capabilities) -> MaskForm:
    """Return the form in which a microscope is given masks: the first that it has."""
    if microscope.mask_scan:
        return "mask"
    return "mask as points" if microscope.point_scan else "mask as rectangles"


def improve(
    plan: MergedPlan,
    regions: Boxes,
    imaging: Imaging,
    timing: ScanTiming,
    *,
    seed: int,
    work: int = 10_000_000,
) -> MergedPlan:
    """Look for a better `greedy` merging of the same regions, while there is time.

    Parameters
    ----------
    plan
        What `merge` or an earlier call returned for these regions.
    regions, imaging, timing
        As given to `merge`.
    seed
        Another for every call, since each looks at other random parts.
    work
        Steps to spend: 10 million take some 15 ms.

    Returns
    -------
    MergedPlan
        `plan` itself, or one that takes less time.

    Raises
    ------
    ValueError
        If the plan leaves out a region.
    """
    from .exact_merging import MOST_BOXES
    from .regrouping import MOST_SEED, regroup

    corners = _unique_corners(regions, imaging.size_px)
    if len(corners) <= MOST_BOXES or any(scan.mask_boxes for scan in plan.scans):
        return plan
    groups = np.full(len(corners), -1, dtype=np.int64)
    for number, scan in enumerate(plan.scans):
        box = scan.box
        inside = (corners[:, :2] >= (box.left, box.top)).all(axis=1)
        inside &= (corners[:, 2:] <= (box.right, box.bottom)).all(axis=1)
        groups[inside] = number
    if (groups < 0).any() or len(plan.scans) > len(corners):
        raise ValueError("the plan is not one for these regions")
    model = _model(imaging, timing)
    better = _plan(
        "regrouped",
        corners,
        regroup(corners, groups, model, MORE_ATOMS, work, 1 + seed % MOST_SEED),
        model,
    )
    return better if better.predicted_s < plan.predicted_s else plan


def compile_merging(strategy: Strategy) -> None:
    """Have the routines of a strategy compiled: seconds the first time on a computer, then nothing."""
    corner = np.arange(0, 40, 2)  # more regions than are merged exactly
    regions = np.stack([corner, corner, np.full_like(corner, 3), np.full_like(corner, 3)], axis=1)
    merge(regions, strategy, Imaging((64, 64), 1000), ScanTiming(scan_overhead_ms=1))


def _least(corners: Boxes, model: tuple[float, float, float]) -> MergedPlan:
    """Return the merging that takes least time of all we know."""
    from .agglomeration import agglomerate
    from .exact_merging import MOST_BOXES, best_partition
    from .regrouping import regroup

    if len(corners) <= MOST_BOXES:
        return _plan("exact", corners, best_partition(corners, model)[1], model)
    best_first = agglomerate(corners, model, False, True)
    pairs = agglomerate(corners, model, True, False)
    candidates = {
        "one scan": np.zeros_like(pairs),
        # What overlaps may be merged in any order, hence from the pairs merged already.
        "bounding box": _overlapping(_hulls(corners, pairs))[pairs],
        "overlapping pairs": pairs,
        "best first": best_first,
    }
    if len(corners) <= MOST_REGROUPED:
        # From fine, coarse and arbitrary beginnings, which end in different local optima.
        improved = [
            regroup(corners, candidates[name], model, ATOMS, SWEEP_WORK, 0)
            for name in ("best first", "one scan", "overlapping pairs")
        ]
        best = min(improved, key=lambda groups: _time_s(_hulls(corners, groups), model))
        for atoms in (ATOMS, MORE_ATOMS):
            best = regroup(corners, best, model, atoms, RANDOM_WORK, 1)
        candidates["regrouped"] = best
    name = min(candidates, key=lambda name: _time_s(_hulls(corners, candidates[name]), model))
    return _plan(name, corners, candidates[name], model)


def _overlapping(corners: Boxes) -> Groups:
    """Group what overlaps, until the bounding boxes of no two groups do."""
    from .agglomeration import agglomerate

    # Where pixels and rows cost nothing, any two boxes that overlap are better scanned as one.
    groups: Groups = agglomerate(corners, (0.0, 0.0, 1.0), True, False)
    return groups


def _mask(corners: Boxes, imaging: Imaging, timing: ScanTiming, form: MaskForm) -> MergedPlan:
    from . import mask_cover

    boxes = corners.copy()
    boxes[:, 2:] -= boxes[:, :2]
    if form == "mask as rectangles":
        cover = mask_cover.rectangles(boxes)
        cover[:, 2:] += cover[:, :2]
        return _plan(form, cover, np.arange(len(cover)), _model(imaging, timing))
    (hull,) = _pixel_boxes(_hulls(corners, np.zeros(len(corners), dtype=np.int64)))
    is_point_stream = form == "mask as points"
    scan = MergedScan(hull, _pixel_boxes(corners), is_point_stream)
    pixels, rows = mask_cover.pixels_and_rows(boxes)
    duration_s = timing.duration_s(pixels, 0 if is_point_stream else rows, imaging.dwell_ns)
    return MergedPlan(form, (scan,), duration_s)


def _plan(name: str, corners: Boxes, groups: Groups, model: tuple[float, float, float]) -> MergedPlan:
    hulls = _ordered(_hulls(corners, groups))
    scans = tuple(MergedScan(box) for box in _pixel_boxes(hulls))
    return MergedPlan(strategy=name, scans=scans, predicted_s=_time_s(hulls, model))


def _time_s(corners: Boxes, model: tuple[float, float, float]) -> float:
    """Return the time of scanning each of some boxes, by eq. 1."""
    dwell_s, row_s, overhead_s = model
    widths, heights = (corners[:, 2:] - corners[:, :2]).T
    return float((widths * heights).sum() * dwell_s + heights.sum() * row_s + len(corners) * overhead_s)


def _model(imaging: Imaging, timing: ScanTiming) -> tuple[float, float, float]:
    """Return t_dwell, t_row and t_overhead of eq. 1 in s."""
    dwell_s = timing.dwell_factor * imaging.dwell_ns * 1e-9
    return dwell_s, timing.row_overhead_us * 1e-6, timing.scan_overhead_ms * 1e-3


def _unique_corners(regions: Boxes, field_px: tuple[int, int]) -> Boxes:
    """Return left, top, right, bottom of each different region, ordered by top, left, bottom, right."""
    corners = np.array(regions, dtype=np.int64).reshape(-1, 4)
    is_bad = (corners[:, 2:] < 1).any(axis=1)
    corners[:, 2:] += corners[:, :2]
    is_bad |= (corners[:, :2] < 0).any(axis=1) | (corners[:, 2:] > field_px).any(axis=1)
    if is_bad.any():
        left, top, right, bottom = corners[is_bad.argmax()]
        raise ValueError(
            f"region {left}, {top} to {right}, {bottom} px is empty or leaves the field of view {field_px}"
        )
    corners = _ordered(corners)
    is_new = np.ones(len(corners), dtype=np.bool_)
    is_new[1:] = (corners[1:] != corners[:-1]).any(axis=1)
    return corners[is_new]


def _hulls(corners: Boxes, groups: Groups) -> Boxes:
    """Return the bounding box of each group, as corners."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    members = corners[order]
    return np.hstack(
        [np.minimum.reduceat(members[:, :2], starts), np.maximum.reduceat(members[:, 2:], starts)]
    )


def _ordered(corners: Boxes) -> Boxes:
    left, top, right, bottom = corners.T
    return np.ascontiguousarray(corners[np.lexsort((right, bottom, left, top))])


def _pixel_boxes(corners: Boxes) -> tuple[PixelBox, ...]:
    return tuple(
        PixelBox(left, top, right - left, bottom - top) for left, top, right, bottom in corners.tolist()
    )
