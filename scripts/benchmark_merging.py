"""Merging regions into scans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from contest import Contest, Peer
from numpy.typing import NDArray

from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.planning.merging import MergedPlan, merge

REGION_PX = 64
COVERED = 0.15
"""Share of the field that the regions would cover if none overlapped."""
Boxes = NDArray[np.int64]
Total = tuple[float, Boxes]
"""Time of all scans in s, and the scans: left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class ScanModel:
    """What scanning costs."""

    dwell_ns: float
    timing: ScanTiming

    def duration_s(self, boxes: Any) -> Any:
        """Return the time of scanning boxes (..., 4) of left, top, right, bottom, by eq. 1."""
        width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
        return self.timing.duration_s(width * height, height, self.dwell_ns)

    def __str__(self) -> str:
        row_us, scan_ms = self.timing.row_overhead_us, self.timing.scan_overhead_ms
        return f"{self.dwell_ns:g} ns a pixel, {row_us:g} us a row, {scan_ms:g} ms a scan"


DEFAULT = ScanModel(3200, ScanTiming(row_overhead_us=20, scan_overhead_ms=5))
"""That of config.toml."""
QUICK_PIXELS = ScanModel(1000, ScanTiming(row_overhead_us=20, scan_overhead_ms=40))
"""Where a scan costs as much as many pixels, and regions far apart are better scanned together."""


def random_regions(seed: int, n: int) -> tuple[Boxes, int]:
    """Return n regions (n, 4) of left, top, width, height, and the side of their field."""
    field_px = int(REGION_PX * np.sqrt(n / COVERED))
    corners = np.random.default_rng(seed).integers(0, field_px - REGION_PX, (n, 2))
    return np.hstack([corners, np.full((n, 2), REGION_PX)]), field_px


def paper_greedy(regions: Boxes, model: ScanModel) -> Total:
    """Merge each pair of regions that overlap if that saves time (eqs. 2 and 3), until none is left.

    Every region is compared with all others at once, in numpy.
    """
    todo = list(_corners(regions))
    done, count = np.empty_like(regions), 0
    while todo:
        box = todo.pop()
        others = done[:count]
        union = np.hstack([np.minimum(others[:, :2], box[:2]), np.maximum(others[:, 2:], box[2:])])
        overlap = (others[:, :2] < box[2:]).all(axis=1) & (others[:, 2:] > box[:2]).all(axis=1)
        saves = model.duration_s(union) < model.duration_s(others) + model.duration_s(box)
        partners = np.flatnonzero(overlap & saves)
        if len(partners):
            todo.append(union[partners[0]])
            count -= 1
            done[partners[0]] = done[count]
        else:
            done[count] = box
            count += 1
    return float(model.duration_s(done[:count]).sum()), done[:count]


def optimum_s(regions: Boxes, model: ScanModel) -> float:
    """Return the least time of all ways to merge some 12 regions, by a programme over their subsets."""
    corners = _corners(regions)
    n = len(corners)
    parts = (corners[[bool(subset >> i & 1) for i in range(n)]] for subset in range(1, 1 << n))
    hulls = np.array([[*part[:, :2].min(axis=0), *part[:, 2:].max(axis=0)] for part in parts])
    scan_s = [0.0, *model.duration_s(hulls).tolist()]
    least_s = [0.0] * (1 << n)
    for subset in range(1, 1 << n):
        first = subset & -subset
        others = rest = subset ^ first
        best_s = scan_s[subset]
        while others:
            others = (others - 1) & rest
            best_s = min(best_s, scan_s[first | others] + least_s[rest ^ others])
        least_s[subset] = best_s
    return least_s[-1]


def _corners(regions: Boxes) -> Boxes:
    return np.hstack([regions[:, :2], regions[:, :2] + regions[:, 2:]])


@contextmanager
def against_paper(small: bool, seed: int, *, n: int, model: ScanModel = DEFAULT) -> Iterator[Contest]:
    """Merge n regions that lie at random."""
    regions, field_px = random_regions(seed, min(n, 200) if small else n)
    imaging = Imaging((field_px, field_px), model.dwell_ns)

    def problem(ours: MergedPlan, theirs: Total) -> str:
        boxes = np.array([[s.box.left, s.box.top, s.box.right, s.box.bottom] for s in ours.scans])
        if not np.isclose(model.duration_s(boxes).sum(), ours.predicted_s):
            return "the predicted time is not that of the scans"
        for region in _corners(regions):
            if not ((boxes[:, :2] <= region[:2]) & (boxes[:, 2:] >= region[2:])).all(axis=1).any():
                return "a region is not covered"
        return "" if ours.predicted_s <= theirs[0] * (1 + 1e-9) else "scanning takes longer"

    peer = Peer(
        "the paper's greedy merging in numpy",
        lambda: paper_greedy(regions, model),
        problem,
        agreement="all regions covered, in no more scan time",
        figures=lambda ours, theirs: {"scan_time_ratio": ours.predicted_s / theirs[0]},
    )
    yield Contest(
        f"{len(regions)} regions of {REGION_PX} px; {model}",
        lambda: merge(regions, "greedy", imaging, model.timing),
        (peer,),
    )


@contextmanager
def against_optimum(small: bool, seed: int, *, model: ScanModel = QUICK_PIXELS) -> Iterator[Contest]:
    """Merge 12 regions, for which every way to merge them can be tried."""
    regions, field_px = random_regions(seed, 8 if small else 12)
    imaging = Imaging((field_px, field_px), model.dwell_ns)

    def problem(ours: MergedPlan, least_s: float) -> str:
        return "" if np.isclose(ours.predicted_s, least_s) else f"{ours.predicted_s} s, not {least_s} s"

    peer = Peer(
        "the optimum in plain Python",
        lambda: optimum_s(regions, model),
        problem,
        agreement="same scan time",
        figures=lambda ours, least_s: {"scan_time_ratio": ours.predicted_s / least_s},
    )
    yield Contest(
        f"{len(regions)} regions of {REGION_PX} px; {model}",
        lambda: merge(regions, "greedy", imaging, model.timing),
        (peer,),
    )
