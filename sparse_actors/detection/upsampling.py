"""Upsampling by a whole factor, fused with the threshold: only what can cross it is evaluated.

8-bit images come out bit-identical to Pillow's `Image.resize`: weights rounded to 22 bits after the point,
rows first, rounded and clipped to 8 bits between the two passes, kernel cut and renormalised at the edges.
16-bit images, for which Pillow has no such filter, go through the same steps with 16 bits in place of 8.
Kernels: Keys, IEEE Trans. ASSP 29, 1153 (1981) with a = -1/2; Lanczos with three lobes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .bits import WORD
from .lanes import PRECISION_BITS
from .resampling import interpolate_all, mark_candidates
from .threads import ALONE, Threads

Interpolation = Literal["bicubic", "lanczos"]
Polarity = Literal["dark", "bright"]

STRIP_CELLS = 128
"""Rows of cells that are worth a strip of their own, even where few are evaluated."""

_HALF_WIDTH = {"bicubic": 2, "lanczos": 3}
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@lru_cache(maxsize=32)
def axis_taps(source_px: int, scale: int, interpolation: Interpolation) -> NDArray[np.int64]:
    """Return the weights for an axis of `source_px` pixels, computed in Pillow's order of operations.

    Returns
    -------
    numpy.ndarray
        (2 half, outputs), in units of 2^-22. Output j is the sum over t of weights[t, j] times source pixel
        cell(j) + 1 - half + t; the cell of j is the source pixel whose centre lies left of its own, or on it.
    """
    half = _HALF_WIDTH[interpolation]
    outputs = source_px * scale
    ratio = source_px / outputs
    index = np.arange(outputs)
    centre = (index + 0.5) * ratio
    left = np.maximum((centre - half + 0.5).astype(np.int64), 0)
    right = np.minimum((centre + half + 0.5).astype(np.int64), source_px)
    kernel = _cubic if interpolation == "bicubic" else _lanczos
    exact = np.zeros((2 * half + 1, outputs))
    total = np.zeros(outputs)
    for t in range(2 * half + 1):
        exact[t] = np.where(left + t < right, kernel(t + left - centre + 0.5), 0.0)
        total += exact[t]
    exact /= total
    fixed = np.trunc(exact * 2**PRECISION_BITS + np.copysign(0.5, exact)).astype(np.int64)

    cell = (2 * index + 1 - scale) // (2 * scale)
    weights = np.zeros((2 * half, outputs), np.int64)
    for t in range(2 * half + 1):
        # Where a kernel ends exactly on source pixels it has one tap more, of weight 0.
        used = fixed[t] != 0
        weights[(left + t - (cell + 1 - half))[used], index[used]] = fixed[t, used]
    weights.flags.writeable = False
    return weights


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
        For another type, shape or scale.
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
        vertical = axis_taps(rows, scale, interpolation)
        horizontal = axis_taps(columns, scale, interpolation)
        self._overshoot = max(_overshoot(vertical), _overshoot(horizontal))
        # 8 bits times 22 fit 32; a narrower sum is twice as fast.
        sum_type = np.int32 if image.dtype == np.uint8 else np.int64
        words = -(-self.shape[1] // WORD)
        self._weights = np.zeros((2 * half, words * WORD), sum_type)
        self._weights[:, : self.shape[1]] = horizontal
        self._row_weights = np.ascontiguousarray(vertical.T, sum_type)
        # The kernels read whole words, of source pixels too.
        self._source = _edge_padded(image, half, 2 * WORD + 2 * half + 2)
        self._values = np.empty((self.shape[0], words * WORD), image.dtype)

    def candidates(
        self, threshold: float, polarity: Polarity = "dark", threads: Threads = ALONE
    ) -> NDArray[np.uint64]:
        """Return the bitmap (rows, words) of the pixels below (dark) or above (bright) a threshold.

        Parameters
        ----------
        threshold
            Grey levels of the image's type; need not be whole.
        polarity
            Which side of the threshold.
        threads
            Who works on it; the result does not depend on it.
        """
        levels = int(np.iinfo(self._source.dtype).max) + 1
        words = self._weights.shape[1] // WORD
        bitmap = np.zeros((self.shape[0], words), np.uint64)
        if polarity == "dark":
            limit, inverted, bounding = math.ceil(threshold), 0, self._source
            reachable_below = limit
        else:
            # A bound on the largest value is one on the smallest of the negative.
            limit, inverted, bounding = math.floor(threshold) + 1, int(_ALL), ~self._source
            reachable_below = levels - limit
        if reachable_below <= 0:
            return bitmap
        if reachable_below >= levels:
            limit, inverted = 0, int(_ALL)
        taps = len(self._weights)
        above = self._scale - self._scale // 2

        def mark(strip: tuple[int, int]) -> None:
            first, end = strip
            sources = slice(first, end + taps - 1)
            outputs = slice(max(first * self._scale - above, 0), end * self._scale - above)
            # Between the passes a value moves by half a level at most, and half a level is rounded up at the
            # end; a quarter is more than the rounding of the weights can do.
            mark_candidates(
                self._source[sources],
                bounding[sources],
                self._scale,
                0 if first else above,
                self._weights,
                self._row_weights[outputs],
                self._values[outputs],
                np.float32(self._overshoot),
                np.float32(reachable_below + self._overshoot + 0.25),
                self._source.dtype.type(limit),
                np.uint64(inverted),
                bitmap[outputs],
            )

        cells = len(self._source) - taps + 1
        threads.map(mark, threads.strips(cells, cells // STRIP_CELLS))
        if self.shape[1] % WORD:
            bitmap[:, -1] &= _ALL >> np.uint64(WORD - self.shape[1] % WORD)
        return bitmap

    @property
    def evaluated(self) -> NDArray[Any]:
        """The output, (rows, columns or more), where `candidates` last found some; elsewhere undefined."""
        return self._values

    def image(self) -> NDArray[Any]:
        """Return the whole output, (rows, columns) of the image's type."""
        interpolate_all(self._source, self._scale, self._weights, self._row_weights, self._values)
        return self._values[:, : self.shape[1]]


def _overshoot(weights: NDArray[np.int64]) -> float:
    """Return the largest sum of negative weights, as a positive number."""
    return -float(np.minimum(weights, 0).sum(axis=0).min()) / (1 << PRECISION_BITS)


def _edge_padded(image: NDArray[Any], margin: int, right: int) -> NDArray[Any]:
    """Return the image with its edge pixels repeated: `margin` times, to the right `right` times."""
    rows, columns = image.shape
    padded = np.empty((rows + 2 * margin, margin + columns + right), image.dtype)
    middle = slice(margin, margin + rows)
    padded[middle, margin : margin + columns] = image
    padded[middle, :margin] = image[:, :1]
    padded[middle, margin + columns :] = image[:, -1:]
    padded[:margin] = padded[margin]
    padded[margin + rows :] = padded[margin + rows - 1]
    return padded
