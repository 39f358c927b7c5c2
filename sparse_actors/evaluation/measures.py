"""Detection rate, efficiency and time of an operating point: eqs. 4 to 6 of the SPARSE paper.

Each tile gives counts and times, which add up over tiles. Uncertainty is that between tiles: they are drawn
again at random, with replacement (bootstrap), as sites of one tile are more alike than those of two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.planning.mask_cover import pixels_and_rows
from sparse_actors.planning.merging import MaskForm, Strategy, merge

from .matching import Found, Sites

SIZE_BINS_PX = (1, 5, 10, 20, 50, 100, 200)
"""Sites by their area: each bin begins here and ends before the next; the last is open."""
RESAMPLES = 2000
CONFIDENCE = 0.95
Boxes = NDArray[np.int64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanning:
    """How a tile is scanned, for the time it takes."""

    fast: Imaging
    analysis: Imaging
    """Both with the `size_px` of the tile at hand."""
    timing: ScanTiming
    partitions: int
    merging: Strategy
    mask_form: MaskForm = "mask"

    @property
    def conventional_s(self) -> float:
        """Time of one analysis scan of the tile."""
        width, height = self.analysis.size_px
        return self.timing.duration_s(width * height, height, self.analysis.dwell_ns)

    @property
    def fast_s(self) -> float:
        """Time of the fast scan, partition by partition: of P = s^2, the rows are scanned s times."""
        width, height = self.fast.size_px
        across = math.isqrt(self.partitions) if self.partitions > 2 else 1
        overheads = self.timing.scan_overhead_ms * 1e-3 * (self.partitions - 1)
        return self.timing.duration_s(width * height, height * across, self.fast.dwell_ns) + overheads

    @property
    def fast_share(self) -> float:
        """Dwell time of the fast scan relative to that of the analysis scan: the 1/16 of eq. 6."""
        (w, h), (width, height) = self.fast.size_px, self.analysis.size_px
        return w * h * self.fast.dwell_ns / (width * height * self.analysis.dwell_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileScore:
    """What one operating point does on one tile."""

    tile: str
    sites: int
    found: int
    whole: int
    """Sites with every pixel in a rescanned region: found is not yet seen as a whole."""
    sites_by_size: tuple[int, ...]
    found_by_size: tuple[int, ...]
    """By `SIZE_BINS_PX`."""
    detections: int
    area_px: int
    """Of the tile."""
    rescanned_px: int
    ideal_px: int
    """What would be rescanned if exactly the sites were found."""
    fast_share: float
    scan_s: float
    """Fast scan and rescans by the full time model (eq. 1), merging included."""
    conventional_s: float
    found_bits: str = ""
    """Which of the sites were found: bits, the first site's the highest of the first byte, as hex digits."""

    @property
    def is_found(self) -> NDArray[np.bool_] | None:
        """(sites,); None where an earlier version counted them only."""
        if self.sites and not self.found_bits:
            return None
        packed = np.frombuffer(bytes.fromhex(self.found_bits), np.uint8)
        return np.unpackbits(packed, count=self.sites).astype(np.bool_)

    def to_json(self) -> dict[str, Any]:
        """Return it by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TileScore:
        """Read what `to_json` gave; raises TypeError where it is not that."""
        values = {entry.name: data[entry.name] for entry in fields(cls) if entry.name != "found_bits"}
        values["found_bits"] = data.get("found_bits", "")
        for name in ("sites_by_size", "found_by_size"):
            values[name] = tuple(values[name])
        return cls(**values)


def score(
    tile: str, sites: Sites, found: Found, regions: Boxes, ideal: Boxes, scanning: Scanning
) -> TileScore:
    """Judge what was found in the fast image of a tile.

    Parameters
    ----------
    tile
        Its name.
    sites
        The reference.
    found
        The detections, on the analysis grid.
    regions, ideal
        (n, 4) around the detections, and around the sites themselves.
    scanning
        What scans of this tile cost.
    """
    rows, columns = sites.shape
    is_found = sites.overlapped(found.painted(sites.shape))
    bins = np.searchsorted(SIZE_BINS_PX, sites.area_px, "right") - 1
    plan = merge(regions, scanning.merging, scanning.analysis, scanning.timing, mask_form=scanning.mask_form)
    return TileScore(
        tile=tile,
        sites=len(sites),
        found=int(is_found.sum()),
        whole=int((is_found & sites.inside(regions)).sum()),
        sites_by_size=_counts(bins),
        found_by_size=_counts(bins[is_found]),
        detections=len(found.pois),
        area_px=rows * columns,
        rescanned_px=pixels_and_rows(regions)[0],
        ideal_px=pixels_and_rows(ideal)[0],
        fast_share=scanning.fast_share,
        scan_s=scanning.fast_s + plan.predicted_s,
        conventional_s=scanning.conventional_s,
        found_bits=np.packbits(is_found).tobytes().hex(),
    )


def _counts(bins: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(np.bincount(bins, minlength=len(SIZE_BINS_PX)).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """An operating point over all tiles, each figure with its 95 % confidence interval."""

    tiles: int
    sites: int
    found: int
    recall: float
    """Detection rate, eq. 4; not a number where there are no sites."""
    recall_ci: Interval
    efficiency: float
    """Eq. 5."""
    efficiency_ci: Interval
    max_efficiency: float
    """If exactly the sites were found."""
    total_time: float
    """Relative to a conventional scan, by eq. 6: dwell time alone."""
    total_time_ci: Interval
    full_time: float
    """The same by the full time model, with flybacks and the overhead of every scan."""
    full_time_ci: Interval
    whole: float
    """Share of the sites that were found and lie in a rescanned region with every pixel."""
    recall_by_size: tuple[float, ...]
    """By `SIZE_BINS_PX`; not a number where there are no such sites."""
    sites_by_size: tuple[int, ...]
    detections_per_tile: float


def measures(scores: Sequence[TileScore], seed: int = 0) -> Measures:
    """Add up tiles; the bootstrap draws them with this seed."""
    columns = ("sites", "found", "whole", "area_px", "rescanned_px", "ideal_px", "scan_s", "conventional_s")
    table = {name: np.array([getattr(s, name) for s in scores], np.float64) for name in columns}
    table["fast_px"] = np.array([s.fast_share * s.area_px for s in scores])
    by_size = np.array([s.sites_by_size for s in scores]).sum(axis=0)
    found_by_size = np.array([s.found_by_size for s in scores]).sum(axis=0)
    draws = np.random.default_rng(seed).integers(0, len(scores), (RESAMPLES, len(scores)))

    def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> tuple[float, Interval]:
        total = float(denominator.sum())
        if not total:
            return math.nan, (math.nan, math.nan)
        drawn = denominator[draws].sum(axis=1)
        values = numerator[draws].sum(axis=1)[drawn > 0] / drawn[drawn > 0]
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(numerator.sum()) / total, (float(low), float(high))

    sites, found = int(table["sites"].sum()), int(table["found"].sum())
    recall, recall_ci = ratio(table["found"], table["sites"])
    if sites and (found in (0, sites) or len(scores) == 1):
        recall_ci = wilson(found, sites)  # a bootstrap of what is all alike shows no doubt
    saved, saved_ci = ratio(table["area_px"] - table["rescanned_px"], table["area_px"])
    time, time_ci = ratio(table["fast_px"] + table["rescanned_px"], table["area_px"])
    full, full_ci = ratio(table["scan_s"], table["conventional_s"])
    with np.errstate(invalid="ignore"):
        size_recall = found_by_size / by_size
    return Measures(
        tiles=len(scores),
        sites=sites,
        found=found,
        recall=recall,
        recall_ci=recall_ci,
        efficiency=saved,
        efficiency_ci=saved_ci,
        max_efficiency=1 - float(table["ideal_px"].sum() / table["area_px"].sum()),
        total_time=time,
        total_time_ci=time_ci,
        full_time=full,
        full_time_ci=full_ci,
        whole=float(table["whole"].sum()) / sites if sites else math.nan,
        recall_by_size=tuple(size_recall.tolist()),
        sites_by_size=tuple(by_size.tolist()),
        detections_per_tile=sum(s.detections for s in scores) / len(scores),
    )


def wilson(hits: int, of: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the confidence interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, square = hits / of, z * z / of
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / of + square / (4 * of))
    # At the ends the limits are exact, which rounding would lose.
    return 0.0 if hits == 0 else middle - half, 1.0 if hits == of else middle + half
