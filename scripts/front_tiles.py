"""Tiles on which methods are judged: the specimen twin, and recorded images point-sampled.

The twin is the simulated specimen. Both scans of a tile sample it at points; between them the specimen drifts
by up to 2.5 px. Grey values have a variance of k * value / dwell + 0.36, with k such that at grey 100 and 32 us
the standard deviation is the noise asked for. The analysis scan has that noise too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sparse_actors.drivers.pixel_noise import add_noise, key_of
from sparse_actors.drivers.simulated.specimen import Grid, Specimen

from sparse_actors.evaluation.pair_files import PairFiles, collect
from sparse_actors.imaging import Imaging

SIZE_PX, FIELD_UM = 3072, 100.0
ANALYSIS = Imaging((SIZE_PX, SIZE_PX), 32_000.0)
DRIFT_PX = 2.5
PROBE_UM, DAMAGE, SHADOW_DEPTH = 0.036, 1.35, 0.40
"""Of the specimen: with these the paper's pipeline comes near its published front."""
READ_VARIANCE = 0.36
PAPER_NOISE = 2.2
GAP_UM = 15.0
"""Between tiles: no object is in two."""


@dataclass(frozen=True, slots=True)
class FastScan:
    """A fast setting of the whole field, and the noise of the instrument."""

    scale: int
    """Analysis pixels per fast pixel."""
    dwell_ns: float
    noise_grey: float = PAPER_NOISE
    """Standard deviation at grey 100 and 32 us."""

    @property
    def share(self) -> float:
        """Dwell time of the fast scan relative to the analysis scan."""
        return self.dwell_ns / ANALYSIS.dwell_ns / self.scale**2


@dataclass
class TwinTile:
    """A tile of the twin; images are made when they are asked for."""

    index: int
    seed: int
    size_px: int = SIZE_PX
    _signals: dict[int, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the tile."""
        return f"twin{self.index:03d}"

    def analysis(self, noise_grey: float) -> Any:
        """Return the analysis image, (rows, columns) of uint8."""
        return self._noisy(1, ANALYSIS.dwell_ns, noise_grey, 0)

    def fast(self, scan: FastScan) -> Any:
        """Return a fast image, (rows, columns) of uint8."""
        return self._noisy(scan.scale, scan.dwell_ns, scan.noise_grey, 1)

    def _noisy(self, scale: int, dwell_ns: float, noise_grey: float, which: int) -> Any:
        image = self._signal(scale, which).copy()
        at = np.arange(len(image))
        shot = (noise_grey**2 - READ_VARIANCE) * 32.0 / 100
        add_noise(
            image,
            at,
            at[:, np.newaxis],
            shot_grey=shot / (dwell_ns * 1e-3),
            read_noise_grey=READ_VARIANCE**0.5,
            key=key_of(self.seed, self.index, scale, round(dwell_ns), round(noise_grey * 100), which),
        )
        return np.rint(np.clip(image, 0, 255)).astype(np.uint8)

    def _signal(self, scale: int, which: int) -> Any:
        key = 2 * scale + which
        if key not in self._signals:
            pitch_um = FIELD_UM / SIZE_PX * scale
            drift = np.random.default_rng((self.seed, self.index)).uniform(-DRIFT_PX, DRIFT_PX, 2)
            left = self.index * (FIELD_UM + GAP_UM)
            start = (np.array([left, 0.0]) + which * drift * FIELD_UM / SIZE_PX) + pitch_um / 2
            grid = Grid((float(start[0]), float(start[1])), (pitch_um, 0.0), (0.0, pitch_um))
            side = self.size_px // scale
            self._signals[key] = _specimen(self.seed).signal(grid, 0, 0, (side, side), PROBE_UM)
        return self._signals[key]


@cache
def _specimen(seed: int) -> Specimen:
    return Specimen(seed, DAMAGE, SHADOW_DEPTH)


@dataclass
class SampledTile:
    """A recorded image: its fast images are point-sampled from it, with noise added, and there is no drift."""

    pairs: PairFiles
    name: str

    def analysis(self, noise_grey: float) -> Any:
        """Return the image as it was recorded, whatever its noise."""
        return self.pairs.analysis(self.name)

    def fast(self, scan: FastScan) -> Any:
        """Return the sampled image; its noise comes on top of that of the recorded image."""
        width, height = self.pairs.config.analysis.size_px
        return self.pairs.fast(self.name, Imaging((width // scan.scale, height // scan.scale), scan.dwell_ns))


def sampled_tiles(
    folder: Path, pattern: str, config: Any, noise_grey: float, seed: int
) -> Iterator[SampledTile]:
    """Yield the images of a folder whose names fit."""
    width, height = config.analysis.size_px
    settings = [Imaging((width // scale, height // scale), 32_000.0) for scale in (4, 2)]
    pairs = collect(folder, config, settings, noise_grey, seed)
    for name in pairs.tiles:
        if Path(name).match(pattern):
            yield SampledTile(pairs, name)
