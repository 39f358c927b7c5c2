"""Distances between sites beside points at random: the verdict is right, also at edges and over gaps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sparse_actors.geometry import TileIndex
from sparse_actors.report.sites import Sites
from sparse_actors.report.spacing import FEWEST_SITES, nearest_um, spacing

FIELD = (0.0, 0.0, 1000.0, 400.0)


def sites(points: NDArray[np.float64], *searched: tuple[float, float, float, float]) -> Sites:
    """Sites of one tile with pixels of 0.5 x 0.25 um."""
    return Sites(
        tiles=[TileIndex(0, 0)] * len(points),
        xy_px=points,
        picture_px=points,
        box_px=np.ones((len(points), 2), np.int64),
        pixel_um=(0.5, 0.25),
        searched_px=np.array(searched or [FIELD]),
        seen_twice=0,
    )


def scattered(count: int, seed: int, *boxes: tuple[float, float, float, float]) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    area = np.array(boxes or [FIELD])
    chosen = area[random.integers(0, len(area), count)]
    return chosen[:, :2] + random.random((count, 2)) * chosen[:, 2:]


def test_nearest_neighbours_are_those_of_every_pair() -> None:
    points = scattered(60, 1)
    um = points * np.array([0.5, 0.25])
    apart = np.hypot(*(um[:, None] - um[None]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    assert nearest_um(points, (0.5, 0.25)) == pytest.approx(apart.min(axis=1))


def test_points_at_random_are_called_so_with_the_error_that_is_stated() -> None:
    # 40 sets, of which 2 are expected outside; more than 7 in 1 of 1000 cases.
    outside = 0
    for seed in range(40):
        found = spacing(sites(scattered(80, seed)), seed + 1000)
        assert found is not None
        outside += found.verdict != "as far from each other as points at random"
    assert outside <= 7


def test_clusters_and_grids_are_told_from_chance() -> None:
    random = np.random.default_rng(5)
    centres = scattered(12, 2, (50.0, 50.0, 900.0, 300.0))
    clusters = (centres[:, None] + random.normal(0, 6, (12, 8, 2))).reshape(-1, 2)
    found = spacing(sites(clusters), 0)
    assert found is not None
    assert "clusters" in found.verdict
    assert found.ratio < 0.7
    y, x = np.mgrid[20:400:40, 20:1000:40]
    grid = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    found = spacing(sites(grid), 0)
    assert found is not None
    assert "keep a distance" in found.verdict
    assert found.ratio > 1.3  # 10 um apart, 7.1 um expected


def test_gaps_between_scanned_areas_are_no_clusters() -> None:
    # Two strips far from each other: in a single rectangle around both the points would look clustered.
    strips = ((0.0, 0.0, 1000.0, 30.0), (0.0, 3000.0, 1000.0, 30.0))
    found = spacing(sites(scattered(100, 3, *strips), *strips), 0)
    assert found is not None
    assert found.verdict == "as far from each other as points at random"
    around = spacing(sites(scattered(100, 3, *strips), (0.0, 0.0, 1000.0, 3030.0)), 0)
    assert around is not None
    assert "clusters" in around.verdict


def test_the_same_seed_draws_the_same_points_and_few_sites_tell_nothing() -> None:
    first, again = (spacing(sites(scattered(30, 4)), 9) for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.random_um == again.random_um
    assert spacing(sites(scattered(FEWEST_SITES - 1, 4)), 9) is None
