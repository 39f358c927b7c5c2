"""Tiles of the simulated steel as pairs: one analysis image, and fast images at any pitch, dwell time and noise.

The specimen is that of the simulated microscope. Its signal is sampled at the beam positions of each grid
(point sampling) and kept on disk without noise, which is added when an image is asked for. Between the scans
the specimen drifts by up to DRIFT_PX analysis pixels in x and y.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.drivers.simulated.column import PROBE_UM
from sparse_actors.drivers.simulated.specimen import Grid, Specimen

SIDE_PX, PITCH_UM = 3072, 0.033
ANALYSIS_US = 32.0
DRIFT_PX = 2.5
READ_VARIANCE = 0.36
SCALES = (1, 2, 3, 4)
"""Analysis pixels per fast pixel, of which signals are kept."""


@dataclass(frozen=True)
class TwinTile:
    """One tile, a pure function of seed and number.

    Parameters
    ----------
    seed, number
        Of the specimen, and which tile of it.
    noise_grey
        Standard deviation at a signal of 100 and a dwell time of ANALYSIS_US.
    cache
        Folder for the signals.
    """

    seed: int
    number: int
    cache: Path
    noise_grey: float = 2.2

    @property
    def analysis(self) -> NDArray[np.uint8]:
        """The analysis image, (SIDE_PX, SIDE_PX)."""
        return self._noisy(self.signal(0), ANALYSIS_US, 0)

    def fast(self, scale: int, dwell_us: float) -> NDArray[np.uint8]:
        """Return a fast scan with `scale` analysis pixels per pixel."""
        return self._noisy(self.signal(scale), dwell_us, scale)

    def rescan(self) -> NDArray[np.uint8]:
        """Return a second scan of the whole tile at analysis quality, drifted as the fast scan."""
        return self._noisy(self.signal(1), ANALYSIS_US, 99)

    def signal(self, scale: int) -> NDArray[np.float32]:
        """Return grey values without noise; 0 stands for the analysis scan, which has not drifted."""
        file = self.cache / f"{self.seed}_{self.number}_{scale}.npy"
        if not file.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            beside = file.with_suffix(f".{os.getpid()}.npy")
            np.save(beside, self._sampled(scale).astype(np.float16))
            beside.replace(file)
        return np.load(file).astype(np.float32)

    def _sampled(self, scale: int) -> NDArray[np.float32]:
        step, columns = max(scale, 1), SIDE_PX // max(scale, 1)
        first = self._random(1000).uniform(-DRIFT_PX, DRIFT_PX, 2) if scale else np.zeros(2)
        origin = (first + (step - 1) / 2) * PITCH_UM
        pitch = step * PITCH_UM
        # Tiles lie on a diagonal, a field apart, so that none shares an object with another.
        x, y = (float(v + self.number * 1.1 * SIDE_PX * PITCH_UM) for v in origin)
        grid = Grid(origin=(x, y), per_column=(pitch, 0.0), per_row=(0.0, pitch))
        return Specimen(self.seed).signal(grid, 0, 0, (columns, columns), PROBE_UM)

    def _noisy(self, signal: NDArray[np.float32], dwell_us: float, which: int) -> NDArray[np.uint8]:
        shot = (self.noise_grey**2 - READ_VARIANCE) / 100 * ANALYSIS_US / dwell_us
        deviates = self._random(which, round(dwell_us * 1e3)).standard_normal(signal.shape, np.float32)
        noisy = signal + np.sqrt(np.maximum(shot * signal, 0) + READ_VARIANCE) * deviates
        image: NDArray[np.uint8] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        return image

    def _random(self, *what: Any) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.number, *what))


def tiles(seed: int, count: int, cache: Path, noise_grey: float = 2.2) -> list[TwinTile]:
    """Return the first tiles of a specimen."""
    if not (noise_grey**2 > READ_VARIANCE and math.isfinite(noise_grey)):
        raise ValueError(f"noise_grey = {noise_grey}: expected more than {math.sqrt(READ_VARIANCE):g}")
    return [TwinTile(seed, number, cache, noise_grey) for number in range(count)]
