"""The windows of an audit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_actors.geometry import PixelBox
from sparse_actors.planning.audit import covered_by, draw_windows, exposed_for, is_missed

FIELD = (100, 60)


def drawn(boxes=(), count=10_000, size=(20, 20), seed=(1, 2)):
    return draw_windows(covered_by(boxes, FIELD), size, count, seed)


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 150))
def test_every_pixel_belongs_to_exactly_one_window(width, height):
    windows, of = drawn(size=(width, height))
    times = np.zeros(FIELD[::-1], int)
    for window in windows:
        times[window.slices] += 1
    assert (times == 1).all()
    assert of == len(windows)


def test_windows_that_a_region_covers_are_left_out():
    windows, of = drawn([PixelBox(0, 0, 45, 20)])
    assert of == 15 - 2
    assert PixelBox(0, 0, 20, 20) not in windows
    assert PixelBox(40, 0, 20, 20) in windows  # something is left over
    assert drawn([PixelBox(0, 0, *FIELD)]) == ((), 0)


def test_the_same_seed_draws_the_same_and_each_window_as_often():
    assert drawn(count=3) == drawn(count=3)
    often: dict[PixelBox, int] = {}
    for seed in range(1500):
        windows, of = drawn(count=3, seed=(7, seed))
        assert (len(set(windows)), of) == (3, 15)
        for window in windows:
            often[window] = often.get(window, 0) + 1
    # Binomial: 300 on average, standard deviation 15.5.
    assert len(often) == 15
    assert all(abs(times - 300) < 65 for times in often.values())


def test_a_window_is_exposed_with_a_margin_inside_the_field():
    assert exposed_for(PixelBox(40, 20, 20, 20), 5, FIELD) == PixelBox(35, 15, 30, 30)
    assert exposed_for(PixelBox(80, 40, 20, 20), 5, FIELD) == PixelBox(75, 35, 25, 25)
    assert exposed_for(PixelBox(0, 0, 20, 20), 5, FIELD) == PixelBox(0, 0, 25, 25)


def test_a_site_is_missed_where_its_centre_is_in_the_window_and_in_no_region():
    covered = covered_by([PixelBox(0, 0, 10, 10)], FIELD)
    xy = np.array([[5.0, 5.0], [10.0, 5.0], [9.99, 9.99], [19.9, 19.9], [20.0, 5.0]])
    assert is_missed(xy, PixelBox(0, 0, 20, 20), covered).tolist() == [False, True, False, True, False]
    # The far edge of the field belongs to its last window.
    edge = np.array([[100.0, 60.0]])
    assert is_missed(edge, PixelBox(80, 40, 20, 20), covered).tolist() == [True]


def test_windows_without_pixels_are_errors():
    with pytest.raises(ValueError, match="windows of 0 px"):
        drawn(size=(0, 20))
