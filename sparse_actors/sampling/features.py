"""What the points near a pixel say about it: the six features of SLADS and their polynomial.

The formulas are those of the SLADS authors' code (github.com/anl-msd/SLADS-Net), over the n <= 10 nearest
measured points of a pixel s at distances d_j with values X_j, and weights w_j = d_j^-2 / sum d^-2:

    reconstruction  X(s)   labels: the one of largest summed weight, of equal ones the smallest;
                           continuous values: sum w_j X_j
    0 dissent       sum w_j D_j,  D_j = 1 if X_j != X(s) else 0;  continuous: |X_j - X(s)|
    1 spread        sqrt(1/n sum D_j^2)
    2 distance      d_1 (px)
    3 crowding      "slads": (1 + pi R^2) / (1 + number of d_j <= R), R = ceil(sqrt(0.0025 N / pi)) px for a
                    field of N px: the same for every pixel of a large field, and different between sizes;
                    "local": sqrt(pi d_n^2 / n), the spacing of points about s (px), at every size the same
                    "kriged": as "local"
    4, 5 gradient   of the reconstruction along columns and rows: half the difference of the two pixels beside
                    s, at the border the difference to the one; labels: 1 if it is not 0;
                    continuous: its magnitude

With "kriged" X(s) of labels is the one of largest weight in ordinary kriging and the dissent what it lacks to
1 (see `kriging`): the map has fewer wrong pixels, and its margin tells better where they are.

The expected reduction in distortion is a polynomial of second degree: 1, the six features, their 21 products
f_i f_j, i <= j, row by row. For labels f_4^2 = f_4 and f_5^2 = f_5, which leaves 26 of the 28 terms.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .neighbours import Offsets

FeatureSet = Literal["slads", "local", "kriged"]
FEATURES = 6
TERMS = 28
REPEATED_FOR_LABELS = (25, 27)
"""Terms that labels do without: f_4^2 and f_5^2."""

EQUAL_VOTES = 1e-12
"""Relative difference up to which sums of weights are equal; rounding parts 1 + 1/5 and 1 + 1/10 + 1/10."""

Scratch = NDArray[np.float64]
"""(NEIGHBOURS, 3), overwritten."""


def crowding_radius2_px2(feature_set: FeatureSet, pixels: int) -> int:
    """Return R^2 of the feature "crowding" for a field of so many pixels; 0: its local form."""
    return math.ceil(math.sqrt(0.0025 * pixels / math.pi)) ** 2 if feature_set == "slads" else 0


def all_terms(coefficients: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the coefficients of all 28 terms, those that labels do without as 0."""
    full = np.array(coefficients, np.float64)
    if len(full) < TERMS:
        for term in REPEATED_FOR_LABELS:
            full = np.insert(full, term, 0.0)
    return full


def polynomial_terms(features: NDArray[np.float64], *, continuous: bool) -> NDArray[np.float64]:
    """Return the terms (n, 28), or (n, 26) for labels, of features (n, 6)."""
    first, second = np.triu_indices(FEATURES)
    terms = np.hstack([np.ones((len(features), 1)), features, features[:, first] * features[:, second]])
    return terms if continuous else np.delete(terms, REPEATED_FOR_LABELS, axis=1)


@compiled
def polynomial(c: NDArray[np.float64], f: NDArray[np.float64]) -> float:
    """Return the sum of c times the 28 terms of six features."""
    total = c[0]
    term = 1 + FEATURES
    for i in range(FEATURES):
        factor = c[1 + i]
        for j in range(i, FEATURES):
            factor += c[term] * f[j]
            term += 1
        total += factor * f[i]
    return float(total)


@compiled
def vote_of_labels(
    offsets: Offsets, n: int, values: NDArray[np.float32], columns: int, pixel: int, scratch: Scratch
) -> tuple[np.float32, float, float]:
    """Return the label that the nearest points elect for a pixel without one, its dissent and its spread."""
    # Mostly there are no more than two labels.
    first = second = values[pixel + int(offsets[pixel, 1, 0]) * columns + int(offsets[pixel, 0, 0])]
    votes, against, others, are_two = 0.0, 0.0, 0.0, True
    for j in range(n):
        dx, dy = int(offsets[pixel, 0, j]), int(offsets[pixel, 1, j])
        label, weight = values[pixel + dy * columns + dx], 1.0 / (dx * dx + dy * dy)
        if label == first:
            votes += weight
        else:
            are_two &= second == first or second == label
            second = label
            against += weight
            others += 1.0
    if are_two:
        lead = against - votes
        equal = abs(lead) <= EQUAL_VOTES * votes
        if (equal and second < first) or (lead > 0 and not equal):
            first, votes, against, others = second, against, votes, n - others
        return first, against / (against + votes), np.sqrt(others / n)
    return _vote_of_many_labels(offsets, n, values, columns, pixel, scratch)


