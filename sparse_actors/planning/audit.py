"""The windows of an audit: which there are, which are drawn, and which sites count to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox, TileIndex

AUDIT = "audit"
"""The source of the windows, as of regions that somebody proposes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """How a survey is audited."""

    windows: int
    """Drawn in each tile, or all that there are."""
    window_px: tuple[int, int]
    """(width, height) in analysis pixels, as near as the field of view can be cut."""
    margin_px: int
    """Scanned around each window."""
    least_recall: float | None = None
    """0..1: the run pauses once the recall is certain to be lower; None: it does not."""

    def all_windows(self, field_px: tuple[int, int]) -> int:
        """Return how many windows a field of view of (width, height) is cut into."""
        across, down = (len(_edges(*sizes)) - 1 for sizes in zip(field_px, self.window_px, strict=True))
        return across * down

    def least_px(self, field_px: tuple[int, int]) -> int:
        """Return the smallest side of any window of a field of view of (width, height)."""
        sizes = zip(field_px, self.window_px, strict=True)
        return min(int(np.diff(_edges(field, window)).min()) for field, window in sizes)

    def drawn(
        self, covered: NDArray[np.bool_], tile: TileIndex, seed: int
    ) -> tuple[tuple[PixelBox, ...], int]:
        """Return the windows of a tile, and of how many; the same whenever it is asked again."""
        return draw_windows(covered, self.window_px, self.windows, (seed, tile.row, tile.column))

    def exposures(self, windows: Iterable[PixelBox], field_px: tuple[int, int]) -> tuple[PixelBox, ...]:
        """Return what is scanned for windows."""
        return tuple(exposed_for(window, self.margin_px, field_px) for window in windows)


def covered_by(boxes: Iterable[PixelBox], field_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels of a field of view of (width, height) boxes cover, (rows, columns)."""
    covered = np.zeros(field_px[::-1], np.bool_)
    for box in boxes:
        covered[box.slices] = True
    return covered


def draw_windows(
    covered: NDArray[np.bool_], window_px: tuple[int, int], count: int, seed: tuple[int, ...]
) -> tuple[tuple[PixelBox, ...], int]:
    """Draw windows of a field of view at random from all in which something is left over.

    The field is cut into equal windows as near to the size asked for as goes, so that every pixel belongs to
    exactly one of them. Each is drawn as likely as any other, and none twice.

    Parameters
    ----------
    covered
        What is scanned at analysis quality anyway, (rows, columns) of the field of view.
    window_px
        (width, height).
    count
        How many to draw; all if there are no more.
    seed
        Of the run, and what tells tiles apart: the same windows for the same seed.

    Returns
    -------
    tuple
        The windows drawn, row by row, and from how many.
    """
    ys, xs = (_edges(field, window) for field, window in zip(covered.shape, window_px[::-1], strict=True))
    by_rows = np.logical_and.reduceat(covered, ys[:-1], axis=0)
    is_full = np.logical_and.reduceat(by_rows, xs[:-1], axis=1)
    places = np.argwhere(~is_full)
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(places))[:count]
    drawn = tuple(
        PixelBox(int(xs[column]), int(ys[row]), int(xs[column + 1] - xs[column]), int(ys[row + 1] - ys[row]))
        for row, column in places[np.sort(chosen)]
    )
    return drawn, len(places)


def _edges(field: int, window: int) -> NDArray[np.int64]:
    if window < 1:
        raise ValueError(f"windows of {window} px need at least one pixel")
    count = max(1, round(field / window))
    return np.arange(count + 1) * field // count


def exposed_for(window: PixelBox, margin_px: int, field_px: tuple[int, int]) -> PixelBox:
    """Return what is scanned for a window: with a margin, so that sites at its edge are seen whole."""
    left, top = max(window.left - margin_px, 0), max(window.top - margin_px, 0)
    right, bottom = min(window.right + margin_px, field_px[0]), min(window.bottom + margin_px, field_px[1])
    return PixelBox(left, top, right - left, bottom - top)


def is_missed(xy_px: NDArray[np.float64], window: PixelBox, covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which sites count as missed in a window: those whose centre is in it and in no region.

    Parameters
    ----------
    xy_px
        (n, 2), x and y of the centres in pixels of the field of view.
    window
        Of the field of view.
    covered
        What the regions cover, (rows, columns) of the field of view.

    Returns
    -------
    numpy.ndarray
        (n,) of bool.
    """
    rows, columns = covered.shape
    x, y = np.clip(np.floor(xy_px).astype(np.int64), 0, (columns - 1, rows - 1)).T
    in_window = (x >= window.left) & (x < window.right) & (y >= window.top) & (y < window.bottom)
    missed: NDArray[np.bool_] = in_window & ~covered[y, x]
    return missed
