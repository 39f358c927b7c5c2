"""The compiled part of the upsampling: both passes, 64 output pixels at a time, where they are needed.

A cell is the square between the centres of four neighbouring source pixels. All output pixels in it depend on
the same source pixels, so that one bound decides for all of them whether they can cross the threshold.

Arrays shared by the functions
------------------------------
source
    (rows + 2 half, half + columns + more): the image with its edge pixels repeated. Tap t of cell c is its pixel
    c + 1 + t, where cell -1 lies left of the first pixel centre.
stretched, done
    (rows + 2 half, 64 words), (rows + 2 half, words): `source` resampled along its rows, and which words of it
    are there.
values
    (outputs, 64 words): the upsampled image, where it has been evaluated.
weights, row_weights
    (taps, 64 words) for the first pass and (outputs, taps) for the second, in units of 2^-22, of the
    integer type in which sums are formed. There are four taps or six.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import WORD, below, compiled

PRECISION_BITS = 22

_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@compiled
def _rounded(total: NDArray[Any], values: NDArray[Any]) -> None:
    """Turn 64 sums into pixels: rounded, and clipped to what their type holds."""
    number = total.dtype.type
    highest = number((1 << (8 * values.itemsize)) - 1)
    for i in range(WORD):
        value = number(number(total[i] + number(1 << (PRECISION_BITS - 1))) >> number(PRECISION_BITS))
        values[i] = min(max(value, number(0)), highest)


@compiled
def stretch_word(
    source: NDArray[Any],
    scale: int,
    weights: NDArray[Any],
    stretched: NDArray[Any],
    row: int,
    word: int,
    repeated: NDArray[Any],
    total: NDArray[Any],
) -> None:
    """First pass for one word of a row. `repeated` and `total` are room to work in."""
    number = total.dtype.type
    taps = len(weights)
    start = word * WORD
    cell = (2 * start + 1 - scale) // (2 * scale)
    # Neighbouring outputs of a cell share their source pixel: with each pixel written `scale` times, tap t
    # of all outputs is one slice, t * scale further on.
    shift = start - (cell * scale + scale // 2 + scale % 2)
    pixels = (shift + WORD - 1) // scale + taps
    line = source[row, cell + 1 : cell + 1 + pixels]
    if scale == 4:
        for i in range(pixels):
            pixel = line[i]
            repeated[4 * i] = pixel
            repeated[4 * i + 1] = pixel
            repeated[4 * i + 2] = pixel
            repeated[4 * i + 3] = pixel
    else:
        for i in range(pixels):
            for j in range(i * scale, (i + 1) * scale):
                repeated[j] = line[i]
    a, b = repeated[shift : shift + WORD], repeated[shift + scale : shift + scale + WORD]
    c = repeated[shift + 2 * scale : shift + 2 * scale + WORD]
    d = repeated[shift + 3 * scale : shift + 3 * scale + WORD]
    wa, wb = weights[0, start : start + WORD], weights[1, start : start + WORD]
    wc, wd = weights[2, start : start + WORD], weights[3, start : start + WORD]
    for i in range(WORD):
        # The casts keep the sums in `number`; by itself numba would widen them to 64 bits.
        left = number(number(wa[i] * number(a[i])) + number(wb[i] * number(b[i])))
        right = number(number(wc[i] * number(c[i])) + number(wd[i] * number(d[i])))
        total[i] = number(left + right)
    for t in range(4, taps):
        e = repeated[shift + t * scale : shift + t * scale + WORD]
        we = weights[t, start : start + WORD]
        for i in range(WORD):
            total[i] = number(total[i] + number(we[i] * number(e[i])))
    _rounded(total, stretched[row, start : start + WORD])


@compiled
def interpolate_word(
    stretched: NDArray[Any],
    row_weights: NDArray[Any],
    top: int,
    values: NDArray[Any],
    row: int,
    word: int,
    total: NDArray[Any],
) -> None:
    """Second pass for one word of an output row whose first tap is `stretched[top]`."""
    number = total.dtype.type
    begin, end = word * WORD, word * WORD + WORD
    a, b = stretched[top, begin:end], stretched[top + 1, begin:end]
    c, d = stretched[top + 2, begin:end], stretched[top + 3, begin:end]
    wa, wb, wc, wd = row_weights[row, 0], row_weights[row, 1], row_weights[row, 2], row_weights[row, 3]
    for i in range(WORD):
        left = number(number(wa * number(a[i])) + number(wb * number(b[i])))
        right = number(number(wc * number(c[i])) + number(wd * number(d[i])))
        total[i] = number(left + right)
    for t in range(4, row_weights.shape[1]):
        e, we = stretched[top + t, begin:end], row_weights[row, t]
        for i in range(WORD):
            total[i] = number(total[i] + number(we * number(e[i])))
    _rounded(total, values[row, begin:end])


@compiled
def _reachable_cells(
    source: NDArray[Any], top: int, taps: int, core: int, overshoot: float, limit: float, cells: NDArray[Any]
) -> None:
    """Mark the cells of one row whose output may lie below `limit`: bit c + 1 of `cells` is cell c.

    With overshoot n, the sum of the negative weights of a pass, a pass gives at least (1 + n) min - n max, where
    only the 2 `core` taps in the middle have positive weights; likewise its largest value. Both passes:
    (1 + n)^2 min_core - 2 n (1 + n) max + n^2 min.
    """
    width = source.shape[1]
    middle = taps // 2 - core
    lowest, highest = source[top].copy(), source[top].copy()
    lowest_core = source[top + middle].copy()
    for t in range(1, taps):
        line = source[top + t]
        for i in range(width):
            lowest[i] = min(lowest[i], line[i])
            highest[i] = max(highest[i], line[i])
    for t in range(middle + 1, middle + 2 * core):
        line = source[top + t]
        for i in range(width):
            lowest_core[i] = min(lowest_core[i], line[i])
    count = (len(cells) - 1) * WORD
    a, b, c = lowest_core[middle : middle + count].copy(), highest[:count].copy(), lowest[:count].copy()
    for t in range(1, taps):
        right_highest, right_lowest = highest[t : t + count], lowest[t : t + count]
        for i in range(count):
            b[i] = max(b[i], right_highest[i])
            c[i] = min(c[i], right_lowest[i])
    for t in range(middle + 1, middle + 2 * core):
        right_core = lowest_core[t : t + count]
        for i in range(count):
            a[i] = min(a[i], right_core[i])
    n = np.float32(overshoot)
    one = np.float32(1)
    bound = np.empty(count, np.float32)
    for i in range(count):
        near, far, least = np.float32(a[i]), np.float32(b[i]), np.float32(c[i])
        bound[i] = (one + n) * ((one + n) * near - (n + n) * far) + n * n * least
    for word in range(len(cells) - 1):
        cells[word] = below(bound, word * WORD, np.float32(limit))


@compiled
def mark_candidates(
    source: NDArray[Any],
    bounding: NDArray[Any],
    scale: int,
    weights: NDArray[Any],
    row_weights: NDArray[Any],
    stretched: NDArray[Any],
    done: NDArray[np.bool_],
    values: NDArray[Any],
    core: int,
    overshoot: float,
    reachable_below: float,
    limit: Any,
    inverted: np.uint64,
    bitmap: NDArray[np.uint64],
) -> None:
    """Set the bits of the outputs below `limit`, all other bits where `inverted` is all ones.

    Only words with a cell that can come below `reachable_below` in the image `bounding` are evaluated, the bits
    of the others stay as they are.
    """
    outputs, words = bitmap.shape
    taps = row_weights.shape[1]
    rows = len(source) - taps
    cell_words = -(-(words * WORD // scale + 2) // WORD)
    cells = np.zeros(cell_words + 1, np.uint64)
    repeated = np.empty(WORD + (taps + 2) * scale, source.dtype)
    total = np.empty(WORD, weights.dtype)
    first_cell, mask = np.empty(words, np.int64), np.empty(words, np.uint64)
    for word in range(words):
        first = (2 * word * WORD + 1 - scale) // (2 * scale) + 1
        last = (2 * (word * WORD + WORD - 1) + 1 - scale) // (2 * scale) + 1
        first_cell[word] = first
        mask[word] = _ALL >> np.uint64(WORD - 1 - min(last - first, WORD - 1))
    for top in range(rows + 1):
        _reachable_cells(bounding, top, taps, core, overshoot, reachable_below, cells)
        begin = max((top - 1) * scale + scale // 2, 0)
        end = min(top * scale + scale // 2, outputs)
        for word in range(words):
            index, bit = first_cell[word] >> 6, np.uint64(first_cell[word] & 63)
            reachable = cells[index] >> bit
            if bit:
                reachable |= cells[index + 1] << (np.uint64(64) - bit)
            if not reachable & mask[word]:
                continue
            for row in range(top, top + taps):
                if not done[row, word]:
                    stretch_word(source, scale, weights, stretched, row, word, repeated, total)
                    done[row, word] = True
            for row in range(begin, end):
                interpolate_word(stretched, row_weights, top, values, row, word, total)
                bitmap[row, word] = (
                    below(values, row * values.shape[1] + word * WORD, limit) ^ inverted
                )


@compiled
def interpolate_all(
    source: NDArray[Any],
    scale: int,
    weights: NDArray[Any],
    row_weights: NDArray[Any],
    stretched: NDArray[Any],
    values: NDArray[Any],
) -> None:
    """Evaluate the whole output."""
    words = stretched.shape[1] // WORD
    taps = len(weights)
    repeated = np.empty(WORD + (taps + 2) * scale, source.dtype)
    total = np.empty(WORD, weights.dtype)
    for row in range(len(source)):
        for word in range(words):
            stretch_word(source, scale, weights, stretched, row, word, repeated, total)
    for row in range(len(values)):
        top = (2 * row + 1 - scale) // (2 * scale) + 1
        for word in range(words):
            interpolate_word(stretched, row_weights, top, values, row, word, total)


@compiled
def segment_sums(
    values: NDArray[Any], row: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the sum of values[row, first..last] of each segment; row, first, last are (n,)."""
    sums = np.zeros(len(row), np.int64)
    for i in range(len(row)):
        for value in values[row[i], first[i] : last[i] + 1]:
            sums[i] += value
    return sums
