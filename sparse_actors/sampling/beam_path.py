"""The order in which the beam visits the points of a batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

Coordinates = NDArray[np.float64]

NEAREST_FIRST = 1000
"""Up to so many points the path goes to the nearest point each time, beyond that to and fro in bands."""
LOOK_AHEAD = 50
"""How far along the path a detour is looked for."""


def beam_path(points_px: NDArray[np.int64], start_px: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order points for a short way of the beam.

    A path to the nearest point each time, or to and fro, then shortened by turning round parts of it (2-opt)
    while that helps.

    Parameters
    ----------
    points_px
        (n, 2), x and y.
    start_px
        (2,), where the beam is; the path begins near it and may end anywhere.

    Returns
    -------
    numpy.ndarray
        (n,), the points' numbers in order of the visit.
    """
    if len(points_px) < 2:
        return np.arange(len(points_px))
    # The beam is the first point, and stays the first.
    x, y = np.vstack([start_px, points_px]).T.astype(np.float64)
    order = _nearest_first(x, y) if len(x) <= NEAREST_FIRST else _to_and_fro(x, y)
    _untangle(x, y, order)
    return order[1:] - 1


def _to_and_fro(x: Coordinates, y: Coordinates) -> NDArray[np.int64]:
    """Return a path in bands; on average the way is shortest when a band is sqrt(3) spacings high."""
    band_px = np.sqrt(3 * (np.ptp(x[1:]) + 1) * (np.ptp(y[1:]) + 1) / len(x))
    band = ((y[1:] - y[1:].min()) // band_px).astype(np.int64)
    order = np.lexsort((np.where(band % 2, -x[1:], x[1:]), band))
    return np.concatenate([[0], order + 1])


@compiled
def _distance(x: Coordinates, y: Coordinates, a: int, b: int) -> float:
    return float(np.hypot(x[a] - x[b], y[a] - y[b]))


@compiled
def _nearest_first(x: Coordinates, y: Coordinates) -> NDArray[np.int64]:
    order = np.arange(len(x))
    for i in range(1, len(order)):
        best = i
        for j in range(i + 1, len(order)):
            if _distance(x, y, order[j], order[i - 1]) < _distance(x, y, order[best], order[i - 1]):
                best = j
        order[i], order[best] = order[best], order[i]
    return order


@compiled
def _untangle(x: Coordinates, y: Coordinates, order: NDArray[np.int64]) -> None:
    """Turn round parts of the path, all but its first point, as long as that shortens it."""
    n = len(order)
    improved = True
    while improved:
        improved = False
        for i in range(1, n):
            for j in range(i + 1, min(i + LOOK_AHEAD, n)):
                before, first, last = order[i - 1], order[i], order[j]
                saved = _distance(x, y, before, first) - _distance(x, y, before, last)
                if j + 1 < n:
                    saved += _distance(x, y, last, order[j + 1]) - _distance(x, y, first, order[j + 1])
                if saved > 1e-9:
                    order[i : j + 1] = order[i : j + 1][::-1].copy()
                    improved = True
