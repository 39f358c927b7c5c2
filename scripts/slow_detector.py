"""A detector that takes a set time and finds a set number of places, to measure the scheduling alone."""

from __future__ import annotations

import time
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois


class SlowDetector:
    """Waits, then names places where regions of one size stand side by side.

    Parameters
    ----------
    wait_s
        Time for one image.
    regions
        Mean number of places; how many there are is drawn from a Poisson distribution.
    region_px
        Side of a region, analysis pixels: no two places are nearer.
    seed
        Of the draw, which also depends on the image, and on nothing else.
    """

    def __init__(self, *, wait_s: float, regions: float, region_px: int, seed: int = 0) -> None:
        self._wait_s = wait_s
        self._regions = regions
        self._region_px = region_px
        self._seed = seed

    def detect(self, image: NDArray[Any], scale: int) -> Pois:
        """Return the places in an image (rows, columns), in analysis pixels."""
        end_s = time.perf_counter() + self._wait_s
        random = np.random.default_rng([self._seed, zlib.crc32(image.tobytes())])
        rows, columns = (size * scale // self._region_px for size in image.shape)
        places = random.permutation(rows * columns)[: random.poisson(self._regions)]
        y, x = np.divmod(places, columns)
        pois = Pois.at((np.stack([x, y], axis=1) + 0.5) * self._region_px)
        time.sleep(max(0.0, end_s - time.perf_counter()))
        return pois
