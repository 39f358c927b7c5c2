"""When a phase map is good enough, and how much of it is still wrong.

How much is wrong is known for maps that were simulated: the number of wrong pixels scatters about what the
length of the borders in the map and the share of measured points let expect, as a gamma distribution whose
shape tells how much specimens differ. Every 20th point, an audit, is drawn from all unmeasured pixels
instead of being chosen: its prediction is wrong as often as theirs, whatever the specimen, and the more
audits there are, the more they decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nbinom

AUDIT_EVERY = 20
"""Of so many points one is an audit."""
RECENT_SHARE = 0.15
"""The audits among so many of the last points count; what earlier ones found has been put right since."""
PRIOR = (-2.139, 0.683, -0.394, -1.899, 1.330)
"""Fitted by `scripts/reproduce.py stopping`: the logarithm of the expected distortion is PRIOR[0] +
PRIOR[1] ln(border pixels / pixels) + PRIOR[2] ln(measured / pixels), that of the shape PRIOR[3] + PRIOR[4]
(the former + 5)."""
_SPREAD, _DRIFT = 1.5, 1.2
"""How much more than those simulated specimens may differ, and how much more often recent audits were wrong
than one would be now: with these the interval holds in 95 % of maps of fields that were not fitted."""
_LEAST_LOG, _MOST_LOG = -14.0, -0.5
_LEAST_SHARE, _LEAST_SLOPE_POINTS = 0.02, 50


@dataclass(frozen=True, slots=True)
class Distortion:
    """The share of pixels of a map whose label is wrong, 0..1, as it is estimated."""

    expected: float
    low: float
    high: float
    """The truth lies between `low` and `high` with 95 % probability, above `high` with 2.5 %: in fields
    like those simulated. Of particles a pixel or two across, which no border foretells, far more may be
    missing than `high` says."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a map tells about its errors; every field is a number of pixels."""

    pixels: int
    measured: int
    border: int
    """Not measured, and beside a pixel of another label."""
    audits: int
    """Among the last points, see `RECENT_SHARE`."""
    audits_wrong: int


def is_audit(number: int, start: int) -> bool:
    """Whether the point of this number, from 0, is drawn at random; the first `start` points are not."""
    return number >= start and (number - start) % AUDIT_EVERY == AUDIT_EVERY - 1


def evidence(
    phase_map: NDArray[np.int32],
    points_px: NDArray[np.int64],
    audits: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
    mask: NDArray[np.bool_] | None = None,
) -> Evidence:
    """Count what there is to see.

    Parameters
    ----------
    phase_map
        (rows, columns), measured and reconstructed labels.
    points_px, audits, wrong
        (n, 2), x and y in the order measured; (n,), which were drawn at random; (n,), at which points another
        label was found than was predicted before. Without audits the estimate is wider.
    mask
        (rows, columns), which pixels belong to the field; None: all.
    """
    inside = np.ones(phase_map.shape, dtype=bool) if mask is None else mask
    beside = np.zeros(phase_map.shape, dtype=bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = (phase_map[one] != phase_map[other]) & inside[one] & inside[other]
        beside[one] |= differs
        beside[other] |= differs
    beside[points_px[:, 1], points_px[:, 0]] = False
    recent = np.arange(len(points_px)) >= (1 - RECENT_SHARE) * len(points_px)
    return Evidence(
        pixels=int(inside.sum()),
        measured=len(points_px),
        border=int(beside.sum()),
        audits=int((audits & recent).sum()),
        audits_wrong=int((audits & wrong & recent).sum()),
    )


def estimate(seen: Evidence, prior: Sequence[float] = PRIOR) -> Distortion:
    """Return how much of a map is wrong.

    A gamma distribution of the number of wrong pixels, updated by the audits (Poisson, conjugate), so that
    the number itself has a negative binomial distribution.
    """
    unmeasured = seen.pixels - seen.measured
    if unmeasured == 0:
        return Distortion(0.0, 0.0, 0.0)
    expected, shape = prior_of(seen, prior)
    shape /= _SPREAD
    rate = shape / expected + _DRIFT * seen.audits / unmeasured
    shape += seen.audits_wrong
    low, high = np.clip(nbinom.ppf((0.025, 0.975), shape, rate / (1 + rate)), 0, unmeasured) / seen.pixels
    return Distortion(min(shape / rate, unmeasured) / seen.pixels, float(low), float(high))


def prior_of(seen: Evidence, prior: Sequence[float] = PRIOR) -> tuple[float, float]:
    """Return the expected number of wrong pixels and the shape of its distribution, without the audits."""
    constant, per_border, per_measured, shape, per_log = prior
    border, measured = math.log((seen.border + 1) / seen.pixels), math.log(seen.measured / seen.pixels)
    log_share = min(max(constant + per_border * border + per_measured * measured, _LEAST_LOG), _MOST_LOG)
    log_shape = min(max(shape + per_log * (log_share + 5), -3.0), 4.0)
    return seen.pixels * math.exp(log_share), math.exp(log_shape)


class FilteredError:
    """The paper's rule: the predictions that turn out wrong become rare (Zhang et al. 2018, section 2.2).

    e_k = (1 - b) e_(k-1) + b D(X_s, its prediction before it was measured), with b = 0.001 ((18 - log2 N) /
    2 + 1) for N <= 512^2 pixels, else 0.001 / ((log2 N - 18) / 2 + 1). The map ends when more than 2 % are
    measured, e_k is below a threshold, and e has fallen over the last 50 points.

    Parameters
    ----------
    pixels
        N.
    threshold
        From `learnt_threshold`.
    """

    def __init__(self, pixels: int, threshold: float) -> None:
        self._pixels = pixels
        self._threshold = threshold
        doublings = (math.log2(pixels) - 18) / 2
        self.weight = 0.001 * (1 - doublings) if doublings <= 0 else 0.001 / (1 + doublings)
        self.measured = 0
        self._recent = [0.0]

    @property
    def error(self) -> float:
        """e_k."""
        return self._recent[-1]

    def tell(self, wrong: Iterable[bool]) -> None:
        """Take in, for points in the order measured, whether the label predicted for each was wrong."""
        for was_wrong in wrong:
            self._recent.append((1 - self.weight) * self.error + self.weight * was_wrong)
            self.measured += 1
        del self._recent[: -_LEAST_SLOPE_POINTS - 1]

    @property
    def is_met(self) -> bool:
        """Whether the map may end."""
        if self.measured <= _LEAST_SHARE * self._pixels or self.error >= self._threshold:
            return False
        # From 50 to 2 points ago, as in the authors' code.
        return float(np.mean(self.error - np.array(self._recent[:-2]))) < 0


def learnt_threshold(
    runs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], distortion: float
) -> float:
    """Return the filtered error at which training maps reached a distortion, on average.

    Parameters
    ----------
    runs
        For each map its filtered error and its true distortion, both (checks,), after ever more points.
    distortion
        The share of wrong pixels to stop at.

    Raises
    ------
    ValueError
        When no run got there.
    """
    reached = [errors[np.argmax(true < distortion)] for errors, true in runs if (true < distortion).any()]
    if not reached:
        raise ValueError(f"no training map reached a distortion of {distortion}")
    return float(np.mean(reached))
