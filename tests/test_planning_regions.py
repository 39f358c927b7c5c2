"""Regions around points of interest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_actors.contracts.detector import Pois
from sparse_actors.planning.regions import regions_around

FIELD = (100, 80)

fields = st.tuples(st.integers(1, 120), st.integers(1, 120))


@st.composite
def found(draw: st.DrawFn) -> tuple[Pois, tuple[int, int]]:
    """Draw points and boxes, some of which leave the field of view."""
    width, height = field = draw(fields)
    n = draw(st.integers(0, 12))
    points = [(draw(st.floats(0, width)), draw(st.floats(0, height))) for _ in range(n)]
    boxes = [
        (draw(st.integers(-20, width + 20)), draw(st.integers(-20, height + 20)), *draw(fields))
        for _ in range(n)
    ]
    return Pois.at(points, boxes_px=boxes), field


def test_a_point_is_at_the_centre_of_its_region() -> None:
    regions = regions_around(Pois.at([(50.0, 40.0)]), (20, 10), FIELD)
    assert regions.tolist() == [[40, 35, 20, 10]]


@pytest.mark.parametrize(
    ("point", "region"),
    [
        ((0.0, 0.0), [0, 0, 20, 10]),
        ((100.0, 80.0), [80, 70, 20, 10]),
        ((3.0, 79.0), [0, 70, 20, 10]),
    ],
)
def test_a_region_at_the_edge_is_moved_inward_whole(point: tuple[float, float], region: list[int]) -> None:
    assert regions_around(Pois.at([point]), (20, 10), FIELD).tolist() == [region]


def test_a_region_is_smaller_only_where_the_field_is() -> None:
    assert regions_around(Pois.at([(50, 40)]), (200, 10), FIELD).tolist() == [[0, 35, 100, 10]]


def test_a_region_grows_to_what_was_found() -> None:
    crack = Pois.at([(50, 40)], boxes_px=[(20, 38, 60, 4)])
    assert regions_around(crack, (20, 10), FIELD).tolist() == [[20, 35, 60, 10]]


def test_a_region_moves_so_that_it_does_not_cut_what_was_found() -> None:
    comet = Pois.at([(50, 40)], boxes_px=[(48, 38, 15, 4)])
    assert regions_around(comet, (20, 10), FIELD).tolist() == [[43, 35, 20, 10]]


def test_equal_regions_are_one() -> None:
    assert len(regions_around(Pois.at([(5.0, 5.0), (5.1, 5.2), (0.0, 0.0)]), (20, 20), FIELD)) == 1


def test_no_points_make_no_regions() -> None:
    assert regions_around(Pois.at([]), (20, 20), FIELD).shape == (0, 4)


@pytest.mark.parametrize(("region", "field"), [((0, 5), FIELD), ((5, 5), (0, 5))])
def test_a_region_without_pixels_is_refused(region: tuple[int, int], field: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        regions_around(Pois.at([]), region, field)


@given(found(), fields)
@settings(deadline=None)
def test_every_point_and_all_that_was_found_lies_in_a_region(
    case: tuple[Pois, tuple[int, int]], region_px: tuple[int, int]
) -> None:
    pois, (width, height) = case
    regions = regions_around(pois, region_px, (width, height))
    ends = regions[:, :2] + regions[:, 2:]
    assert (regions[:, :2] >= 0).all()
    assert (ends <= (width, height)).all()
    assert (regions[:, 2:] >= np.minimum(region_px, (width, height))).all()
    for (x, y), (left, top, box_width, box_height) in zip(pois.xy_px, pois.boxes_px, strict=True):
        holds_point = (regions[:, :2] <= (x, y)).all(axis=1) & (ends >= (x, y)).all(axis=1)
        # Of a box that leaves the field of view, what is inside has to be covered.
        first = np.maximum((left, top), 0)
        end = np.minimum((left + box_width, top + box_height), (width, height))
        if (first < end).all():
            holds_point &= (regions[:, :2] <= first).all(axis=1) & (ends >= end).all(axis=1)
        assert holds_point.any()


@given(found(), fields, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_points_does_not_matter(
    case: tuple[Pois, tuple[int, int]], region_px: tuple[int, int], random: np.random.Generator
) -> None:
    pois, field = case
    order = list(range(len(pois)))
    random.shuffle(order)
    shuffled = Pois.at(pois.xy_px[order], boxes_px=pois.boxes_px[order])
    expected = regions_around(pois, region_px, field)
    assert (regions_around(shuffled, region_px, field) == expected).all()
