"""Finding clusters in fast images, and labelling ready masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from benchmark_images import SCALE, blobs, dark_blobs, dual_phase_steel
from contest import Contest, Peer, missing
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois
from sparse_actors.detection.dbscan import label_clusters
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan

try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]
try:
    from sklearn.cluster import DBSCAN
except ImportError:
    DBSCAN = None
try:
    from scipy import ndimage
except ImportError:
    ndimage = None

EPS_PX, MIN_POINTS = 1.0, 5
PLUS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
SMALL_PX = 384
"""Size of the images that are only compared."""


@contextmanager
def detect(small: bool, seed: int, *, size_px: int, threshold: int, share: float | None) -> Iterator[Contest]:
    """Detect in the fast image of a field of `size_px`: dual-phase steel, or blobs with a share of dark."""
    size_px = SMALL_PX if small else size_px
    if share is None:
        # A part of a whole tile, so that it is as dark as that.
        fast = dual_phase_steel(seed, 2 * size_px if small else 3072)
        fast = np.ascontiguousarray(fast[: size_px // SCALE, : size_px // SCALE])
    else:
        fast = blobs(seed, share, size_px)
    detector = ThresholdDbscan(threshold=threshold, eps_px=EPS_PX, min_points=MIN_POINTS)

    def pillow_scikit_learn() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        size = (fast.shape[1] * SCALE, fast.shape[0] * SCALE)
        upsampled = np.asarray(Image.fromarray(fast).resize(size, Image.Resampling.BICUBIC))
        points = np.argwhere(upsampled < threshold)
        return points, DBSCAN(eps=EPS_PX, min_samples=MIN_POINTS).fit(points).labels_

    def opencv() -> Any:
        upsampled = cv2.resize(fast, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
        core = cv2.erode(cv2.compare(upsampled, threshold, cv2.CMP_LT), PLUS)
        return cv2.connectedComponentsWithStats(core, connectivity=4)

    peers = [
        Peer("OpenCV resize + erode + components", opencv, None, "its cubic kernel and rounding are others")
    ]
    skipped = {}
    name = "Pillow bicubic + scikit-learn DBSCAN"
    if Image is None or DBSCAN is None:
        skipped[name] = missing("pillow" if Image is None else "scikit-learn")
    else:
        peers.insert(0, Peer(name, pillow_scikit_learn, _other_clusters))
    scene = "dual-phase steel" if share is None else f"blobs, {share:.0%} dark"
    rows, columns = fast.shape
    inputs = f"{columns} x {rows} px of {scene}, {SCALE} times as many per side, threshold {threshold}"
    yield Contest(inputs, lambda: detector.detect(fast, SCALE), tuple(peers), skipped)


def _other_clusters(ours: Pois, theirs: tuple[NDArray[np.int64], NDArray[np.int64]]) -> str:
    points, labels = theirs
    if labels.max(initial=-1) + 1 != len(ours):
        return f"{len(ours)} clusters, not {labels.max(initial=-1) + 1}"
    for cluster, (x, y) in enumerate(ours.xy_px):
        members = points[labels == cluster]
        (top, left), (bottom, right) = members.min(axis=0), members.max(axis=0) + 1
        if ours.boxes_px[cluster].tolist() != [left, top, right - left, bottom - top]:
            return f"cluster {cluster} has another box"
        if not np.allclose(members.mean(axis=0) + 0.5, (y, x)):
            return f"cluster {cluster} has another centre"
        if cluster == 200:  # of tens of thousands these are enough
            break
    return ""


@contextmanager
def label(small: bool, seed: int, *, share: float) -> Iterator[Contest]:
    """Label the clusters of a mask of 3072 x 3072 px with a share of dark pixels."""
    dark = dark_blobs(seed, share, SMALL_PX if small else 3072)
    grey = dark.astype(np.uint8)

    def scikit_learn() -> Any:
        return DBSCAN(eps=EPS_PX, min_samples=MIN_POINTS).fit(np.argwhere(dark)).labels_

    def scipy() -> Any:
        return ndimage.label(ndimage.binary_erosion(dark, PLUS))[0][dark]

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

    # OpenCV treats what lies outside the image as dark; everyone else does not.
    dark[[0, -1]] = dark[:, [0, -1]] = False
    grey[:] = dark
    peers = [Peer("OpenCV erode + components", opencv, other_cores)]
    skipped = {}
    if ndimage is None:
        skipped["SciPy erosion + label"] = missing("scipy")
    else:
        peers.insert(0, Peer("SciPy erosion + label", scipy, other_cores))
    if DBSCAN is None:
        skipped["argwhere + scikit-learn DBSCAN"] = missing("scikit-learn")
    else:
        peers.insert(0, Peer("argwhere + scikit-learn DBSCAN", scikit_learn, other_labels))
    inputs = f"mask of {dark.shape[1]} x {dark.shape[0]} px, {dark.mean():.1%} dark"
    yield Contest(inputs, lambda: label_clusters(dark, EPS_PX, MIN_POINTS), tuple(peers), skipped)
