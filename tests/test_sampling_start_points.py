"""Start points: different pixels of the field, as many as asked for, and evenly spread."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from sparse_actors.sampling.start_points import StartKind, start_points

KINDS = get_args(StartKind)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 2**32),
    st.floats(0.001, 1),
    st.floats(0, 0.9),
)
def test_any_number_of_pixels_of_any_field(kind, shape, seed, share, outside):
    mask = np.random.default_rng(seed).random(shape) >= outside
    if not mask.any():
        mask[0, 0] = True
    n = max(1, round(share * mask.sum()))
    points = start_points(kind, mask, n, seed)
    assert len(np.unique(points)) == len(points) == n
    assert mask.ravel()[points].all()
    np.testing.assert_array_equal(points, start_points(kind, mask, n, seed))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "uniform"])
def test_another_seed_gives_other_points(kind):
    mask = np.ones((60, 80), np.bool_)
    assert not np.array_equal(start_points(kind, mask, 50, 0), start_points(kind, mask, 50, 1))


@pytest.mark.parametrize(
    ("kind", "most"), [("random", 1.2), ("halton", 0.85), ("sobol", 0.85), ("r2", 0.85), ("uniform", 0.6)]
)
def test_how_far_pixels_are_from_the_nearest(kind, most):
    # Squared distance to n points at random: area / (pi n) on average; to a square grid pi / 6 of that.
    mask = np.ones((200, 200), np.bool_)
    points = np.stack(np.divmod(start_points(kind, mask, 400, 7), 200), axis=1)
    distance_px, _ = cKDTree(points).query(np.indices(mask.shape).reshape(2, -1).T)
    assert (distance_px**2).mean() < most * mask.size / (np.pi * 400)


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="cannot choose 5 of 4"):
        start_points("random", np.ones((2, 2), np.bool_), 5, 0)
    with pytest.raises(ValueError, match="must be halton"):
        start_points("grid", np.ones((2, 2), np.bool_), 1, 0)
