"""Merging of regions into scans: the strategies of section 2.4.3 of the SPARSE paper, and better ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..geometry import PixelBox
from ..imaging import Imaging, ScanTiming

Strategy = Literal["mask", "bounding_box", "greedy"]
Boxes = NDArray[np.int64]
"""(n, 4): left, top, width, height in px of the field of view."""


@dataclass(frozen=True, slots=True)
class MergedScan:
    """One scan: a box, or within it the union of some boxes (a mask)."""

    box: PixelBox
    mask_boxes: tuple[PixelBox, ...] = ()


@dataclass(frozen=True, slots=True)
class MergedPlan:
    """How a set of regions is scanned."""

    strategy: str
    """The merging that was used; for `greedy` the candidate that won."""
    scans: tuple[MergedScan, ...]
    """Ordered by top, left, height, width."""
    predicted_s: float
    """Time of all scans by eq. 1."""


def merge(regions: Boxes, strategy: Strategy, imaging: Imaging, timing: ScanTiming) -> MergedPlan:
    """Combine regions into as few seconds of scanning as the strategy knows how to.

    Parameters
    ----------
    regions
        (n, 4) of int64, inside the field of view of `imaging`, in any order.
    strategy
        `mask`: one scan of the union of all. `bounding_box`: regions that overlap become their
        bounding box, until none overlap. `greedy`: the least of merging any two that save time,
        best first; the paper's greedy merging, which looks at overlapping pairs only;
        `bounding_box`; and one scan around all regions.
    imaging, timing
        The analysis parameters and the costs of eq. 1.

    Returns
    -------
    MergedPlan
        Every region lies within one scan (or its mask); the same for any order of the regions.

    Raises
    ------
    ValueError
        For a region that is empty or leaves the field of view.
    """
    regions = np.asarray(regions, dtype=np.int64).reshape(-1, 4)
    if len(regions) == 0:
        return MergedPlan(strategy=strategy, scans=(), predicted_s=0.0)
    corners = _unique_corners(regions, imaging.size_px)
    if strategy == "mask":
        return _mask(corners, imaging, timing)
    from .agglomeration import agglomerate  # numba loads slowly, and --help does not need it

    model = (imaging.dwell_ns * 1e-9, timing.row_overhead_us * 1e-6, timing.scan_overhead_ms * 1e-3)
    candidates = {"bounding box": _hulls(corners, agglomerate(corners, 0.0, 0.0, 1.0, True, False))}
    if strategy == "greedy":
        candidates["one scan"] = _hulls(corners, np.zeros(len(corners), dtype=np.int64))
        candidates["overlapping pairs"] = _hulls(corners, agglomerate(corners, *model, True, False))
        candidates["best first"] = _hulls(corners, agglomerate(corners, *model, False, True))
    times = {name: _time_s(boxes, model) for name, boxes in candidates.items()}
    best = min(times, key=times.__getitem__)
    return MergedPlan(
        strategy=best if strategy == "greedy" else strategy,
        scans=tuple(MergedScan(box) for box in _pixel_boxes(candidates[best])),
        predicted_s=times[best],
    )


def _unique_corners(regions: Boxes, field_px: tuple[int, int]) -> Boxes:
    """Return left, top, right, bottom of each different region, ordered by top, left, bottom, right."""
    corners = regions.copy()
    corners[:, 2:] += corners[:, :2]
    bad = (regions[:, 2:] < 1).any(axis=1) | (corners[:, :2] < 0).any(axis=1)
    bad |= (corners[:, 2:] > np.array(field_px)).any(axis=1)
    if bad.any():
        raise ValueError(f"region {regions[bad.argmax()]} is empty or leaves the field of {field_px} px")
    swap = [1, 0, 3, 2]
    return np.ascontiguousarray(np.unique(corners[:, swap], axis=0)[:, swap])


def _hulls(corners: Boxes, groups: NDArray[np.int64]) -> Boxes:
    """Return the bounding box of each group, as corners, ordered like `_unique_corners`."""
    _, number = np.unique(groups, return_inverse=True)
    hulls = np.empty((number.max() + 1, 4), dtype=np.int64)
    hulls[:, :2], hulls[:, 2:] = np.iinfo(np.int64).max, 0
    np.minimum.at(hulls[:, :2], number, corners[:, :2])
    np.maximum.at(hulls[:, 2:], number, corners[:, 2:])
    swap = [1, 0, 3, 2]
    return np.unique(hulls[:, swap], axis=0)[:, swap]


def _time_s(corners: Boxes, model: tuple[float, float, float]) -> float:
    dwell_s, row_s, overhead_s = model
    widths, heights = (corners[:, 2:] - corners[:, :2]).T
    return float((widths * heights).sum() * dwell_s + heights.sum() * row_s + len(corners) * overhead_s)


def _pixel_boxes(corners: Boxes) -> tuple[PixelBox, ...]:
    return tuple(PixelBox(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners.tolist())


def _mask(corners: Boxes, imaging: Imaging, timing: ScanTiming) -> MergedPlan:
    hull = _hulls(corners, np.zeros(len(corners), dtype=np.int64))
    left, top, right, bottom = hull[0]
    mask = np.zeros((bottom - top, right - left), dtype=np.bool_)
    for x0, y0, x1, y1 in corners - [left, top, left, top]:
        mask[y0:y1, x0:x1] = True
    pixels, rows = int(mask.sum()), int(mask.any(axis=1).sum())
    return MergedPlan(
        strategy="mask",
        scans=(MergedScan(_pixel_boxes(hull)[0], _pixel_boxes(corners)),),
        predicted_s=timing.duration_s(pixels, rows, imaging.dwell_ns),
    )
