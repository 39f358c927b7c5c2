"""SLADS for labels as its authors' code does it, written anew in plain NumPy and SciPy: the peer.

Zhang et al., Ultramicroscopy 184 (2018) 90 (SLADS-EDS) and Godaliyadda et al., IEEE Trans. Comput. Imaging
4 (2018) 1. Coordinates are (row, column). Where paper and code differ, this follows the code: training
masks of 5 to 80 %, the reduction in distortion within a window, and an update within a half-open square
that is limited to 15 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from slads_baselines import NearestMeasured

NEIGHBOURS = 10
DENSITIES = (0.05, 0.10, 0.20, 0.40, 0.80)
FEATURE_SHARE, MAX_FEATURE_PIXELS = 0.20, 20_000
HALF_WINDOW_PX = 7
START_SHARE = 0.01
MIN_UPDATE_PX, MAX_UPDATE_PX = 3, 15
C = 8.0
Labels = NDArray[np.int32]
Points = NDArray[np.intp]
Floats = NDArray[np.float64]


class AuthorsSampler:
    """Chooses the pixel of largest expected reduction in distortion (ERD).

    Parameters
    ----------
    shape
        (rows, columns).
    theta
        (26,), from `train`.
    measured, labels
        The pixels (n, 2) of the start and what was found there; see `start_pixels`.
    """

    def __init__(
        self, shape: tuple[int, int], theta: Floats, measured: Points, labels: Iterable[int]
    ) -> None:
        self.theta = theta
        self.measured = [tuple(point) for point in measured.tolist()]
        self.labels = list(labels)
        self.erd = np.full(shape, -np.inf)
        self.map: Labels = np.zeros(shape, dtype=np.int32)
        self.map[tuple(measured.T)] = self.labels
        self._update(np.ones(shape, dtype=bool))

    def pick(self) -> tuple[int, int]:
        """Return the (row, column) of the largest ERD, of equal ones the first."""
        row, column = np.unravel_index(self.erd.argmax(), self.erd.shape)
        return int(row), int(column)

    def tell(self, point: tuple[int, int], label: int) -> None:
        """Add a measurement and update the ERD around it."""
        self.measured.append(point)
        self.labels.append(label)
        self.map[point] = label
        self.erd[point] = -np.inf
        radius = update_radius(self.erd.size, len(self.measured))
        near = np.zeros(self.erd.shape, dtype=bool)
        while not near.any() and len(self.measured) < self.erd.size:
            rows, columns = (slice(max(0, at - radius), at + radius) for at in point)
            near[rows, columns] = np.isfinite(self.erd[rows, columns])
            radius = int(1.5 * radius)
        self._update(near)

    def _update(self, near: NDArray[np.bool_]) -> None:
        measured = np.array(self.measured)
        near[tuple(measured.T)] = False
        pixels = np.argwhere(near)
        if not len(pixels):
            return
        labels, distances = nearest(measured, np.array(self.labels, dtype=np.int32), pixels)
        self.map[near] = mode = weighted_mode(labels, distances)
        self.erd[near] = polynomial(features(self.map, pixels, labels, distances, mode)) @ self.theta


def start_pixels(shape: tuple[int, int], random: np.random.Generator) -> Points:
    """Return the pixels (n, 2) of a random start, each taken with 1 % chance."""
    while len(points := np.argwhere(random.random(shape) < START_SHARE)) < NEIGHBOURS:
        pass
    return points


def update_radius(pixels: int, measured: int) -> int:
    """Return half the side of the square to update: the radius that 10 measured pixels share, 3 to 15 px."""
    radius = int(np.sqrt(pixels * NEIGHBOURS / measured / np.pi))
    return min(max(radius, MIN_UPDATE_PX), MAX_UPDATE_PX)


def nearest(measured: Points, labels: Labels, pixels: Points) -> tuple[Labels, Floats]:
    """Return labels and distances, both (m, 10), of the measured pixels nearest to `pixels` (m, 2)."""
    distances, which = cKDTree(measured).query(pixels, [*range(1, min(NEIGHBOURS, len(measured)) + 1)])
    return labels[which], distances


def weights(distances: Floats) -> Floats:
    """Return d^-2, summing to 1 for each pixel."""
    inverse = np.asarray(distances, dtype=np.float64) ** -2
    return np.asarray(inverse / inverse.sum(axis=1, keepdims=True))


def weighted_mode(labels: Labels, distances: Floats) -> Labels:
    """Return the label with the largest summed weight (m,), of equal ones the smallest."""
    weight, classes = weights(distances), np.unique(labels)
    votes = [(weight * (labels == label)).sum(axis=1) for label in classes]
    return np.asarray(classes[np.argmax(votes, axis=0)])


def features(phase_map: Labels, pixels: Points, labels: Labels, distances: Floats, mode: Labels) -> Floats:
    """Return the six features (m, 6) in the order of the authors' code.

    Parameters
    ----------
    phase_map
        (rows, columns), measured and reconstructed labels.
    pixels, mode
        (m, 2) unmeasured pixels and their reconstructed labels (m,).
    labels, distances
        (m, 10), of the nearest measured pixels.

    Returns
    -------
    numpy.ndarray
        Weighted and root-mean-square difference of the neighbours from the reconstruction, distance to the
        nearest, area over number of measured pixels within the radius R of 0.25 % of the map, and the
        gradients along columns and rows (labels: 1 where they are not 0).
    """
    differs = (labels != mode[:, None]).astype(np.float64)
    radius = np.ceil(np.sqrt(0.0025 * phase_map.size / np.pi))
    crowd = (1 + np.pi * radius**2) / (1 + (distances <= radius).sum(axis=1))
    columns, rows = (_gradient(phase_map, pixels, axis) != 0 for axis in (1, 0))
    spread = np.sqrt(differs.mean(axis=1))
    return np.column_stack(
        ((weights(distances) * differs).sum(axis=1), spread, distances[:, 0], crowd, columns, rows)
    )


def _gradient(phase_map: Labels, pixels: Points, axis: int) -> NDArray[Any]:
    """Return the central difference, one-sided at the borders, at `pixels` alone."""
    steps = [pixels.copy(), pixels.copy()]
    steps[0][:, axis] = np.maximum(pixels[:, axis] - 1, 0)
    steps[1][:, axis] = np.minimum(pixels[:, axis] + 1, phase_map.shape[axis] - 1)
    return np.asarray(phase_map[tuple(steps[1].T)] - phase_map[tuple(steps[0].T)])


def polynomial(raw: Floats) -> Floats:
    """Return (m, 26): 1, the features, their products; the gradients are 0 or 1 and equal their squares.

    The authors' code loses the coefficient of one product (R with the row gradient) in a copy; this does not.
    """
    first, second = np.triu_indices(raw.shape[1])
    keep = (first != second) | (first < 4)
    products = raw[:, first[keep]] * raw[:, second[keep]]
    return np.column_stack((np.ones(len(raw)), raw, products))


def reduction(truth: Labels, phase_map: Labels, pixels: Points, nearest_px: Floats, c: float) -> Floats:
    """Return the approximate reduction in distortion (m,) that measuring each of m `pixels` would bring.

    What is wrong within 15 x 15 pixels, weighted by a Gaussian of sigma = distance to the nearest / c.
    """
    wrong = np.pad((truth != phase_map).astype(np.float64), HALF_WINDOW_PX)
    two_sigma2 = 2 * (nearest_px / c) ** 2
    total = np.zeros(len(pixels))
    offsets = range(-HALF_WINDOW_PX, HALF_WINDOW_PX + 1)
    for row in offsets:
        for column in offsets:
            there = wrong[pixels[:, 0] + row + HALF_WINDOW_PX, pixels[:, 1] + column + HALF_WINDOW_PX]
            total += there * np.exp(-(row**2 + column**2) / two_sigma2)
    return total


def train(images: Sequence[Labels], *, seed: int, c: float = C) -> Floats:
    """Return theta (26,) by ordinary least squares over all images and densities.

    Features are those of a random 20 % of the unmeasured pixels, as in the authors' code, but at most 20
    000 of a mask, so that 1024 x 1024 pixels do not take gigabytes.
    """
    rows, targets = [], []
    for number, truth in enumerate(images):
        random = np.random.default_rng([seed, number])
        for density in DENSITIES:
            mask = random.random(truth.shape) < density
            measured, unmeasured = np.argwhere(mask), np.argwhere(~mask)
            labels, distances = nearest(measured, truth[mask], unmeasured)
            phase_map = truth.copy()
            phase_map[~mask] = mode = weighted_mode(labels, distances)
            count = min(int(FEATURE_SHARE * len(unmeasured)), MAX_FEATURE_PIXELS)
            some = random.choice(len(unmeasured), count, replace=False)
            pixels = unmeasured[some]
            raw = features(phase_map, pixels, labels[some], distances[some], mode[some])
            rows.append(polynomial(raw))
            targets.append(reduction(truth, phase_map, pixels, distances[some, 0], c))
    return np.asarray(np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=None)[0])


def authors_order(seen: Labels, theta: Floats, count: int, seed: int) -> Points:
    """Return the pixels, as indices, that the authors' sampler measures; `seen` is what it finds at each."""
    start = start_pixels(seen.shape, np.random.default_rng(seed))
    sampler = AuthorsSampler(seen.shape, theta, start, seen[tuple(start.T)])
    while len(sampler.measured) < count:
        point = sampler.pick()
        sampler.tell(point, int(seen[point]))
    return np.ravel_multi_index(np.array(sampler.measured).T, seen.shape)


