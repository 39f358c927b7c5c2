"""Whose label a pixel gets when the nearest points are weighed by ordinary kriging instead of d^-2.

The indicator of each label is estimated as sum w_j 1[X_j = label] with sum w_j = 1 and the least variance
under the variogram gamma(h) = sqrt(h) (J.-P. Chiles and P. Delfiner, Geostatistics, 2012, chapter 3). Unlike
a vote by distance this weighs down points that stand behind or beside each other, which is how an adaptive
sampler leaves them along a boundary. gamma(h) = h, which is local interpolation with a linear radial basis,
makes 3 % more wrong pixels on two-phase maps; powers of 0.5 to 0.7 are equal.

Pixels are kriged side by side, each in a lane of its own: the processor takes eight of them in one step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

KRIGED = 8
"""Most points that are weighed; with twenty the maps are the same within 1 %."""
LANES = 32
"""Pixels side by side; what they need, 20 kB, stays in the processor's first cache."""
_AT_ONCE = 8

_ROOTS = np.arange(4096) ** 0.25
"""gamma by squared distance in px2, for the distances that are met most."""

_TO_PIXEL = KRIGED * (KRIGED - 1) // 2
_ONES, _WEIGHTS, _SILL = _TO_PIXEL + KRIGED, _TO_PIXEL + 2 * KRIGED, _TO_PIXEL + 3 * KRIGED
"""Rows of LANES numbers in `Lanes.system`: it begins with the covariances of two points, row by row below the
diagonal; then those of point and pixel, 1 for each point, the weights, and the variance."""


class Lanes(NamedTuple):
    """Up to LANES pixels; offsets and labels are given, the others are overwritten."""

    dx: NDArray[np.int32]
    """(KRIGED, LANES): columns from the pixel to each point."""
    dy: NDArray[np.int32]
    """(KRIGED, LANES): rows."""
    labels: NDArray[np.float64]
    """(KRIGED, LANES)"""
    system: NDArray[np.float64]
    """One row after the other in one piece: only then does the compiler see that they do not overlap."""
    elected: NDArray[np.float64]
    """(LANES,): the label of largest weight, of equal ones that of the nearer point."""
    share: NDArray[np.float64]
    """(LANES,): its weight as a share, 0..1; 1 where all points agree and nowhere else."""


@compiled
def kriging_lanes() -> Lanes:
    """Return room for LANES pixels."""
    points = (KRIGED, LANES)
    return Lanes(
        np.ones(points, np.int32),
        np.ones(points, np.int32),
        np.ones(points),
        np.empty((_SILL + 1) * LANES),
        np.empty(LANES),
        np.empty(LANES),
    )


@compiled
def elect(lanes: Lanes, n: int, pixels: int) -> None:
    """Set `elected` and `share` of the first so many pixels.

    The first n points count, 1 to KRIGED, nearest first, all different and none at the pixel.
    """
    dx, dy, labels, system, elected, share = lanes
    set_weights(dx, dy, system, n, pixels)
    for lane in range(pixels):
        first = tried = labels[0, lane]
        most = _share_of(labels, system, n, lane, first)
        best, agree = first, True
        for i in range(1, n):
            label = labels[i, lane]
            if label != first:
                agree = False
                if label != tried:
                    tried, votes = label, _share_of(labels, system, n, lane, label)
                    if votes > most:
                        best, most = label, votes
        elected[lane] = best
        share[lane] = 1.0 if agree else min(max(most, 0.0), 1 - 1e-6)


@compiled
def _share_of(
    labels: NDArray[np.float64], system: NDArray[np.float64], n: int, lane: int, label: float
) -> float:
    votes = 0.0
    for i in range(n):
        if labels[i, lane] == label:
            votes += system[(_WEIGHTS + i) * LANES + lane]
    return votes


@compiled
def weights(lanes: Lanes, n: int, pixels: int) -> NDArray[np.float64]:
    """Return the weights (n, pixels) of the points; they sum to 1 for each pixel."""
    set_weights(lanes.dx, lanes.dy, lanes.system, n, pixels)
    return lanes.system[_WEIGHTS * LANES : _SILL * LANES].reshape((KRIGED, LANES))[:n, :pixels]


