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

from .bits import WORD, compiled
from .lanes import below, weighted_columns_4, weighted_columns_6, weighted_rows_4, weighted_rows_6

_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@compiled
def stretch_word(
    source: NDArray[Any],
    scale: int,
    weights: NDArray[Any],
    stretched: NDArray[Any],
    row: int,
    word: int,
    repeated: NDArray[Any],
) -> None:
    """First pass for one word of a row; `repeated` is room to work in."""
    taps = len(weights)
    begin = word * WORD
    cell = (2 * begin + 1 - scale) // (2 * scale)
    # Neighbouring outputs of a cell share their source pixel: with each pixel written `scale` times, tap t of
    # all outputs is one slice that begins t * scale further on.
    shift = begin - (cell * scale + scale // 2)
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
    at, width = row * stretched.shape[1] + begin, weights.shape[1]
    if taps == 4:
        weighted_columns_4(stretched, at, repeated, shift, scale, weights, begin, width)
    else:
        weighted_columns_6(stretched, at, repeated, shift, scale, weights, begin, width)


@compiled
def interpolate_word(
    stretched: NDArray[Any], row_weights: NDArray[Any], top: int, values: NDArray[Any], row: int, word: int
) -> None:
    """Second pass for one word of an output row whose first tap is `stretched[top]`."""
    width, taps = values.shape[1], row_weights.shape[1]
    at, start = row * width + word * WORD, top * width + word * WORD
    if taps == 4:
        weighted_rows_4(values, at, stretched, start, width, row_weights, row * taps, 1)
    else:
        weighted_rows_6(values, at, stretched, start, width, row_weights, row * taps, 1)


@compiled
def _bounds(
    source: NDArray[Any], top: int, left: int, taps: int, core: int, n: float, room: NDArray[Any], bound: Any
) -> None:
    """Write a lower bound of the output in each of the 64 cells from `left` on into `bound`, (64,) float32.

    With overshoot n, the largest sum of the negative weights, a pass gives at least (1 + n) min - n max of what
    it sees, where only the 2 `core` taps in the middle have positive weights, and at most the reverse. Two
    passes: (1 + n)^2 min_core - 2 n (1 + n) max + n^2 min.
    """
    width = WORD + taps - 1
    middle = taps // 2 - core
    near, far, least = room[0, :width], room[1, :width], room[2, :width]
    for i in range(width):
        near[i] = source[top + middle, left + i]
        far[i] = least[i] = source[top, left + i]
    for t in range(1, taps):
        line = source[top + t, left : left + width]
        for i in range(width):
            far[i] = max(far[i], line[i])
            least[i] = min(least[i], line[i])
    for t in range(middle + 1, middle + 2 * core):
        line = source[top + t, left : left + width]
        for i in range(width):
            near[i] = min(near[i], line[i])
    # Each step works in place, from left to right: what lies to the right is still untouched.
    for t in range(1, taps):
        for i in range(width - t):
            far[i] = max(far[i], far[i + 1])
            least[i] = min(least[i], least[i + 1])
    for t in range(1, 2 * core):
        for i in range(width - t):
            near[i] = min(near[i], near[i + 1])
    one, n32 = np.float32(1), np.float32(n)
    p, q, r = (one + n32) * (one + n32), (one + n32) * (n32 + n32), n32 * n32
    for i in range(WORD):
        bound[i] = p * np.float32(near[middle + i]) - q * np.float32(far[i]) + r * np.float32(least[i])


@compiled
def _sieve(
    source: NDArray[Any],
    top: int,
    taps: int,
    core: int,
    lowest: NDArray[Any],
    cells: NDArray[np.uint64],
    harmless: Any,
) -> None:
    """Mark the cells of a row that have a pixel below `harmless` among their 2 `core` x 2 `core` in the middle."""
    middle = taps // 2 - core
    width = len(lowest)
    line, next_line = source[top + middle, middle : middle + width], source[top + middle + 1, middle : middle + width]
    for i in range(width):
        lowest[i] = min(line[i], next_line[i])
    for t in range(2, 2 * core):
        line = source[top + middle + t, middle : middle + width]
        for i in range(width):
            lowest[i] = min(lowest[i], line[i])
    for index in range(len(cells) - 1):
        word = below(lowest, index * WORD, harmless)
        for t in range(1, 2 * core):
            word |= below(lowest, index * WORD + t, harmless)
        cells[index] = word


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
    room, bound = np.empty((3, WORD + taps), source.dtype), np.empty(WORD, np.float32)
    # No cell whose four pixels are above this can be reached, whatever surrounds them.
    n = overshoot
    largest = float(bounding.max())
    sieve = (reachable_below + 2 * n * (1 + n) * largest) / (1 + n) ** 2 + 1
    sieved = sieve < 1 << (8 * bounding.itemsize)
    harmless = bounding.dtype.type(sieve if sieved else 0)
    lowest = np.empty(cell_words * WORD + taps, source.dtype)
    repeated = np.empty(WORD + (taps + 2) * scale, source.dtype)
    first_cell, mask = np.empty(words, np.int64), np.empty(words, np.uint64)
    for word in range(words):
        first = (2 * word * WORD + 1 - scale) // (2 * scale) + 1
        last = (2 * (word * WORD + WORD - 1) + 1 - scale) // (2 * scale) + 1
        first_cell[word] = first
        mask[word] = _ALL >> np.uint64(WORD - 1 - min(last - first, WORD - 1))
    for top in range(rows + 1):
        if sieved:
            _sieve(bounding, top, taps, core, lowest, cells, harmless)
        else:
            for index in range(cell_words):
                cells[index] = _ALL
        for index in range(cell_words):
            if cells[index]:
                _bounds(bounding, top, index * WORD, taps, core, overshoot, room, bound)
                cells[index] = below(bound, 0, np.float32(reachable_below))
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
                    stretch_word(source, scale, weights, stretched, row, word, repeated)
                    done[row, word] = True
            for row in range(begin, end):
                interpolate_word(stretched, row_weights, top, values, row, word)
                bitmap[row, word] = below(values, row * values.shape[1] + word * WORD, limit) ^ inverted


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
    for row in range(len(source)):
        for word in range(words):
            stretch_word(source, scale, weights, stretched, row, word, repeated)
    for row in range(len(values)):
        top = (2 * row + 1 - scale) // (2 * scale) + 1
        for word in range(words):
            interpolate_word(stretched, row_weights, top, values, row, word)
