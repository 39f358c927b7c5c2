"""Runs that are looked at after every tile, and paused when their recall is certain to be below a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse_actors.planning.audit_estimate import AuditedTile, estimate
from sparse_actors.planning.audit_sequence import recall_at_most

LIMIT_TILES = 60
LIMITS = (
    # sites in a tile, recall, windows in a tile, limit
    (40, 0.95, 12, 0.95),
    (94, 0.90, 12, 0.95),
    (40, 0.80, 12, 0.95),
    (40, 0.80, 30, 0.95),
    (40, 0.60, 12, 0.95),
)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SimulatedTile:
    """A tile, as its audit sees it, and how many sites it has."""

    audited: AuditedTile
    sites: int


Simulate = Callable[[np.random.Generator, float, float, int], SimulatedTile]
"""Makes a tile with so many sites, recall and windows, in the mean."""


def limit_rows(runs: int, seed: int, tile: Simulate, all_windows: float) -> Iterator[Row]:
    """Yield for each case how often the bound was wrong at any look, and when a limit pauses.

    Parameters
    ----------
    tile
        Simulates a tile and its audit.
    all_windows
        Of a field of view.
    """
    for number, case in enumerate(LIMITS):
        yield _limited(np.random.default_rng((seed, 100 + number)), runs, tile, all_windows, case)


def _limited(
    random: np.random.Generator,
    runs: int,
    tile: Simulate,
    all_windows: float,
    case: tuple[int, float, int, float],
) -> Row:
    """Look after every tile of some runs, and note when the limit would pause them."""
    sites, recall, windows, limit = case
    weight = all_windows / windows
    wrong = interval_wrong = 0
    paused = []
    for _ in range(runs):
        made: list[SimulatedTile] = []
        is_wrong = is_interval_wrong = False
        at = None
        for number in range(1, LIMIT_TILES + 1):
            made.append(tile(random, sites, recall, windows))
            audited = [one.audited for one in made]
            if not sum(audited[-1].missed):
                continue  # neither end falls
            true = sum(one.found for one in audited) / sum(one.sites for one in made)
            at_most = recall_at_most(audited, weight)
            is_wrong |= at_most < true - 1e-9
            is_interval_wrong |= estimate(audited, 0.9).high < true - 1e-9
            if at is None and at_most < limit:
                at = number
        wrong, interval_wrong = wrong + is_wrong, interval_wrong + is_interval_wrong
        paused += [] if at is None else [at]
    return {
        "what": "limit",
        "sites": sites,
        "recall": recall,
        "windows": windows,
        "limit": limit,
        "runs": runs,
        "wrong": wrong / runs,
        "interval_wrong": interval_wrong / runs,
        "paused": len(paused) / runs,
        "tiles_median": float(np.median(paused)) if paused else None,
    }


def limit_line(row: Row) -> str:
    """Return a line of the table."""
    tiles = "" if row["tiles_median"] is None else f"{row['tiles_median']:.0f}"
    return (
        f"| {row['sites']} | {row['recall']:.0%} | {row['windows']} | {row['limit']:.0%} "
        f"| {row['wrong']:.1%} | {row['interval_wrong']:.1%} | {row['paused']:.1%} | {tiles} |"
    )
