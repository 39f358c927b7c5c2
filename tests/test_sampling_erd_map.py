"""The ERD engine: its state is that of a plain computation, whatever happened before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_reference import reference, some_model

from sparse_actors.sampling.erd_map import ErdMap

STATE = ("values", "dissent", "erd", "listed")


def assert_reference(erd_map, known, taken, model):
    expected = reference(erd_map.shape, known, model)
    erd = np.where(np.isin(np.arange(len(expected.erd)), list(taken)), -np.inf, expected.erd)
    np.testing.assert_allclose(erd_map.values, expected.values, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(erd_map.dissent, expected.dissent, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(erd_map.erd, erd, rtol=1e-4, atol=1e-3)
    unknown = np.flatnonzero(~erd_map.listed)
    np.testing.assert_allclose(erd_map.features(unknown), expected.features[unknown], rtol=1e-5, atol=1e-5)


def assert_same(a, b):
    for name in STATE:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


def told(erd_map, known, taken=()):
    """The same map, told all at once."""
    rest = [pixel for pixel in taken if pixel not in known]
    pixels = np.array([*known, *rest], np.int64)
    values = np.array([*known.values(), *[0] * len(rest)], np.float32)
    erd_map.update(pixels, values, np.arange(len(pixels)) < len(known))
    return erd_map


@st.composite
def histories(draw):
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    pixel = st.integers(0, shape[0] * shape[1] - 1)
    update = st.dictionaries(pixel, st.integers(0, 3), min_size=1, max_size=30)
    return shape, draw(st.lists(st.one_of(update, st.integers(1, 12)), min_size=1, max_size=8))


@pytest.mark.parametrize(
    ("values", "features"), [("labels", "slads"), ("labels", "local"), ("continuous", "slads")]
)
@settings(deadline=None, max_examples=40)
@given(history=histories())
def test_the_state_depends_on_what_is_known_alone(values, features, history):
    shape, steps = history
    model = some_model(values, features)
    erd_map, known, taken = ErdMap(shape, model), {}, set()
    for step in steps:
        if isinstance(step, int):
            for pixel in erd_map.pick(step).tolist():
                known[pixel] = erd_map.values[pixel]
                taken.add(pixel)
            continue
        # Value 0 stands for points that are not listed.
        pixels = np.array(list(step))
        given_values = np.array(list(step.values()), np.float32)
        erd_map.update(pixels, given_values, given_values > 0)
        taken.update(step)
        for pixel, value in step.items():
            known.pop(pixel, None)
            if value:
                known[pixel] = value
    assert erd_map.points == len(known)
    assert_same(erd_map, told(ErdMap(shape, model), known, taken))
    if known:
        assert_reference(erd_map, known, taken, model)


def test_a_point_that_goes_leaves_its_place_to_one_that_may_disagree():
    known = dict.fromkeys(range(10), 0) | dict.fromkeys(range(30, 40), 1)
    erd_map = told(ErdMap((1, 60), some_model()), known)
    assert erd_map.dissent[12] == 0
    erd_map.update(np.array([4]), np.zeros(1, np.float32), np.array([False]))
    del known[4]
    assert erd_map.dissent[12] > 0
    assert_same(erd_map, told(ErdMap((1, 60), some_model()), known, [4]))


@pytest.mark.parametrize("seed", range(3))
def test_each_pick_has_the_largest_erd(seed):
    rng = np.random.default_rng(seed)
    shape, model = (37, 52), some_model(seed=seed)
    image = rng.integers(1, 4, shape).repeat(4, 0)[: shape[0]].ravel()
    known = {int(p): image[p] for p in rng.choice(image.size, 40, replace=False)}
    erd_map = told(ErdMap(shape, model), known)
    for _ in range(30):
        erd = reference(shape, known, model).erd
        (pixel,) = erd_map.pick(1).tolist()
        assert erd[pixel] >= erd.max() - 1e-3
        known[pixel] = image[pixel]
        erd_map.update(np.array([pixel]), image[[pixel]].astype(np.float32), np.array([True]))
    assert_reference(erd_map, known, set(known), model)


def test_equal_votes_go_to_the_smallest_label_whatever_their_sum_is_rounded_to():
    # Weights 1 + 1/5 against 1 + 1/10 + 1/10.
    erd_map = told(ErdMap((6, 9), some_model()), {36: 1, 18: 1, 46: 2, 49: 2, 31: 2})
    assert erd_map.values[37] == 1
    erd_map = told(ErdMap((6, 9), some_model()), {36: 2, 18: 2, 46: 1, 49: 1, 31: 1})
    assert erd_map.values[37] == 1


def test_equal_pixels_are_picked_in_reading_order():
    erd_map = told(ErdMap((41, 41), some_model()), {840: 1})
    first = erd_map.erd == erd_map.erd.max()
    assert first.sum() > 1
    assert erd_map.pick(1)[0] == np.flatnonzero(first)[0]


def test_a_field_is_picked_to_its_end_and_no_further():
    mask = np.zeros((20, 30), np.bool_)
    mask[3:9, 5:12] = mask[15:, 20:] = True
    erd_map = told(ErdMap(mask.shape, some_model(), mask), {0: 1})
    picked = erd_map.pick(1000)
    assert sorted(picked) == np.flatnonzero(mask).tolist()
    assert len(erd_map.pick(1)) == 0


def test_nothing_is_picked_before_the_first_point():
    erd_map = ErdMap((5, 5), some_model())
    assert len(erd_map.pick(3)) == 0
    with pytest.raises(ValueError, match="before the first point"):
        erd_map.features(np.arange(3))


@pytest.mark.parametrize("shape", [(0, 5), (1, 32768)])
def test_sides_out_of_range_are_refused(shape):
    with pytest.raises(ValueError, match="sides"):
        ErdMap(shape, some_model())
