"""How much of what a survey looks for it missed so far, from windows that nobody proposed.

In every tile some windows are drawn at random from all in which something is left over by the regions, and
scanned at analysis quality. A site that lies in one of them, and not in a region, was missed. If n of N
windows of a tile were drawn, each missed site seen stands for N/n: the sum over tiles is unbiased whatever
the sites look like (Horvitz and Thompson 1952). Sites come in clusters, so what varies is the window, not
the site: with y missed sites in a window, the unseen ones are estimated by

    T = sum (N/n - 1) y    with variance    v = sum (N/n) (N/n - 1) y^2,

which holds for rare events and a finite number of windows (Cochran, Sampling Techniques, 3rd ed. 1977,
chapters 5 and 9a; where y is mostly 0 the mean's square is left out). There are few events or none, so the
interval is that of Fay and Feuer (Stat. Med. 16, 1997, 791) for weighted sums of Poisson numbers, in its
mid-p form (Fay and Kim, Biom. J. 59, 2017, 549): half of a gamma distribution with mean T and variance v, and
half of one with one more window with an event. Of few clusters the largest is rarely among those seen, so
that window is taken to hold one site more than any that was seen: half a one more where all held one, and one
where nothing was seen. By simulation the interval then holds as often as it says (docs/audit.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import gamma


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedTile:
    """What was found in a tile, and what its audit saw."""

    found: int
    """Sites in the regions, as seen at analysis quality."""
    windows: int
    """In how many windows the regions leave something over, N; the audit's are drawn from these."""
    missed: tuple[int, ...]
    """Sites outside the regions in each of the n windows drawn."""

    def __post_init__(self) -> None:
        if self.found < 0 or min(self.missed, default=0) < 0:
            raise ValueError(f"numbers of sites must not be negative: {self.found} found, {self.missed}")
        if len(self.missed) > self.windows or (self.windows and not self.missed):
            raise ValueError(
                f"{len(self.missed)} windows drawn of {self.windows}: expected 1 or more of them"
            )

    @property
    def weight(self) -> float:
        """How many windows one drawn stands for, N/n."""
        return self.windows / len(self.missed) if self.missed else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEstimate:
    """The sites missed in some tiles, and the share that was found."""

    tiles: int
    found: int
    windows: int
    """Scanned by the audit."""
    seen: int
    """Missed sites in these windows; they are known now, and count as missed."""
    missed: float
    """In all of the tiles, seen ones included: unbiased."""
    missed_low: float
    missed_high: float
    confidence: float
    """With which probability the true number lies between the two."""

    @property
    def recall(self) -> float:
        """Found of all sites, 0..1; 1 where there are none."""
        return _share(self.found, self.missed)

    @property
    def low(self) -> float:
        """Lower end of the interval of the recall; 0 as long as nothing was found."""
        return _share(self.found, self.missed_high)

    @property
    def high(self) -> float:
        """Upper end of the interval of the recall."""
        return _share(self.found, self.missed_low)


def estimate(tiles: Iterable[AuditedTile], confidence: float = 0.95) -> AuditEstimate:
    """Return what was missed in tiles that were audited.

    Parameters
    ----------
    tiles
        Those finished so far. Each has as many windows of its own to draw from.
    confidence
        Of the interval, which leaves out the same at both ends.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} must lie between 0 and 1")
    audited = list(tiles)
    drawn = sum(len(tile.missed) for tile in audited)
    seen = sum(sum(tile.missed) for tile in audited)
    unseen = sum((tile.weight - 1) * sum(tile.missed) for tile in audited)
    variance = sum(tile.weight * (tile.weight - 1) * y**2 for tile in audited for y in tile.missed)
    low = high = 0.0
    if (mean_weight := sum(tile.windows for tile in audited) / max(drawn, 1)) > 1:
        most = max((y for tile in audited for y in tile.missed), default=0)
        next_sites = {0: 1.0, 1: 1.5}.get(most, most + 1)
        more = (mean_weight - 1) * next_sites
        more_variance = mean_weight * (mean_weight - 1) * next_sites**2
        low, high = _interval(unseen, variance, unseen + more, variance + more_variance, confidence)
    return AuditEstimate(
        tiles=len(audited),
        found=sum(tile.found for tile in audited),
        windows=drawn,
        seen=seen,
        missed=seen + unseen,
        missed_low=seen + low,
        missed_high=seen + high,
        confidence=confidence,
    )


def _interval(
    mean: float, variance: float, more: float, more_variance: float, confidence: float
) -> tuple[float, float]:
    """Return the central interval of an even mixture of two gamma distributions, by mean and variance."""
    above = gamma(more**2 / more_variance, scale=more_variance / more)
    # With no event the first is zero for certain.
    below = gamma(mean**2 / variance, scale=variance / mean) if variance else None
    tail = (1 - confidence) / 2

    def quantile(share: float) -> float:
        if below is None and share <= 0.5:
            return 0.0
        at_most = max(float(above.isf((1 - share) / 2)), 0.0 if below is None else below.isf((1 - share) / 2))

        def excess(number: float) -> float:
            first = 1.0 if below is None else below.cdf(number)
            return float(0.5 * first + 0.5 * above.cdf(number) - share)

        return float(brentq(excess, 0.0, at_most, xtol=1e-6 * at_most))

    return quantile(tail), quantile(1 - tail)


def _share(found: int, missed: float) -> float:
    return found / (found + missed) if found + missed > 0 else 1.0 if np.isclose(missed, 0) else 0.0
