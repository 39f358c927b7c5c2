"""The compiled part of the upsampling: both passes, 64 output pixels at a time, where they are needed.

A cell is the square between the centres of four neighbouring source pixels. All output pixels in it depend on
the same source pixels, so that one bound decides for all of them whether they can cross the threshold.

Arrays shared by the functions
------------------------------
source
    (rows + 2 half, half + columns + more): the image with its edge pixels repeated. Tap t of cell c is its
    pixel c + 1 + t, where cell -1 lies left of the first pixel centre.
stretched
    (rows + 2 half, 64 words): `source` resampled along its rows.
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
from .lanes import (
    below,
    reachable_4,
    reachable_6,
    weighted_columns_4,
    weighted_columns_6,
    weighted_rows_4,
    weighted_rows_6,
)

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
def mark_candidates(
    source: NDArray[Any],
    bounding: NDArray[Any],
    scale: int,
    above: int,
    weights: NDArray[Any],
    row_weights: NDArray[Any],
    values: NDArray[Any],
    overshoot: np.float32,
    reachable_below: np.float32,
    limit: Any,
    inverted: np.uint64,
    bitmap: NDArray[np.uint64],
) -> None:
    """Set the bits of the outputs below `limit`, all other bits where `inverted` is all ones.

    Only words with a cell that can come below `reachable_below` in the image `bounding`, `source` or its
    negative, are evaluated; the bits of the others stay as they are. The image may be a strip of a larger
    one, in whole rows of cells; `above` outputs of its first row of cells then lie above it, as at the top
    of an image.
    """
    outputs, words = bitmap.shape
    taps = row_weights.shape[1]
    rows = len(source) - taps
    cell_words = -(-(words * WORD // scale + 2) // WORD)
    cells = np.zeros(cell_words + 1, np.uint64)
    repeated = np.empty(WORD + (taps + 2) * scale, source.dtype)
    stretched = np.empty((len(source), words * WORD), source.dtype)
    done = np.zeros((len(source), words), np.bool_)
    first_cell, mask = np.empty(words, np.int64), np.empty(words, np.uint64)
    for word in range(words):
        first = (2 * word * WORD + 1 - scale) // (2 * scale) + 1
        last = (2 * (word * WORD + WORD - 1) + 1 - scale) // (2 * scale) + 1
        first_cell[word] = first
        mask[word] = _ALL >> np.uint64(WORD - 1 - min(last - first, WORD - 1))
    for top in range(rows + 1):
        for index in range(cell_words):
            left = top * bounding.shape[1] + index * WORD
            if taps == 4:
                cells[index] = reachable_4(bounding, left, bounding.shape[1], overshoot, reachable_below)
            else:
                cells[index] = reachable_6(bounding, left, bounding.shape[1], overshoot, reachable_below)
        begin, end = max(top * scale - above, 0), min((top + 1) * scale - above, outputs)
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
    values: NDArray[Any],
) -> None:
    """Evaluate the whole output."""
    words = values.shape[1] // WORD
    taps = len(weights)
    repeated = np.empty(WORD + (taps + 2) * scale, source.dtype)
    stretched = np.empty((len(source), words * WORD), source.dtype)
    for row in range(len(source)):
        for word in range(words):
            stretch_word(source, scale, weights, stretched, row, word, repeated)
    for row in range(len(values)):
        top = (2 * row + 1 - scale) // (2 * scale) + 1
        for word in range(words):
            interpolate_word(stretched, row_weights, top, values, row, word)
