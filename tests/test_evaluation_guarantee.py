"""A promised recall: which parameter, what it rests on, and when it is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_actors.evaluation.guarantee import (
    NEVER,
    TooFewSitesError,
    affordable,
    promise,
    sites_needed,
)


def tiles(count, sites, hard=(), score=50.0):
    """Tiles whose sites are all found from `score` on, but for one in each of the first tiles."""
    made = [np.full(sites, score) for _ in range(count)]
    for tile, at in zip(made, hard, strict=False):
        tile[0] = at
    return made


def test_hardly_more_sites_are_needed_than_no_bound_can_do_without():
    # (1 - a)^n <= d is the exact binomial limit when nothing is missed; half the wealth bets so.
    least, half = (math.log(d) / math.log(0.99) for d in (0.05, 0.05 / 2))
    assert least < sites_needed(0.99, 0.95) <= math.ceil(half)
    assert 5 * least < sites_needed(0.99, 0.95, lost_together=5) <= 5 * half


def test_as_many_sites_as_needed_are_enough_and_one_less_is_not():
    n = sites_needed(0.95, 0.9)
    promised = promise(tiles(n, 1), recall=0.95, confidence=0.9, lost_together=1)
    assert (promised.parameter, promised.missed, promised.sites) == (50.0, 0, n)
    with pytest.raises(TooFewSitesError, match="1 more sites are needed") as refused:
        promise(tiles(n - 1, 1), recall=0.95, confidence=0.9, lost_together=1)
    assert (refused.value.sites_needed, refused.value.tiles_needed) == (1, 1)


def test_what_a_refusal_asks_for_is_what_it_takes():
    some = tiles(20, 30, hard=(NEVER,))
    with pytest.raises(TooFewSitesError) as refused:
        promise(some, lost_together=2)
    assert refused.value.sites_needed == pytest.approx(30 * refused.value.tiles_needed, rel=0.05)
    # As many again of the same: the growth is that of these tiles.
    times = 1 + refused.value.sites_needed / 600
    again = some * math.ceil(times)
    assert promise(again, lost_together=2).parameter == 50.0
    with pytest.raises(TooFewSitesError):
        promise(some * math.floor(times), lost_together=2)


def test_the_strictest_parameter_that_is_sure_is_chosen():
    promised = promise(tiles(100, 40, hard=(60.0, 70.0, 80.0, NEVER)), lost_together=2)
    assert (promised.parameter, promised.missed) == (50.0, 4)
    promised = promise(tiles(60, 40, hard=[60.0] * 24), lost_together=2)
    assert (promised.parameter, promised.missed) == (60.0, 0)


def test_a_parameter_that_finds_more_when_lower_is_taken_as_it_is():
    lower = [-tile for tile in tiles(60, 40, hard=[60.0] * 24)]
    assert promise(lower, lost_together=2, looser="lower").parameter == -60.0
    lower[0][0] = NEVER
    assert promise(lower, lost_together=2, looser="lower").missed == 1


def test_a_tile_that_loses_more_than_the_promise_rests_on_forbids_the_parameter():
    many = tiles(200, 40)
    many[3][:3] = 60.0
    assert promise(many, lost_together=3).parameter == 50.0
    assert promise(many, lost_together=2).parameter == 60.0
    many[3][:3] = NEVER
    with pytest.raises(TooFewSitesError, match="3 of them in one tile") as refused:
        promise(many, lost_together=2)
    assert refused.value.sites_needed is None


def test_too_many_missed_at_the_loosest_parameter_is_no_matter_of_numbers():
    with pytest.raises(TooFewSitesError, match="too many for any number of tiles") as refused:
        promise(tiles(100, 40, hard=[NEVER] * 80), lost_together=3)
    assert refused.value.sites_needed is None


@pytest.mark.parametrize("empty", [[], [np.zeros(0)] * 5])
def test_without_sites_the_number_needed_is_named(empty):
    with pytest.raises(TooFewSitesError, match="hold no sites") as refused:
        promise(empty)
    assert refused.value.sites_needed == sites_needed(0.99, 0.95)


def test_more_sites_allow_for_more_lost_together():
    allowed = [affordable(sites, 0.99, 0.95) for sites in (100, 1000, 4000, 16000)]
    assert allowed == sorted(allowed)
    assert (allowed[0], allowed[1] < allowed[-1]) == (1, True)


def test_the_words_say_what_it_rests_on():
    words = str(promise(tiles(100, 40, hard=(60.0,)), recall=0.99, confidence=0.95, lost_together=3))
    for part in ("At 50 at least 99 %", "with 95 % confidence", "4000 sites in 100", "1 of them", "than 3."):
        assert part in words
    # None of 100 tiles: 1 - 0.05^(1/100).
    assert "at most 2.951 % of tiles" in words


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"recall": 1.0}, "recall"),
        ({"confidence": 0.0}, "confidence"),
        ({"lost_together": 0}, "lost_together"),
    ],
)
def test_what_cannot_be_promised_is_an_error(given, said):
    with pytest.raises(ValueError, match=said):
        promise(tiles(10, 10), **given)


@pytest.mark.parametrize("score", [math.nan, -math.inf])
def test_a_score_that_is_none_is_an_error(score):
    with pytest.raises(ValueError, match="scores"):
        promise(tiles(10, 10, hard=(score,)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 20.0))
def test_harder_sites_never_make_the_parameter_stricter(seed, harder):
    random = np.random.default_rng(seed)
    drawn = [random.normal(50, 5, random.poisson(30)) for _ in range(60)]

    def chosen(scores):
        try:
            return promise(scores, lost_together=3).parameter
        except TooFewSitesError:
            return math.inf

    changed = [np.where(random.random(len(tile)) < 0.05, tile + harder, tile) for tile in drawn]
    assert chosen(changed) >= chosen(drawn)


def test_promises_are_kept_as_often_as_promised():
    """Sites of a tile are missed together: the limit for independent sites would break one in four."""
    random = np.random.default_rng(0)
    shifts = random.standard_normal((400, 60, 1))
    scores = 0.6 * shifts + 0.8 * random.standard_normal((400, 60, 30))
    true = 1.2815515655446004  # 90 % of a standard normal lie below
    kept = [
        promise(list(one), recall=0.9, confidence=0.9, lost_together=15).parameter >= true for one in scores
    ]
    assert np.mean(kept) >= 0.9
