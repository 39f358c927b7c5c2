"""Images and masks to measure with, made from a seed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SCALE = 4
"""Analysis pixels per fast pixel."""
NOISE_GREY = 2.2
"""Noise of the fast image at a signal of 100 grey levels: 32 us at 3 nA."""
PROBE_PX = 1.2
"""Radius of the beam, analysis pixels."""


def dual_phase_steel(seed: int, size_px: int) -> NDArray[np.uint8]:
    """Return the fast image of a synthetic dual-phase steel.

    Martensite with laths in ferrite; dark voids with Pareto radii, shadows and etch pits as numerous as in
    a tile of 3072 x 3072 px of the SPARSE paper's specimen. The beam samples every fourth pixel.

    Parameters
    ----------
    seed
        Of the specimen and the noise.
    size_px
        Rows and columns of the scene; the image has a quarter.
    """
    random = np.random.default_rng(seed)
    ferrite = 115 + 4 * _field(random, size_px, 30)
    martensite = 140 + 15 * _field(random, size_px, 2)
    scene = np.where(_field(random, size_px, 12, 24) > 0.36, martensite, ferrite)
    share = (size_px / 3072) ** 2
    for count, smallest_px, exponent, largest_px, darkest, brightest in (
        (230, 1.35, 1.35, 16.0, 5.0, 30.0),  # voids
        (420, 2.0, 2.0, 10.0, 50.0, 75.0),  # shadows
        (2700, 1.2, 2.0, 5.0, 60.0, 95.0),  # etch pits
    ):
        n = round(count * share)
        radius_px = np.minimum(smallest_px * (1 - random.random(n)) ** (-1 / exponent), largest_px)
        places = random.random((n, 2)) * size_px
        for place, radius, grey in zip(places, radius_px, random.uniform(darkest, brightest, n), strict=True):
            _darken(scene, place, radius, grey)
    fast = cv2.GaussianBlur(scene, (0, 0), PROBE_PX)[2::SCALE, 2::SCALE]
    return _with_noise(random, fast)


def blobs(seed: int, share: float, size_px: int) -> NDArray[np.uint8]:
    """Return a fast image, a quarter of `size_px` wide, with about this share below 55 grey levels."""
    random = np.random.default_rng(seed)
    field = _field(random, size_px // SCALE, 2)
    return _with_noise(random, 55 + 25 * (field - np.quantile(field, share)))


def dark_blobs(seed: int, share: float, size_px: int) -> NDArray[np.bool_]:
    """Return a mask (size_px, size_px) with this share of dark pixels, in blobs some pixels wide."""
    field = _field(np.random.default_rng(seed), size_px, 8)
    mask: NDArray[np.bool_] = field < np.quantile(field, share)
    return mask


def _field(random: np.random.Generator, size_px: int, x_px: float, y_px: float = 0) -> NDArray[np.float32]:
    """Return a random field of mean 0 and variance 1, smooth over so many pixels."""
    noise = random.standard_normal((size_px, size_px), dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), x_px, sigmaY=y_px or x_px)
    field: NDArray[np.float32] = smooth / smooth.std()
    return field


def _darken(scene: NDArray[Any], place: NDArray[np.float64], radius_px: float, grey: float) -> None:
    """Put a disk of one grey level with a soft edge into the scene."""
    x, y = place
    reach = int(3 * radius_px + 6)
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    part = scene[top : int(y) + reach + 1, left : int(x) + reach + 1]
    rows, columns = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
    inside = 1 / (1 + np.exp(np.hypot(rows - y, columns - x) - radius_px))
    part += (grey - part) * inside


def _with_noise(random: np.random.Generator, signal: NDArray[Any]) -> NDArray[np.uint8]:
    noise = random.normal(0, NOISE_GREY, signal.shape) * np.sqrt(np.maximum(signal, 1) / 100)
    image: NDArray[np.uint8] = np.clip(np.rint(signal + noise), 0, 255).astype(np.uint8)
    return image
