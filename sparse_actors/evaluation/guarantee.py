"""The strictest parameter of a detector that finds a share of the sites, as a statement with a proof.

Tiles are what may be taken for drawn at random, not sites: those of a tile share its focus, its drift and
its material, and are missed together. Let a tile hold m sites of which X(p) are missed at parameter p. Over
the tiles no more than the share a is missed if the mean of D(p) = X(p) - a m is not above 0. If no tile
misses more than K, then

    W(p) = sum_k w_k prod_tiles (1 - b_k D(p)),    0 < b_k <= 1 / ((1 - a) K),    sum_k w_k = 1,

is never negative and has a mean of at most 1 wherever more than the share a is missed: the wealth of a
gambler who bets on every tile that little is missed (Waudby-Smith and Ramdas, Estimating means of bounded
random variables by betting, J. R. Stat. Soc. B 86, 2024). By Markov's inequality it then exceeds 1/d with
probability d at most. X(p) falls as p is loosened and W(p) rises; so the strictest p with W(p) >= 1/d is too
strict only if W exceeds 1/d already at the loosest p that is too strict, or just before the first that is
not. That is one event of probability d at most, however many parameters are tried (Bates et al.,
Distribution-free, risk-controlling prediction sets, J. ACM 68, 2021, theorem 1). docs/guarantee.md has the
proof in full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import SparseActorsError

NEVER = math.inf
"""The score of a site that no parameter finds."""
_AFFORDED = 1.25
"""By simulation: with `lost_together` this many times the root of how often the sites that are there would do
for one lost at a time, the parameter chosen is strictest."""
_BETS = np.array([1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.12])
"""Of the largest bet, which pays best when nothing is missed; the others when more is."""
_LOG_WEIGHTS = np.log([0.5] + [0.5 / (len(_BETS) - 1)] * (len(_BETS) - 1))
_MOST_GROWTH = 1e6


class TooFewSitesError(SparseActorsError):
    """No parameter can be promised from these calibration tiles.

    Parameters
    ----------
    reason
        What is there and what is needed.
    sites_needed, tiles_needed
        How many more, if they are like those that are there; None where more of them would not help.
    """

    def __init__(self, reason: str, sites_needed: int | None, tiles_needed: int | None) -> None:
        super().__init__(reason)
        self.sites_needed = sites_needed
        self.tiles_needed = tiles_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A parameter, what it finds at least, and what that rests on."""

    parameter: float
    recall: float
    """At least this share of the sites, 0..1, is found over all tiles like those of the calibration."""
    confidence: float
    """At least this share of calibrations, 0..1, keeps its promise."""
    tiles: int
    sites: int
    missed: int
    """Sites of the calibration tiles that are not found at the parameter."""
    lost_together: int
    """The promise counts on no tile missing more sites than this. No calibration tile does."""

    @property
    def worse_tiles(self) -> float:
        """At most this share of tiles, 0..1, misses more than `lost_together`, with the same confidence.

        None of n did: the share q has (1 - q)^n >= 1 - confidence. It holds for the parameter chosen as W
        does: what a tile misses falls as the parameter is loosened.
        """
        return 1 - float((1 - self.confidence) ** (1 / self.tiles))

    def __str__(self) -> str:
        sure = f"with {_pct(self.confidence)} confidence"
        return (
            f"At {self.parameter:g} at least {_pct(self.recall)} of the sites are found, {sure}. It rests on "
            f"{self.sites} sites in {self.tiles} calibration tiles, {self.missed} of them missed; on these "
            f"tiles being drawn at random from those to be surveyed; and on no tile missing more than "
            f"{self.lost_together}. None of these did, so at most {_pct(self.worse_tiles)} of tiles do, "
            f"{sure}."
        )


def promise(
    tiles: Sequence[NDArray[np.float64]],
    *,
    recall: float = 0.99,
    confidence: float = 0.95,
    lost_together: int | None = None,
    looser: Literal["higher", "lower"] = "higher",
) -> Promise:
    """Return the strictest parameter that finds at least a share of the sites.

    Parameters
    ----------
    tiles
        For each calibration tile (sites,), the score of each reference site: the strictest parameter at
        which and beyond which, towards the looser, it is found; or `NEVER`. Tiles without sites count too.
    recall
        The share of sites to be found, over all tiles of which these are a sample.
    confidence
        With which probability a calibration like this one keeps its promise.
    lost_together
        No tile misses more sites than this at the parameter chosen. The larger, the weaker what is taken
        for granted, and the more sites it takes. To be chosen without looking at the scores; None: by the
        number of sites, see `affordable`.
    looser
        Whether the detector finds more with a higher parameter or with a lower one.

    Raises
    ------
    TooFewSitesError
        When no parameter can be promised.
    """
    _check(recall, confidence, lost_together)
    sign = 1.0 if looser == "higher" else -1.0
    sites = np.array([len(tile) for tile in tiles], dtype=np.int64)
    tile_of = np.repeat(np.arange(len(tiles)), sites)
    scores = np.concatenate([np.zeros(0), *(np.asarray(tile, float) for tile in tiles)])
    if np.isnan(scores).any() or np.isneginf(scores).any():
        raise ValueError("scores must be numbers, or NEVER for sites that no parameter finds")
    scores = np.where(np.isposinf(scores), np.inf, sign * scores)
    together = lost_together or affordable(int(sites.sum()), recall, confidence)
    share, target = 1 - recall, -math.log(1 - confidence)
    candidates = np.unique(scores[np.isfinite(scores)])

    def missed(parameter: float) -> NDArray[np.int64]:
        return np.bincount(tile_of[scores > parameter], minlength=len(sites))

    def is_sure(parameter: float) -> bool:
        return _log_wealth(_log_growths(missed(parameter), sites, share, together)) >= target

    if not len(candidates) or not is_sure(candidates[-1]):
        at_loosest = missed(candidates[-1]) if len(candidates) else sites
        raise _refusal(at_loosest, sites, recall, confidence, together)
    # W rises with the parameter, so the first that is sure is found by bisection.
    first, last = 0, len(candidates) - 1
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if is_sure(candidates[middle]) else (middle + 1, last)
    return Promise(
        parameter=float(sign * candidates[last]),
        recall=recall,
        confidence=confidence,
        tiles=len(sites),
        sites=int(sites.sum()),
        missed=int(missed(candidates[last]).sum()),
        lost_together=together,
    )


