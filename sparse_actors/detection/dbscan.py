"""Exact DBSCAN of the pixels of an image, on packed bits and runs.

Points of a pixel grid need no neighbour search: a pixel is a core point when at most
`disk - min_points` pixels of the disk of radius eps around it are missing, which bit-sliced counters
decide for 64 pixels at a time; core pixels of a row that touch form a run, and runs within eps of each other
are joined by union-find. Algorithm: Ester et al., KDD-96, 226-231 (1996).

The numbering is scikit-learn's for the points `np.argwhere(dark)`: clusters are counted by their first core
point in row-major order, and a border point belongs to the lowest number in its reach. As there, a
point counts as its own neighbour, and two points are neighbours when d^2 <= eps^2 in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bits import WORD, below, bit_count, compiled, lowest_bit

_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_TOP = np.uint64(63)


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Horizontal pieces of clusters; together they are the members of all clusters, each pixel once."""

    row: NDArray[np.int64]
    """(n,): row of the image."""
    first: NDArray[np.int64]
    """(n,): first column."""
    last: NDArray[np.int64]
    """(n,): last column, included."""
    cluster: NDArray[np.int64]
    """(n,): number of the cluster, from 0."""
    clusters: int
    """How many clusters there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """What is known of each cluster, in the order of scikit-learn's labels."""

    area_px: NDArray[np.int64]
    """(n,): number of pixels, border points included."""
    boxes_px: NDArray[np.int64]
    """(n, 4): left, top, width, height."""
    centroid_px: NDArray[np.float64]
    """(n, 2): mean x, y of the pixel centres; 0 is the left or top edge of the first pixel."""

    def __len__(self) -> int:
        return len(self.area_px)


def label_clusters(dark: NDArray[np.bool_], eps_px: float, min_points: int) -> NDArray[np.int64]:
    """Label the dark pixels of an image as scikit-learn's DBSCAN does.

    Parameters
    ----------
    dark
        (rows, columns): the points.
    eps_px
        Largest distance of neighbours, above 0.
    min_points
        Neighbours that make a core point, itself included, at least 1.

    Returns
    -------
    numpy.ndarray
        (number of dark pixels,), in row-major order: `DBSCAN(eps_px, min_samples=min_points)
        .fit(np.argwhere(dark)).labels_`. Noise is -1.
    """
    bitmap = packed(dark)
    segments = cluster_segments(bitmap, dark.shape[1], eps_px, min_points)
    return _labels(bitmap, segments.row, segments.first, segments.last, segments.cluster)


