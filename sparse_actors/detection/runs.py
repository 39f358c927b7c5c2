"""The compiled part of DBSCAN: core points as bits, clusters as runs of them, border points as bits again.

Bitmaps are (rows, words), see `bits`. `widths` is the neighbourhood: widths[d] is the half width of the disk
of radius eps in the rows d above and below its centre.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bits import WORD, bit_count, compiled, lowest_bit

Bitmap = NDArray[np.uint64]
Indices = NDArray[np.int32]

_ONE = np.uint64(1)
_NONE = np.uint64(0)
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_WORD = np.uint64(64)


@compiled
def _neighbours(bitmap: Bitmap, row: int, word: int, columns: int) -> np.uint64:
    """Return the 64 pixels that lie `columns` to the right of a word; 0 outside the image."""
    words = bitmap.shape[1]
    index = word + (columns >> 6)
    bits = np.uint64(columns & 63)
    result = bitmap[row, index] >> bits if 0 <= index < words else _NONE
    if bits and 0 <= index + 1 < words:
        result |= bitmap[row, index + 1] << (_WORD - bits)
    return result


@compiled
def core_points(bitmap: Bitmap, widths: NDArray[np.int64], allowed: int) -> tuple[Bitmap, NDArray[np.int64]]:
    """Return the bitmap of core points, and how many runs of them begin above each row, (rows + 1,).

    A core point misses at most `allowed` pixels of its disk. The missing ones are counted for 64 points at
    once: plane k holds bit k of 64 counters, which start so that the first one too many overflows.
    """
    rows, words = bitmap.shape
    reach = len(widths) - 1
    core = np.zeros_like(bitmap)
    runs_above = np.zeros(rows + 1, np.int64)
    if allowed < 0:
        return core, runs_above
    planes = 0
    while allowed >> planes:
        planes += 1
    start = (1 << planes) - 1 - allowed
    counter = np.empty(planes, np.uint64)
    runs = 0
    for row in range(rows):
        for word in range(words):
            points = bitmap[row, word]
            if not points:
                continue
            lost = ~points
            for plane in range(planes):
                counter[plane] = _ALL if (start >> plane) & 1 else _NONE
            for dy in range(-reach, reach + 1):
                y = row + dy
                inside = 0 <= y < rows
                here = bitmap[y, word] if inside else _NONE
                left = bitmap[y, word - 1] if inside and word > 0 else _NONE
                right = bitmap[y, word + 1] if inside and word + 1 < words else _NONE
                width = widths[abs(dy)]
                for dx in range(-width, width + 1):
                    if dx == 0:
                        seen = here
                    elif 0 < dx < WORD:
                        seen = here >> np.uint64(dx) | right << np.uint64(WORD - dx)
                    elif -WORD < dx < 0:
                        seen = here << np.uint64(-dx) | left >> np.uint64(WORD + dx)
                    else:
                        seen = _neighbours(bitmap, y, word, dx) if inside else _NONE
                    carry = ~seen
                    for plane in range(planes):
                        bits = counter[plane]
                        counter[plane] = bits ^ carry
                        carry &= bits
                        if not carry:
                            break
                    lost |= carry
                if lost == _ALL:
                    break
            points = ~lost
            core[row, word] = points
            before = core[row, word - 1] >> np.uint64(WORD - 1) if word > 0 else _NONE
            runs += bit_count(points & ~(points << _ONE | before))
        runs_above[row + 1] = runs
    return core, runs_above


@compiled
def single_points(bitmap: Bitmap) -> NDArray[np.int64]:
    """Return how many points lie above each row, (rows + 1,)."""
    points_above = np.zeros(len(bitmap) + 1, np.int64)
    for row in range(len(bitmap)):
        count = 0
        for bits in bitmap[row]:
            count += bit_count(bits)
        points_above[row + 1] = points_above[row] + count
    return points_above


@compiled
def run_ends(core: Bitmap, runs_above: NDArray[np.int64], touching: bool) -> tuple[Indices, Indices]:
    """Return the first and last column of each run of core points, row by row.

    Pixels that do not reach each other (eps < 1, not `touching`) are runs of their own.
    """
    runs = runs_above[-1]
    first, last = np.empty(runs, np.int32), np.empty(runs, np.int32)
    for row in range(len(core)):
        n = runs_above[row]
        if n == runs_above[row + 1]:
            continue
        for word in range(core.shape[1]):
            bits = core[row, word]
            while bits:
                begin = lowest_bit(bits)
                bits |= (_ONE << np.uint64(begin)) - _ONE
                end = lowest_bit(~bits) if touching else begin + 1
                bits &= _ALL << np.uint64(end) if end < WORD else _NONE
                column = word * WORD + begin
                if touching and n > runs_above[row] and last[n - 1] == column - 1:
                    n -= 1
                else:
                    first[n] = column
                last[n] = word * WORD + end - 1
                n += 1
    return first, last


@compiled
def _root(parent: Indices, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@compiled
def _join(parent: Indices, a: int, b: int) -> None:
    """Make one cluster of two; its root is its first run, which holds its first core point."""
    a, b = _root(parent, a), _root(parent, b)
    parent[max(a, b)] = min(a, b)


@compiled
def joined_runs(
    first: Indices, last: Indices, runs_above: NDArray[np.int64], widths: NDArray[np.int64]
) -> tuple[Indices, int]:
    """Return the cluster of each run, numbered by first core point, and the number of clusters."""
    runs = len(first)
    parent = np.empty(runs, np.int32)
    for run in range(runs):
        parent[run] = run
    for row in range(len(runs_above) - 1):
        begin, end = runs_above[row], runs_above[row + 1]
        if begin == end:
            continue
        for run in range(begin + 1, end):
            if first[run] - last[run - 1] <= widths[0]:
                _join(parent, run - 1, run)
        for dy in range(1, min(len(widths) - 1, row) + 1):
            other, others_end = runs_above[row - dy], runs_above[row - dy + 1]
            for run in range(begin, end):
                while other < others_end and last[other] + widths[dy] < first[run]:
                    other += 1
                reached = other
                while reached < others_end and first[reached] - widths[dy] <= last[run]:
                    _join(parent, reached, run)
                    reached += 1
    clusters = 0
    for run in range(runs):
        # A parent comes before its children, so here it is already a number.
        if parent[run] == run:
            parent[run] = clusters
            clusters += 1
        else:
            parent[run] = parent[parent[run]]
    return parent, clusters


@compiled
def _grown(pieces: Indices) -> Indices:
    """Return the same pieces (4, n) with room for as many more."""
    longer = np.empty((4, 2 * pieces.shape[1]), np.int32)
    for field in range(4):
        for piece in range(pieces.shape[1]):
            longer[field, piece] = pieces[field, piece]
    return longer


@compiled
def with_border_points(
    rest: Bitmap,
    columns: int,
    first: Indices,
    last: Indices,
    runs_above: NDArray[np.int64],
    cluster: Indices,
    clusters: int,
    widths: NDArray[np.int64],
) -> Indices:
    """Return the pieces of all clusters, (4, n): row, first and last column, cluster.

    Cluster by cluster, each run takes what is in its reach of `rest`, the points that are not core points;
    what remains there is noise.
    """
    rows, runs, reach = len(rest), len(first), len(widths) - 1
    position = np.zeros(clusters + 1, np.int64)
    for run in range(runs):
        position[cluster[run] + 1] += 1
    for c in range(clusters):
        position[c + 1] += position[c]
    order, row_of = np.empty(runs, np.int32), np.empty(runs, np.int32)
    for row in range(rows):
        for run in range(runs_above[row], runs_above[row + 1]):
            place = position[cluster[run]]
            position[cluster[run]] += 1
            order[place], row_of[place] = run, row

    pieces = np.empty((4, 4 * runs + 16), np.int32)
    n = 0
    for place in range(runs):
        run, row = order[place], row_of[place]
        if n == pieces.shape[1]:
            pieces = _grown(pieces)
        own, n = n, n + 1
        pieces[0, own], pieces[1, own], pieces[2, own] = row, first[run], last[run]
        pieces[3, own] = cluster[run]
        for y in range(max(row - reach, 0), min(row + reach, rows - 1) + 1):
            width = widths[abs(y - row)]
            left, right = max(first[run] - width, 0), min(last[run] + width, columns - 1)
            for word in range(left >> 6, (right >> 6) + 1):
                bits = rest[y, word]
                if word == left >> 6:
                    bits &= _ALL << np.uint64(left & 63)
                if word == right >> 6:
                    bits &= _ALL >> np.uint64(63 - (right & 63))
                if not bits:
                    continue
                rest[y, word] ^= bits
                while bits:
                    begin = lowest_bit(bits)
                    bits |= (_ONE << np.uint64(begin)) - _ONE
                    end = lowest_bit(~bits)
                    bits &= _ALL << np.uint64(end) if end < WORD else _NONE
                    begin, end = word * WORD + begin, word * WORD + end - 1
                    if y == row and begin == pieces[2, own] + 1:
                        pieces[2, own] = end
                    elif y == row and end == pieces[1, own] - 1:
                        pieces[1, own] = begin
                    else:
                        if n == pieces.shape[1]:
                            pieces = _grown(pieces)
                        pieces[0, n], pieces[1, n], pieces[2, n], pieces[3, n] = y, begin, end, cluster[run]
                        n += 1
    return pieces[:, :n]
