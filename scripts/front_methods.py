"""The methods that are compared: what each does with a fast image, and which parameters are tried.

A method is a fast scan, a function of the fast image and one set of parameters, and the sets of parameters
from the most careful to the most eager. To add one, add an entry to `methods`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from front_tiles import PAPER_NOISE, FastScan

from sparse_actors.contracts.detector import Pois
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan
from sparse_actors.evaluation.matching import Found, find
from sparse_actors.planning.placement import regions_covering
from sparse_actors.planning.regions import regions_around

PAPER_SCAN = FastScan(4, 32_000.0)
REGION_PX = 100
FITTED_MARGIN_PX = 12
Parameters = dict[str, Any]
Boxes = Any


@dataclass(frozen=True)
class Method:
    """One way from a fast image to regions."""

    scan: FastScan
    find: Callable[[Any, int, Parameters], Found]
    """From the fast image, its scale and one set of parameters."""
    families: tuple[tuple[Parameters, ...], ...]
    """Sets of parameters; within a family each finds more than the one before, and costs more."""
    regions: Callable[[Pois, tuple[int, int]], Boxes]
    reference: Parameters = field(default_factory=lambda: {"eps_px": 1.0, "min_points": 5})
    """Options of the paper's detector that finds the sites; threshold 55 where there is none."""


def methods(quick: bool) -> dict[str, Method]:
    """Return every method by its name; few parameters if it has to be quick."""
    found = {
        "paper-same-fast-scan": Method(PAPER_SCAN, by_clusters, clusters(quick), around),
        "paper-2-13-same-fast-scan": Method(
            PAPER_SCAN,
            by_clusters,
            clusters(quick, pairs=((2, 13),)),
            around,
            {"eps_px": 2.0, "min_points": 13},
        ),
        "free-windows-same-fast-scan": Method(PAPER_SCAN, by_clusters, clusters(quick), freely),
        "fitted-windows-same-fast-scan": Method(PAPER_SCAN, by_clusters, clusters(quick), fitted),
    }
    for noise in (1.0, 2.0, 5.0):
        for name, scale, dwell_ns in CO_DESIGN:
            scan, pairs = FastScan(scale, dwell_ns, noise), ((1, 5),) if scale > 1 else ((1, 5), (2, 10))
            tried = clusters(quick, pairs=pairs, smoothing=SMOOTHING[name])
            if name in ("half-pitch-8us", "full-pitch-2us"):
                found[f"{name}-noise-{noise:g}"] = Method(scan, by_clusters, tried, around)
            found[f"{name}-fitted-windows-noise-{noise:g}"] = Method(scan, by_clusters, tried, fitted)
    return found


CO_DESIGN = (
    ("half-pitch-8us", 2, 8_000.0),
    ("half-pitch-2us", 2, 2_000.0),
    ("full-pitch-2us", 1, 2_000.0),
    ("full-pitch-0.5us", 1, 500.0),
)
"""Fast scans of 1/16 and of 1/64 of the analysis scan."""
SMOOTHING = {
    "half-pitch-8us": (0.0,),
    "half-pitch-2us": (0.0, 0.5),
    "full-pitch-2us": (0.7, 1.2),
    "full-pitch-0.5us": (0.7, 1.2),
}
"""Standard deviations in fast pixels; the more pixels share the dose, the more of them are averaged."""
PAPER_PAIRS = ((1, 4), (1, 5), (2, 10), (2, 13))


def clusters(
    quick: bool,
    *,
    pairs: tuple[tuple[int, int], ...] = PAPER_PAIRS,
    smoothing: tuple[float, ...] = (0.0,),
) -> tuple[tuple[Parameters, ...], ...]:
    """Return the parameters of the paper's detector: a family for each eps, n_min and smoothing."""
    thresholds = range(45, 100, 6 if quick else 2)
    return tuple(
        tuple(
            {"threshold": float(threshold), "eps_px": float(eps), "min_points": n, "smoothing_px": smooth}
            for threshold in thresholds
        )
        for eps, n in pairs
        for smooth in smoothing
    )


def by_clusters(image: Any, scale: int, parameters: Parameters) -> Found:
    """Find what the paper's detector finds."""
    return find(_detector(tuple(parameters.items())), image, scale)


@cache
def _detector(options: tuple[tuple[str, Any], ...]) -> ThresholdDbscan:
    return ThresholdDbscan(**dict(options), threads=1)


def around(pois: Pois, field_px: tuple[int, int]) -> Boxes:
    """Place a window around each point, as the paper does."""
    return regions_around(pois, (REGION_PX, REGION_PX), field_px)


def freely(pois: Pois, field_px: tuple[int, int]) -> Boxes:
    """Place windows of the same size so that few of them show everything."""
    return regions_covering(pois, (REGION_PX, REGION_PX), field_px, FITTED_MARGIN_PX)


def fitted(pois: Pois, field_px: tuple[int, int]) -> Boxes:
    """Give each cluster a window of its own size, with a margin."""
    return regions_covering(pois, (1, 1), field_px, FITTED_MARGIN_PX)


def scans_of(names: dict[str, Method]) -> Iterator[float]:
    """Yield each noise level that some method has."""
    yield from sorted({method.scan.noise_grey for method in names.values()} | {PAPER_NOISE})
