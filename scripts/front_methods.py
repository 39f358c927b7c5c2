"""The methods that are compared: what each does with a fast image, and which parameters are tried.

A method is a fast scan, a function of the fast image and one set of parameters, and the sets of parameters
from the most careful to the most eager. To add one, add an entry to `methods`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from front_tiles import FastScan

from sparse_actors.contracts.detector import Pois
from sparse_actors.detection.scored_candidates import ScoredCandidates
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
            clusters(quick),
            around,
            {"eps_px": 2.0, "min_points": 13},
        ),
        "free-windows-same-fast-scan": Method(PAPER_SCAN, by_clusters, clusters(quick), freely),
        "fitted-windows-same-fast-scan": Method(PAPER_SCAN, by_clusters, clusters(quick), fitted),
        "candidates-same-fast-scan": Method(PAPER_SCAN, by_candidates, scores(quick), around),
        "candidates-fitted-windows-same-fast-scan": Method(PAPER_SCAN, by_candidates, scores(quick), fitted),
    }
    for noise in NOISES_GREY:
        for name, scan_of, smoothing in CO_DESIGN:
            scan = scan_of(noise)
            tried = clusters(quick, CO_DESIGN_THRESHOLDS, ((1, 5),), smoothing)
            found[f"{name}-noise-{noise:g}"] = Method(scan, by_clusters, tried, around)
            found[f"{name}-fitted-windows-noise-{noise:g}"] = Method(scan, by_clusters, tried, fitted)
    return found


def methods_for_samples() -> dict[str, Method]:
    """Return the methods that images allow whose fast scans are sampled from them: all of coarser pitch.

    The scorer of candidates that comes with the program knows the simulated steel only.
    """
    found = {
        name: method
        for name, method in methods(False).items()
        if method.scan.scale > 1 and method.find is not by_candidates
    }
    return {name: method for name, method in found.items() if "noise" not in name or name.endswith("-2")}


NOISES_GREY = (1.0, 2.0, 5.0)
CO_DESIGN: tuple[tuple[str, Callable[[float], FastScan], tuple[float, ...]], ...] = (
    ("half-pitch-8us", partial(FastScan, 2, 8_000.0), (0.0,)),
    ("full-pitch-2us", partial(FastScan, 1, 2_000.0), (0.7,)),
    ("full-pitch-0.5us", partial(FastScan, 1, 500.0), (0.7, 1.2)),
)
"""Fast scans of 1/16 and of 1/64 of the analysis scan, and standard deviations (fast pixels) of a blur: the
more pixels share the dose, the more of them are averaged."""
CO_DESIGN_THRESHOLDS = range(49, 86, 2)
THRESHOLDS = range(45, 100, 2)
PAPER_PAIRS = ((1, 4), (1, 5), (2, 10), (2, 13))


def clusters(
    quick: bool,
    thresholds: range = THRESHOLDS,
    pairs: tuple[tuple[int, int], ...] = PAPER_PAIRS,
    smoothing: tuple[float, ...] = (0.0,),
) -> tuple[tuple[Parameters, ...], ...]:
    """Return the parameters of the paper's detector: a family for each eps, n_min and smoothing."""
    return tuple(
        tuple(
            {"threshold": float(threshold), "eps_px": float(eps), "min_points": n, "smoothing_px": smooth}
            for threshold in (thresholds[::4] if quick else thresholds)
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


SCORES = (
    0.7,
    0.5,
    0.3,
    0.2,
    0.1,
    0.05,
    0.03,
    0.02,
    0.01,
    5e-3,
    2e-3,
    1e-3,
    5e-4,
    2e-4,
    1e-4,
    5e-5,
    2e-5,
    1e-5,
)


def scores(quick: bool) -> tuple[tuple[Parameters, ...], ...]:
    """Return the least scores of a candidate that are tried."""
    return (tuple({"min_score": score} for score in (SCORES[::3] if quick else SCORES)),)


def by_candidates(image: Any, scale: int, parameters: Parameters) -> Found:
    """Find what the scorer that comes with the program takes for a site; it has seen other tiles only."""
    pois = _every_candidate(image.shape, image.tobytes(), scale)
    kept = pois.score >= parameters["min_score"]
    return Found(Pois(xy_px=pois.xy_px[kept], score=pois.score[kept], boxes_px=pois.boxes_px[kept]))


@lru_cache(maxsize=1)
def _every_candidate(shape: tuple[int, int], pixels: bytes, scale: int) -> Pois:
    image = np.frombuffer(pixels, np.uint8).reshape(shape)
    return ScoredCandidates(min_score=SCORES[-1]).detect(image, scale)


def around(pois: Pois, field_px: tuple[int, int]) -> Boxes:
    """Place a window around each point, as the paper does."""
    return regions_around(pois, (REGION_PX, REGION_PX), field_px)


def freely(pois: Pois, field_px: tuple[int, int]) -> Boxes:
    """Place windows of the same size so that few of them show everything."""
    return regions_covering(pois, (REGION_PX, REGION_PX), field_px, FITTED_MARGIN_PX)


def fitted(pois: Pois, field_px: tuple[int, int]) -> Boxes:
    """Give each cluster a window of its own size, with a margin."""
    return regions_covering(pois, (1, 1), field_px, FITTED_MARGIN_PX)
