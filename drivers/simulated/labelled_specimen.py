"""A specimen whose phases are the labels of an image, as in section 3.1.2 of the SLADS-EDS paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .specimen import Grid


class LabelledSpecimen:
    """A plane of phases: the image, centred at the stage origin, and its mirror images around it.

    Parameters
    ----------
    path
        Image of labels (rows, columns): 1, 2 ... for the phases, 0 where the spectra are ill.
    width_um
        Width of the image on the specimen; its pixels are square.

    Raises
    ------
    ValueError
        The image cannot be read or holds no labels.
    """

    def __init__(self, path: Path, width_um: float) -> None:
        if not width_um > 0:
            raise ValueError(f"phase_image_um = {width_um}: expected more than 0")
        self._labels = _read(path)
        self._pixel_um = width_um / self._labels.shape[1]

    @property
    def highest_label(self) -> int:
        """The number of phases."""
        return int(self._labels.max())

    def phases(self, xy_um: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the label at points (n, 2) of x, y."""
        at = []
        for axis, size in ((0, self._labels.shape[1]), (1, self._labels.shape[0])):
            # The centre of a pixel may come out a rounding error beside it.
            index = np.floor(xy_um[:, axis] / self._pixel_um + size / 2 + 1e-6).astype(np.int64)
            index %= 2 * size
            at.append(np.minimum(index, 2 * size - 1 - index))
        labels: NDArray[np.int64] = self._labels[at[1], at[0]]
        return labels

    def signal(
        self, grid: Grid, left: int, top: int, shape: tuple[int, int], probe_um: float
    ) -> NDArray[np.float32]:
        """Return grey values (rows, columns), brighter with the label; no edge is blurred."""
        rows, columns = (axis.ravel() for axis in np.indices(shape))
        labels = self.phases(grid.points(columns + left, rows + top))
        grey = 30 + 190 * labels / self.highest_label
        return grey.reshape(shape).astype(np.float32)


def _read(path: Path) -> NDArray[np.int64]:
    import cv2  # slow to import, and needed only here

    try:
        coded = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise ValueError(f"phase_image = {str(path)!r} cannot be read: {error}") from error
    image = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED) if len(coded) else None
    if image is None or image.ndim != 2 or image.max() < 1:
        raise ValueError(
            f"phase_image = {str(path)!r}: expected an image of one channel with labels 0, 1, 2 ..."
        )
    return np.asarray(image, dtype=np.int64)
