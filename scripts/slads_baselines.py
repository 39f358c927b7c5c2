"""What a sampler has to beat, and what nothing can: fixed patterns, a rule without training, and an oracle.

Every method gives the pixels that it measures in order, as indices into the flattened image; the oracle
alone is told what it has not measured. Reconstruction is the paper's: the label with the largest sum of
d^-2 among the 10 nearest measured pixels, of equal ones the smallest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import qmc

NEIGHBOURS = 10
PLASTIC = 1.32471795724474602596
HEURISTIC_FLOOR, HEURISTIC_POWER = 0.002, 0.5
NO_GAIN = np.iinfo(np.int32).min
Labels = NDArray[np.int32]
Indices = NDArray[np.int64]
Shape = tuple[int, int]


def random_pixels(shape: Shape, count: int, seed: int) -> Indices:
    """Draw pixels uniformly."""
    return np.random.default_rng(seed).choice(shape[0] * shape[1], count, replace=False)


def halton_pixels(shape: Shape, count: int, seed: int) -> Indices:
    """Draw pixels by a Halton sequence, scrambled by the seed."""
    return _distinct(qmc.Halton(2, rng=seed).random(2 * count), shape, count)


def r2_pixels(shape: Shape, count: int, seed: int) -> Indices:
    """Draw pixels by the additive sequence of the plastic number (Roberts' R2), shifted by the seed."""
    start = np.random.default_rng(seed).random(2)
    steps = np.arange(2 * count)[:, None] / np.array([PLASTIC, PLASTIC**2])
    return _distinct((start + steps) % 1, shape, count)


def grid_pixels(shape: Shape, count: int, seed: int) -> Indices:
    """Return a square grid of at most `count` pixels, shifted by the seed."""
    start = np.random.default_rng(seed).random(2)
    step = np.sqrt(shape[0] * shape[1] / count)
    rows, columns = (
        np.floor((np.arange(int(size / step)) + offset) * step)
        for size, offset in zip(shape, start, strict=True)
    )
    return np.asarray(np.add.outer(rows * shape[1], columns).ravel(), dtype=np.int64)


PATTERNS = {"random": random_pixels, "Halton": halton_pixels, "R2": r2_pixels, "grid": grid_pixels}


def _distinct(points: NDArray[np.float64], shape: Shape, count: int) -> Indices:
    rows, columns = np.floor(points.T * np.array(shape)[:, None]).astype(np.int64)
    indices = rows * shape[1] + columns
    return indices[np.sort(np.unique(indices, return_index=True)[1])][:count]


def maps(seen: Labels, order: Indices, counts: Sequence[int]) -> Iterator[tuple[Labels, Labels]]:
    """Yield the maps (rows, columns) after `counts` measurements: by the vote, and by the nearest one alone.

    Parameters
    ----------
    seen
        (rows, columns), what a measurement of each pixel finds.
    order
        The pixels in the order measured; where it ends before a count, the map stays as it is.
    counts
        Numbers of measurements, increasing.
    """
    flat = seen.ravel()
    start = max(NEIGHBOURS, flat.size // 100)
    lists = NearestMeasured(seen.shape, order[:start], flat[order[:start]])
    for count in counts:
        for pixel in order[start:count]:
            lists.insert(pixel, flat[pixel])
        start = max(start, count)
        yield (
            lists.vote(np.arange(flat.size))[0].reshape(seen.shape),
            lists.label[:, 0].copy().reshape(seen.shape),
        )


def pattern_maps(
    seen: Labels, name: str, counts: Sequence[int], seed: int
) -> Iterator[tuple[Labels, Labels]]:
    """Yield `maps` of one of `PATTERNS`, made anew for each count: a grid of more points is another grid."""
    for count in counts:
        order = PATTERNS[name](seen.shape, count, seed)
        yield next(maps(seen, order, [len(order)]))


class NearestMeasured:
    """The nearest measured pixels of every pixel, kept up to date exactly.

    Parameters
    ----------
    shape
        (rows, columns).
    measured, labels
        The first measured pixels, at least one, and what was found there.
    """

    def __init__(self, shape: Shape, measured: Indices, labels: Labels) -> None:
        self.shape = shape
        count = min(NEIGHBOURS, len(measured))
        points = np.column_stack(np.unravel_index(measured, shape))
        pixels = np.column_stack(np.unravel_index(np.arange(shape[0] * shape[1]), shape))
        nearest = cKDTree(points).query(pixels, [*range(1, count + 1)])[1]
        self.distance2 = np.full((len(pixels), NEIGHBOURS), np.iinfo(np.int32).max, dtype=np.int32)
        self.label = np.full((len(pixels), NEIGHBOURS), -1, dtype=np.int32)
        self.distance2[:, :count] = ((points[nearest] - pixels[:, None]) ** 2).sum(axis=2)
        self.label[:, :count] = labels[nearest]
        self._changed = np.empty(len(pixels), dtype=np.int64)

    def insert(self, pixel: int, label: int) -> Indices:
        """Add a measured pixel; return the pixels that have it in their lists now, itself among them."""
        count = _insert(self.distance2, self.label, *self.shape, pixel, label, self._changed)
        return self._changed[:count].copy()

    def vote(self, pixels: Indices) -> tuple[Labels, NDArray[np.float64]]:
        """Return each pixel's label and the winner's share of the weights."""
        return _votes(self.distance2, self.label, pixels)


def heuristic(labels: Labels, count: int, seed: int) -> Indices:
    """Return pixels in the order of (1 - winning share of the vote + floor) sqrt(d), d to the nearest point.

    It is not trained. The first percent is a Halton sequence.
    """
    shape, flat = labels.shape, labels.ravel()
    order = list(halton_pixels(shape, max(NEIGHBOURS, flat.size // 100), seed))
    lists = NearestMeasured(shape, np.array(order), flat[order])
    score = np.empty(flat.size)
    changed: Any = np.arange(flat.size)
    while True:
        distance = np.sqrt(lists.distance2[changed, 0])
        score[changed] = (1 - lists.vote(changed)[1] + HEURISTIC_FLOOR) * distance**HEURISTIC_POWER
        if len(order) >= count:
            return np.array(order[:count])
        pixel = int(score.argmax())  # measured pixels have distance 0
        order.append(pixel)
        changed = lists.insert(pixel, flat[pixel])


def oracle(truth: Labels, count: int, seed: int) -> Indices:
    """Return pixels each of which lowers the true distortion the most, among those near a wrong pixel.

    Where none of them lowers it, a wrong one is measured all the same: a greedy choice of improvements
    alone stalls. Near means two rows and columns; to try every pixel takes 4 times as long and gains
    nothing that shows. Ends early when the map is right.
    """
    shape, flat = truth.shape, truth.ravel()
    order = list(halton_pixels(shape, max(NEIGHBOURS, flat.size // 100), seed))
    lists = NearestMeasured(shape, np.array(order), flat[order])
    guess = lists.vote(np.arange(flat.size))[0]
    gain = np.full(flat.size, NO_GAIN, dtype=np.int32)
    reach = np.arange(flat.size)
    while len(order) < count and (guess != flat).any():
        _gains(lists.distance2, lists.label, *shape, flat, guess, reach, gain)
        pixel = int(gain.argmax())
        if gain[pixel] <= 0:
            pixel = int(np.where(guess != flat, gain, NO_GAIN).argmax())
        order.append(pixel)
        changed = lists.insert(pixel, flat[pixel])
        guess[changed] = lists.vote(changed)[0]
        reach = _neighbourhood(changed, shape)
    return np.array(order[:count])


def _neighbourhood(changed: Indices, shape: Shape) -> Indices:
    """Return the box around pixels, as much again to every side: whose gain may have changed."""
    rows, columns = np.unravel_index(changed, shape)
    spans = []
    for values, size in ((rows, shape[0]), (columns, shape[1])):
        margin = int(np.ptp(values)) + 1
        spans.append(np.arange(max(0, values.min() - margin), min(size, values.max() + margin + 1)))
    return np.asarray(np.add.outer(spans[0] * shape[1], spans[1]).ravel(), dtype=np.int64)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _insert(distance2: Any, label: Any, rows: int, columns: int, pixel: int, value: int, changed: Any) -> int:
    """Insert along square rings around the pixel until two rings in a row have no one nearer.

    The pixels that have a point among their nearest are star-shaped about it, so that nothing lies beyond.
    """
    row, column = pixel // columns, pixel % columns
    last = distance2.shape[1] - 1
    count = empty = radius = 0
    while empty < 2:
        before = count
        for y in range(max(0, row - radius), min(rows, row + radius + 1)):
            step = 1 if abs(y - row) == radius else max(1, 2 * radius)
            for x in range(column - radius, column + radius + 1, step):
                if not 0 <= x < columns:
                    continue
                here, d2 = y * columns + x, (y - row) ** 2 + (x - column) ** 2
                if d2 >= distance2[here, last]:
                    continue
                at = last
                while at > 0 and distance2[here, at - 1] > d2:
                    distance2[here, at], label[here, at] = distance2[here, at - 1], label[here, at - 1]
                    at -= 1
                distance2[here, at], label[here, at] = d2, value
                changed[count] = here
                count += 1
        empty = empty + 1 if count == before else 0
        radius += 1
    return count


@njit(cache=True)  # type: ignore[untyped-decorator]
def _vote(distance2: Any, label: Any, weight: Any) -> tuple[int, float]:
    """Return the label with the most weight and its share; `weight` is room for one number a label."""
    if distance2[0] == 0:
        return label[0], 1.0
    weight[:] = 0
    total = 0.0
    for j in range(len(label)):
        if label[j] >= 0:
            weight[label[j]] += 1.0 / distance2[j]
            total += 1.0 / distance2[j]
    best = np.argmax(weight)
    return best, weight[best] / total


@njit(cache=True)  # type: ignore[untyped-decorator]
def _votes(distance2: Any, label: Any, pixels: Any) -> tuple[Any, Any]:
    weight = np.zeros(label.max() + 1)
    winner, share = np.empty(len(pixels), np.int32), np.empty(len(pixels))
    for i, pixel in enumerate(pixels):
        winner[i], share[i] = _vote(distance2[pixel], label[pixel], weight)
    return winner, share


@njit(cache=True)  # type: ignore[untyped-decorator]
def _is_near_wrong(row: int, column: int, rows: int, columns: int, truth: Any, guess: Any) -> bool:
    for y in range(max(0, row - 2), min(rows, row + 3)):
        for x in range(max(0, column - 2), min(columns, column + 3)):
            if guess[y * columns + x] != truth[y * columns + x]:
                return True
    return False


@njit(cache=True)  # type: ignore[untyped-decorator]
def _gains(
    distance2: Any, label: Any, rows: int, columns: int, truth: Any, guess: Any, reach: Any, gain: Any
) -> None:
    """Count, for pixels within reach, how many pixels the measurement of it would put right (less wrong)."""
    neighbours = distance2.shape[1]
    weight = np.zeros(truth.max() + 1)
    d2s, labels = np.empty(neighbours, np.int32), np.empty(neighbours, np.int32)
    for pixel in reach:
        row, column = pixel // columns, pixel % columns
        if distance2[pixel, 0] == 0 or not _is_near_wrong(row, column, rows, columns, truth, guess):
            gain[pixel] = NO_GAIN
            continue
        total = empty = radius = 0
        while empty < 2:
            empty += 1
            for y in range(max(0, row - radius), min(rows, row + radius + 1)):
                step = 1 if abs(y - row) == radius else max(1, 2 * radius)
                for x in range(column - radius, column + radius + 1, step):
                    if not 0 <= x < columns:
                        continue
                    here, d2 = y * columns + x, (y - row) ** 2 + (x - column) ** 2
                    if d2 >= distance2[here, neighbours - 1]:
                        continue
                    empty = 0
                    # To the vote it does not matter which place it takes in the list.
                    d2s[1:], labels[1:] = distance2[here, :-1], label[here, :-1]
                    d2s[0], labels[0] = d2, truth[pixel]
                    if distance2[here, 0] == 0:
                        continue
                    after = _vote(d2s, labels, weight)[0]
                    total += (guess[here] != truth[here]) - (after != truth[here])
            radius += 1
        gain[pixel] = total
