"""Freely placed regions hold everything that was found, and are few."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_actors.contracts.detector import Pois
from sparse_actors.planning.placement import regions_covering
from sparse_actors.planning.regions import regions_around

FIELD = (300, 200)
boxes = st.tuples(st.integers(0, 299), st.integers(0, 199), st.integers(1, 60), st.integers(1, 60))


def found(items: list[tuple[int, int, int, int]]) -> Pois:
    array = np.array(items, dtype=np.int64).reshape(-1, 4)
    array[:, 2:] = np.minimum(array[:, 2:], np.array(FIELD) - array[:, :2])
    return Pois.at(array[:, :2] + array[:, 2:] / 2, boxes_px=array)


@settings(deadline=None)
@given(st.lists(boxes, max_size=40), st.integers(0, 12))
def test_everything_found_lies_in_a_region_with_its_margin(
    items: list[tuple[int, int, int, int]], margin: int
) -> None:
    pois = found(items)
    regions = regions_covering(pois, (64, 48), FIELD, margin)
    assert (regions[:, :2] >= 0).all()
    assert (regions[:, :2] + regions[:, 2:] <= FIELD).all()
    assert (regions[:, 2:] >= (64, 48)).all()
    for left, top, width, height in pois.boxes_px:
        wanted = np.array([left - margin, top - margin, left + width + margin, top + height + margin])
        wanted = np.clip(wanted, 0, [*FIELD, *FIELD])
        inside = (regions[:, :2] <= wanted[:2]).all(axis=1)
        inside &= (regions[:, :2] + regions[:, 2:] >= wanted[2:]).all(axis=1)
        assert inside.any()


@settings(deadline=None)
@given(st.lists(boxes, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_the_points_does_not_matter_and_there_are_never_more_than_one_each(
    items: list[tuple[int, int, int, int]], random: object
) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    regions = regions_covering(found(items), (64, 48), FIELD, 4)
    np.testing.assert_array_equal(regions, regions_covering(found(shuffled), (64, 48), FIELD, 4))
    assert len(regions) <= len(regions_around(found(items), (64, 48), FIELD))


def fewest(items: list[tuple[int, int, int, int]], width: int, height: int) -> int:
    """The least number of windows, by trying all sets of them."""
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in items])
    windows = {
        frozenset(
            np.flatnonzero(
                (corners[:, 0] >= x)
                & (corners[:, 1] >= y)
                & (corners[:, 2] <= x + width)
                & (corners[:, 3] <= y + height)
            ).tolist()
        )
        for x in set(corners[:, 0].tolist())
        for y in set(corners[:, 1].tolist())
    }
    everything = set(range(len(items)))
    for count in range(1, len(items) + 1):
        for chosen in itertools.combinations(windows, count):
            if set().union(*chosen) == everything:
                return count
    raise AssertionError("each box fits a window")


@pytest.mark.parametrize("seed", range(20))
def test_it_is_close_to_the_fewest_regions_there_can_be(seed: int) -> None:
    random = np.random.default_rng(seed)
    items = [(*map(int, random.integers(0, (150, 100))), 6, 6) for _ in range(8)]
    regions = regions_covering(found(items), (50, 40), FIELD, 0)
    assert len(regions) <= fewest(items, 50, 40) + 1


def test_neighbours_share_a_region_where_centred_ones_would_each_have_their_own() -> None:
    pois = found([(100, 100, 4, 4), (130, 110, 4, 4), (110, 130, 4, 4)])
    assert len(regions_around(pois, (64, 64), FIELD)) == 3
    (region,) = regions_covering(pois, (64, 64), FIELD, 8)
    assert region.tolist() == [85, 85, 64, 64]


def test_ten_thousand_points_are_placed() -> None:
    random = np.random.default_rng(1)
    corner = random.integers(0, 3000, (10_000, 2))
    pois = Pois.at(corner, boxes_px=np.hstack([corner, np.full_like(corner, 5)]))
    regions = regions_covering(pois, (100, 100), (3072, 3072), 5)
    assert len(regions) < 2200