def packed(dark: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack an image (rows, columns) of truth values into a bitmap (rows, words)."""
    rows, columns = dark.shape
    values = np.zeros((rows, -(-columns // WORD) * WORD), np.uint8)
    np.logical_not(dark, out=values[:, :columns], casting="unsafe")
    values[:, columns:] = 1
    return _packed_below(values, np.uint8(1))


def cluster_segments(bitmap: NDArray[np.uint64], columns: int, eps_px: float, min_points: int) -> Segments:
    """Find the clusters of a bitmap (rows, words) that is `columns` pixels wide.

    Raises
    ------
    ValueError
        When `eps_px` or `min_points` is out of range.
    """
    if not (eps_px > 0 and math.isfinite(eps_px)):
        raise ValueError(f"eps_px = {eps_px}: expected a finite number above 0")
    if min_points < 1:
        raise ValueError(f"min_points = {min_points}: expected at least 1")
    rows, words = bitmap.shape
    widths = _half_widths(eps_px, max(rows, columns))
    allowed = int((2 * widths + 1).sum() * 2 - (2 * widths[0] + 1)) - min_points
    core, runs = _core_points(bitmap, widths, allowed)
    row, first, last, start = _runs(core, runs, widths[0] > 0)
    cluster, clusters = _joined_runs(first, last, start, widths)
    core ^= bitmap  # what is left: border points and noise
    row, first, last, cluster = _with_border_points(
        core, columns, row, first, last, cluster, clusters, widths
    )
    return Segments(row, first, last, cluster, clusters)


def cluster_statistics(segments: Segments) -> Clusters:
    """Measure each cluster, without an image of labels."""
    area, boxes, centroid = _statistics(
        segments.row, segments.first, segments.last, segments.cluster, segments.clusters
    )
    return Clusters(area, boxes, centroid)


def _half_widths(eps_px: float, largest: int) -> NDArray[np.int64]:
    """Return the half width of the disk in each row from its centre on, at most the image's size."""
    square = math.floor(min(eps_px * eps_px, 2.0 * largest * largest))
    reach = min(math.isqrt(square), largest)
    return np.array([min(math.isqrt(square - dy * dy), largest) for dy in range(reach + 1)], np.int64)


@compiled
def _packed_below(values: NDArray[np.uint8], limit: np.uint8) -> NDArray[np.uint64]:
    """Return the bitmap of values < limit; the columns are a multiple of 64."""
    rows, columns = values.shape
    words = columns // WORD
    bitmap = np.empty((rows, words), np.uint64)
    for row in range(rows):
        for word in range(words):
            bitmap[row, word] = below(values, row * columns + word * WORD, limit)
    return bitmap


@compiled
def _shifted(bitmap: NDArray[np.uint64], row: int, word: int, columns: int) -> np.uint64:
    """Return the 64 pixels that lie `columns` to the right of a word; 0 outside the image."""
    words = bitmap.shape[1]
    index = word + (columns >> 6)
    bits = np.uint64(columns & 63)
    result = bitmap[row, index] >> bits if 0 <= index < words else np.uint64(0)
    if bits and 0 <= index + 1 < words:
        result |= bitmap[row, index + 1] << (np.uint64(64) - bits)
    return result


@compiled
def _core_points(
    bitmap: NDArray[np.uint64], widths: NDArray[np.int64], allowed: int
) -> tuple[NDArray[np.uint64], int]:
    """Return the bitmap of the core points and how many runs they form.

    A core point misses at most `allowed` pixels of its disk. The missing pixels are counted for 64 points
    at once: plane k holds bit k of the 64 counters, which start so that the first one too many overflows.
    """
    rows, words = bitmap.shape
    reach = len(widths) - 1
    core = np.zeros_like(bitmap)
    if allowed < 0:
        return core, 0
    planes = 0
    while allowed >> planes:
        planes += 1
    start = (1 << planes) - 1 - allowed
    counter = np.empty(planes, np.uint64)
    runs = 0
    for row in range(rows):
        before = np.uint64(0)
        for word in range(words):
            points = bitmap[row, word]
            if not points:
                before = np.uint64(0)
                continue
            lost = ~points
            for plane in range(planes):
                counter[plane] = _ALL if (start >> plane) & 1 else np.uint64(0)
            for dy in range(-reach, reach + 1):
                width = widths[abs(dy)]
                inside = 0 <= row + dy < rows
                for dx in range(-width, width + 1):
                    carry = ~_shifted(bitmap, row + dy, word, dx) if inside else _ALL
                    for plane in range(planes):
                        bits = counter[plane]
                        counter[plane] = bits ^ carry
                        carry &= bits
                        if not carry:
                            break
                    lost |= carry
                    if lost == _ALL:
                        break
                if lost == _ALL:
                    break
            points = ~lost
            core[row, word] = points
            runs += bit_count(points & ~(points << _ONE | before >> _TOP))
            before = points
    return core, runs


@compiled
def _runs(
    core: NDArray[np.uint64], runs: int, touching: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return row, first and last column of each run of core points, and where each row's runs start.

    Pixels that do not reach each other (eps < 1, not `touching`) are runs of their own.
    """
    rows, words = core.shape
    if not touching:
        runs = 0
        for row in range(rows):
            for word in range(words):
                runs += bit_count(core[row, word])
    row_of, first, last = np.empty(runs, np.int64), np.empty(runs, np.int64), np.empty(runs, np.int64)
    start = np.empty(rows + 1, np.int64)
    n = 0
    for row in range(rows):
        start[row] = n
        row_start = n
        for word in range(words):
            bits = core[row, word]
            while bits:
                begin = lowest_bit(bits)
                bits |= (_ONE << np.uint64(begin)) - _ONE
                end = lowest_bit(~bits) if touching else begin + 1
                bits &= _ALL << np.uint64(end) if end < WORD else np.uint64(0)
                column = word * WORD + begin
                if touching and n > row_start and last[n - 1] == column - 1:
                    n -= 1
                else:
                    row_of[n], first[n] = row, column
                last[n] = word * WORD + end - 1
                n += 1
    start[rows] = n
    return row_of, first, last, start


@compiled
def _root(parent: NDArray[np.int64], run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@compiled
def _join(parent: NDArray[np.int64], a: int, b: int) -> None:
    """Make one cluster of two; its root is its first run, which holds its first core point."""
    a, b = _root(parent, a), _root(parent, b)
    if a < b:
        parent[b] = a
    else:
        parent[a] = b


@compiled
def _joined_runs(
    first: NDArray[np.int64], last: NDArray[np.int64], start: NDArray[np.int64], widths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Return the cluster of each run, numbered by first core point, and the number of clusters."""
    runs = len(first)
    parent = np.arange(runs)
    for row in range(len(start) - 1):
        for run in range(start[row] + 1, start[row + 1]):
            if first[run] - last[run - 1] <= widths[0]:
                _join(parent, run - 1, run)
        for dy in range(1, min(len(widths) - 1, row) + 1):
            other, end = start[row - dy], start[row - dy + 1]
            for run in range(start[row], start[row + 1]):
                while other < end and last[other] + widths[dy] < first[run]:
                    other += 1
                reached = other
                while reached < end and first[reached] - widths[dy] <= last[run]:
                    _join(parent, reached, run)
                    reached += 1
    cluster = np.empty(runs, np.int64)
    clusters = 0
    for run in range(runs):
        if parent[run] == run:
            cluster[run] = clusters
            clusters += 1
        else:
            cluster[run] = cluster[parent[run]]
    return cluster, clusters


@compiled
def _with_border_points(
    rest: NDArray[np.uint64],
    columns: int,
    row: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    cluster: NDArray[np.int64],
    clusters: int,
    widths: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the runs followed by the pieces of their border points.

    Cluster by cluster, each run takes the points of `rest` in its reach that nobody has taken before.
    """
    rows = len(rest)
    runs = len(row)
    position = np.zeros(clusters + 1, np.int64)
    for run in range(runs):
        position[cluster[run] + 1] += 1
    position = np.cumsum(position)
    order = np.empty(runs, np.int64)
    for run in range(runs):
        order[position[cluster[run]]] = run
        position[cluster[run]] += 1

    n = runs
    pieces = np.empty((4, 2 * runs + 64), np.int64)
    pieces[0, :n], pieces[1, :n], pieces[2, :n], pieces[3, :n] = row, first, last, cluster
    for run in order:
        for dy in range(-len(widths) + 1, len(widths)):
            y = row[run] + dy
            if not 0 <= y < rows:
                continue
            left = max(first[run] - widths[abs(dy)], 0)
            right = min(last[run] + widths[abs(dy)], columns - 1)
            for word in range(left >> 6, (right >> 6) + 1):
                bits = rest[y, word]
                if not bits:
                    continue
                if word == left >> 6:
                    bits &= _ALL << np.uint64(left & 63)
                if word == right >> 6:
                    bits &= _ALL >> np.uint64(63 - (right & 63))
                rest[y, word] ^= bits
                while bits:
                    begin = lowest_bit(bits)
                    bits |= (_ONE << np.uint64(begin)) - _ONE
                    end = lowest_bit(~bits)
                    bits &= _ALL << np.uint64(end) if end < WORD else np.uint64(0)
                    if n == pieces.shape[1]:
                        longer = np.empty((4, 2 * n), np.int64)
                        longer[:, :n] = pieces
                        pieces = longer
                    pieces[0, n], pieces[1, n], pieces[2, n] = y, word * WORD + begin, word * WORD + end - 1
                    pieces[3, n] = cluster[run]
                    n += 1
    return pieces[0, :n], pieces[1, :n], pieces[2, :n], pieces[3, :n]


@compiled
def _labels(
    bitmap: NDArray[np.uint64],
    row: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    cluster: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the cluster of each one of a bitmap in row-major order; the pixels of a piece are neighbours."""
    rows, words = bitmap.shape
    rank = np.empty((rows, words), np.int64)
    n = 0
    for y in range(rows):
        for word in range(words):
            rank[y, word] = n
            n += bit_count(bitmap[y, word])
    labels = np.full(n, -1, np.int64)
    for piece in range(len(row)):
        word, bit = first[piece] >> 6, np.uint64(first[piece] & 63)
        begin = rank[row[piece], word] + bit_count(bitmap[row[piece], word] & ((_ONE << bit) - _ONE))
        labels[begin : begin + last[piece] - first[piece] + 1] = cluster[piece]
    return labels


@compiled
def _statistics(
    row: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    cluster: NDArray[np.int64],
    clusters: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return area (n,), boxes (n, 4) and centroids (n, 2)."""
    area = np.zeros(clusters, np.int64)
    box = np.empty((clusters, 4), np.int64)
    sums = np.zeros((clusters, 2), np.float64)
    for piece in range(len(row)):
        c, y, a, b = cluster[piece], row[piece], first[piece], last[piece]
        if area[c] == 0:
            box[c, 0], box[c, 1], box[c, 2], box[c, 3] = a, y, b, y
        else:
            box[c, 0], box[c, 1] = min(box[c, 0], a), min(box[c, 1], y)
            box[c, 2], box[c, 3] = max(box[c, 2], b), max(box[c, 3], y)
        length = b - a + 1
        area[c] += length
        sums[c, 0] += length * (a + b + 1) / 2
        sums[c, 1] += length * (y + 0.5)
    for c in range(clusters):
        box[c, 2] += 1 - box[c, 0]
        box[c, 3] += 1 - box[c, 1]
        sums[c, 0] /= area[c]
        sums[c, 1] /= area[c]
    return area, box, sums
