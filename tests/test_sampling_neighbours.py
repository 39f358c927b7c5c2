"""The lists of nearest points are those of a search over all points, whatever the points look like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_reference import nearest

from sparse_actors.sampling.neighbours import (
    NEIGHBOURS,
    empty_lists,
    fill_lists,
    find_point,
    list_point,
    unlist_point,
)


def lists_of(lists):
    """(pixels, n): the pixels in each list."""
    rows, columns = lists.shape
    n = min(lists.points[0], NEIGHBOURS)
    offsets = lists.offsets[:, :, :n].astype(int)
    return np.arange(rows * columns)[:, None] + offsets[:, 1] * columns + offsets[:, 0]


def assert_exact(lists):
    near, d2 = nearest(lists.shape, np.flatnonzero(lists.listed))
    np.testing.assert_array_equal(lists_of(lists), near)
    if lists.points[0] >= NEIGHBOURS:
        np.testing.assert_array_equal(lists.reach2, d2[:, -1])


def cell_of(lists, point):
    return np.flatnonzero((lists_of(lists) == point).any(axis=1))


@st.composite
def point_sets(draw):
    """Fields with points at random, on lines, and in clusters, with empty parts between."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels = shape[0] * shape[1]
    y, x = np.divmod(np.arange(pixels), shape[1])
    weight = np.full(pixels, draw(st.sampled_from([1e-6, 1e-3, 1.0])))
    for _ in range(draw(st.integers(0, 3))):
        a, b, c = rng.normal(size=3)
        weight += abs(a * (x - x.mean()) + b * (y - y.mean()) + 5 * c) < draw(st.sampled_from([0.8, 3.0]))
    n = draw(st.integers(1, min(pixels, 60)))
    return shape, rng.choice(pixels, n, replace=False, p=weight / weight.sum())


@settings(deadline=None, max_examples=60)
@given(point_sets())
def test_lists_are_exact_after_points_came_and_went(given_points):
    shape, points = given_points
    lists = empty_lists(shape)
    found = np.empty(shape[0] * shape[1], np.int32)
    for point in points:
        n = list_point(lists, point, found)
        np.testing.assert_array_equal(np.sort(found[:n]), cell_of(lists, point))
    assert_exact(lists)
    for point in points[::3]:
        cell = cell_of(lists, point)
        assert sorted(found[: find_point(lists, point, found)]) == cell.tolist()
        assert sorted(found[: unlist_point(lists, point, found)]) == cell.tolist()
    if lists.points[0]:
        assert_exact(lists)
    filled = empty_lists(shape)
    filled.listed[points] = True
    fill_lists(filled)
    assert filled.points[0] == len(points)
    assert_exact(filled)


def test_a_cell_that_is_a_thin_spike_is_followed_to_its_end():
    # Two dense walls leave a corridor one pixel wide, far longer than the cell is wide elsewhere.
    shape = (61, 201)
    walls = [y * 201 + x for y in (20, 21, 39, 40) for x in range(201)]
    lists, found = empty_lists(shape), np.empty(61 * 201, np.int32)
    for point in np.random.default_rng(0).permutation(walls):
        list_point(lists, point, found)
    n = list_point(lists, 30 * 201 + 100, found)
    x = found[:n] % 201
    assert np.ptp(x) > 15
    assert_exact(lists)


@pytest.mark.parametrize(("seed", "point"), [(2, 1147), (3, 437), (4, 3115)])
def test_a_cell_that_slips_through_between_two_pixels_is_followed(seed, point):
    # Here a search that ends where no pixel of a square is in the cell misses one further out.
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(20, 70, 2).tolist())
    pixels = shape[0] * shape[1]
    y, x = np.divmod(np.arange(pixels), shape[1])
    weight = np.full(pixels, 1e-4)
    for _ in range(rng.integers(1, 4)):
        a, b, c = rng.normal(size=3)
        weight += abs(a * (x - x.mean()) + b * (y - y.mean()) + 8 * c) < 1
    n = min(rng.integers(12, 200), pixels // 2)
    lists, found = empty_lists(shape), np.empty(pixels, np.int32)
    for p in rng.choice(pixels, n, replace=False, p=weight / weight.sum()):
        list_point(lists, p, found)
    assert sorted(found[: find_point(lists, point, found)]) == cell_of(lists, point).tolist()
    assert_exact(lists)


def test_ties_go_to_the_first_in_reading_order():
    lists, found = empty_lists((9, 9)), np.empty(81, np.int32)
    for point in (40 - 9, 40 + 1, 40 - 1, 40 + 9):
        list_point(lists, point, found)
    assert lists_of(lists)[40].tolist() == [31, 39, 41, 49]


@pytest.mark.parametrize("side", [100, 181])
def test_a_point_changes_ten_pixels_per_share_of_points(side):
    # The cost of a point does not depend on the size of the field.
    lists, found = empty_lists((side, side)), np.empty(side * side, np.int32)
    points = np.random.default_rng(1).permutation(side * side)[: side * side // 20]
    cells = [list_point(lists, point, found) for point in points]
    assert 150 < np.mean(cells[-100:]) < 250
