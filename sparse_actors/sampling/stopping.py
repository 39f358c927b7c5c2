"""When a phase map is good enough, and how much of it is still wrong.

Wrong pixels are of two kinds. Some lie where the points near them disagree, along the borders in the map:
how many, the votes tell. The others belong to particles that no point has hit: how many, the particles that
were hit tell, each standing for those of its size that were missed. Simulated maps tell how both scatter, as
gamma distributions. Points that were drawn without regard to what they might find, audits and explorers,
check it: their predictions are wrong as often as those of the pixels that were not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.stats import nbinom

from .field_sampler import DRAWN_AGREED, DRAWN_DISPUTED

AUDIT_EVERY = 20
"""Of so many points one is an audit."""


class Law(NamedTuple):
    """How many pixels of one kind are wrong in maps that look alike.

    The logarithm of the expected share is constant + doubt ln(doubt / pixels) + disputed ln(disputed /
    pixels) + unseen ln(unseen / pixels) + measured ln(measured / pixels), that of the shape of its gamma
    distribution shape + shape_by_share (the former + 5) + shape_by_measured m + shape_by_square m^2 with m =
    ln(measured / pixels) + 3: maps differ most when they have just begun and when they are nearly complete.
    """

    constant: float
    doubt: float
    disputed: float
    unseen: float
    measured: float
    shape: float
    shape_by_share: float
    shape_by_measured: float
    shape_by_square: float
    weight: float
    """Of what was drawn, 0..1: much of it has its part in the map already."""


LAWS = (
    Law(1.196, 0.922, 0.401, 0.287, 0.028, 0.353, 0.584, -0.142, -0.197, 0.133),
    Law(-2.370, 0.017, -0.256, 0.622, -0.080, -0.049, 0.400, -0.300, -0.286, 0.249),
)
"""Of pixels that are disputed, and of those on which all near points agree; fitted by
`scripts/reproduce.py stopping`."""
SPREAD = 1.1
"""How much wider than the laws say: with this the interval holds in 95 % of the maps of the fit."""
_LOG_SHARES, _LOG_SHAPES = (-14.0, -0.3), (-3.0, 4.0)
_LEAST_SHARE, _LEAST_SLOPE_POINTS = 0.02, 50


@dataclass(frozen=True, slots=True)
class Distortion:
    """The share of pixels of a map whose label is wrong, 0..1, as it is estimated."""

    expected: float
    low: float
    high: float
    """The truth lies between `low` and `high` in 95 % of maps; see docs/stopping.md for which."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What points found that were drawn without regard to what they might find."""

    points: float
    """How many; a point counts as often as the map has doubled, tripled ... since, and got better."""
    wrong: int
    """At how many another label was found than was predicted."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a map tells about its errors."""

    pixels: int
    measured: int
    disputed: int
    """Pixels whose near points do not all agree."""
    doubt: float
    """Of all pixels together, the share of the votes that went to other labels."""
    unseen: float
    """Pixels of particles that no point hit, from those that were hit; see `unseen_px`."""
    in_disputed: Draw
    in_agreed: Draw


def is_audit(number: int, start: int) -> bool:
    """Whether the point of this number, from 0, is drawn at random; the first `start` points are not."""
    return number >= start and (number - start) % AUDIT_EVERY == AUDIT_EVERY - 1


def least_points(distortion: float) -> int:
    """Return how many points a map needs before it may end at a distortion.

    With so many, particles that cover as large a share of the field are hit with 97.5 % probability.
    """
    return math.ceil(math.log(0.025) / math.log1p(-distortion))


