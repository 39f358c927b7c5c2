"""How many sites were missed at least, with a confidence that holds at every look.

The interval of `audit_estimate` holds if it is looked at once. Who looks after every tile, and stops when it
falls below a limit, stops too often. This bound may be looked at, and acted on, after every tile.

A window of weight N/n holds y missed sites, in the mean M/N of the M that its tile misses. For b > 0 the
factor 1 + b (N/n) y has a mean of 1 + b M/n <= exp(b M/n), and windows drawn without replacement are
negatively associated, so that the product over the n windows of a tile has a mean of at most exp(b M)
(Joag-Dev and Proschan, Ann. Statist. 11, 1983, 286). Hence, with S the sites missed in all tiles so far,

    W(S) = sum_k p_k prod_windows (1 + b_k (N/n) y) exp(-b_k S),    sum_k p_k = 1,

is, at the true S, never negative and in the mean never grows from tile to tile, whatever the tiles are like
and however the next one depends on those before: a supermartingale that begins at 1. It ever exceeds 1/d with
a probability of d at most (Ville 1939), and W falls with S; so at every look S is at least the solution of
W(S) = 1/d. This is a bet on means of non-negative numbers (Waudby-Smith and Ramdas, J. R. Stat. Soc. B 86,
2024, 1) on their running sum, as for time-uniform confidence sequences in general (Howard, Ramdas, McAuliffe
and Sekhon, Ann. Statist. 49, 2021, 1055). It takes nothing for granted of how sites cluster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .audit_estimate import AuditedTile

_BETS = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
"""b times the weight of a window, with equal weights p. Best is one less than how many times more is missed
than the limit allows."""


def least_missed(tiles: Iterable[AuditedTile], weight: float, confidence: float = 0.95) -> float:
    """Return a number of sites of which at least so many were missed, at this look as at all others.

    Parameters
    ----------
    tiles
        Audited so far. Wholly seen ones count as they are.
    weight
        What a window stands for, about; chosen before the first look.
    confidence
        With which probability it holds at all looks together.
    """
    known = seen = 0
    log_gains = np.zeros(len(_BETS))
    for tile in tiles:
        seen += sum(tile.missed)
        if tile.weight <= 1:
            known += sum(tile.missed)
            continue
        for sites in filter(None, tile.missed):
            log_gains += np.log1p(_BETS / weight * tile.weight * sites)
    target = math.log(len(_BETS) / (1 - confidence))

    def log_wealth(missed: float) -> float:
        return float(np.logaddexp.reduce(log_gains - _BETS / weight * missed))

    low, high = 0.0, float(((log_gains - target + math.log(len(_BETS))) * weight / _BETS).max())
    if log_wealth(low) < target:
        return float(seen)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if log_wealth(middle) >= target else (low, middle)
    return max(float(seen), known + low)


def recall_at_most(tiles: Iterable[AuditedTile], weight: float, confidence: float = 0.95) -> float:
    """Return what the recall of tiles is at most, 0..1, at this look as at all others."""
    audited = list(tiles)
    found, missed = sum(tile.found for tile in audited), least_missed(audited, weight, confidence)
    return found / (found + missed) if found + missed else 1.0
