"""The audit's estimate of what was missed, and its interval."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from sparse_actors.planning.audit_estimate import AuditedTile, estimate


def audited(found=40, windows=100, missed=(0, 0, 0, 0)):
    return AuditedTile(found=found, windows=windows, missed=missed)


def test_a_missed_site_stands_for_as_many_windows_as_were_not_drawn():
    told = estimate([audited(missed=(0, 1, 0, 0)), audited(windows=60, missed=(2, 0))])
    assert (told.seen, told.missed, told.windows, told.found) == (3, 25 + 60, 6, 80)
    assert told.recall == pytest.approx(80 / 165)
    assert told.low < told.recall < told.high


def test_the_estimate_is_unbiased_over_all_draws():
    # Every pair of the windows of a tile is drawn as often as any other.
    missed = (0, 3, 0, 1, 0, 0, 1)
    draws = [(a, b) for i, a in enumerate(missed) for b in missed[i + 1 :]]
    told = [estimate([audited(windows=len(missed), missed=draw)]).missed for draw in draws]
    assert np.mean(told) == pytest.approx(sum(missed))


def test_where_all_windows_were_scanned_nothing_is_uncertain():
    told = estimate([audited(found=3, windows=2, missed=(1, 0))])
    assert (told.missed, told.missed_low, told.missed_high) == (1, 1, 1)
    assert told.low == told.recall == told.high == 0.75


def test_without_a_missed_site_the_upper_end_is_the_mid_p_limit():
    # Half of exp(-x / N) = 0.025 with N = 25 - 1/25: about three times the windows one stands for.
    told = estimate([audited(found=1000)])
    assert (told.missed, told.missed_low, told.high, told.recall) == (0, 0, 1, 1)
    assert told.missed_high == pytest.approx(-math.log(0.05) * 24, rel=0.08)
    assert told.low == pytest.approx(1000 / (1000 + told.missed_high))


def test_sites_that_share_a_window_tell_less():
    apart = estimate([audited(missed=(1, 1, 1, 1))] * 3)
    together = estimate([audited(missed=(4, 0, 0, 0))] * 3)
    assert apart.missed == together.missed
    assert together.missed_low < apart.missed_low
    assert together.missed_high > apart.missed_high


def test_a_tile_that_the_regions_cover_wholly_is_known():
    told = estimate([audited(windows=0, missed=()), audited(windows=0, missed=())])
    assert (told.recall, told.low, told.high, told.missed_high) == (1, 1, 1, 0)


def test_nothing_found_and_nothing_missed_says_nothing():
    told = estimate([audited(found=0)])
    assert (told.recall, told.low, told.high) == (1, 0, 1)
    assert estimate([]).low == 1


@pytest.mark.parametrize(
    "given",
    [{"found": -1}, {"missed": (-1,)}, {"windows": 2}, {"missed": ()}, {"windows": 0, "missed": (0,)}],
)
def test_impossible_numbers_are_errors(given):
    with pytest.raises(ValueError, match=r"windows drawn|negative"):
        audited(**given)


@pytest.mark.parametrize("confidence", [0, 1])
def test_confidence_lies_between(confidence):
    with pytest.raises(ValueError, match="confidence"):
        estimate([], confidence)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 50), st.integers(1, 50), st.lists(st.integers(0, 3), min_size=1, max_size=8)
        ),
        max_size=6,
    )
)
def test_the_estimate_lies_in_its_interval(drawn):
    told = estimate(
        audited(found=found, windows=len(missed) * more, missed=tuple(missed))
        for found, more, missed in drawn
    )
    assert told.missed_low <= told.missed * (1 + 1e-6) + 1e-9
    assert told.missed <= told.missed_high * (1 + 1e-6) + 1e-9
    assert told.seen <= told.missed_low + 1e-6
    assert 0 <= told.low <= told.recall + 1e-9 <= told.high + 2e-9 <= 1 + 2e-9
    wider = estimate(
        (audited(found=f, windows=len(m) * n, missed=tuple(m)) for f, n, m in drawn), confidence=0.99
    )
    assert wider.missed_high >= told.missed_high - 1e-6


def test_the_interval_holds_as_often_as_it_says():
    """Single missed sites, 1 window in 20 scanned: how many are seen is binomial, and jumps."""
    told = [estimate([audited(windows=4000, missed=(1,) * seen + (0,) * (200 - seen))]) for seen in range(80)]
    held = []
    for missed in range(40, 400, 5):
        chance = binom.pmf(np.arange(80), missed, 0.05)
        inside = [one.missed_low <= missed <= one.missed_high for one in told]
        held.append(float(chance @ inside))
    assert min(held) > 0.91
    assert 0.94 <= np.mean(held) <= 0.97
