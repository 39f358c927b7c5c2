"""From an image to labels: scikit-learn's for any pixels and threshold, on any number of threads."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from sparse_actors.detection.dbscan import cluster_segments, labels_of, measured_clusters
from sparse_actors.detection.threads import ALONE, Threads
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan
from sparse_actors.detection.upsampling import STRIP_CELLS, Upsampling


@dataclass(frozen=True)
class _Case:
    image: np.ndarray
    threshold: float
    polarity: str
    eps_px: float
    min_points: int

    def __repr__(self):
        image = f"{self.image.dtype} {self.image.shape} of {self.image.min()} to {self.image.max()}"
        return f"{image}, {self.polarity} of {self.threshold}, eps {self.eps_px}, {self.min_points} points"


def _shape(rng):
    shape = tuple(int(n) for n in rng.integers(1, (25, 150)))
    match rng.integers(8):
        case 0:
            return 1, shape[1]
        case 1:
            return shape[0], 1
        case 2:
            return shape[0], int(rng.choice([63, 64, 65, 127, 128, 129]))
    return shape


def _image(rng, shape):
    """Noise, smooth patches, or one grey level; over all levels of the type or a few of them."""
    dtype = rng.choice([np.uint8, np.uint16])
    highest = int(np.iinfo(dtype).max)
    low, high = sorted(int(n) for n in rng.integers(0, highest + 1, 2))
    if rng.integers(2):
        low, high = 0, highest
    match rng.integers(10):
        case 0:
            return np.full(shape, rng.choice([0, highest]), dtype)
        case 1:
            return np.full(shape, low, dtype)
        case 2 | 3 | 4:
            return rng.integers(low, high, shape, dtype, endpoint=True)
    field = rng.random(shape)
    for axis in (0, 1):
        field = sum(np.roll(field, shift, axis) for shift in (-1, 0, 1))
    field = (field - field.min()) / max(np.ptp(field), 1e-9)
    return (low + field * (high - low)).astype(dtype)


def _threshold(rng, image):
    """Any level of the type, whole or not; one that leaves a share on either side; one that occurs."""
    highest = int(np.iinfo(image.dtype).max)
    match rng.integers(5):
        case 0:
            return float(rng.integers(0, highest + 2))
        case 1:
            return float(rng.uniform(0, highest + 1))
        case 2:
            return float(rng.choice(image.ravel()))
    return float(np.quantile(image, rng.choice([0.0, 0.02, 0.1, 0.3, 0.5, 0.8, 1.0])))


def _case(rng):
    image = _image(rng, _shape(rng))
    eps_px = float(rng.choice([0.5, 1, 1, 1.4, 1.5, 2, 2.3, 3, 4, 5, rng.uniform(0.3, 6)]))
    return _Case(
        image=image,
        threshold=_threshold(rng, image),
        polarity=str(rng.choice(["dark", "bright"])),
        eps_px=eps_px,
        min_points=int(rng.integers(1, int(np.pi * eps_px**2) + 4)),
    )


def _differs(case):
    """Say in what the labels, or the points of interest of the detector, are not scikit-learn's."""
    image, level = case.image, case.image.astype(np.float64)
    points = np.argwhere(level < case.threshold if case.polarity == "dark" else level > case.threshold)
    expected = np.zeros(0, np.int64)
    if len(points):
        expected = DBSCAN(eps=case.eps_px, min_samples=case.min_points).fit(points).labels_
    bitmap = Upsampling(image, 1).candidates(case.threshold, case.polarity)
    labels = labels_of(bitmap, cluster_segments(bitmap, image.shape[1], case.eps_px, case.min_points))
    if not np.array_equal(labels, expected):
        return "labels"
    found = ThresholdDbscan(
        threshold=case.threshold, polarity=case.polarity, eps_px=case.eps_px, min_points=case.min_points
    ).detect(image, 1)
    if len(found) != expected.max(initial=-1) + 1:
        return "number"
    for c in range(len(found)):
        y, x = points[expected == c].T
        if found.boxes_px[c].tolist() != [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]:
            return "box"
        signal = np.abs(case.threshold - level[y, x]).sum()
        measured = [*found.xy_px[c], found.score[c]]
        if not np.allclose(measured, [x.mean() + 0.5, y.mean() + 0.5, signal], atol=1e-6):
            return "measures"
    return ""


def _mismatches(seed, count):
    rng = np.random.default_rng(seed)
    cases = (_case(rng) for _ in range(count))
    return [(problem, case) for case in cases if (problem := _differs(case))]


def test_random_images_are_labelled_as_by_scikit_learn():
    assert _mismatches(seed=0, count=200) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_random_images_are_labelled_as_by_scikit_learn(seed):
    assert _mismatches(seed, count=5000) == []


class _ThinStrips(Threads):
    def strips(self, rows, worthwhile):
        ends = np.linspace(0, rows, 2 * self._count + 1).astype(int).tolist()
        return [(begin, end) for begin, end in pairwise(ends) if begin < end]


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.integers(1, 5),
    interpolation=st.sampled_from(["bicubic", "lanczos"]),
    count=st.integers(1, 4),
)
def test_the_result_is_the_same_for_any_number_of_threads(seed, scale, interpolation, count):
    case = _case(np.random.default_rng(seed))

    def detected(threads):
        upsampling = Upsampling(case.image, scale, interpolation)
        bitmap = upsampling.candidates(case.threshold, case.polarity, threads)
        columns = upsampling.shape[1]
        segments = cluster_segments(bitmap, columns, case.eps_px, case.min_points, threads)
        clusters = measured_clusters(segments, upsampling.evaluated, threads)
        measures = [clusters.area_px, clusters.boxes_px, clusters.centroids_px, clusters.mean_grey]
        return [bitmap, labels_of(bitmap, segments), *measures]

    for alone, several in zip(detected(ALONE), detected(_ThinStrips(count)), strict=True):
        np.testing.assert_array_equal(several, alone)


def test_the_detector_finds_the_same_with_several_threads():
    rng = np.random.default_rng(12)
    image = rng.normal(100, 25, (4 * STRIP_CELLS + 13, 400)).clip(0, 255).astype(np.uint8)
    alone = ThresholdDbscan(threshold=90, threads=1).detect(image, 4)
    assert len(alone) > 1000
    for threads in (2, 3, 4, 9):
        found = ThresholdDbscan(threshold=90, threads=threads).detect(image, 4)
        for name in ("xy_px", "score", "boxes_px"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))


def test_what_is_not_worthwhile_is_not_divided():
    assert Threads(4).strips(1000, 0) == Threads(1).strips(1000, 9) == [(0, 1000)]
    assert Threads(4).strips(1000, 3) == [(0, 333), (333, 666), (666, 1000)]
    assert Threads(4).strips(1000, 9)[-1] == (750, 1000)
