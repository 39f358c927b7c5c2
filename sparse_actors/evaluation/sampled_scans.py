"""Fast scans taken from an analysis image: which grey values, and how much noise, another scan would show.

A pixel of a coarser scan is the recorded pixel under the beam (point sampling), or the mean of those along
the row that a beam passes which sweeps on without stopping. The recorded noise is in it already; for a
shorter dwell time what is missing is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_BINS = 24
_LEAST_IN_BIN = 500
_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
"""Blind to what is linear in x or in y; noise of variance 1 comes out with variance 1 (Immerkaer 1996,
doi:10.1006/cviu.1996.0060)."""
_SMOOTHEST = 0.2


@dataclass(frozen=True, slots=True)
class Noise:
    """Variance of the noise: shot * grey * (dwell_ns / dwell time) + read, grey levels of 0-255 squared."""

    shot: float
    read: float
    dwell_ns: float

    def variance(self, grey: NDArray[np.float32], dwell_ns: float) -> NDArray[np.float32]:
        """Return the variance at grey values and a dwell time."""
        found: NDArray[np.float32] = np.maximum(grey * (self.shot * self.dwell_ns / dwell_ns), 0) + self.read
        return found

    def sigma(self, grey: float, dwell_ns: float) -> float:
        """Return the standard deviation at a grey value and a dwell time."""
        return math.sqrt(float(self.variance(np.array([grey], np.float32), dwell_ns)[0]))


def grey_of(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return an image of uint8 or uint16 in grey levels of 0-255."""
    grey: NDArray[np.float32] = image.astype(np.float32) * np.float32(255 / np.iinfo(image.dtype).max)
    return grey


def measured_variance(image: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return grey values and the variance of the noise there, measured where the image is smoothest.

    Of the pixels of each grey value those with the least slope around them are taken, or texture would count
    as noise; their residuals are judged by the median, as a few edges are left.
    """
    grey = grey_of(image)
    residual = cv2.filter2D(grey, -1, _MASK)[1:-1, 1:-1]
    smooth = cv2.GaussianBlur(grey, (0, 0), 2)
    slope = np.hypot(cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1))[1:-1, 1:-1]
    level = smooth[1:-1, 1:-1]
    edges = np.linspace(2, 253, _BINS + 1)
    greys, variances = [], []
    place = np.digitize(level.ravel(), edges)
    for number in range(1, _BINS + 1):
        members = np.flatnonzero(place == number)
        if len(members) < _LEAST_IN_BIN / _SMOOTHEST:
            continue
        slopes = slope.ravel()[members]
        flat = members[slopes <= np.quantile(slopes, _SMOOTHEST)]
        # Median of a chi-squared variable of one degree of freedom: 0.4549.
        variances.append(float(np.median(residual.ravel()[flat] ** 2)) / 0.4549)
        greys.append(float(level.ravel()[flat].mean()))
    return np.array(greys), np.array(variances)


def fitted_noise(measured: Sequence[tuple[NDArray[Any], float]], reference_ns: float) -> Noise | None:
    """Fit the noise to images with their dwell times; None where no image has enough that is smooth.

    Parameters
    ----------
    measured
        (image, dwell time in ns).
    reference_ns
        Dwell time that the result refers to.
    """
    rows, targets = [], []
    for image, dwell_ns in measured:
        greys, variances = measured_variance(image)
        rows += [(grey * reference_ns / dwell_ns, 1.0) for grey in greys]
        targets += variances.tolist()
    if len(rows) < 2:
        return None
    from scipy.optimize import nnls

    matrix, target = np.array(rows), np.array(targets)
    # Relative errors: the variance of a variance is proportional to its square.
    weight = 1 / np.maximum(target, 0.05)
    (shot, read), _ = nnls(matrix * weight[:, np.newaxis], target * weight)
    return Noise(float(shot), float(read), reference_ns)


def sampled(
    analysis: NDArray[Any],
    scale: int,
    corner: tuple[int, int],
    dwell_ns: float,
    noise: Noise,
    *,
    sweeps: bool,
    random: np.random.Generator,
) -> NDArray[Any]:
    """Return what a scan with every `scale`-th pixel shows.

    Parameters
    ----------
    analysis
        (rows, columns); its noise is that of `noise.dwell_ns`.
    scale
        Analysis pixels per pixel.
    corner
        (row, column) under the beam at the first pixel, each less than `scale`.
    dwell_ns
        Of the scan; beyond that of the analysis image no noise can be taken away.
    noise
        Of the instrument.
    sweeps
        Whether the beam goes on along the row while it dwells.
    random
        Draws the noise.
    """
    row, column = corner
    values: NDArray[Any]
    there: NDArray[Any]
    grey = grey_of(analysis)
    if sweeps and scale > 1:
        taken = len(grey[0]) // scale * scale
        lines = np.roll(grey[row::scale], scale // 2 - column, axis=1)[:, :taken]
        # A mean of `scale` pixels has their noise, less its root; it dwells as long as one of them would.
        values = np.asarray(lines.reshape(len(lines), -1, scale).mean(axis=2), np.float32)
        there = noise.variance(values, noise.dwell_ns) / scale
    else:
        values = grey[row::scale, column::scale]
        there = noise.variance(values, noise.dwell_ns)
    missing = np.maximum(noise.variance(values, dwell_ns) - there, 0)
    noisy = values + np.sqrt(missing) * random.standard_normal(values.shape, np.float32)
    levels = np.iinfo(analysis.dtype).max
    result: NDArray[Any] = np.clip(np.rint(noisy * (levels / 255)), 0, levels).astype(analysis.dtype)
    return result
