"""Matching as in the paper, beside a reference that goes over all pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN

from sparse_actors.contracts.detector import Pois
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan
from sparse_actors.evaluation.matching import Found, Sites, find

small = st.tuples(st.integers(4, 24), st.integers(4, 24))


def brute_clusters(image: NDArray[np.uint8], threshold: float) -> list[NDArray[np.int64]]:
    points = np.argwhere(image < threshold)
    if not len(points):
        return []
    labels = DBSCAN(eps=1, min_samples=3).fit(points).labels_
    return [points[labels == label] for label in range(labels.max() + 1)]


@settings(deadline=None, max_examples=60)
@given(st.data(), small, st.integers(0, 6))
def test_found_sites_are_those_that_the_definition_names(
    data: st.DataObject, shape: tuple[int, int], dilation: int
) -> None:
    dark = arrays(np.uint8, shape, elements=st.sampled_from([10, 200, 200, 200]))
    analysis, fast = data.draw(dark), data.draw(dark)
    detector = ThresholdDbscan(threshold=55, eps_px=1, min_points=3, threads=1)
    sites = Sites.of(find(detector, analysis, 1), shape, dilation)
    found = sites.overlapped(find(detector, fast, 1).painted(shape))

    wanted_sites, detections = brute_clusters(analysis, 55), brute_clusters(fast, 55)
    pixels = np.concatenate(detections) if detections else np.empty((0, 2), np.int64)
    wanted = [
        bool(len(pixels)) and bool((((site[:, None] - pixels[None]) ** 2).sum(axis=2) <= dilation**2).any())
        for site in wanted_sites
    ]
    assert sites.area_px.tolist() == [len(site) for site in wanted_sites]
    assert found.tolist() == wanted


@settings(deadline=None, max_examples=60)
@given(arrays(np.uint8, (20, 30), elements=st.sampled_from([10, 200, 200])), st.integers(1, 6))
def test_painted_pixels_are_those_of_the_clusters_that_are_kept(image: NDArray[np.uint8], least: int) -> None:
    detector = ThresholdDbscan(eps_px=1, min_points=3, min_area_px=least, threads=1)
    wanted = np.zeros(image.shape, bool)
    kept = [cluster for cluster in brute_clusters(image, 55) if len(cluster) >= least]
    for cluster in kept:
        wanted[tuple(cluster.T)] = True
    found = find(detector, image, 1)
    np.testing.assert_array_equal(found.painted(image.shape), wanted)
    np.testing.assert_array_equal(found.pois.xy_px, detector.detect(image, 1).xy_px)
    assert len(found.pois) == len(kept)


def test_a_detector_without_pixels_counts_by_its_boxes() -> None:
    class Boxes:
        def detect(self, image: object, scale: int) -> Pois:
            return Pois.at([(8.0, 8.0)], boxes_px=[(6, 7, 4, 2)])

    found = find(Boxes(), np.zeros((5, 5), np.uint8), 4)
    painted = found.painted((20, 20))
    assert painted.sum() == 8
    assert painted[7:9, 6:10].all()


def test_a_site_is_whole_only_where_a_region_shows_all_of_it() -> None:
    image = np.full((40, 40), 200, np.uint8)
    image[10:14, 10:14] = 10
    image[30:34, 30:34] = 10
    found = find(ThresholdDbscan(threads=1), image, 1)
    sites = Sites.of(found, image.shape)
    regions = np.array([[8, 8, 8, 8], [31, 28, 8, 8]], np.int64)
    assert sites.inside(regions).tolist() == [True, False]


def test_nothing_found_and_no_sites() -> None:
    nothing = Found(Pois.at([]), np.empty((4, 0), np.int64))
    assert not nothing.painted((5, 6)).any()
    sites = Sites.of(nothing, (5, 6))
    assert len(sites) == 0
    assert sites.overlapped(np.ones((5, 6), bool)).shape == (0,)
