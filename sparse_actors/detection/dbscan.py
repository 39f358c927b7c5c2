"""Exact DBSCAN of the pixels of an image, on packed bits and runs.

Points of a pixel grid need no neighbour search: a pixel is a core point when at most `disk - min_points`
pixels of the disk of radius eps around it are missing, which is counted for 64 pixels at a time; core points
side by side in a row form a run, and runs in reach of each other are joined by union-find. Memory is a few
bitmaps and the runs. Algorithm: Ester et al., KDD-96, 226-231 (1996).

The numbering is scikit-learn's for the points `np.argwhere(dark)`: clusters count by their first core point
in row-major order, and a border point belongs to the lowest number in its reach. As there, a point counts as
its own neighbour, and two points are neighbours when d^2 <= eps^2 in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import WORD, bit_count, compiled
from .lanes import below
from .runs import Bitmap, Indices, core_points, joined_runs, run_ends, single_points, with_border_points
from .threads import ALONE, Threads

STRIP_WORDS = 8192
"""Words with points that are worth a strip of their own."""

_ONE = np.uint64(1)


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Pieces of rows that together are the members of all clusters, each pixel once."""

    pieces: list[Indices]
    """One for each strip of rows, (4, n): row, first column, last column (included), cluster from 0."""
    clusters: int
    """How many clusters there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """What is known of each cluster, in the order of scikit-learn's labels."""

    area_px: NDArray[np.int64]
    """(n,): number of pixels, border points included."""
    boxes_px: NDArray[np.int64]
    """(n, 4): left, top, width, height."""
    centroids_px: NDArray[np.float64]
    """(n, 2): mean x, y of the pixel centres; 0 is the left or top edge of the first pixel."""
    mean_grey: NDArray[np.float64]
    """(n,): mean of the image over the cluster."""

    def __len__(self) -> int:
        return len(self.area_px)


def label_clusters(
    dark: NDArray[np.bool_], eps_px: float, min_points: int, threads: Threads = ALONE
) -> Indices:
    """Label the dark pixels of an image as scikit-learn's DBSCAN does.

    Parameters
    ----------
    dark
        (rows, columns): which pixels are points.
    eps_px
        Largest distance of neighbours, above 0.
    min_points
        Neighbours that make a core point, itself included, at least 1.
    threads
        Who works on it; the result does not depend on it.

    Returns
    -------
    numpy.ndarray
        (number of dark pixels,), in row-major order: `DBSCAN(eps_px, min_samples=min_points)
        .fit(np.argwhere(dark)).labels_`. Noise is -1.

    Raises
    ------
    ValueError
        When `eps_px` or `min_points` is out of range.
    """
    bitmap = packed(dark)
    return labels_of(bitmap, cluster_segments(bitmap, dark.shape[1], eps_px, min_points, threads))


def labels_of(bitmap: Bitmap, segments: Segments) -> Indices:
    """Return the cluster of each point of a bitmap, in row-major order; noise is -1."""
    labels = np.empty(np.bitwise_count(bitmap).sum(), np.int32)
    filled = 0
    for pieces in segments.pieces:
        filled = _fill_labels(bitmap, pieces, labels, filled)
    labels[filled:] = -1
    return labels


def packed(dark: NDArray[np.bool_]) -> Bitmap:
    """Pack an image (rows, columns) of truth values into a bitmap (rows, words)."""
    return _ones(np.ascontiguousarray(dark).view(np.uint8))


