"""Upsampling by a whole factor, fused with the threshold: only what can cross it is evaluated.

8-bit images come out bit-identical to Pillow's `Image.resize`: weights rounded to 22 bits after the point,
rows first, rounded and clipped to 8 bits between the two passes, kernel cut and renormalised at the edges.
16-bit images, for which Pillow has no such filter, go through the same steps with 16 bits in place of 8.
Kernels: Keys, IEEE Trans. ASSP 29, 1153 (1981) with a = -1/2; Lanczos with three lobes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .bits import WORD, below, compiled, weighted_below

Interpolation = Literal["bicubic", "lanczos"]

_PRECISION_BITS = 22
_HALF_WIDTH = {"bicubic": 2, "lanczos": 3}
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_SLACK = 2.0
"""Grey levels by which the bounds are widened: rounding between the passes and of the weights."""


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """How the pixels of one axis follow from the source pixels.

    Output pixel j is the sum over t of weights[t, j] * source[cell[j] + 1 - half + t]; the cell is the source
    pixel whose centre lies left of, or on, its own.
    """

    cell: NDArray[np.int64]
    """(outputs,): from -1 to the last source pixel."""
    weights: NDArray[np.int64]
    """(2 half, outputs): in units of 2^-22."""

    @property
    def overshoot(self) -> float:
        """The largest sum of negative weights, as a positive number."""
        return float(-np.minimum(self.weights, 0).sum(axis=0).min()) / 2**_PRECISION_BITS


@lru_cache(maxsize=32)
def axis_taps(source_px: int, scale: int, interpolation: Interpolation) -> Taps:
    """Return the weights for an axis of `source_px` pixels, computed in Pillow's order of operations."""
    half = _HALF_WIDTH[interpolation]
    outputs = source_px * scale
    ratio = source_px / outputs
    index = np.arange(outputs)
    centre = (index + 0.5) * ratio
    left = np.maximum((centre - half + 0.5).astype(np.int64), 0)
    right = np.minimum((centre + half + 0.5).astype(np.int64), source_px)
    kernel = _cubic if interpolation == "bicubic" else _lanczos
    weights = np.zeros((2 * half + 1, outputs))
    total = np.zeros(outputs)
    for t in range(2 * half + 1):
        weights[t] = np.where(left + t < right, kernel((t + left - centre + 0.5) * 1.0), 0.0)
        total += weights[t]
    weights /= total
    fixed = np.trunc(weights * 2**_PRECISION_BITS + np.copysign(0.5, weights)).astype(np.int64)

    cell = (2 * index + 1 - scale) // (2 * scale)
    placed = np.zeros((2 * half + 2, outputs), np.int64)
    for t in range(2 * half + 1):
        # A kernel that ends exactly on a source pixel may count one more of weight 0.
        tap = left + t - (cell + 1 - half)
        used = fixed[t] != 0
        placed[tap[used], index[used]] = fixed[t, used]
    return Taps(cell, placed[: 2 * half])


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0.0)


def _sinc(x: NDArray[np.float64]) -> NDArray[np.float64]:
    angle = np.where(x == 0, 1.0, x * math.pi)
    return np.where(x == 0, 1.0, np.sin(angle) / angle)


