"""Recorded images and their places in one plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Image
from sparse_actors.errors import MicroscopeError


@dataclass(frozen=True, slots=True)
class Patch:
    """One recorded image and its place in the panorama, px of the finest grid that was recorded."""

    left: int
    top: int
    width: int
    height: int
    file: Path
    read: Callable[[], Image]
    """Returns its pixels, (height // pitch, width // pitch)."""
    pitch: int = 1
    """Its pixels are that many panorama pixels wide and high."""
    field_centre: tuple[int, int] | None = None
    """(x, y): middle of the field of view in which it was scanned; None: its own middle."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of its pixels."""
        return self.height // self.pitch, self.width // self.pitch


@dataclass(frozen=True, slots=True)
class Recording:
    """All that was recorded."""

    patches: tuple[Patch, ...]
    """One at least."""
    pixel_nm: float | None = None
    """Size of a panorama pixel; None: the files do not say."""


class Places:
    """Finds the patches that a scan needs.

    Parameters
    ----------
    patches
        All there are.
    """

    def __init__(self, patches: tuple[Patch, ...]) -> None:
        self._patches = patches
        self._edges: NDArray[np.int64] = np.array(
            [(p.left, p.top, p.left + p.width, p.top + p.height, p.pitch) for p in patches], dtype=np.int64
        )
        self._centres = np.array(
            [p.field_centre or (p.left + p.width // 2, p.top + p.height // 2) for p in patches]
        )

    def of(
        self, columns: NDArray[np.int64], rows: NDArray[np.int64], pitch: float, centre: tuple[int, int]
    ) -> list[Patch]:
        """Return the patches with pixels between some columns and rows, the best last.

        One that is coarser than the grid of the scan is of no use. The others are the better the nearer the
        field of view was in which they were scanned, then the coarser they are, for a scan on that grid was
        recorded, then the more of the scan they have.

        Parameters
        ----------
        columns, rows
            Of the panorama.
        pitch
            Panorama pixels per pixel of the scan.
        centre
            (x, y) of the field of view, px.
        """
        left, top, right, bottom, pitches = self._edges.T
        width = np.minimum(right, columns.max() + 1) - np.maximum(left, columns.min())
        height = np.minimum(bottom, rows.max() + 1) - np.maximum(top, rows.min())
        chosen = np.flatnonzero((width > 0) & (height > 0) & (pitches <= pitch + 1e-6))
        away = np.abs(self._centres[chosen] - centre).max(axis=1) if len(chosen) else chosen
        order = np.lexsort((width[chosen] * height[chosen], pitches[chosen], -away))
        return [self._patches[i] for i in chosen[order]]


def decode(file: Path) -> Image:
    """Return the first image of a file: TIFF by tifffile, others by OpenCV; (rows, columns) if it is grey.

    Raises
    ------
    MicroscopeError
        It cannot be read, or is no image.
    """
    try:
        if file.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            return np.asarray(tifffile.imread(file, key=0))
        import cv2  # slow to import, and a check of the configuration does without

        # Not cv2.imread: on Windows it opens no file whose name is not ASCII.
        image = cv2.imdecode(np.frombuffer(file.read_bytes(), dtype=np.uint8), cv2.IMREAD_ANYDEPTH)
    except (OSError, ValueError) as error:
        raise MicroscopeError(f"{file} cannot be read: {error}") from error
    if image is None:
        raise MicroscopeError(f"{file} holds no image")
    return np.asarray(image)