def cluster_segments(
    bitmap: Bitmap, columns: int, eps_px: float, min_points: int, threads: Threads = ALONE
) -> Segments:
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
    widths = _half_widths(eps_px, max(len(bitmap), columns))
    disk = 2 * int((2 * widths + 1).sum()) - int(2 * widths[0] + 1)
    core = np.zeros_like(bitmap)
    touching = eps_px >= 1

    def core_runs(strip: tuple[int, int]) -> tuple[NDArray[np.int64], Indices, Indices]:
        runs_above = core_points(bitmap, widths, disk - min_points, core, *strip)
        rows = core[slice(*strip)]
        if not touching:
            runs_above = single_points(rows)
        return runs_above, *run_ends(rows, runs_above, touching)

    def pieces(strip: tuple[int, int]) -> Indices:
        return with_border_points(rest, columns, first, last, runs_above, cluster, widths, *strip)

    strips = threads.strips(len(bitmap), int(np.count_nonzero(bitmap)) // STRIP_WORDS)
    runs_in, first_in, last_in = zip(*threads.map(core_runs, strips), strict=True)
    first, last = np.concatenate(first_in), np.concatenate(last_in)
    runs_above = np.zeros(len(bitmap) + 1, np.int64)
    np.cumsum(np.concatenate([np.diff(above) for above in runs_in]), out=runs_above[1:])
    cluster, clusters = joined_runs(first, last, runs_above, widths)
    rest = np.bitwise_xor(core, bitmap, out=core)
    return Segments(threads.map(pieces, strips), clusters)


def measured_clusters(segments: Segments, image: NDArray[Any], threads: Threads = ALONE) -> Clusters:
    """Measure each cluster in the image (rows, columns or more) that it was found in."""
    strips = threads.map(lambda pieces: _measured(pieces, segments.clusters, image), segments.pieces)
    area, first, end, sums = strips[0]
    for more_area, other_first, other_end, more_sums in strips[1:]:
        area += more_area
        np.minimum(first, other_first, out=first)
        np.maximum(end, other_end, out=end)
        sums += more_sums  # of whole and half numbers, hence exact in any order
    x, y, grey = sums / area
    boxes = np.hstack([first, end - first])
    return Clusters(area, boxes, np.stack([x, y], axis=1), grey)


def _half_widths(eps_px: float, largest: int) -> NDArray[np.int64]:
    """Return the half width of the disk in each row from its centre on, at most the image's size."""
    square = math.floor(min(eps_px * eps_px, 2.0 * largest * largest))
    reach = min(math.isqrt(square), largest)
    return np.array([min(math.isqrt(square - dy * dy), largest) for dy in range(reach + 1)], np.int64)


@compiled
def _ones(values: NDArray[np.uint8]) -> Bitmap:
    """Return the bitmap of an array (rows, columns) of 0 and 1."""
    rows, columns = values.shape
    whole = columns // WORD
    bitmap = np.zeros((rows, -(-columns // WORD)), np.uint64)
    for row in range(rows):
        for word in range(whole):
            bitmap[row, word] = ~below(values, row * columns + word * WORD, np.uint8(1))
        for column in range(whole * WORD, columns):
            bitmap[row, whole] |= np.uint64(values[row, column]) << np.uint64(column - whole * WORD)
    return bitmap


@compiled
def _fill_labels(bitmap: Bitmap, pieces: Indices, labels: Indices, filled: int) -> int:
    """Go on from the first `filled` labels to the end of the pieces; return how many are there then.

    A piece is a slice of the labels, since these are in row-major order too; what lies between is noise.
    """
    rows, words = bitmap.shape
    points_before = np.empty((rows, words), np.int64)
    n = 0
    for row in range(rows):
        for word in range(words):
            points_before[row, word] = n
            n += bit_count(bitmap[row, word])
    for piece in range(pieces.shape[1]):
        row, first, last, cluster = pieces[0, piece], pieces[1, piece], pieces[2, piece], pieces[3, piece]
        word, left = first >> 6, (_ONE << np.uint64(first & 63)) - _ONE
        begin = points_before[row, word] + bit_count(bitmap[row, word] & left)
        end = begin + last - first + 1
        labels[filled:begin] = -1
        labels[begin:end] = cluster
        filled = end
    return filled


@compiled
def _measured(
    pieces: Indices, clusters: int, image: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return area (n,), first and end of columns and rows (n, 2), sums of x, y and grey level (3, n)."""
    area = np.zeros(clusters, np.int64)
    first = np.full((clusters, 2), np.iinfo(np.int64).max, np.int64)
    end = np.zeros((clusters, 2), np.int64)
    sums = np.zeros((3, clusters), np.float64)
    for piece in range(pieces.shape[1]):
        row, left, right, c = pieces[0, piece], pieces[1, piece], pieces[2, piece] + 1, pieces[3, piece]
        first[c, 0], first[c, 1] = min(first[c, 0], left), min(first[c, 1], row)
        end[c, 0], end[c, 1] = max(end[c, 0], right), max(end[c, 1], row + 1)
        length = right - left
        grey = 0
        for column in range(left, right):
            grey += image[row, column]
        area[c] += length
        sums[0, c] += length * 0.5 * (left + right)
        sums[1, c] += length * (row + 0.5)
        sums[2, c] += grey
    return area, first, end, sums
