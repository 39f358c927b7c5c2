"""Which sites of the analysis image a fast scan found: section 3.3 of the SPARSE paper.

A reference site is a cluster of the analysis image. It counts as found when a detection shares a pixel with
it after the site was dilated by 10 px, which allows for drift between the two scans. Dilation is by a disk:
every pixel within that distance of a pixel of the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois

DILATION_PX = 10
Pieces = NDArray[np.int64]
"""(4, n): pieces of rows: row, first column, last column (included), and the cluster they belong to."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was found in an image, on the analysis grid."""

    pois: Pois
    pieces: Pieces | None = None
    """The pixels of each point's cluster; None: the boxes of the points count in their place."""

    def painted(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixels (rows, columns) belong to anything found."""
        image = np.zeros(shape, np.bool_)
        if self.pieces is None:
            for left, top, width, height in self.pois.boxes_px.tolist():
                image[max(top, 0) : top + height, max(left, 0) : left + width] = True
        else:
            row, first, last, _ = self.pieces
            length = last - first + 1
            starts = np.cumsum(length) - length
            flat = np.repeat(row * shape[1] + first - starts, length) + np.arange(length.sum())
            image.ravel()[flat] = True
        return image


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """The reference sites of a tile."""

    shape: tuple[int, int]
    """(rows, columns) of the analysis image."""
    area_px: NDArray[np.int64]
    """(n,): pixels of each, not dilated."""
    found: Found
    """The sites as detected in the analysis image."""
    _corners: tuple[tuple[int, int], ...]
    """(row, column) of the first pixel of each mask."""
    _masks: tuple[NDArray[np.bool_], ...]
    """The dilated pixels of each, cut at the edges of the image."""

    def __len__(self) -> int:
        return len(self.area_px)

    @classmethod
    def of(cls, found: Found, shape: tuple[int, int], dilation_px: int = DILATION_PX) -> Sites:
        """Dilate what was found in an analysis image of `shape` (rows, columns)."""
        area, corners, masks = [], [], []
        for pixels in _clusters(found):
            area.append(len(pixels))
            corner = np.maximum(pixels.min(axis=0) - dilation_px, 0)
            end = np.minimum(pixels.max(axis=0) + dilation_px + 1, shape)
            mask = np.ones(end - corner, np.uint8)
            mask[tuple((pixels - corner).T)] = 0
            # The precise transform: squared distances up to DILATION_PX squared are exact.
            distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            corners.append((int(corner[0]), int(corner[1])))
            masks.append(np.rint(distance**2) <= dilation_px**2)
        return cls(shape, np.array(area, np.int64), found, tuple(corners), tuple(masks))

    def overlapped(self, detected: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which sites (n,) share a pixel, once dilated, with the pixels detected (rows, columns)."""
        return np.array(
            [
                (detected[row : row + mask.shape[0], column : column + mask.shape[1]] & mask).any()
                for (row, column), mask in zip(self._corners, self._masks, strict=True)
            ],
            np.bool_,
        )

    def inside(self, regions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which sites (n,) lie in the regions (m, 4: left, top, width, height) with every pixel."""
        scanned = np.zeros(self.shape, np.bool_)
        for left, top, width, height in regions.tolist():
            scanned[top : top + height, left : left + width] = True
        return np.array([scanned[tuple(pixels.T)].all() for pixels in _clusters(self.found)], np.bool_)


def find(detector: Any, image: NDArray[Any], scale: int) -> Found:
    """Detect; with the pixels of the clusters where the detector has a method `detect_pixels`."""
    from sparse_actors.contracts.detector import checked_pois

    if hasattr(detector, "detect_pixels"):
        pois, pieces = detector.detect_pixels(image, scale)
        return Found(pois, np.concatenate(pieces, axis=1) if pieces else np.empty((4, 0), np.int64))
    rows, columns = image.shape
    return Found(checked_pois(detector.detect(image, scale), (rows, columns), scale))


def _clusters(found: Found) -> Sequence[NDArray[np.int64]]:
    """Return the pixels (n, 2) of each cluster: row, column."""
    if found.pieces is None:
        return [
            np.argwhere(np.ones((height, width), np.bool_)) + np.array([top, left])
            for left, top, width, height in found.pois.boxes_px.tolist()
        ]
    row, first, last, cluster = found.pieces
    length = last - first + 1
    starts = np.cumsum(length) - length
    columns = np.repeat(first - starts, length) + np.arange(length.sum())
    pixels = np.column_stack([np.repeat(row, length), columns])
    owner = np.repeat(cluster, length)
    order = np.argsort(owner, kind="stable")
    return (
        np.split(pixels[order], np.cumsum(np.bincount(owner, minlength=len(found.pois)))[:-1])
        if len(found.pois)
        else []
    )
