"""When a map is good enough, and how much of it is estimated to be wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_actors.sampling.stopping import (
    AUDIT_EVERY,
    Distortion,
    Evidence,
    FilteredError,
    estimate,
    evidence,
    is_audit,
    learnt_threshold,
    prior_of,
)

NONE = np.zeros(0, dtype=bool)


@st.composite
def evidences(draw):
    pixels = draw(st.integers(16, 2048**2))
    measured = draw(st.integers(1, pixels))
    audits = draw(st.integers(0, measured))
    return Evidence(
        pixels=pixels,
        measured=measured,
        border=draw(st.integers(0, pixels - measured)),
        audits=audits,
        audits_wrong=draw(st.integers(0, audits)),
    )


@given(evidences())
def test_an_estimate_is_a_share_within_its_interval(seen):
    found = estimate(seen)
    assert 0 <= found.low <= found.high <= 1 - seen.measured / seen.pixels + 1e-12
    assert 0 <= found.expected <= 1


def test_audits_move_the_estimate_and_many_of_them_decide():
    few = Evidence(pixels=10**6, measured=50_000, border=10_000, audits=0, audits_wrong=0)
    none_wrong = Evidence(pixels=10**6, measured=50_000, border=10_000, audits=400, audits_wrong=0)
    some_wrong = Evidence(pixels=10**6, measured=50_000, border=10_000, audits=400, audits_wrong=40)
    assert estimate(none_wrong).high < estimate(few).high
    assert estimate(few).expected < estimate(some_wrong).expected
    many = Evidence(pixels=10**8, measured=10**7, border=10**6, audits=100_000, audits_wrong=6_000)
    # 6 % of audits wrong, corrected for what they have put right since.
    assert estimate(many).expected == pytest.approx(0.9 * 0.06 / 1.2, rel=0.02)


def test_the_interval_holds_the_truth_in_95_of_100_maps_that_follow_the_prior():
    random = np.random.default_rng(0)
    seen = Evidence(pixels=128**2, measured=1600, border=700, audits=0, audits_wrong=0)
    expected, shape = prior_of(seen)
    shape /= 1.5
    held = []
    for wrong in random.poisson(random.gamma(shape, expected / shape, 2000)):
        rate_wrong = 1.2 * wrong / (seen.pixels - seen.measured)
        found = estimate(
            Evidence(
                pixels=seen.pixels,
                measured=seen.measured,
                border=seen.border,
                audits=12,
                audits_wrong=int(random.binomial(12, min(1, rate_wrong))),
            )
        )
        held.append(found.low <= wrong / seen.pixels <= found.high)
    assert 0.93 < np.mean(held) < 0.97


def test_more_border_and_fewer_points_let_more_be_wrong():
    def expected(**changed):
        return estimate(Evidence(**{**known, **changed})).expected

    known = {"pixels": 16384, "measured": 1000, "border": 500, "audits": 0, "audits_wrong": 0}
    assert expected(border=1000) > expected() > expected(measured=2000)


def test_a_map_of_which_all_is_measured_has_no_error():
    everything = Evidence(pixels=100, measured=100, border=0, audits=5, audits_wrong=2)
    assert estimate(everything) == Distortion(0.0, 0.0, 0.0)


def test_the_border_is_counted_where_nothing_is_measured_and_within_the_field():
    phase_map = np.ones((4, 6), dtype=np.int32)
    phase_map[:, 3:] = 2
    points = np.array([[2, 0], [5, 3], [0, 0]])
    seen = evidence(phase_map, points, np.zeros(3, bool), np.zeros(3, bool))
    assert (seen.pixels, seen.measured, seen.border) == (24, 3, 7)
    mask = np.ones((4, 6), dtype=bool)
    mask[2:, 3] = False
    seen = evidence(phase_map, points, np.zeros(3, bool), np.zeros(3, bool), mask)
    assert (seen.pixels, seen.border) == (22, 3)


def test_only_recent_audits_count():
    points = np.array([[i % 50, i // 50] for i in range(200)])
    audits = np.array([is_audit(i, 20) for i in range(200)])
    assert audits[:20].sum() == 0
    assert audits.sum() == 180 // AUDIT_EVERY
    seen = evidence(np.ones((50, 50), np.int32), points, audits, np.ones(200, bool))
    assert seen.audits == seen.audits_wrong == audits[170:].sum() == 2
    seen = evidence(np.ones((50, 50), np.int32), points, audits, np.arange(200) < 180)
    assert (seen.audits, seen.audits_wrong) == (2, 1)


@pytest.mark.parametrize(
    ("side_px", "weight"), [(128, 0.003), (256, 0.002), (512, 0.001), (1024, 0.0005), (2048, 0.001 / 3)]
)
def test_the_weight_of_the_filtered_error_is_that_of_the_paper(side_px, weight):
    assert FilteredError(side_px**2, 0.1).weight == pytest.approx(weight)


def test_the_filtered_error_follows_its_recursion():
    rule, error = FilteredError(128**2, 0.1), 0.0
    wrong = np.random.default_rng(0).random(500) < 0.3
    for was_wrong in wrong:
        rule.tell([was_wrong])
        error = (1 - 0.003) * error + 0.003 * was_wrong
    assert rule.error == pytest.approx(error, rel=1e-12)
    all_at_once = FilteredError(128**2, 0.1)
    all_at_once.tell(wrong)
    assert all_at_once.error == rule.error


def test_the_filtered_rule_waits_for_enough_points_a_small_and_a_falling_error():
    rule = FilteredError(10_000, threshold=0.2)
    rule.tell([False] * 201)
    assert not rule.is_met  # never fell
    rule.tell([True] * 50)
    assert not rule.is_met  # rises
    rule.tell([False] * 60)
    assert rule.is_met
    strict = FilteredError(10_000, threshold=1e-9)
    strict.tell([True] * 251 + [False] * 60)
    assert not strict.is_met
    early = FilteredError(10_000, threshold=0.2)
    early.tell([True] * 10 + [False] * 190)
    assert early.measured == 200
    assert not early.is_met
    early.tell([False])
    assert early.is_met


def test_a_threshold_is_the_mean_error_where_training_maps_got_good():
    runs = [
        (np.array([0.3, 0.2, 0.1]), np.array([0.05, 0.009, 0.001])),
        (np.array([0.4, 0.3, 0.2]), np.array([0.05, 0.02, 0.009])),
        (np.array([0.4, 0.3, 0.2]), np.array([0.05, 0.02, 0.02])),
    ]
    assert learnt_threshold(runs, 0.01) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no training map reached"):
        learnt_threshold(runs, 1e-6)
