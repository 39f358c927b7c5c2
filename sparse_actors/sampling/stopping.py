"""When a phase map is good enough, and how much of it is still wrong.

A share of the points, the audits, is drawn at random from the unmeasured pixels instead of being chosen; that the
prediction for them is wrong has the same probability as for any unmeasured pixel, whatever the specimen.
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
_LEAST_SHARE, _LEAST_SLOPE_POINTS = 0.02, 50


@dataclass(frozen=True, slots=True)
class Distortion:
    """The share of pixels of a map whose label is wrong, 0..1, as it is estimated."""

    expected: float
    low: float
    high: float
    """The truth lies between `low` and `high` with 95 % probability."""


def is_audit(number: int, start: int) -> bool:
    """Whether the point of this number, from 0, is to be drawn at random; the first `start` points are not."""
    return number >= start and (number - start) % AUDIT_EVERY == AUDIT_EVERY - 1


class FilteredError:
    """The paper's rule: the predictions that turn out wrong become rare (Zhang et al. 2018, section 2.2).

    e_k = (1 - b) e_(k-1) + b D(X_s, its prediction before it was measured), with b = 0.001 ((18 - log2 N) / 2 + 1)
    for N <= 512^2 pixels, else 0.001 / ((log2 N - 18) / 2 + 1). The map ends when more than 2 % are measured, e_k is
    below a threshold, and e has fallen over the last 50 points.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """What ends a map; None: does not."""

    points: int | None = None
    time_s: float | None = None
    dose_e_per_nm2: float | None = None
    distortion: float | None = None
    """The map ends when no more than this share of its pixels is wrong with 97.5 % probability."""

    def reason(
        self, *, points: int, time_s: float, dose_e_per_nm2: float, distortion: Distortion | None
    ) -> str:
        """Return the first limit that is reached, by the name of its field; empty while there is none."""
        reached = {
            "points": self.points is not None and points >= self.points,
            "time_s": self.time_s is not None and time_s >= self.time_s,
            "dose_e_per_nm2": self.dose_e_per_nm2 is not None and dose_e_per_nm2 >= self.dose_e_per_nm2,
            "distortion": self.distortion is not None
            and distortion is not None
            and distortion.high <= self.distortion,
        }
        return next((name for name, is_reached in reached.items() if is_reached), "")
