"""Picking and telling, in any order and with labels that are late, wrong or ill."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_reference import reference, some_model

from sparse_actors.sampling.field_sampler import FieldSampler

SHAPE = (23, 31)
IMAGE = np.where(np.hypot(*(np.indices(SHAPE) - 11)) < 8, 2, 1) + (np.indices(SHAPE)[1] > 25)


def sampler(**options):
    options = {"seed": 3, "start_fraction": 0.03} | options
    return FieldSampler(SHAPE, some_model(), **options)


def labels_at(points_px):
    return IMAGE[points_px[:, 1], points_px[:, 0]]


def maps(s):
    return s.phase_map(), s.erd_map(), s.vote_share()


def run(s, batches, n=7):
    for _ in range(batches):
        points = s.pick(n)
        s.tell(points, labels_at(points))
    return s


def test_points_are_told_once_each_and_the_map_holds_them():
    s, seen = sampler(), set()
    while len(points := s.pick(40)):
        assert len(points) == 40 or not len(s.pick(1))
        assert not seen & set(map(tuple, points.tolist()))
        seen |= set(map(tuple, points.tolist()))
        s.tell(points, labels_at(points))
    assert s.measured == len(seen) == IMAGE.size
    assert s.pending == 0
    np.testing.assert_array_equal(s.phase_map(), IMAGE)
    assert not s.erd_map().any()
    assert (s.vote_share() == 1).all()


def test_start_points_come_first():
    s, other = sampler(), sampler()
    n = round(0.03 * IMAGE.size)
    start = s.pick(n)
    np.testing.assert_array_equal(np.concatenate([other.pick(4), other.pick(n - 4)]), start)
    assert (s.predicted(start) == 0).all()
    assert not s.phase_map().any()
    assert not s.vote_share().any()
    s.tell(start, labels_at(start))
    erd = s.erd_map()
    (pick,) = s.pick(1)
    assert erd[pick[1], pick[0]] == erd.max()


def test_the_same_calls_give_the_same_picks():
    a, b, c = run(sampler(), 12), run(sampler(), 12), run(sampler(seed=4), 12)
    np.testing.assert_array_equal(a.pick(50), b.pick(50))
    assert not np.array_equal(a.pick(50), c.pick(50))


def test_a_resumed_sampler_goes_on_as_the_first_would():
    s = run(sampler(), 20)
    y, x = np.divmod(np.random.default_rng(0).permutation(IMAGE.size), SHAPE[1])
    points = np.stack([x, y], axis=1)
    points = points[s.predicted(points) > -1]
    told = points[s.erd_map()[points[:, 1], points[:, 0]] == 0]
    assert len(told) == s.measured
    resumed = sampler()
    resumed.tell(told, labels_at(told))
    assert resumed.measured == s.measured
    for a, b in zip(maps(s), maps(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    picks = {tuple(p) for p in s.pick(30).tolist()}
    assert picks == {tuple(p) for p in resumed.pick(30).tolist()}


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_the_maps_are_those_of_a_sampler_told_the_same(data):
    s, waiting, known = sampler(start_fraction=0.01), [], {}
    for _ in range(data.draw(st.integers(1, 6))):
        waiting += s.pick(data.draw(st.integers(1, 25))).tolist()
        waiting = data.draw(st.permutations(waiting))
        n = data.draw(st.integers(0, len(waiting)))
        points, waiting = waiting[:n], waiting[n:]
        # Some of the labels are not what was predicted, some fit no phase, some are corrected later.
        labels = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
        corrected = data.draw(st.lists(st.sampled_from(sorted(known) or [(1, 1)]), unique=True, max_size=3))
        corrected = [list(p) for p in corrected if list(p) not in points + waiting]
        s.tell(points + corrected, labels + [3] * len(corrected))
        known |= dict(zip(map(tuple, points), labels, strict=True)) | dict.fromkeys(map(tuple, corrected), 3)
    assert s.measured == len(known)
    assert s.pending == len(waiting)
    s.tell(waiting, [1] * len(waiting))
    known |= dict.fromkeys(map(tuple, waiting), 1)
    fresh = sampler()
    fresh.tell(list(known), list(known.values()))
    for a, b in zip(maps(s), maps(fresh), strict=True):
        np.testing.assert_array_equal(a, b)
    listed = {y * SHAPE[1] + x: label for (x, y), label in known.items() if label}
    if listed:
        expected = reference(SHAPE, listed, some_model())
        for (x, y), label in known.items():
            assert s.phase_map()[y, x] == label
            expected.erd[y * SHAPE[1] + x] = 0
            expected.values[y * SHAPE[1] + x] = label
        np.testing.assert_array_equal(s.phase_map().ravel(), expected.values)
        np.testing.assert_allclose(s.erd_map().ravel(), expected.erd, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(s.vote_share().ravel(), 1 - expected.dissent, atol=1e-5)


def test_a_point_that_fits_no_phase_is_shown_and_not_picked_again():
    s = run(sampler(), 8)
    before = s.phase_map()
    ((x, y),) = s.pick(1)
    s.tell([(x, y)], [0])
    assert s.phase_map()[y, x] == 0
    assert s.predicted([(x, y)]) == before[y, x]
    assert s.erd_map()[y, x] == 0
    kept = run(sampler(excluded_label=None), 8)
    kept.tell([(x, y)], [0])
    assert kept.predicted([(x, y)]) == 0
    assert (s.pick(1000) != (x, y)).any(axis=1).all()


def test_the_beam_has_work_while_nothing_is_known():
    s = sampler()
    points = np.concatenate([s.pick(200), s.pick(200)])
    assert len(np.unique(points, axis=0)) == 400
    s.tell(points, np.zeros(400))
    assert len(s.pick(10)) == 10
    assert s.pending == 10


def test_points_late_from_the_start_are_counted_as_predicted():
    s = sampler()
    start = s.pick(21)
    s.tell(start[:15], labels_at(start[:15]))
    predicted = s.predicted(start[15:])
    s.pick(1)
    assert (s.erd_map()[start[15:, 1], start[15:, 0]] == 0).all()
    np.testing.assert_array_equal(s.predicted(start[15:]), predicted)


def test_nothing_outside_the_mask_is_picked():
    mask = np.zeros(SHAPE, np.bool_)
    mask[2:9, 3:20] = mask[15:20, 5:8] = True
    s = run(sampler(mask=mask, start="sobol"), 30)
    assert s.measured == mask.sum()
    np.testing.assert_array_equal(s.phase_map(), np.where(mask, IMAGE, 0))
    assert not s.erd_map().any()
    assert (s.vote_share() == mask).all()


@pytest.mark.parametrize(
    ("points", "labels", "said"),
    [
        ([(31, 0)], [1], "outside"),
        ([(0, -1)], [1], "outside"),
        ([(1, 1), (1, 1)], [1, 1], "twice"),
        ([(1, 1), (1, 2)], [1], "labels"),
    ],
)
def test_what_cannot_be_is_refused(points, labels, said):
    s = sampler()
    with pytest.raises(ValueError, match=said):
        s.tell(points, labels)
    assert s.measured == 0


@pytest.mark.parametrize("options", [{"start_fraction": 0.0}, {"budget_fraction": 2.0}])
def test_fractions_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="fraction"):
        sampler(**options)


def test_the_start_takes_no_more_than_the_budget():
    few, many = sampler(budget_fraction=0.01), sampler(start_fraction=0.01)
    np.testing.assert_array_equal(few.pick(7), many.pick(7))


def test_nothing_is_picked_when_nothing_is_asked_for():
    s = sampler()
    assert s.pick(0).shape == (0, 2)
    assert run(s, 10).pick(0).shape == (0, 2)
    assert s.pending == 0