class Upsampling:
    """One image on its way to `scale` times as many rows and columns.

    Parameters
    ----------
    image
        (rows, columns) of uint8 or uint16, at least one pixel.
    scale
        Output pixels per image pixel along each axis, from 1 on.
    interpolation
        Which kernel.

    Raises
    ------
    TypeError, ValueError
        For another type or shape.
    """

    def __init__(self, image: NDArray[Any], scale: int, interpolation: Interpolation = "bicubic") -> None:
        if image.dtype not in (np.uint8, np.uint16):
            raise TypeError(f"image of {image.dtype}: expected uint8 or uint16")
        if image.ndim != 2 or image.size == 0:
            raise ValueError(f"image of shape {image.shape}: expected (rows, columns), at least one pixel")
        if scale < 1:
            raise ValueError(f"scale = {scale}: expected at least 1")
        half = _HALF_WIDTH[interpolation]
        rows, columns = image.shape
        self.shape = (rows * scale, columns * scale)
        self._scale = scale
        self._grey_levels = int(np.iinfo(image.dtype).max) + 1
        self._vertical = axis_taps(rows, scale, interpolation)
        horizontal = axis_taps(columns, scale, interpolation)
        words = -(-self.shape[1] // WORD)
        # 8 bits times 22 fit 32; a narrower sum is twice as fast.
        self._sum_type = np.dtype(np.int32 if image.dtype == np.uint8 else np.int64)
        self._weights = np.zeros((2 * half, words * WORD), self._sum_type)
        self._weights[:, : self.shape[1]] = horizontal.weights
        self._row_weights = np.ascontiguousarray(self._vertical.weights.T, self._sum_type)
        self._source = _edge_padded(image, half, WORD + 2 * half)
        # Rows resampled along the columns; `_resampled` says which words of them are there.
        self._stretched = np.zeros((rows + 2 * half, words * WORD), image.dtype)
        self._resampled = np.zeros((rows + 2 * half, words), np.bool_)
        overshoot = max(self._vertical.overshoot, horizontal.overshoot)
        self._bound = np.array(
            [2 * overshoot + overshoot**2, -2 * overshoot * (1 + overshoot), overshoot**2], np.float32
        )
        self._core = 1 if interpolation == "bicubic" else half

    def below(self, limit: int) -> NDArray[np.uint64]:
        """Return the bitmap (rows, words) of the output pixels whose value is below `limit`."""
        words = self._resampled.shape[1]
        bitmap = np.zeros((self.shape[0], words), np.uint64)
        if limit >= self._grey_levels:
            bitmap[:] = _ALL
        elif limit > 0:
            _mark_below(
                self._source,
                self._scale,
                self._weights,
                self._row_weights,
                self._vertical.cell,
                self._stretched,
                self._resampled,
                self._bound,
                self._core,
                limit,
                bitmap,
            )
        if self.shape[1] % WORD:
            bitmap[:, -1] &= _ALL >> np.uint64(WORD - self.shape[1] % WORD)
        return bitmap

    def sums(
        self, row: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the sum of the output pixels first..last of each row given; all are (n,)."""
        return _sums(
            self._source,
            self._scale,
            self._weights,
            self._row_weights,
            self._vertical.cell,
            self._stretched,
            self._resampled,
            row,
            first,
            last,
        )

    def image(self) -> NDArray[Any]:
        """Return the whole output, (rows, columns) of the image's type."""
        values = np.empty(self.shape, self._source.dtype)
        _stretch_all(self._source, self._scale, self._weights, self._stretched, self._resampled)
        _interpolate(self._stretched, self._row_weights, self._vertical.cell, values)
        return values


def _edge_padded(image: NDArray[Any], margin: int, right: int) -> NDArray[Any]:
    """Return the image with its edge pixels repeated: `margin` times, to the right `right` times."""
    rows, columns = image.shape
    padded = np.empty((rows + 2 * margin, margin + columns + right), image.dtype)
    padded[margin : margin + rows, margin : margin + columns] = image
    padded[margin : margin + rows, :margin] = image[:, :1]
    padded[margin : margin + rows, margin + columns :] = image[:, -1:]
    padded[:margin] = padded[margin]
    padded[margin + rows :] = padded[margin + rows - 1]
    return padded


@compiled
def _stretch(
    source: NDArray[Any],
    scale: int,
    weights: NDArray[Any],
    stretched: NDArray[Any],
    row: int,
    word: int,
) -> None:
    """Resample one word of a row along the columns."""
    taps = len(weights)
    number = weights.dtype.type
    half = number(1 << (_PRECISION_BITS - 1))
    highest = number((1 << (8 * source.itemsize)) - 1)
    start = word * WORD
    # In the padded source, tap t of output j is pixel cell(j) + 1 + t.
    for j in range(start, start + WORD):
        column = (2 * j + 1 - scale) // (2 * scale) + 1
        total = half
        for t in range(taps):
            total = number(
                total + number(weights[t, j] * number(source[row, min(column + t, source.shape[1] - 1)]))
            )
        stretched[row, j] = min(max(total >> number(_PRECISION_BITS), number(0)), highest)


@compiled
def _stretch_all(
    source: NDArray[Any],
    scale: int,
    weights: NDArray[Any],
    stretched: NDArray[Any],
    resampled: NDArray[np.bool_],
) -> None:
    for row in range(resampled.shape[0]):
        for word in range(resampled.shape[1]):
            if not resampled[row, word]:
                _stretch(source, scale, weights, stretched, row, word)
                resampled[row, word] = True


@compiled
def _interpolate(
    stretched: NDArray[Any], row_weights: NDArray[Any], cell: NDArray[np.int64], values: NDArray[Any]
) -> None:
    """Resample along the rows: the second pass."""
    number = row_weights.dtype.type
    highest = number((1 << (8 * stretched.itemsize)) - 1)
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            total = number(1 << (_PRECISION_BITS - 1))
            for t in range(row_weights.shape[1]):
                total = number(
                    total + number(row_weights[row, t] * number(stretched[cell[row] + 1 + t, column]))
                )
            values[row, column] = min(max(total >> number(_PRECISION_BITS), number(0)), highest)


@compiled
def _sums(
    source: NDArray[Any],
    scale: int,
    weights: NDArray[Any],
    row_weights: NDArray[Any],
    cell: NDArray[np.int64],
    stretched: NDArray[Any],
    resampled: NDArray[np.bool_],
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> NDArray[np.int64]:
    number = row_weights.dtype.type
    taps = row_weights.shape[1]
    highest = number((1 << (8 * stretched.itemsize)) - 1)
    result = np.zeros(len(rows), np.int64)
    for piece in range(len(rows)):
        row = rows[piece]
        top = cell[row] + 1
        for t in range(taps):
            for word in range(first[piece] >> 6, (last[piece] >> 6) + 1):
                if not resampled[top + t, word]:
                    _stretch(source, scale, weights, stretched, top + t, word)
                    resampled[top + t, word] = True
        for column in range(first[piece], last[piece] + 1):
            total = number(1 << (_PRECISION_BITS - 1))
            for t in range(taps):
                total = number(total + number(row_weights[row, t] * number(stretched[top + t, column])))
            result[piece] += min(max(total >> number(_PRECISION_BITS), number(0)), highest)
    return result


@compiled
def _mark_below(
    source: NDArray[Any],
    scale: int,
    weights: NDArray[Any],
    row_weights: NDArray[Any],
    cell: NDArray[np.int64],
    stretched: NDArray[Any],
    resampled: NDArray[np.bool_],
    bound: NDArray[np.float32],
    core: int,
    limit: int,
    bitmap: NDArray[np.uint64],
) -> None:
    number = row_weights.dtype.type
    taps = len(weights)
    words = bitmap.shape[1]
    width = stretched.shape[1]
    sum_limit = number((limit << _PRECISION_BITS) - (1 << (_PRECISION_BITS - 1)))
    for row in range(bitmap.shape[0]):
        top = cell[row] + 1
        for word in range(words):
            for t in range(taps):
                if not resampled[top + t, word]:
                    _stretch(source, scale, weights, stretched, top + t, word)
                    resampled[top + t, word] = True
            start = top * width + word * WORD
            w = row_weights[row]
            if taps == 4:
                four = (w[0], w[1], w[2], w[3])
                bitmap[row, word] = weighted_below(stretched, start, width, four, sum_limit)
            else:
                six = (w[0], w[1], w[2], w[3], w[4], w[5])
                bitmap[row, word] = weighted_below(stretched, start, width, six, sum_limit)
