"""When a map is good enough, and how much of it is estimated to be wrong."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_actors.sampling.field_sampler import CHOSEN, DRAWN_AGREED, DRAWN_DISPUTED
from sparse_actors.sampling.stopping import (
    AUDIT_EVERY,
    LAWS,
    SPREAD,
    Distortion,
    Draw,
    Evidence,
    FilteredError,
    estimate,
    evidence,
    is_audit,
    learnt_threshold,
    least_points,
    posterior,
    unseen_px,
)

NOTHING = Draw(0.0, 0)
KNOWN = Evidence(
    pixels=16384,
    measured=1600,
    disputed=700,
    doubt=200.0,
    unseen=60.0,
    in_disputed=NOTHING,
    in_agreed=NOTHING,
)


def draws(points):
    return st.integers(0, points).map(lambda wrong: Draw(1.7 * points, wrong))


@st.composite
def evidences(draw):
    pixels = draw(st.integers(16, 2048**2))
    measured = draw(st.integers(1, pixels))
    disputed = draw(st.integers(0, pixels - measured))
    return Evidence(
        pixels=pixels,
        measured=measured,
        disputed=disputed,
        doubt=draw(st.floats(0, disputed)),
        unseen=draw(st.floats(0, 100 * pixels)),
        in_disputed=draw(st.integers(0, measured).flatmap(draws)),
        in_agreed=draw(st.integers(0, measured).flatmap(draws)),
    )


@given(evidences())
def test_an_estimate_is_a_share_within_its_interval(seen):
    found = estimate(seen)
    assert 0 <= found.low <= found.high <= 1 - seen.measured / seen.pixels + 1e-12
    assert 0 <= found.expected <= 1


@pytest.mark.parametrize("kind", ["in_disputed", "in_agreed"])
def test_draws_move_the_estimate_and_many_of_them_decide(kind):
    none_wrong = estimate(replace(KNOWN, **{kind: Draw(400.0, 0)}))
    some_wrong = estimate(replace(KNOWN, **{kind: Draw(400.0, 200)}))
    assert none_wrong.high < estimate(KNOWN).high < some_wrong.high
    assert none_wrong.expected < estimate(KNOWN).expected < some_wrong.expected
    pixels = KNOWN.disputed if kind == "in_disputed" else 16384 - 1600 - 700
    law, is_disputed = (LAWS[0], True) if kind == "in_disputed" else (LAWS[1], False)
    _, mean = posterior(replace(KNOWN, **{kind: Draw(1e6, 60_000)}), law, is_disputed)
    assert mean == pytest.approx(0.06 * pixels, rel=0.01)


def test_the_interval_holds_the_truth_in_95_of_100_maps_that_follow_the_laws():
    random = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        wrong, drawn = 0, []
        for law, is_disputed, pixels in zip(LAWS, (True, False), (700, 16384 - 1600 - 700), strict=True):
            shape, mean = posterior(KNOWN, law, is_disputed)
            shape /= SPREAD
            rate = random.gamma(shape, mean / shape)
            wrong += random.poisson(rate)
            # A draw that counts in full; only so much of it is news.
            drawn.append(Draw(40 / law.weight, random.poisson(40 * rate / pixels) / law.weight))
        found = estimate(replace(KNOWN, in_disputed=drawn[0], in_agreed=drawn[1]))
        held.append(found.low <= wrong / KNOWN.pixels <= found.high)
    assert 0.93 < np.mean(held) < 0.98


def test_more_doubt_more_unseen_and_fewer_points_let_more_be_wrong():
    def expected(**changed):
        return estimate(replace(KNOWN, **changed)).expected

    assert expected(doubt=400.0, disputed=1400) > expected()
    assert expected(measured=8000, doubt=100.0, unseen=6.0) < expected()
    assert expected(unseen=600.0) > expected()


def test_a_map_of_which_all_is_measured_has_no_error():
    everything = Evidence(100, 100, 0, 0.0, 0.0, Draw(5.0, 2), NOTHING)
    assert estimate(everything) == Distortion(0.0, 0.0, 0.0)


def test_particles_that_were_hit_stand_for_those_that_were_missed():
    random = np.random.default_rng(1)
    side, area = 600, 4
    truth = np.ones((side, side), np.int32)
    for row, column in random.choice(side // 4, (800, 2)) * 4:
        truth[row : row + 2, column : column + 2] = 2
    is_measured = random.random(truth.shape) < 0.15
    # A map that shows each particle that was hit in full, and none of the others.
    hit = np.zeros_like(is_measured)
    for row, column in np.argwhere(is_measured & (truth == 2)):
        hit[row // 4 * 4 : row // 4 * 4 + 2, column // 4 * 4 : column // 4 * 4 + 2] = True
    phase_map = np.where(hit, 2, 1).astype(np.int32)
    missed = int((phase_map != truth).sum())
    assert missed > 400 * area
    assert unseen_px(phase_map, int(is_measured.sum())) == pytest.approx(missed, rel=0.1)
    assert unseen_px(np.ones((30, 30), np.int32), 90) == pytest.approx(0, abs=1e-9)


def test_what_is_seen_is_counted_by_how_points_were_drawn():
    phase_map = np.ones((4, 6), dtype=np.int32)
    phase_map[:, 3:] = 2
    votes = np.ones((4, 6), np.float32)
    votes[:, 2:4] = 0.75
    drawn = np.array([CHOSEN, DRAWN_DISPUTED, DRAWN_AGREED, DRAWN_AGREED], np.uint8)
    seen = evidence(phase_map, votes, drawn, np.array([True, True, False, True]))
    assert (seen.pixels, seen.measured, seen.disputed, seen.doubt) == (24, 4, 8, 2.0)
    assert seen.in_disputed == Draw(2.0, 1)  # the second of four points: the map has doubled since
    assert seen.in_agreed == Draw(pytest.approx(4 / 3 + 1), 1)


@pytest.mark.parametrize("distortion", [0.2, 0.02, 0.005])
def test_a_map_may_end_when_particles_of_that_share_would_have_been_hit(distortion):
    points = least_points(distortion)
    assert (1 - distortion) ** points <= 0.025 < (1 - distortion) ** (points - 1)


def test_every_twentieth_point_after_the_start_is_an_audit():
    audits = np.array([is_audit(i, 20) for i in range(200)])
    assert audits[:20].sum() == 0
    assert audits.sum() == 180 // AUDIT_EVERY


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
