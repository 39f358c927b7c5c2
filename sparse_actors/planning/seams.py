"""Borders between the partitions of a tile, and which features a part of a tile shows as the whole would.

What a detector makes of a feature is taken to depend on nothing farther away than some reach; for
upsampling, threshold and DBSCAN that is half the kernel and 3 eps. Then in a window of a tile

- a feature that stays clear of the window's inner edges by the reach is complete, and
- it is *sure*, the same as in the whole tile, if it also lies no nearer than the reach to one that is not
  clear. (Two clusters may share border points, which go to the one with the first core point; of a cluster
  that is cut off that point may be missing.)

A partition keeps what is sure. The rest lies no deeper on its side of a seam than the features at the seam
themselves reach: a band around the seam shows it, wide enough once all of it is sure. If the band cannot be
detected, what the partitions withheld tells how wide a rescan brings all of it back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox, full_frame, partition_boxes

Boxes = NDArray[np.int64]
"""(n, 4): left, top, width, height of features in the tile."""
NONE: Boxes = np.empty((0, 4), np.int64)


@dataclass(frozen=True, slots=True)
class Seam:
    """A line through the whole tile along which partitions meet."""

    axis: Literal[0, 1]
    """0: a vertical line, at an x; 1: a horizontal one, at a y."""
    at_px: int
    """First column or row behind the line."""
    tile: PixelBox

    def scaled(self, factor: int) -> Seam:
        """Return the same line on a grid `factor` times finer."""
        return Seam(self.axis, self.at_px * factor, self.tile.scaled(factor))

    def band(self, before_px: int, behind_px: int | None = None) -> PixelBox:
        """Return what lies no farther than this before and behind the line, within the tile."""
        start = self.at_px - before_px
        size = before_px + (before_px if behind_px is None else behind_px)
        tile = self.tile
        box = (
            PixelBox(start, tile.top, size, tile.height)
            if self.axis == 0
            else PixelBox(tile.left, start, tile.width, size)
        )
        return box.intersection(tile) or tile


def seams(size_px: tuple[int, int], partitions: int) -> tuple[Seam, ...]:
    """Return the lines along which a tile of (width, height) pixels is cut, vertical ones first."""
    boxes, tile = partition_boxes(size_px, partitions), full_frame(size_px)
    vertical = sorted({box.left for box in boxes} - {0})
    horizontal = sorted({box.top for box in boxes} - {0})
    return (*(Seam(0, x, tile) for x in vertical), *(Seam(1, y, tile) for y in horizontal))


def is_sure(boxes_px: Boxes, window: PixelBox, tile: PixelBox, reach_px: int) -> NDArray[np.bool_]:
    """Return which features found in a window of a tile the whole tile shows just so.

    Parameters
    ----------
    boxes_px
        All features found in the window, in pixels of the tile.
    window, tile
        What was detected, and all there is; edges that they share cut nothing.
    reach_px
        How far around a feature the detector looks.

    Returns
    -------
    numpy.ndarray
        (n,) of bool.
    """
    start, end = boxes_px[:, :2], boxes_px[:, :2] + boxes_px[:, 2:]
    first = [window.left, window.top]
    last = [window.right, window.bottom]
    low = [a + reach_px if a > b else b for a, b in zip(first, (tile.left, tile.top), strict=True)]
    high = [a - reach_px if a < b else b for a, b in zip(last, (tile.right, tile.bottom), strict=True)]
    clear = np.all((start >= low) & (end <= high), axis=1)
    sure: NDArray[np.bool_] = clear.copy()
    for cut in np.nonzero(~clear)[0]:
        is_apart = (start >= end[cut] + reach_px) | (end <= start[cut] - reach_px)
        np.logical_and(sure, is_apart.any(axis=1), out=sure)
    return sure


def left_to_seam(boxes_px: Boxes, seam: Seam, window: PixelBox, reach_px: int) -> NDArray[np.bool_] | None:
    """Return which features of a band the partitions may have left to it.

    These are the ones at the line, and all as far from it as any of these reaches. A band that is the whole
    tile shows what was left to other seams too.

    Parameters
    ----------
    boxes_px
        All features found in the band, in pixels of the tile.
    seam, window
        The line and the band around it that was detected.
    reach_px
        How far around a feature the detector looks.

    Returns
    -------
    numpy.ndarray or None
        (n,) of bool; None if the band is too narrow to tell.
    """
    if window == seam.tile:
        return np.ones(len(boxes_px), np.bool_)
    start = boxes_px[:, seam.axis] - seam.at_px
    end = start + boxes_px[:, seam.axis + 2]
    # What a partition shows of a feature at its edge may begin one reach farther away in the whole tile.
    at_line = (start < 2 * reach_px) & (end > -2 * reach_px)
    depth_px = int(np.maximum(-start, end)[at_line].max(initial=2 * reach_px)) + reach_px
    wanted: NDArray[np.bool_] = (start < depth_px) & (end > -depth_px)
    needed = seam.band(depth_px + reach_px)
    is_shown = window.contains(needed) and is_sure(boxes_px, window, seam.tile, reach_px)[wanted].all()
    return wanted if is_shown else None


def undetected(
    seam: Seam, half_px: int, sides: Iterable[tuple[PixelBox, Boxes | None]], reach_px: int
) -> PixelBox:
    """Return what may hold all that is lost where a seam could not be detected.

    A feature is lost if a partition left it to this seam. It lies at the line, or no farther than the
    reach from one at the line, and what a partition shows of it ends at most a reach too early.

    Parameters
    ----------
    seam, half_px
        The line, and the half of the band around it that is lost in any case.
    sides
        The box of each partition of the tile, and the features that it left to seams; None where that is
        not known: then it may be anything in the partition.
    reach_px
        How far around a feature the detector looks.

    Returns
    -------
    PixelBox
        From one end of the line to the other, on each side as wide as its deepest partition needs.
    """
    before_px = behind_px = half_px
    for box, left in sides:
        first, last = (box.left, box.right) if seam.axis == 0 else (box.top, box.bottom)
        if last == seam.at_px:
            before_px = max(before_px, last - first if left is None else _depth_px(seam, left, -1, reach_px))
        elif first == seam.at_px:
            behind_px = max(behind_px, last - first if left is None else _depth_px(seam, left, 1, reach_px))
    return seam.band(before_px, behind_px)


def _depth_px(seam: Seam, left: Boxes, side: Literal[-1, 1], reach_px: int) -> int:
    """Return how far from the line features reach that one side left to it."""
    start = left[:, seam.axis] - seam.at_px
    end = start + left[:, seam.axis + 2]
    nearest, farthest = (start, end) if side > 0 else (-end, -start)
    at_line = nearest < 2 * reach_px
    beside = nearest < farthest[at_line].max(initial=0) + reach_px
    return int(farthest[beside].max(initial=0)) + reach_px