@compiled
def _vote_of_many_labels(
    offsets: Offsets, n: int, values: NDArray[np.float32], columns: int, pixel: int, scratch: Scratch
) -> tuple[np.float32, float, float]:
    kinds = 0
    for j in range(n):
        dx, dy = int(offsets[pixel, 0, j]), int(offsets[pixel, 1, j])
        label, weight = values[pixel + dy * columns + dx], 1.0 / (dx * dx + dy * dy)
        kind = 0
        while kind < kinds and scratch[kind, 0] != label:
            kind += 1
        if kind == kinds:
            scratch[kind, 0], scratch[kind, 1], scratch[kind, 2] = label, 0.0, 0.0
            kinds += 1
        scratch[kind, 1] += weight
        scratch[kind, 2] += 1.0
    best = 0
    for kind in range(1, kinds):
        lead = scratch[kind, 1] - scratch[best, 1]
        equal = abs(lead) <= EQUAL_VOTES * scratch[best, 1]
        if (equal and scratch[kind, 0] < scratch[best, 0]) or (lead > 0 and not equal):
            best = kind
    against, others = 0.0, 0.0
    for kind in range(kinds):
        if kind != best:
            against += scratch[kind, 1]
            others += scratch[kind, 2]
    dissent = against / (against + scratch[best, 1])
    return np.float32(scratch[best, 0]), dissent, np.sqrt(others / n)


@compiled
def mean_of_values(
    offsets: Offsets, n: int, values: NDArray[np.float32], columns: int, pixel: int, scratch: Scratch
) -> tuple[np.float32, float, float]:
    """Return the weighted mean of the nearest points for a pixel without a value, its dissent and spread."""
    total, mean = 0.0, 0.0
    for j in range(n):
        dx, dy = int(offsets[pixel, 0, j]), int(offsets[pixel, 1, j])
        near, weight = np.float64(values[pixel + dy * columns + dx]), 1.0 / (dx * dx + dy * dy)
        scratch[j, 0], scratch[j, 1] = near, weight
        total += weight
        mean += weight * near
    value = np.float32(mean / total)
    dissent, square = 0.0, 0.0
    for j in range(n):
        difference = abs(scratch[j, 0] - np.float64(value))
        dissent += scratch[j, 1] * difference
        square += difference * difference
    return value, dissent / total, np.sqrt(square / n)


@compiled
def set_distances(
    offsets: Offsets, n: int, pixel: int, crowding_radius2: int, features: NDArray[np.float64]
) -> None:
    """Set features 2 and 3 of a pixel."""
    dx, dy = int(offsets[pixel, 0, 0]), int(offsets[pixel, 1, 0])
    features[2] = np.sqrt(dx * dx + dy * dy)
    if crowding_radius2 > 0:
        inside = 0
        for j in range(n):
            dx, dy = int(offsets[pixel, 0, j]), int(offsets[pixel, 1, j])
            inside += int(dx * dx + dy * dy <= crowding_radius2)
        features[3] = (1 + np.pi * crowding_radius2) / (1 + inside)
    else:
        dx, dy = int(offsets[pixel, 0, n - 1]), int(offsets[pixel, 1, n - 1])
        features[3] = np.sqrt(np.pi * (dx * dx + dy * dy) / n)


@compiled
def set_gradients(
    values: NDArray[np.float32], shape: tuple[int, int], pixel: int, continuous: bool, f: NDArray[np.float64]
) -> None:
    """Set features 4 and 5 of a pixel."""
    rows, columns = shape
    y = pixel // columns
    x = pixel - y * columns
    left, right = pixel - (x > 0), pixel + (x + 1 < columns)
    above, below = pixel - columns * (y > 0), pixel + columns * (y + 1 < rows)
    if continuous:
        f[4] = abs(np.float64(values[right]) - np.float64(values[left])) / max(right - left, 1)
        f[5] = abs(np.float64(values[below]) - np.float64(values[above])) / max((below - above) // columns, 1)
    else:
        f[4] = 1.0 if values[right] != values[left] else 0.0
        f[5] = 1.0 if values[below] != values[above] else 0.0
