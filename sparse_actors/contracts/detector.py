"""What a detector implements: an image in, points of interest out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import DetectorError

MAX_POIS = 200_000
"""More points than this from one image are a broken detector, not a finding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pois:
    """Points of interest in one image or field of view, in analysis pixels."""

    xy_px: NDArray[np.float64]
    """(n, 2): x (column), y (row); 0 is the left or top edge of the first pixel."""
    score: NDArray[np.float64]
    """(n,): larger is more certain; 1 where the detector gives none."""
    boxes_px: NDArray[np.int64]
    """(n, 4): left, top, width, height of what was found; width and height 1 where unknown."""

    def __post_init__(self) -> None:
        n = len(self.xy_px)
        for name, array, shape, kind in (
            ("xy_px", self.xy_px, (n, 2), "f"),
            ("score", self.score, (n,), "f"),
            ("boxes_px", self.boxes_px, (n, 4), "i"),
        ):
            if array.shape != shape or array.dtype.kind != kind:
                raise DetectorError(
                    f"{name} must be {shape} of {'float64' if kind == 'f' else 'int64'}, "
                    f"got {array.shape} of {array.dtype}"
                )
            if kind == "f" and not np.isfinite(array).all():
                raise DetectorError(f"{name} holds a number that is not finite")
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.xy_px)

    @classmethod
    def at(cls, xy_px: Any, score: Any = None, boxes_px: Any = None) -> Pois:
        """Make points from anything array-like: (n, 2) x, y, optionally scores and boxes."""
        xy = np.array(xy_px, dtype=np.float64).reshape(-1, 2)
        if boxes_px is None:
            if not np.isfinite(xy).all():
                raise DetectorError("xy_px holds a number that is not finite")
            with np.errstate(invalid="ignore"):  # Far outside of any image, which is for others to judge.
                corner = np.floor(xy).astype(np.int64)
            boxes_px = np.hstack([corner, np.ones_like(corner)])
        return cls(
            xy_px=xy,
            score=np.ones(len(xy)) if score is None else np.array(score, dtype=np.float64),
            boxes_px=np.array(boxes_px, dtype=np.int64).reshape(-1, 4),
        )

    def shifted(self, columns: int, rows: int) -> Pois:
        """Return the points moved by whole pixels."""
        return Pois(
            xy_px=self.xy_px + np.array([columns, rows]),
            score=self.score,
            boxes_px=self.boxes_px + np.array([columns, rows, 0, 0]),
        )


class Detector(Protocol):
    """Finds points of interest in a fast image. Runs in a worker process, never in the daemon.

    A detector that looks at each feature's neighbourhood only may say so with a class method
    ``reach_px(scale, **options) -> int``: how many fast pixels around a feature matter to it. The
    survey then detects the borders between partitions too, so that no feature is cut. Without it each
    partition is detected by itself, and what a detector returns of it is rescanned as it is.

    One that was trained says with a class method ``model_files(**options) -> dict[str, str]`` which files it
    goes by, name to SHA-256; they are recorded with the run.
    """

    def detect(self, image: NDArray[Any], scale: int) -> Pois | Sequence[tuple[float, float]] | NDArray[Any]:
        """Find the points.

        Parameters
        ----------
        image
            (rows, columns) of uint8 or uint16, the fast image of one partition, read-only.
        scale
            Analysis pixels per fast pixel.

        Returns
        -------
        Pois or a sequence of (x, y)
            In analysis pixels from the image's top left corner, so 0 <= x <= scale * columns.
        """
        ...


def checked_pois(result: object, image_shape: tuple[int, int], scale: int) -> Pois:
    """Turn what a detector returned into Pois, or say what is wrong with it.

    Raises
    ------
    DetectorError
        Wrong type or shape, not finite, outside the image, or more than MAX_POIS points.
    """
    if isinstance(result, Pois):
        pois = result
    else:
        if not isinstance(result, (list, tuple, np.ndarray)):
            raise DetectorError(f"expected Pois or a list of (x, y), got {type(result).__name__}")
        if len(result) > MAX_POIS:
            raise DetectorError(f"returned {len(result)} points, at most {MAX_POIS} are accepted")
        try:
            array = np.array(result, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DetectorError(f"expected numbers (x, y): {error}") from None
        if array.size == 0:
            array = array.reshape(0, 2)
        if array.ndim != 2 or array.shape[1] != 2:
            raise DetectorError(f"expected (x, y) for each point, got an array of shape {array.shape}")
        pois = Pois.at(array)
    if len(pois) > MAX_POIS:
        raise DetectorError(f"returned {len(pois)} points, at most {MAX_POIS} are accepted")
    rows, columns = image_shape
    limit = np.array([columns * scale, rows * scale])
    outside = ((pois.xy_px < 0) | (pois.xy_px > limit)).any(axis=1)
    if outside.any():
        x, y = pois.xy_px[outside.argmax()]
        raise DetectorError(
            f"point ({x:g}, {y:g}) lies outside the image of {limit[0]} x {limit[1]} analysis pixels"
        )
    return pois
