"""What pairs tell of the instrument: its noise, how sharp its images are, and whether the beam sweeps on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import ConfigError

from .pairs import Pairs
from .sampled_scans import Noise, fitted_noise, grey_of

MOST_TILES = 4
"""More tiles hardly make the estimates better."""
FINEST_SCALES = 2
"""Noise is measured at pitches of at most so many analysis pixels: on a coarser one texture looks alike."""
SEARCH_PX = 6
"""How far the specimen may have drifted between the scans, analysis pixels in x and y."""
CLEAR = 0.03
"""The residual must be smaller by this share before one way to scan is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """Estimates, and what they are from."""

    noise: Noise
    edge_sigma_px: float
    """Width of the sharpest edges, standard deviation of a blurred step: the probe is no wider."""
    sweeps: bool
    """Whether the beam goes on along the row while it dwells, rather than to stop at each pixel."""
    sweep_evidence: str
    """What says so."""

    def to_json(self) -> dict[str, Any]:
        """Return it by name."""
        return asdict(self)


def estimated(pairs: Pairs) -> Instrument:
    """Estimate from the images of a few tiles; raises ConfigError where they show too little."""
    config = pairs.config
    side = config.analysis.size_px[0]
    tiles = list(pairs.tiles)[:MOST_TILES]
    measured: list[tuple[NDArray[Any], float]] = []
    sigmas = []
    coarse = [s for s in pairs.settings if side // s.size_px[0] > 1]
    setting = min(coarse, key=lambda s: s.size_px[0]) if coarse else None
    for tile in tiles:
        analysis = pairs.analysis(tile)
        measured.append((analysis, config.analysis.dwell_ns))
        measured += [
            (pairs.fast(tile, s), s.dwell_ns) for s in pairs.settings if side // s.size_px[0] <= FINEST_SCALES
        ]
        sigmas.append(edge_sigma_px(analysis))
    noise = fitted_noise(measured, config.analysis.dwell_ns)
    if noise is None:
        raise ConfigError("the images have no smooth part to measure the noise on; take other tiles")
    points, means = 0.0, 0.0
    for tile in tiles if setting is not None else ():
        assert setting is not None  # noqa: S101
        fast = pairs.fast(tile, setting)
        found = sweep_residuals(pairs.analysis(tile), fast, side // setting.size_px[0], noise)
        points, means = points + found[0], means + found[1]
    known = [sigma for sigma in sigmas if not math.isnan(sigma)]
    sweeps, evidence = _judged(points, means)
    return Instrument(
        noise=noise,
        edge_sigma_px=min(known) if known else math.nan,
        sweeps=sweeps,
        sweep_evidence=evidence,
    )


def _judged(points: float, means: float) -> tuple[bool, str]:
    if not points:
        return False, "no coarse fast scan to compare with: taken for point sampling"
    text = f"as points {points:.4g}, as means along the row {means:.4g} (mean squared difference)"
    if abs(points - means) < CLEAR * max(points, means):
        return False, f"not clear, {text}: taken for point sampling"
    return means < points, f"{'means' if means < points else 'points'} fit better: {text}"


def edge_sigma_px(image: NDArray[Any]) -> float:
    """Return how wide the sharpest strong edges are; not a number where there are none.

    A step of height h blurred by a Gaussian has the slope h / (sigma sqrt(2 pi)) in its middle.
    """
    grey = cv2.GaussianBlur(grey_of(image), (0, 0), 0.8)
    slope = np.hypot(cv2.Scharr(grey, -1, 1, 0), cv2.Scharr(grey, -1, 0, 1)) / 32
    kernel = np.ones((9, 9), np.uint8)
    height = cv2.dilate(grey, kernel) - cv2.erode(grey, kernel)
    is_crest = slope >= cv2.dilate(slope, np.ones((3, 3), np.uint8))
    strong = is_crest & (height >= max(40.0, float(np.quantile(height, 0.9))))
    if strong.sum() < 50:
        return math.nan
    sigmas = height[strong] / (slope[strong] * math.sqrt(2 * math.pi))
    # The blur of 0.8 px, which keeps noise out of the slopes, is taken off again.
    return math.sqrt(max(float(np.quantile(sigmas, 0.05)) ** 2 - 0.8**2, 0.0))


def sweep_residuals(
    analysis: NDArray[Any], fast: NDArray[Any], scale: int, noise: Noise
) -> tuple[float, float]:
    """Return how far a fast image is from points of the analysis image, and from means along its rows.

    Both are mean squared differences at the drift that fits best, less the noise of the analysis image, of
    which a mean has less than a point.
    """
    reference, seen = grey_of(analysis), grey_of(fast)
    margin = -(-SEARCH_PX // scale) + 1
    inner = seen[margin:-margin, margin:-margin]
    rows, columns = inner.shape
    residuals = []
    variance = float(noise.variance(np.array([reference.mean()], np.float32), noise.dwell_ns)[0])
    # The mean over an even number of pixels lies half a pixel off; the search for the drift takes that up.
    for image, own in ((reference, variance), (cv2.blur(reference, (scale, 1)), variance / scale)):
        best = math.inf
        for down in range(-SEARCH_PX, SEARCH_PX + 1):
            for right in range(-SEARCH_PX, SEARCH_PX + 1):
                top, left = (margin * scale + scale // 2 + shift for shift in (down, right))
                there = image[top::scale, left::scale][:rows, :columns]
                best = min(best, float(((there - inner) ** 2).mean()))
        residuals.append(max(best - own, 0.0))
    return residuals[0], residuals[1]


def described(found: Instrument, pitch_nm: float) -> Sequence[str]:
    """Say in sentences what was found."""
    noise = found.noise
    sigma = noise.sigma(100, noise.dwell_ns)
    edges = f"{found.edge_sigma_px:.2g} px ({found.edge_sigma_px * pitch_nm:.3g} nm)"
    return (
        f"noise: {sigma:.2g} grey at grey 100 and {noise.dwell_ns:g} ns; variance {noise.shot:.3g} x grey + "
        f"{noise.read:.3g} there, the first part as 1 / dwell time",
        f"sharpest edges: sigma {edges}; the probe is no wider",
        f"scanning: {found.sweep_evidence}",
    )
