"""The bound of the audit that may be looked at, and acted on, after every tile."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_actors.planning.audit_estimate import AuditedTile, estimate
from sparse_actors.planning.audit_sequence import least_missed, recall_at_most

WINDOWS, DRAWN, TILES = 576, 12, 60
WEIGHT = WINDOWS / DRAWN


def tile(found: int = 40, windows: int = WINDOWS, missed: tuple[int, ...] = (0,) * DRAWN) -> AuditedTile:
    return AuditedTile(found=found, windows=windows, missed=missed)


def seen(*missed: int) -> AuditedTile:
    return tile(missed=(*missed, *[0] * (DRAWN - len(missed))))


def run(random: np.random.Generator, found: int, clusters: tuple[int, ...]) -> list[AuditedTile]:
    """Tiles with sites missed in windows of their own, as many in each as `clusters` says."""
    field = np.zeros(WINDOWS, np.int64)
    field[: len(clusters)] = clusters
    return [
        tile(found, missed=tuple(random.choice(field, DRAWN, replace=False).tolist())) for _ in range(TILES)
    ]


def looks_below(tiles: list[AuditedTile], limit: float) -> bool:
    """Whether the bound is below the limit at any look; it falls only when something is seen."""
    return any(
        recall_at_most(tiles[: n + 1], WEIGHT) < limit for n, one in enumerate(tiles) if sum(one.missed)
    )


def share_paused(runs: int, found: int, clusters: tuple[int, ...], limit: float, seed: int = 0) -> float:
    random = np.random.default_rng(seed)
    return sum(looks_below(run(random, found, clusters), limit) for _ in range(runs)) / runs


def test_of_nothing_seen_nothing_is_said() -> None:
    assert least_missed([], WEIGHT) == 0
    assert recall_at_most([], WEIGHT) == 1
    assert least_missed([tile()] * 10, WEIGHT) == 0
    assert recall_at_most([tile(found=0)], WEIGHT) == 1


def test_the_bound_solves_its_equation() -> None:
    bets = np.array([0.5, 1, 2, 4, 8, 16]) / WEIGHT
    tiles = [seen(2), seen(), seen(1, 3), seen(4), seen(2, 2)]
    bound = least_missed(tiles, WEIGHT, 0.9)
    gains = [math.prod(1 + b * WEIGHT * y for one in tiles for y in one.missed) for b in bets]
    wealth = np.mean([gain * math.exp(-b * bound) for gain, b in zip(gains, bets, strict=True)])
    assert wealth == pytest.approx(10)
    assert sum(map(sum, (one.missed for one in tiles))) < bound < estimate(tiles).missed


def test_what_was_seen_is_missed_for_certain() -> None:
    whole = tile(found=8, windows=3, missed=(1, 0, 1))
    assert least_missed([whole], WEIGHT) == 2
    assert recall_at_most([whole], WEIGHT) == 0.8
    assert least_missed([seen(1)], WEIGHT) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=8), st.integers(0, 7)
)
def test_more_missed_is_never_less_and_the_order_is_no_matter(missed: list[list[int]], which: int) -> None:
    tiles = [tile(windows=40, missed=tuple(one)) for one in missed]
    bound = least_missed(tiles, 10.0)
    assert least_missed(tiles[::-1], 10.0) == pytest.approx(bound)
    more = tile(windows=40, missed=(missed[which % len(missed)][0] + 1,))
    assert least_missed([*tiles, more], 10.0) >= bound
    assert least_missed(tiles, 10.0, 0.99) <= bound
    assert bound >= sum(map(sum, missed))


def test_a_run_at_its_limit_is_paused_in_few_of_many_though_looked_at_after_every_tile() -> None:
    assert share_paused(200, found=36, clusters=(2, 2), limit=0.9) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)


def test_a_run_far_below_its_limit_is_paused() -> None:
    assert share_paused(40, found=30, clusters=(1,) * 10, limit=0.95) > 0.8


@pytest.mark.long
@pytest.mark.parametrize(
    ("found", "clusters"), [(36, (1, 1, 1, 1)), (36, (4,)), (9, (1,)), (18, (2,)), (72, (1, 2, 2, 3))]
)
def test_the_confidence_holds_at_all_looks_and_that_of_the_interval_does_not(
    found: int, clusters: tuple[int, ...]
) -> None:
    runs = 2000
    assert sum(clusters) / (found + sum(clusters)) == pytest.approx(0.1)
    share = share_paused(runs, found, clusters, limit=0.9, seed=1)
    assert share <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)
    random = np.random.default_rng(2)
    naive = 0
    for _ in range(runs // 10):
        tiles = run(random, found, clusters)
        naive += any(
            estimate(tiles[: n + 1], 0.9).high < 0.9 for n, one in enumerate(tiles) if sum(one.missed)
        )
    # 5 % at each end of an interval of 90 %: of one look it would be as much as the bound's.
    assert naive / (runs // 10) > 0.07
