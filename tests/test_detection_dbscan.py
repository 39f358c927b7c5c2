"""DBSCAN on the pixel grid gives scikit-learn's labels, to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import DBSCAN

from sparse_actors.detection import bits
from sparse_actors.detection.dbscan import cluster_segments, label_clusters, measured_clusters, packed


def _reference(dark, eps_px, min_points):
    points = np.argwhere(dark)
    if len(points) == 0:
        return np.zeros(0, np.int64)
    return DBSCAN(eps=eps_px, min_samples=min_points).fit(points).labels_


def _grains(rng, shape, fraction):
    """Smooth dark patches: the clusters, borders and narrow bridges that white noise does not have."""
    field = rng.random(shape)
    for axis in (0, 1):
        field = sum(np.roll(field, shift, axis) for shift in (-1, 0, 1))
    return field < np.quantile(field, fraction)


def _random_case(rng):
    shape = tuple(int(n) for n in rng.integers(1, (25, 150)))
    kind = rng.integers(8)
    if kind == 0:
        shape = (1, shape[1])
    elif kind == 1:
        shape = (shape[0], 1)
    elif kind == 2:
        shape = (shape[0], int(rng.choice([63, 64, 65, 127, 128, 129])))
    fraction = float(rng.choice([0.0, 0.02, 0.1, 0.3, 0.5, 0.8, 1.0]))
    dark = _grains(rng, shape, fraction) if rng.integers(2) else rng.random(shape) < fraction
    eps_px = float(rng.choice([0.5, 1, 1, 1.4, 1.5, 2, 2.3, 3, 4, 5, rng.uniform(0.3, 6)]))
    min_points = int(rng.integers(1, int(np.pi * eps_px**2) + 4))
    return dark, eps_px, min_points


def _mismatches(seed, count):
    rng = np.random.default_rng(seed)
    wrong = []
    for _ in range(count):
        dark, eps_px, min_points = _random_case(rng)
        if not np.array_equal(label_clusters(dark, eps_px, min_points), _reference(dark, eps_px, min_points)):
            wrong.append((dark.shape, dark.mean(), eps_px, min_points))
    return wrong


def test_labels_are_those_of_scikit_learn():
    assert _mismatches(seed=0, count=400) == []


@settings(max_examples=60, deadline=None)
@given(
    dark=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70)),
    eps_px=st.floats(0.1, 6.0).map(lambda eps: round(eps, 2)),
    min_points=st.integers(1, 40),
)
def test_labels_of_any_small_image(dark, eps_px, min_points):
    np.testing.assert_array_equal(
        label_clusters(dark, eps_px, min_points), _reference(dark, eps_px, min_points)
    )


@pytest.mark.parametrize("eps_px", [1.0, 2.0, 70.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (9, 64), (9, 65), (30, 130)])
@pytest.mark.parametrize("filled", [False, True])
def test_uniform_images(shape, filled, eps_px):
    dark = np.full(shape, filled)
    np.testing.assert_array_equal(label_clusters(dark, eps_px, 5), _reference(dark, eps_px, 5))


def test_a_reach_beyond_one_word():
    rng = np.random.default_rng(3)
    dark = rng.random((12, 400)) < 0.02
    for eps_px in (63.0, 64.0, 65.5, 130.0):
        for min_points in (3, 12, 30):
            np.testing.assert_array_equal(
                label_clusters(dark, eps_px, min_points), _reference(dark, eps_px, min_points)
            )


def test_a_border_point_between_two_clusters_belongs_to_the_first():
    # Two plus signs that share the pixel between them; each centre is the only core point of its cluster.
    dark = np.zeros((3, 5), bool)
    dark[1, :] = True
    dark[:, [1, 3]] = True
    labels = label_clusters(dark, 1.0, 5)
    assert labels.tolist() == [0, 1, 0, 0, 0, 1, 1, 0, 1]


@pytest.mark.parametrize(("eps_px", "min_points"), [(1.0, 5), (2.0, 13), (3.0, 20), (1.5, 4)])
def test_measures_agree_with_the_labels(eps_px, min_points):
    rng = np.random.default_rng(4)
    dark = _grains(rng, (90, 200), 0.3)
    image = rng.integers(0, 60_000, dark.shape).astype(np.uint16)
    clusters = measured_clusters(cluster_segments(packed(dark), 200, eps_px, min_points), image)
    labels = np.full(dark.shape, -1)
    labels[dark] = label_clusters(dark, eps_px, min_points)
    assert len(clusters) == labels.max() + 1 > 3
    for c in range(len(clusters)):
        y, x = np.nonzero(labels == c)
        assert clusters.area_px[c] == len(x)
        box = [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
        assert clusters.boxes_px[c].tolist() == box
        np.testing.assert_allclose(clusters.centroids_px[c], [x.mean() + 0.5, y.mean() + 0.5])
        np.testing.assert_allclose(clusters.mean_grey[c], image[y, x].mean())


@pytest.mark.parametrize(("eps_px", "min_points"), [(0.0, 5), (-1.0, 5), (np.nan, 5), (np.inf, 5), (1.0, 0)])
def test_impossible_parameters_are_refused(eps_px, min_points):
    with pytest.raises(ValueError, match=r"eps_px|min_points"):
        label_clusters(np.ones((3, 3), bool), eps_px, min_points)


def test_functions_compile_where_nothing_can_be_written(monkeypatch):
    njit = bits.njit

    def read_only(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(bits, "njit", read_only)
    assert bits.compiled(lambda x: x + 1)(2) == 3
