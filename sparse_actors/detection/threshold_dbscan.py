"""The detector of the SPARSE paper: upsample, threshold, DBSCAN (section 3.2)."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numba import config
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois
from sparse_actors.errors import ConfigError

from .dbscan import Segments, cluster_segments, measured_clusters
from .threads import Threads
from .upsampling import Interpolation, Polarity, Upsampling

BLUR_REACH = 3
"""Where the kernel of the blur ends, in standard deviations."""


class ThresholdDbscan:
    """Finds clusters of dark (or bright) pixels in the upsampled fast image.

    Parameters
    ----------
    threshold
        Grey levels: a pixel is a candidate when its value is below it (dark) or above it (bright).
    eps_px
        Largest distance of neighbouring candidates, analysis pixels.
    min_points
        Candidates within `eps_px`, the pixel itself included, that make a core point of a cluster.
    interpolation
        Kernel of the upsampling.
    polarity
        Whether features are darker or brighter than what surrounds them.
    smoothing_px
        Standard deviation of a Gaussian blur before all else, fast pixels: against the noise of a fast scan
        with many pixels and a short dwell time. 0: none.
    min_area_px
        Clusters of fewer analysis pixels are left out.
    threads
        How many threads work on an image; the result does not depend on it. 0: as many as numba would use
        (NUMBA_NUM_THREADS), in a worker of the daemon its share of the cores.

    Raises
    ------
    ConfigError
        With every option that is out of range.
    """

    def __init__(
        self,
        *,
        threshold: float = 55.0,
        eps_px: float = 1.0,
        min_points: int = 5,
        interpolation: Literal["bicubic", "lanczos"] = "bicubic",
        polarity: Literal["dark", "bright"] = "dark",
        smoothing_px: float = 0.0,
        min_area_px: int = 1,
        threads: int = 0,
    ) -> None:
        problems = [
            f"{name} = {value!r}: expected {expected}"
            for name, value, accepted, expected in (
                ("threshold", threshold, 0 <= threshold <= 65_536, "0 to 65536 grey levels"),
                ("eps_px", eps_px, 0 < eps_px < math.inf, "a number of pixels above 0"),
                ("min_points", min_points, min_points >= 1, "at least 1"),
                (
                    "interpolation",
                    interpolation,
                    interpolation in get_args(Interpolation),
                    "bicubic or lanczos",
                ),
                ("polarity", polarity, polarity in get_args(Polarity), "dark or bright"),
                ("smoothing_px", smoothing_px, 0 <= smoothing_px <= 100, "0 to 100 fast pixels"),
                ("min_area_px", min_area_px, min_area_px >= 1, "at least 1"),
                ("threads", threads, 0 <= threads <= 1024, "0 to 1024"),
            )
            if not accepted
        ]
        if problems:
            raise ConfigError(*problems)
        self._threshold = threshold
        self._eps_px = eps_px
        self._min_points = min_points
        self._interpolation: Interpolation = interpolation
        self._polarity: Polarity = polarity
        self._smoothing_px = smoothing_px
        self._min_area_px = min_area_px
        self._threads = Threads(threads or config.NUMBA_NUM_THREADS)

    @classmethod
    def reach_px(
        cls,
        scale: int,
        *,
        interpolation: str = "bicubic",
        eps_px: float = 1.0,
        smoothing_px: float = 0.0,
        **_others: Any,
    ) -> int:
        """Return how far around a feature its pixels depend on others: the blur, half the kernel, and 3 eps.

        Border points may go to a cluster nearby whose own cores lie up to eps beyond.
        """
        kernel_px = 3 if interpolation == "lanczos" else 2
        blur_px = math.ceil(BLUR_REACH * smoothing_px)
        return blur_px + math.ceil(kernel_px + 3 * eps_px / scale)

    def detect(self, image: NDArray[Any], scale: int) -> Pois:
        """Find the clusters of a fast image, (rows, columns) of uint8 or uint16.

        The same as the points of `detect_pixels`.

        Returns
        -------
        Pois
            Centroid and bounding box of each cluster in analysis pixels. The score is the signal that is
            missing (dark) or in excess (bright), summed over the cluster: grey levels times pixels.
        """
        return self._detect(image, scale)[0]

    def detect_pixels(self, image: NDArray[Any], scale: int) -> tuple[Pois, list[NDArray[np.int64]]]:
        """Find the clusters and their pixels too.

        Returns
        -------
        pois
            As of `detect`.
        pieces
            Arrays (4, n) of pieces of rows that together are the pixels of the clusters: row, first column,
            last column (included), and which of the points.
        """
        pois, kept, segments = self._detect(image, scale)
        number = np.where(kept, np.cumsum(kept) - 1, -1)
        pieces = []
        for piece in segments.pieces:
            of_point = number[piece[3]]
            pieces.append(np.vstack([piece[:3], of_point])[:, of_point >= 0].astype(np.int64))
        return pois, pieces

    def _detect(self, image: NDArray[Any], scale: int) -> tuple[Pois, NDArray[np.bool_], Segments]:
        """Return the points, which of the clusters they are, and the pixels of all clusters."""
        if self._smoothing_px:
            size = 2 * math.ceil(BLUR_REACH * self._smoothing_px) + 1
            image = cv2.GaussianBlur(image, (size, size), self._smoothing_px)
        upsampling = Upsampling(image, scale, self._interpolation)
        bitmap = upsampling.candidates(self._threshold, self._polarity, self._threads)
        segments = cluster_segments(
            bitmap, upsampling.shape[1], self._eps_px, self._min_points, self._threads
        )
        clusters = measured_clusters(segments, upsampling.evaluated, self._threads)
        kept = clusters.area_px >= self._min_area_px
        score: NDArray[np.float64] = np.abs(self._threshold - clusters.mean_grey) * clusters.area_px
        pois = Pois(xy_px=clusters.centroids_px[kept], score=score[kept], boxes_px=clusters.boxes_px[kept])
        return pois, kept, segments