def exact_order(seen: Labels, theta: Floats, count: int, seed: int) -> Points:
    """Return what `authors_order` does with the ERD kept exact everywhere, which is faster on large maps.

    Same features, coefficients and start; instead of a window, just the pixels are updated whose neighbours
    changed.
    """
    shape, flat = seen.shape, seen.ravel()
    start = start_pixels(shape, np.random.default_rng(seed))
    order = np.ravel_multi_index(start.T, shape).tolist()
    lists = NearestMeasured(shape, np.array(order), flat[order])
    mode = lists.vote(np.arange(flat.size))[0]
    phase_map, erd = mode.reshape(shape), np.full(flat.size, -np.inf)
    changed = np.arange(flat.size)
    while True:
        for part in np.array_split(changed, 1 + changed.size // 100_000):
            part = part[lists.distance2[part, 0] > 0]
            known = int((lists.label[part[:1]] >= 0).sum()) or NEIGHBOURS
            labels, distances = lists.label[part, :known], np.sqrt(lists.distance2[part, :known])
            pixels = np.column_stack(np.unravel_index(part, shape))
            erd[part] = polynomial(features(phase_map, pixels, labels, distances, mode[part])) @ theta
        if len(order) >= count:
            return np.array(order[:count])
        pixel = int(erd.argmax())
        order.append(pixel)
        erd[pixel] = -np.inf
        changed = lists.insert(pixel, flat[pixel])
        before = mode[changed].copy()
        mode[changed] = lists.vote(changed)[0]
        changed = np.union1d(changed, _beside(changed[mode[changed] != before], shape))


def _beside(pixels: Points, shape: tuple[int, int]) -> Points:
    """Return the four neighbours of pixels, all as indices."""
    rows, columns = np.unravel_index(pixels, shape)
    steps = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
    around = (np.column_stack((rows, columns))[:, None] + steps).reshape(-1, 2)
    inside = ((around >= 0) & (around < shape)).all(axis=1)
    return np.ravel_multi_index(around[inside].T, shape)
