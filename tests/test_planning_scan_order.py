"""What the beam does next, and how long it waits."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_actors.planning.idle_simulation import (
    Tile,
    idle_share,
    least_idle_share,
    least_makespan,
    makespan,
    random_tile,
    seam_bands,
)
from sparse_actors.planning.scan_order import Policy, next_step

POLICIES: tuple[Policy, ...] = get_args(Policy)

seconds = st.floats(0.001, 10)


@st.composite
def tiles(draw: st.DrawFn) -> Tile:
    partitions = draw(st.integers(1, 6))
    parts = partitions + draw(st.integers(0, 4))
    return Tile(
        fast=tuple(draw(seconds) for _ in range(partitions)),
        detection=tuple(draw(seconds) for _ in range(parts)),
        rescans=tuple(tuple(draw(st.lists(seconds, max_size=5))) for _ in range(parts)),
        seams_after=tuple(sorted(draw(st.integers(1, partitions)) for _ in range(parts - partitions))),
    )


def random_tiles(count: int, efficiency: float, rho: float, partitions: int = 4) -> list[Tile]:
    random = np.random.default_rng(0)
    return [random_tile(random, partitions=partitions, efficiency=efficiency, rho=rho) for _ in range(count)]


@given(
    st.integers(0, 4), st.lists(seconds, max_size=6), st.integers(0, 4), seconds, st.sampled_from(POLICIES)
)
@settings(deadline=None)
def test_the_beam_waits_only_when_nothing_can_be_scanned(
    fast_left: int, ready_s: list[float], pending: int, detection_s: float, policy: Policy
) -> None:
    step = next_step(fast_left, ready_s, pending, detection_s, policy)
    assert (step == "wait") == (not fast_left and not ready_s and pending > 0)
    assert (step == "done") == (not fast_left and not ready_s and pending == 0)
    assert step != "fast" or fast_left
    assert step != "rescan" or ready_s


@pytest.mark.parametrize("policy", POLICIES)
def test_the_first_step_is_a_fast_scan(policy: Policy) -> None:
    assert next_step(4, [], 0, 0.0, policy) == "fast"


def test_in_the_paper_rescans_that_are_ready_go_before_the_next_fast_scan() -> None:
    assert next_step(2, [0.1], 1, 100.0, "paper") == "rescan"


@pytest.mark.parametrize(("ready_s", "step"), [([1, 1, 1], "fast"), ([1, 1, 1.5], "rescan")])
def test_rescans_are_held_back_that_hide_a_detection(ready_s: list[float], step: str) -> None:
    # What remains after the first has to last longer than 1.2 detections of 2 s.
    assert next_step(1, ready_s, 1, 2.0, "hold_back") == step


def test_nothing_is_held_back_after_the_last_fast_scan() -> None:
    assert next_step(0, [1.0], 1, 100.0, "hold_back") == "rescan"


def test_an_iterator_is_read_only_as_far_as_needed() -> None:
    ready_s = iter([1.0, 2.0, 3.0, 4.0])
    assert next_step(1, ready_s, 1, 1.0, "hold_back") == "rescan"
    assert list(ready_s) == [3.0, 4.0]


def test_the_paper_waits_for_its_last_partition() -> None:
    # Figure 3 of the SPARSE paper: the last detection (1 s) is hidden by the rescans before it (0.2 s).
    tile = Tile(fast=(1.0,) * 4, detection=(1.0,) * 4, rescans=((0.1, 0.1),) * 4)
    assert makespan(tile, 1, "paper", longest=1.0)[0] == pytest.approx(tile.scanning + 0.8)
    assert makespan(tile, 1, "hold_back", longest=1.0)[0] == pytest.approx(tile.scanning + 0.4)
    assert least_makespan(tile, 1) == pytest.approx(tile.scanning + 0.4)


@given(tiles(), st.integers(1, 4), st.sampled_from(POLICIES), st.floats(0, 20))
@settings(deadline=None)
def test_every_tile_ends_and_no_order_beats_the_bound(
    tile: Tile, workers: int, policy: Policy, longest: float
) -> None:
    time, learned = makespan(tile, workers, policy, longest)
    assert time >= least_makespan(tile, workers) * (1 - 1e-9)
    assert learned >= longest
    assert time <= tile.scanning + sum(tile.detection) + 1e-9


@given(tiles(), st.integers(1, 4))
@settings(deadline=None)
def test_all_held_back_reaches_the_bound(tile: Tile, workers: int) -> None:
    assert makespan(tile, workers, "hold_back", longest=1e9)[0] == pytest.approx(
        least_makespan(tile, workers)
    )


@given(tiles(), st.integers(1, 4))
@settings(deadline=None)
def test_instant_detection_leaves_no_idle_time(tile: Tile, workers: int) -> None:
    tile = replace(tile, detection=(0.0,) * len(tile.detection))
    for policy in POLICIES:
        assert makespan(tile, workers, policy, longest=0.0)[0] == pytest.approx(tile.scanning)


@pytest.mark.parametrize(("efficiency", "rho"), list(product((0.48, 0.8, 0.9, 0.95), (0.05, 0.25, 0.5, 1.0))))
def test_with_hold_back_one_worker_as_fast_as_the_beam_costs_no_time(efficiency: float, rho: float) -> None:
    assert idle_share(random_tiles(100, efficiency, rho), 1, "hold_back") < 0.001


@pytest.mark.parametrize(
    ("efficiency", "rho", "workers", "partitions", "paper", "hold_back"),
    [
        (0.95, 1.0, 1, 4, 0.078, 0.0),
        (0.99, 0.5, 1, 4, 0.070, 0.017),
        (0.95, 2.0, 2, 4, 0.053, 0.011),
        (0.95, 3.0, 4, 4, 0.098, 0.098),
        (0.95, 3.0, 4, 8, 0.096, 0.0),
    ],
)
def test_idle_shares(
    efficiency: float, rho: float, workers: int, partitions: int, paper: float, hold_back: float
) -> None:
    survey = random_tiles(300, efficiency, rho, partitions)
    assert idle_share(survey, workers, "paper") == pytest.approx(paper, abs=0.005)
    assert idle_share(survey, workers, "hold_back") == pytest.approx(hold_back, abs=0.002)


def test_a_seam_is_detected_once_its_band_is_scanned() -> None:
    # Of 3 x 3 partitions, the first vertical seam ends in the last row, the first horizontal in the second.
    assert [after for after, _ in seam_bands((90, 90), 9, 5)] == [8, 9, 6, 9]
    assert [share for _, share in seam_bands((90, 90), 9, 5)] == pytest.approx([1 / 9] * 4)
    assert [after for after, _ in seam_bands((768, 768), 4, 32)] == [4, 4]
    assert seam_bands((768, 768), 4, 0) == seam_bands((768, 768), 1, 32) == []
    tile = Tile(fast=(1.0,) * 2, detection=(1.0, 1.0, 0.5), rescans=((), (), ()), seams_after=(2,))
    # The seam waits for the worker, or has one of its own.
    assert makespan(tile, 1, "hold_back", longest=0.0) == (3.5, 1.5)
    assert makespan(tile, 2, "hold_back", longest=0.0) == (3.0, 1.0)


def test_the_time_of_a_seam_counts_from_the_last_fast_scan_before_it_comes() -> None:
    tile = Tile(fast=(1.0,) * 3, detection=(0.1, 0.1, 0.1, 1.5), rescans=((),) * 4, seams_after=(1,))
    assert makespan(tile, 2, "hold_back", longest=0.0)[1] == pytest.approx(0.5)


@pytest.mark.parametrize("efficiency", [0.48, 0.8, 0.95])
def test_seams_are_hidden_too(efficiency: float) -> None:
    random = np.random.default_rng(0)
    survey = [
        random_tile(random, partitions=4, efficiency=efficiency, rho=1.0, halo_px=32) for _ in range(100)
    ]
    assert all(len(tile.detection) == 6 for tile in survey)
    assert idle_share(survey, 1, "hold_back") < 0.001


@pytest.mark.parametrize(
    ("efficiency", "rho", "workers"), list(product((0.8, 0.95, 0.99), (0.5, 1, 3), (1, 2, 4)))
)
def test_hold_back_is_at_the_bound(efficiency: float, rho: float, workers: int) -> None:
    survey = random_tiles(40, efficiency, rho)
    least = least_idle_share(survey, workers)
    assert idle_share(survey, workers, "hold_back") == pytest.approx(least, abs=2e-4)
