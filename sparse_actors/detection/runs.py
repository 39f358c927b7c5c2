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
def core_points(
    bitmap: Bitmap, widths: NDArray[np.int64], allowed: int, core: Bitmap, begin: int, end: int
) -> NDArray[np.int64]:
    """Set the core points of some rows in an empty bitmap; return how many runs begin above each, (n + 1,).

    A core point misses at most `allowed` pixels of its disk. The missing ones are counted for 64 points at
    once: plane k holds bit k of 64 counters, which start so that the first one too many overflows.
    """
    rows, words = bitmap.shape
    reach = len(widths) - 1
    runs_above = np.zeros(end - begin + 1, np.int64)
    if allowed < 0:
        return runs_above
    planes = 0
    while allowed >> planes:
        planes += 1
    start = (1 << planes) - 1 - allowed
    counter = np.empty(planes, np.uint64)
    runs = 0
    for row in range(begin, end):
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
        runs_above[row + 1 - begin] = runs
    return runs_above


@compiled
def single_points(bitmap: Bitmap) -> NDArray[np.int64]:
    """Return how many points lie above each row of a bitmap, (rows + 1,)."""
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
def _with_room(pieces: Indices, used: int, more: int) -> Indices:
    """Return the same pieces (4, n) with room for so many more."""
    if used + more <= pieces.shape[1]:
        return pieces
    longer = np.empty((4, 2 * pieces.shape[1] + more), np.int32)
    longer[:, :used] = pieces[:, :used]
    return longer


@compiled
def _appended(pieces: Indices, n: int, row: int, begin: int, end: int, cluster: int) -> int:
    """Add a piece to the n there are, or lengthen the last; return how many there are then."""
    last = n - 1
    if n and pieces[2, last] == begin - 1 and pieces[3, last] == cluster and pieces[0, last] == row:
        pieces[2, last] = end
        return n
    pieces[0, n], pieces[1, n], pieces[2, n], pieces[3, n] = row, begin, end, cluster
    return n + 1


@compiled
def _write(values: Indices, start: int, bits: np.uint64, value: int) -> None:
    """Write a value wherever a word, whose first pixel is `start`, has a one."""
    while bits:
        values[start + lowest_bit(bits)] = value
        bits &= bits - _ONE


@compiled
def with_border_points(
    rest: Bitmap,
    columns: int,
    first: Indices,
    last: Indices,
    runs_above: NDArray[np.int64],
    cluster: Indices,
    widths: NDArray[np.int64],
    begin_row: int,
    end_row: int,
) -> Indices:
    """Return the pieces of clusters in some rows, row-major, (4, n): row, first and last column, cluster.

    Of `rest`, the points that are not core points, each belongs to the lowest cluster in its reach; those in
    reach of none are noise.
    """
    rows, words = rest.shape
    reach = len(widths) - 1
    reached, only = np.zeros(words, np.uint64), np.empty(words, np.int32)
    lowest = np.empty(words * WORD, np.int32)
    pieces = np.empty((4, 2 * (runs_above[end_row] - runs_above[begin_row]) + columns), np.int32)
    n = 0
    for row in range(begin_row, end_row):
        above, below = max(row - reach, 0), min(row + reach, rows - 1)
        if runs_above[above] == runs_above[below + 1]:
            continue
        for y in range(above, below + 1):
            width = widths[abs(y - row)]
            for run in range(runs_above[y], runs_above[y + 1]):
                number = cluster[run]
                left, right = max(first[run] - width, 0), min(last[run] + width, columns - 1)
                for word in range(left >> 6, (right >> 6) + 1):
                    bits = rest[row, word]
                    if word == left >> 6:
                        bits &= _ALL << np.uint64(left & 63)
                    if word == right >> 6:
                        bits &= _ALL >> np.uint64(63 - (right & 63))
                    if not bits:
                        continue
                    start = word * WORD
                    if not reached[word]:
                        only[word] = number
                    elif only[word] != number:
                        if only[word] >= 0:
                            _write(lowest, start, reached[word], only[word])
                            only[word] = -1
                        again = bits & reached[word]
                        _write(lowest, start, bits ^ again, number)
                        while again:
                            column = start + lowest_bit(again)
                            lowest[column] = min(lowest[column], number)
                            again &= again - _ONE
                    reached[word] |= bits
        pieces = _with_room(pieces, n, columns)
        run, end = runs_above[row], runs_above[row + 1]
        for word in range(words):
            bits = reached[word]
            if not bits:
                continue
            reached[word] = _NONE
            while bits:
                begin = lowest_bit(bits)
                stop = lowest_bit(~(bits | ((_ONE << np.uint64(begin)) - _ONE)))
                number = only[word]
                if number < 0:
                    number, column = lowest[word * WORD + begin], begin + 1
                    while column < stop and lowest[word * WORD + column] == number:
                        column += 1
                    stop = column
                bits &= _ALL << np.uint64(stop) if stop < WORD else _NONE
                while run < end and first[run] < word * WORD + begin:
                    n = _appended(pieces, n, row, first[run], last[run], cluster[run])
                    run += 1
                n = _appended(pieces, n, row, word * WORD + begin, word * WORD + stop - 1, number)
        while run < end:
            n = _appended(pieces, n, row, first[run], last[run], cluster[run])
            run += 1
    return pieces[:, :n]