def evidence(
    phase_map: NDArray[np.int32],
    vote_share: NDArray[np.float32],
    drawn: NDArray[np.uint8],
    wrong: NDArray[np.bool_],
) -> Evidence:
    """Count what there is to see.

    Parameters
    ----------
    phase_map, vote_share
        (rows, columns), labels, and how much the near points agree; see `FieldSampler`.
    drawn, wrong
        (n,), for points in the order measured: how each was drawn, see `FieldSampler.drawn`, and whether
        another label was found than was predicted before.
    """

    def draw(how: int) -> Draw:
        numbers = np.flatnonzero(drawn == how)
        return Draw(float((len(drawn) / (numbers + 1)).sum()), int(wrong[numbers].sum()))

    return Evidence(
        pixels=phase_map.size,
        measured=len(drawn),
        disputed=int((vote_share < 1).sum()),
        doubt=float((1 - vote_share.astype(np.float64)).sum()),
        unseen=unseen_px(phase_map, len(drawn)),
        in_disputed=draw(DRAWN_DISPUTED),
        in_agreed=draw(DRAWN_AGREED),
    )


def unseen_px(phase_map: NDArray[np.int32], measured: int) -> float:
    """Return how many pixels belong to particles that no point hit, as those tell that were hit.

    Where a share f of the pixels is measured, a particle of a pixels escapes with probability q = (1 - f)^a.
    Each that was found stands for q / (1 - q) others (D. G. Horvitz and D. J. Thompson, J. Am. Stat. Assoc.
    47, 663, 1952).
    """
    total = 0.0
    for phase in np.unique(phase_map[phase_map > 0]):
        parts, _ = label(phase_map == phase)
        areas = np.bincount(parts.ravel())[1:]
        escaped = (1 - measured / phase_map.size) ** areas
        total += float((areas * escaped / (1 - escaped)).sum())
    return total


def estimate(seen: Evidence, laws: Sequence[Law] = LAWS, spread: float = SPREAD) -> Distortion:
    """Return how much of a map is wrong.

    Of each kind a gamma distribution of the number of wrong pixels, updated by what was drawn (Poisson,
    conjugate), so that the number itself has a negative binomial distribution; that of the sum is taken as
    the one of equal mean and variance.
    """
    unmeasured = seen.pixels - seen.measured
    if unmeasured == 0:
        return Distortion(0.0, 0.0, 0.0)
    kinds = [posterior(seen, law, is_disputed) for law, is_disputed in zip(laws, (True, False), strict=True)]
    mean = float(sum(mean for _, mean in kinds))
    shape = mean**2 / sum(spread * mean**2 / shape for shape, mean in kinds)
    low, high = np.clip(nbinom.ppf((0.025, 0.975), shape, shape / (shape + mean)), 0, unmeasured)
    return Distortion(
        min(mean, unmeasured) / seen.pixels, float(low) / seen.pixels, float(high) / seen.pixels
    )


def posterior(seen: Evidence, law: Law, is_disputed: bool) -> tuple[Any, Any]:
    """Return shape and mean of the gamma distribution of the number of wrong pixels of one kind.

    What is seen may also be arrays (n,), of as many maps; shape and mean are then too.
    """
    pixels = seen.disputed if is_disputed else seen.pixels - seen.measured - seen.disputed
    drawn = seen.in_disputed if is_disputed else seen.in_agreed
    doubt, disputed, unseen = (
        np.log((count + 0.5) / seen.pixels) for count in (seen.doubt, seen.disputed, seen.unseen)
    )
    measured = np.log(seen.measured / seen.pixels)
    log_share = law.constant + law.doubt * doubt + law.disputed * disputed + law.unseen * unseen
    log_share = np.clip(log_share + law.measured * measured, *_LOG_SHARES)
    log_shape = law.shape + law.shape_by_share * (log_share + 5)
    log_shape += law.shape_by_measured * (measured + 3) + law.shape_by_square * (measured + 3) ** 2
    shape = np.exp(np.clip(log_shape, *_LOG_SHAPES))
    rate = shape / np.minimum(seen.pixels * np.exp(log_share), np.maximum(pixels, 0.01))
    rate += law.weight * drawn.points / np.maximum(pixels, 1)
    shape += law.weight * drawn.wrong
    return shape, shape / rate


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