@compiled
def set_weights(
    dx: NDArray[np.int32], dy: NDArray[np.int32], system: NDArray[np.float64], n: int, pixels: int
) -> None:
    """Set the weights of the first n points for the first so many pixels."""
    # The lanes behind the last pixel hold what was there before; what comes out of it is not looked at.
    lanes = min((pixels + _AT_ONCE - 1) // _AT_ONCE * _AT_ONCE, LANES)
    # With sum w = 1 the variogram may be taken from any constant; one this large makes a covariance.
    sill = system[_SILL * LANES :]
    sill[:] = 0.0
    for i in range(n):
        for lane in range(lanes):
            sill[lane] = max(sill[lane], 4 * _variogram(dx[i, lane], dy[i, lane]))
    row = 0
    for i in range(KRIGED):
        # A point that is not there has no covariance with any other, and no weight.
        there = 1.0 if i < n else 0.0
        for j in range(i):
            for lane in range(lanes):
                gamma = _variogram(dx[i, lane] - dx[j, lane], dy[i, lane] - dy[j, lane])
                system[row * LANES + lane] = there * (sill[lane] - gamma)
            row += 1
        for lane in range(lanes):
            gamma = _variogram(dx[i, lane], dy[i, lane])
            system[(_TO_PIXEL + i) * LANES + lane] = there * (sill[lane] - gamma)
            system[(_ONES + i) * LANES + lane] = there
    _solve(system, lanes)


@compiled
def _variogram(dx: int, dy: int) -> float:
    d2 = dx * dx + dy * dy
    return _ROOTS[d2] if d2 < len(_ROOTS) else math.sqrt(math.sqrt(d2))


@compiled
def _solve(s: NDArray[np.float64], lanes: int) -> None:
    """Set the weights from the rows before them, by Cholesky's method with two right sides.

    Written out for KRIGED = 8: without loops inside, the compiler turns the loop over the lanes into steps of
    eight, which takes a fifth of the time.
    """
    n = LANES
    for a in range(lanes):
        v = s[_SILL * n + a]
        # The factor row by row, its diagonal inverted.
        d0 = 1 / math.sqrt(v)
        l10 = s[a] * d0
        d1 = 1 / math.sqrt(v - l10 * l10)
        l20 = s[n + a] * d0
        l21 = (s[2 * n + a] - l20 * l10) * d1
        d2 = 1 / math.sqrt(v - l20 * l20 - l21 * l21)
        l30 = s[3 * n + a] * d0
        l31 = (s[4 * n + a] - l30 * l10) * d1
        l32 = (s[5 * n + a] - l30 * l20 - l31 * l21) * d2
        d3 = 1 / math.sqrt(v - l30 * l30 - l31 * l31 - l32 * l32)
        l40 = s[6 * n + a] * d0
        l41 = (s[7 * n + a] - l40 * l10) * d1
        l42 = (s[8 * n + a] - l40 * l20 - l41 * l21) * d2
        l43 = (s[9 * n + a] - l40 * l30 - l41 * l31 - l42 * l32) * d3
        d4 = 1 / math.sqrt(v - l40 * l40 - l41 * l41 - l42 * l42 - l43 * l43)
        l50 = s[10 * n + a] * d0
        l51 = (s[11 * n + a] - l50 * l10) * d1
        l52 = (s[12 * n + a] - l50 * l20 - l51 * l21) * d2
        l53 = (s[13 * n + a] - l50 * l30 - l51 * l31 - l52 * l32) * d3
        l54 = (s[14 * n + a] - l50 * l40 - l51 * l41 - l52 * l42 - l53 * l43) * d4
        d5 = 1 / math.sqrt(v - l50 * l50 - l51 * l51 - l52 * l52 - l53 * l53 - l54 * l54)
        l60 = s[15 * n + a] * d0
        l61 = (s[16 * n + a] - l60 * l10) * d1
        l62 = (s[17 * n + a] - l60 * l20 - l61 * l21) * d2
        l63 = (s[18 * n + a] - l60 * l30 - l61 * l31 - l62 * l32) * d3
        l64 = (s[19 * n + a] - l60 * l40 - l61 * l41 - l62 * l42 - l63 * l43) * d4
        l65 = (s[20 * n + a] - l60 * l50 - l61 * l51 - l62 * l52 - l63 * l53 - l64 * l54) * d5
        d6 = 1 / math.sqrt(v - l60 * l60 - l61 * l61 - l62 * l62 - l63 * l63 - l64 * l64 - l65 * l65)
        l70 = s[21 * n + a] * d0
        l71 = (s[22 * n + a] - l70 * l10) * d1
        l72 = (s[23 * n + a] - l70 * l20 - l71 * l21) * d2
        l73 = (s[24 * n + a] - l70 * l30 - l71 * l31 - l72 * l32) * d3
        l74 = (s[25 * n + a] - l70 * l40 - l71 * l41 - l72 * l42 - l73 * l43) * d4
        l75 = (s[26 * n + a] - l70 * l50 - l71 * l51 - l72 * l52 - l73 * l53 - l74 * l54) * d5
        l76 = (s[27 * n + a] - l70 * l60 - l71 * l61 - l72 * l62 - l73 * l63 - l74 * l64 - l75 * l65) * d6
        rest = v - l70 * l70 - l71 * l71 - l72 * l72 - l73 * l73 - l74 * l74 - l75 * l75 - l76 * l76
        d7 = 1 / math.sqrt(rest)
        # Forward, for the covariances with the pixel ...
        b = _TO_PIXEL * n + a
        y0 = s[b] * d0
        y1 = (s[b + n] - l10 * y0) * d1
        y2 = (s[b + 2 * n] - l20 * y0 - l21 * y1) * d2
        y3 = (s[b + 3 * n] - l30 * y0 - l31 * y1 - l32 * y2) * d3
        y4 = (s[b + 4 * n] - l40 * y0 - l41 * y1 - l42 * y2 - l43 * y3) * d4
        y5 = (s[b + 5 * n] - l50 * y0 - l51 * y1 - l52 * y2 - l53 * y3 - l54 * y4) * d5
        y6 = (s[b + 6 * n] - l60 * y0 - l61 * y1 - l62 * y2 - l63 * y3 - l64 * y4 - l65 * y5) * d6
        rest = s[b + 7 * n] - l70 * y0 - l71 * y1 - l72 * y2 - l73 * y3 - l74 * y4 - l75 * y5 - l76 * y6
        y7 = rest * d7
        # ... and for the condition that the weights sum to 1.
        b = _ONES * n + a
        z0 = s[b] * d0
        z1 = (s[b + n] - l10 * z0) * d1
        z2 = (s[b + 2 * n] - l20 * z0 - l21 * z1) * d2
        z3 = (s[b + 3 * n] - l30 * z0 - l31 * z1 - l32 * z2) * d3
        z4 = (s[b + 4 * n] - l40 * z0 - l41 * z1 - l42 * z2 - l43 * z3) * d4
        z5 = (s[b + 5 * n] - l50 * z0 - l51 * z1 - l52 * z2 - l53 * z3 - l54 * z4) * d5
        z6 = (s[b + 6 * n] - l60 * z0 - l61 * z1 - l62 * z2 - l63 * z3 - l64 * z4 - l65 * z5) * d6
        rest = s[b + 7 * n] - l70 * z0 - l71 * z1 - l72 * z2 - l73 * z3 - l74 * z4 - l75 * z5 - l76 * z6
        z7 = rest * d7
        zy = z0 * y0 + z1 * y1 + z2 * y2 + z3 * y3 + z4 * y4 + z5 * y5 + z6 * y6 + z7 * y7
        zz = z0 * z0 + z1 * z1 + z2 * z2 + z3 * z3 + z4 * z4 + z5 * z5 + z6 * z6 + z7 * z7
        m = (1 - zy) / zz
        # And back.
        w7 = (y7 + m * z7) * d7
        w6 = (y6 + m * z6 - l76 * w7) * d6
        w5 = (y5 + m * z5 - l65 * w6 - l75 * w7) * d5
        w4 = (y4 + m * z4 - l54 * w5 - l64 * w6 - l74 * w7) * d4
        w3 = (y3 + m * z3 - l43 * w4 - l53 * w5 - l63 * w6 - l73 * w7) * d3
        w2 = (y2 + m * z2 - l32 * w3 - l42 * w4 - l52 * w5 - l62 * w6 - l72 * w7) * d2
        w1 = (y1 + m * z1 - l21 * w2 - l31 * w3 - l41 * w4 - l51 * w5 - l61 * w6 - l71 * w7) * d1
        rest = y0 + m * z0 - l10 * w1 - l20 * w2 - l30 * w3 - l40 * w4 - l50 * w5 - l60 * w6 - l70 * w7
        b = _WEIGHTS * n + a
        s[b], s[b + n], s[b + 2 * n], s[b + 3 * n] = rest * d0, w1, w2, w3
        s[b + 4 * n], s[b + 5 * n], s[b + 6 * n], s[b + 7 * n] = w4, w5, w6, w7