def sites_needed(recall: float, confidence: float, lost_together: int = 1) -> int:
    """Return how many sites a promise takes if none of them is missed."""
    _check(recall, confidence, lost_together)
    none, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    growth = _growth_needed(_log_growths(none, one, 1 - recall, lost_together), -math.log(1 - confidence))
    return math.ceil(growth)


def affordable(sites: int, recall: float, confidence: float) -> int:
    """Return for how many sites lost together in a tile a number of calibration sites is best used."""
    return max(1, int(_AFFORDED * math.sqrt(sites / sites_needed(recall, confidence))))


def _check(recall: float, confidence: float, lost_together: int | None) -> None:
    for name, value in (("recall", recall), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name} = {value} must lie between 0 and 1; 1 itself cannot be proven")
    if lost_together is not None and lost_together < 1:
        raise ValueError(f"lost_together = {lost_together} must be at least 1")


def _log_growths(
    missed: NDArray[np.int64], sites: NDArray[np.int64], share: float, together: int
) -> NDArray[np.float64]:
    """Return the logarithm of the product over the tiles for each of the bets, (bets,)."""
    if missed.max(initial=0) > together:
        return np.full(len(_BETS), -np.inf)
    excess = missed - share * sites
    with np.errstate(divide="ignore"):
        # A tile of `together` sites, all missed, costs the largest bet everything.
        factors = np.maximum(1 - np.outer(_BETS / ((1 - share) * together), excess), 0.0)
        growths: NDArray[np.float64] = np.log(factors).sum(axis=1)
    return growths


def _log_wealth(log_growths: NDArray[np.float64], times: float = 1.0) -> float:
    """Return ln W; `times`: if there were so many times the tiles."""
    return float(np.logaddexp.reduce(_LOG_WEIGHTS + times * log_growths))


def _growth_needed(log_growths: NDArray[np.float64], target: float) -> float:
    """Return how many times the tiles it takes for ln W to reach a target; infinity: it never does."""
    if not (log_growths > 0).any():
        return math.inf
    low, high = 0.0, 1.0
    while _log_wealth(log_growths, high) < target:
        low, high = high, 2 * high
        if high > _MOST_GROWTH:
            return math.inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _log_wealth(log_growths, middle) >= target else (middle, high)
    return high


def _refusal(
    missed: NDArray[np.int64],
    sites: NDArray[np.int64],
    recall: float,
    confidence: float,
    together: int,
) -> TooFewSitesError:
    n, lost = int(sites.sum()), int(missed.sum())
    wanted = f"at least {_pct(recall)} of the sites with {_pct(confidence)} confidence"
    seen = f"the loosest parameter misses {lost} of {n} sites in {len(sites)} tiles"
    if n == 0:
        least = sites_needed(recall, confidence, together)
        return TooFewSitesError(
            f"{wanted}: the {len(sites)} calibration tiles hold no sites; it takes {least}, none missed",
            least,
            None,
        )
    if (most := int(missed.max())) > together:
        return TooFewSitesError(
            f"{wanted}: {seen}, {most} of them in one tile, and lost_together is {together}: loosen the "
            f"parameter further, or allow for as many",
            None,
            None,
        )
    times = _growth_needed(_log_growths(missed, sites, 1 - recall, together), -math.log(1 - confidence))
    if math.isinf(times):
        return TooFewSitesError(
            f"{wanted}: {seen}, which is too many for any number of tiles: loosen the parameter further",
            None,
            None,
        )
    more_sites, more_tiles = math.ceil((times - 1) * n), math.ceil((times - 1) * len(sites))
    rest = "no larger a share is missed" if lost else "none of them is missed"
    return TooFewSitesError(
        f"{wanted}: {seen}; {more_sites} more sites are needed, some {more_tiles} tiles like these, "
        f"if {rest} there",
        more_sites,
        more_tiles,
    )


def _pct(share: float) -> str:
    return f"{100 * share:.4g} %"
