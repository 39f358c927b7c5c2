"""Finding clusters in fast images, and labelling ready masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from benchmark_images import SCALE, blobs, dark_blobs, dual_phase_steel
from contest import Contest, Peer, installed, missing
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois
from sparse_actors.detection.dbscan import label_clusters
from sparse_actors.detection.threads import Threads
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan

PILLOW = installed("PIL.Image")
SCIKIT_LEARN = installed("sklearn.cluster")
SCIPY = installed("scipy.ndimage")

EPS_PX, MIN_POINTS = 1.0, 5
PLUS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
SMALL_PX = 384
"""Size of the images that are only compared."""


@contextmanager
def detect(
    small: bool, seed: int, *, size_px: int, threshold: int, share: float | None, threads: int
) -> Iterator[Contest]:
    """Detect in the fast image of a field of `size_px`: dual-phase steel, or blobs with a share of dark."""
    size_px = SMALL_PX if small else size_px
    if share is None:
        # A part of a whole tile, so that it is as dark as that.
        fast = dual_phase_steel(seed, 2 * size_px if small else 3072)
        fast = np.ascontiguousarray(fast[: size_px // SCALE, : size_px // SCALE])
    else:
        fast = blobs(seed, share, size_px)
    detector = ThresholdDbscan(threshold=threshold, eps_px=EPS_PX, min_points=MIN_POINTS, threads=threads)

    def pillow_scikit_learn() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        size = (fast.shape[1] * SCALE, fast.shape[0] * SCALE)
        upsampled = np.asarray(PILLOW.fromarray(fast).resize(size, PILLOW.Resampling.BICUBIC))
        points = np.argwhere(upsampled < threshold)
        return points, SCIKIT_LEARN.DBSCAN(eps=EPS_PX, min_samples=MIN_POINTS).fit(points).labels_

    def opencv() -> Any:
        upsampled = cv2.resize(fast, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
        core = cv2.erode(cv2.compare(upsampled, threshold, cv2.CMP_LT), PLUS)
        return cv2.connectedComponentsWithStats(core, connectivity=4)

    peers = [
        Peer("Pillow bicubic + scikit-learn DBSCAN", pillow_scikit_learn, _other_clusters),
        Peer("OpenCV resize + erode + components", opencv, None, "its cubic kernel and rounding are others"),
    ]
    skipped = {}
    if PILLOW is None or SCIKIT_LEARN is None:
        skipped[peers.pop(0).name] = missing("pillow" if PILLOW is None else "scikit-learn")
    scene = "dual-phase steel" if share is None else f"blobs, {share:.0%} dark"
    rows, columns = fast.shape
    inputs = f"{columns} x {rows} px of {scene}, {SCALE} times as many per side, threshold {threshold}"
    if threads > 1:
        inputs += f"; {threads} threads of ours"
    yield Contest(inputs, lambda: detector.detect(fast, SCALE), tuple(peers), skipped)


def _other_clusters(ours: Pois, theirs: tuple[NDArray[np.int64], NDArray[np.int64]]) -> str:
    points, labels = theirs
    n = labels.max(initial=-1) + 1
    if n != len(ours):
        return f"{len(ours)} clusters, not {n}"
    if n == 0:
        return ""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(n))
    members = points[order]
    first, last = np.minimum.reduceat(members, starts), np.maximum.reduceat(members, starts)
    centres = np.add.reduceat(members, starts) / np.bincount(labels[labels >= 0])[:, None] + 0.5
    if not np.array_equal(ours.boxes_px, np.hstack([first, last + 1 - first])[:, [1, 0, 3, 2]]):
        return "other boxes"
    return "" if np.allclose(ours.xy_px, centres[:, ::-1]) else "other centres"


@contextmanager
def label(small: bool, seed: int, *, share: float, threads: int = 1) -> Iterator[Contest]:
    """Label the clusters of a mask of 3072 x 3072 px with a share of dark pixels."""
    dark = dark_blobs(seed, share, SMALL_PX if small else 3072)
    # OpenCV takes what lies outside the image for dark, the others do not.
    dark[[0, -1]] = dark[:, [0, -1]] = False
    grey = dark.astype(np.uint8)

    def scikit_learn() -> Any:
        return SCIKIT_LEARN.DBSCAN(eps=EPS_PX, min_samples=MIN_POINTS).fit(np.argwhere(dark)).labels_

    def scipy() -> Any:
        return SCIPY.label(SCIPY.binary_erosion(dark, PLUS))[0][dark]

    def opencv() -> Any:
        return cv2.connectedComponents(cv2.erode(grey, PLUS), connectivity=4)[1]

    def other_labels(ours: NDArray[Any], theirs: NDArray[Any]) -> str:
        return "" if np.array_equal(ours, theirs) else "other labels"

    def other_cores(ours: NDArray[Any], theirs: NDArray[Any]) -> str:
        # They leave out the border points, and number from 1, in any order.
        theirs = theirs[dark] if theirs.ndim == 2 else theirs
        pairs = np.unique(np.stack([ours, theirs])[:, theirs > 0], axis=1)
        clusters = ours.max(initial=-1) + 1
        is_same = np.array_equal(pairs[0], np.arange(clusters)) and len(np.unique(pairs[1])) == clusters
        return "" if is_same else "other clusters of core points"

    peers = [
        Peer("argwhere + scikit-learn DBSCAN", scikit_learn, other_labels),
        Peer("SciPy erosion + label", scipy, other_cores, agreement="same core points"),
        Peer("OpenCV erode + components", opencv, other_cores, agreement="same core points"),
    ]
    skipped = {
        peer.name: missing(package)
        for peer, package, module in zip(
            peers, ("scikit-learn", "scipy"), (SCIKIT_LEARN, SCIPY), strict=False
        )
        if module is None
    }
    inputs = f"mask of {dark.shape[1]} x {dark.shape[0]} px, {dark.mean():.1%} dark"
    if threads > 1:
        inputs += f"; {threads} threads of ours"
    team = Threads(threads)
    able = tuple(peer for peer in peers if peer.name not in skipped)
    yield Contest(inputs, lambda: label_clusters(dark, EPS_PX, MIN_POINTS, team), able, skipped)
