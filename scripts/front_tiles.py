"""Tiles on which methods are judged: the specimen twin, and recorded images point-sampled.

The twin is the simulated specimen. Both scans of a tile sample it at points; between them the specimen drifts
by up to 2.5 px. Grey values have a variance of k * value / dwell + 0.36, with k such that at grey 100 and
32 us the standard deviation is the noise asked for. The analysis scan has that noise too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from sparse_actors.drivers.pixel_noise import add_noise, key_of
from sparse_actors.drivers.simulated.specimen import Grid, Specimen

from sparse_actors.evaluation.pair_files import picture
from sparse_actors.imaging import Imaging

SIZE_PX, FIELD_UM = 3072, 100.0
ANALYSIS = Imaging((SIZE_PX, SIZE_PX), 32_000.0)
DRIFT_PX = 2.5
PROBE_UM, DAMAGE, ARTEFACTS = 0.037, 1.35, 3.0
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
    return Specimen(seed, DAMAGE, ARTEFACTS)


DATA = Path(__file__).parents[2] / "shared" / "data"
MATERIALS = {
    "dual-phase steel DP800": ("steel_dp800_DOUBTFUL_LICENCE", "r?_c??.jpg"),
    "environmental barrier coating": ("alloys", "nasa_ebc_*[0-9].tif"),
    "ultra-high-carbon steel": ("steel_uhcs", "uhcs????.tif"),
}
DARK_GREY, DARK_SHARE, MEDIAN_GREY = 55.0, 0.003, 100.0
NOTE = (
    "Fast images are point-sampled from the recorded ones, with noise (2 to 2.2 grey at 32 us) added: a "
    "forecast, not a measurement, as the noise of the recorded image is in both and there is no drift. "
    "Brightness and contrast of each image are set so that its median is 100 and 0.3 % are darker than 55."
)


@dataclass(frozen=True)
class SampledTile:
    """A recorded image; its fast images are point-sampled from it, with noise added."""

    path: Path
    seed: int

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.path.stem

    def analysis(self, noise_grey: float) -> Any:
        """Return the image with its own noise, (rows, columns) of uint8, sides divisible by 4."""
        image = picture(self.path).astype(np.float64)
        image = image[: len(image) // 4 * 4, : image.shape[1] // 4 * 4]
        median, dark = np.quantile(image, [0.5, DARK_SHARE])
        stretched = MEDIAN_GREY + (image - median) * (MEDIAN_GREY - DARK_GREY) / max(median - dark, 1.0)
        return np.rint(np.clip(stretched, 0, 255)).astype(np.uint8)

    def fast(self, scan: FastScan) -> Any:
        """Return every so many pixels of it, with the noise of their dwell time."""
        image = self.analysis(scan.noise_grey)[scan.scale // 2 :: scan.scale, scan.scale // 2 :: scan.scale]
        generator = np.random.default_rng((self.seed, crc32(f"{self.name} {scan}".encode())))
        sigma = scan.noise_grey * (ANALYSIS.dwell_ns / scan.dwell_ns) ** 0.5
        noisy = image + generator.standard_normal(image.shape) * sigma
        return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


def recorded(seed: int) -> Iterator[tuple[str, str, list[SampledTile]]]:
    """Yield the materials of which images lie beside the checkout: name, what was done, tiles."""
    for name, (folder, pattern) in MATERIALS.items():
        tiles = [SampledTile(path, seed) for path in sorted((DATA / folder).glob(pattern))]
        if tiles:
            yield name, NOTE, tiles
