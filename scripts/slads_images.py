"""The phase maps that samplers are judged on: the paper's four experiments with other images.

The grey images lie in ../shared/data beside the checkout and are no part of it. They are segmented as in
the paper (threshold, then denoise): median filter, Gauss filter, thresholds of least variance within
classes (multi-Otsu), majority filter. No test field shares a pixel with a field that was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter, zoom
from sklearn.cluster import KMeans

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
MEDIAN_PX, GAUSS_PX, MAJORITY_PX = 5, 1.0, 7
Labels = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Field:
    """A phase map with its true labels 1..L, (rows, columns)."""

    name: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Fold:
    """Fields to test on, and fields without any pixel of theirs to train on."""

    tests: tuple[Field, ...]
    train: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment of the paper: fields, fractions of measured pixels, total distortion by fraction."""

    folds: Callable[[], tuple[Fold, ...]]
    fractions: tuple[float, ...]
    paper: dict[float, float]
    goals: dict[float, float]
    ill: float = 0.0
    """Share of pixels whose spectrum is only noise; a classifier that works gives them label 0."""
    misclassified: float = 0.0
    """Share of the other pixels that the classifier gives a wrong phase."""


def segment(grey: NDArray[Any], phases: int) -> Labels:
    """Return labels 1..phases of a grey image, dark to bright."""
    smooth = gaussian_filter(cv2.medianBlur(grey, MEDIAN_PX).astype(np.float64), GAUSS_PX)
    levels, pixels = np.unique(np.round(smooth), return_counts=True)
    # The thresholds of multi-Otsu lie halfway between the means of k-means on the grey levels.
    clusters = KMeans(phases, n_init=10, random_state=0).fit(levels[:, None], sample_weight=pixels)
    means = np.sort(clusters.cluster_centers_[:, 0])
    return _majority(np.digitize(smooth, (means[1:] + means[:-1]) / 2), phases)


def observed(labels: Labels, ill: float, misclassified: float, seed: int) -> Labels:
    """Return what a classifier says at every pixel, as in the paper's section 3.1.2; 0: an ill spectrum.

    A pixel's noise is its own and the same however often it is asked for.
    """
    random = np.random.default_rng([seed, 7])
    phases = int(labels.max())
    wrong = (labels - 1 + random.integers(1, phases, labels.shape)) % phases + 1
    seen = np.where(random.random(labels.shape) < misclassified, wrong, labels)
    return np.where(random.random(labels.shape) < ill, 0, seen).astype(np.int32)


def _majority(labels: NDArray[Any], phases: int) -> Labels:
    votes = [uniform_filter((labels == phase).astype(np.float32), MAJORITY_PX) for phase in range(phases)]
    return (np.argmax(votes, axis=0) + 1).astype(np.int32)


def _grey(path: str) -> NDArray[np.uint8]:
    return np.asarray(tifffile.imread(DATA / path))


def _powder(number: str) -> NDArray[np.uint8]:
    return _grey(f"phases/slads_powder_{number}.tif")


def _enlarged(grey: NDArray[Any], factor: int) -> NDArray[np.uint8]:
    cubic = zoom(grey.astype(np.float64), factor, order=3, mode="nearest", grid_mode=True)
    return np.clip(np.round(cubic), 0, 255).astype(np.uint8)


@cache
def _two_phases() -> dict[str, Labels]:
    """Return two-phase maps at full resolution."""
    # Of the ternary eutectic, the brightest phase against the two others.
    eutectic = segment(_grey("phases/alcumg_ternary_eutectic.tif"), 3) // 3 + 1
    return {
        "Pb-Sn": segment(_grey("phases/slads_pbsn_1024.tif"), 2),
        "dendrite": segment(_grey("phases/slads_dendrite_256.tif"), 2),
        "Al-Cu-Mg": eutectic,
    }


def _two_phase_128() -> tuple[Fold, ...]:
    images = _two_phases()
    lead, eutectic = images["Pb-Sn"], images["Al-Cu-Mg"]
    tests = (
        Field("Pb-Sn, upper right quarter, every 4th pixel", lead[:512:4, 512::4]),
        Field("Pb-Sn, lower left quarter, every 4th pixel", lead[512::4, :512:4]),
        Field("dendrite, every 2nd pixel", images["dendrite"][::2, ::2]),
        Field("Al-Cu-Mg, upper left 512 x 512, every 4th pixel", eutectic[:512:4, :512:4]),
    )
    train = (
        Field("Pb-Sn, lower right quarter, every 4th pixel", lead[512::4, 512::4]),
        Field("Al-Cu-Mg, right of it 512 x 512, every 4th pixel", eutectic[:512:4, 512:1024:4]),
    )
    return (Fold(tests, train),)


def _two_phase_1024() -> tuple[Fold, ...]:
    images = _two_phases()
    eutectic = images["Al-Cu-Mg"]
    alloys = {
        spot: segment(_enlarged(_grey(f"alloys/nasa_superalloy_{spot}.tif"), 2), 2)
        for spot in ("spot1_0d_0", "spot2_0d_0")
    }
    tests = (
        Field("Pb-Sn", images["Pb-Sn"]),
        Field("Al-Cu-Mg, left", eutectic[:1024, :1024]),
        Field("superalloy spot 2, enlarged 2 times", alloys["spot2_0d_0"]),
        Field("dendrite, enlarged 4 times", segment(_enlarged(_grey("phases/slads_dendrite_256.tif"), 4), 2)),
    )
    train = (
        Field("Al-Cu-Mg, right", eutectic[:1024, 1024:]),
        Field("superalloy spot 1, enlarged 2 times", alloys["spot1_0d_0"]),
    )
    return (Fold(tests, train),)


def _four_phase(factor: int) -> tuple[Fold, ...]:
    """Test each pair of powder images with the other pair to train on."""
    first, second = (
        tuple(Field(f"powder {number}", segment(_enlarged(_powder(number), factor), 4)) for number in pair)
        for pair in (("02", "06"), ("04", "08"))
    )
    return (Fold(first, second), Fold(second, first))


@cache
def four_phase_256() -> tuple[Fold, ...]:
    """Return the powder images."""
    return _four_phase(1)


@cache
def four_phase_1024() -> tuple[Fold, ...]:
    """Return the powder images enlarged 4 times."""
    return _four_phase(4)


SMALL, LARGE = (0.05, 0.10, 0.15, 0.20), (0.02, 0.03, 0.05)
EXPERIMENTS = {
    "two-phase-128": Experiment(
        cache(_two_phase_128),
        SMALL,
        {0.15: 0.0015},
        dict(zip(SMALL, (0.022, 0.005, 0.0013, 0.0010), strict=True)),
    ),
    "four-phase-256": Experiment(
        four_phase_256, SMALL, {0.20: 0.006}, dict(zip(SMALL, (0.015, 0.003, 0.0005, 0.0003), strict=True))
    ),
    "two-phase-1024": Experiment(cache(_two_phase_1024), LARGE, {0.05: 0.0013}, {0.05: 0.0003}),
    "four-phase-1024": Experiment(four_phase_1024, LARGE, {0.05: 0.02}, {}),
    "two-phase-128-noisy": Experiment(cache(_two_phase_128), SMALL, {}, {}, ill=0.01, misclassified=0.005),
    "four-phase-256-noisy": Experiment(four_phase_256, SMALL, {}, {}, ill=0.01, misclassified=0.005),
}
