"""The order of a batch: every point once, and not far to go."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from sparse_actors.sampling.beam_path import beam_path

START = np.array([0, 0])


def way(points, order, start=START):
    return np.hypot(*np.diff(np.vstack([start, points[order]]), axis=0).T).sum()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 40, 1500])
def test_every_point_is_visited_once(n):
    points = np.random.default_rng(n).integers(0, 500, (n, 2))
    assert sorted(beam_path(points, START)) == list(range(n))


@pytest.mark.parametrize("seed", range(20))
def test_short_paths_are_near_the_shortest(seed):
    points = np.random.default_rng(seed).integers(0, 100, (7, 2))
    shortest = min(way(points, list(order)) for order in permutations(range(7)))
    assert way(points, beam_path(points, START)) < 1.25 * shortest


@pytest.mark.parametrize("n", [300, 4000])
def test_long_paths_are_near_what_is_possible(n):
    # The shortest path through n random points of an area A is about 0.7124 sqrt(n A) long.
    points = np.random.default_rng(n).integers(0, 3000, (n, 2))
    assert way(points, beam_path(points, START)) < 0.9 * np.sqrt(n) * 3000


def test_a_single_row_is_run_along():
    points = np.stack([np.arange(2000), np.zeros(2000, int)], axis=1)
    assert way(points, beam_path(points, START)) == 1999


def test_the_path_begins_where_the_beam_is():
    points = np.array([[0, 0], [50, 0], [100, 0]])
    assert beam_path(points, np.array([101, 0])).tolist() == [2, 1, 0]
