"""The simulated specimen: microstructure, and in it voids, cracks and what looks like them.

Sizes and numbers follow the synthetic twin of the DP800 case: void radii are Pareto distributed
(exponent 1.35, from 1.35 to 16 px of 33 nm), cracks have half widths of 0.7-2.2 px and lengths of
12-120 px; shadows and etch pits are dark too, but seldom dark enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..pixel_noise import compiled, key_of
from .microstructure import grey_values, lattice_noise, martensite_distances

BLOCK_UM = 100.0
"""Objects are drawn block by block, each from its own seed."""
REACH_UM = 4.0
"""No object is seen further from its centre."""
PX_UM = 0.033
"""Pixel of the analysis scans from which the sizes are taken."""

VOIDS, CRACKS = 180.0, 18.0
"""Drawn per block; those at a place where no damage forms are dropped."""
SHADOWS, ETCH_PITS, CARBIDES = 420.0, 2700.0, 900.0
"""Per block."""

# Columns of the table of objects: centre, half length and direction of the middle line, radius
# about it, depth of the dip (1 = black), softness of the edge, brightness of the rim; in um, rad, 1;
# and the phase within the outline, 0 where it is that of the surroundings.
_HALF_LENGTH, _RADIUS, _RIM, _PHASE = 2, 4, 7, 8
Objects = NDArray[np.float64]

MATRIX, ISLANDS, VOID, SULPHIDE, OXIDE = 1, 2, 3, 4, 5
"""Phases, as X-rays tell them; to the image the last three are equally dark."""
EMPTY_SHARE, SULPHIDE_SHARE = 0.5, 0.3
"""Of the voids: still empty, and filled by an inclusion of sulphide; the rest holds oxide."""


@dataclass(frozen=True, slots=True, eq=False)
class Voids:
    """The true voids and cracks in an area; a crack is a void with a length."""

    xy_mm: NDArray[np.float64]
    """(n, 2): centres."""
    radius_mm: NDArray[np.float64]
    """(n,): radius, of a crack half its width."""
    length_mm: NDArray[np.float64]
    """(n,): length of the middle line."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the beam stands: origin + column * per_column + row * per_row, in um."""

    origin: tuple[float, float]
    per_column: tuple[float, float]
    per_row: tuple[float, float]

    def points(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return x, y (n, 2) of pixels, in um."""
        steps = np.outer(columns, self.per_column) + np.outer(rows, self.per_row)
        points: NDArray[np.float64] = steps + self.origin
        return points


class Specimen:
    """An endless polished and etched surface of dual-phase steel, a pure function of its seed.

    Parameters
    ----------
    seed
        Any integer.
    damage
        Number of voids and cracks relative to the twin of the DP800 case.
    artefacts
        Number of shadows and etch pits, which look like damage to a fast scan, relative to the same.
    """

    def __init__(self, seed: int, damage: float = 1.0, artefacts: float = 1.0) -> None:
        self._artefacts = artefacts
        self._seed = seed
        self._damage = damage
        self._key = key_of(seed)
        self._block = lru_cache(maxsize=256)(self._draw_block)

    def signal(
        self, grid: Grid, left: int, top: int, shape: tuple[int, int], probe_um: float
    ) -> NDArray[np.float32]:
        """Sample the surface at the pixels of a box; nothing is averaged over a pixel.

        Parameters
        ----------
        grid
            Positions of the pixels.
        left, top, shape
            The box: first column, first row, (rows, columns).
        probe_um
            Standard deviation of the beam where it meets the surface.

        Returns
        -------
        NDArray
            (rows, columns), grey values 0..255 without noise.
        """
        image = grey_values(
            self._key, *grid.origin, grid.per_column, grid.per_row, left, top, shape, probe_um
        )
        corners = np.array(
            [
                [grid.origin[i] + c * grid.per_column[i] + r * grid.per_row[i] for i in (0, 1)]
                for c in (left, left + shape[1])
                for r in (top, top + shape[0])
            ]
        )
        objects = self._objects_in(corners.min(axis=0), corners.max(axis=0))
        _stamp(image, objects, self._key, grid.origin, grid.per_column, grid.per_row, left, top, probe_um)
        return image

    def phases(self, xy_um: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the phase at points (n, 2) of x, y; X-rays come from the point alone, not around it."""
        distance_um = martensite_distances(self._key, xy_um)[:, 0]
        phases = np.where(distance_um > 0, ISLANDS, MATRIX).astype(np.int64)
        objects = self._objects_in(xy_um.min(axis=0), xy_um.max(axis=0))
        _fill(phases, xy_um, objects[objects[:, _PHASE] > 0], self._key)
        return phases

    def voids_in(self, box_mm: tuple[float, float, float, float]) -> Voids:
        """Return the true voids and cracks with their centres in (left, top, width, height)."""
        low = np.array(box_mm[:2]) * 1e3
        high = low + np.array(box_mm[2:]) * 1e3
        objects = self._objects_in(low, high)
        inside = ((objects[:, :2] >= low) & (objects[:, :2] < high)).all(axis=1)
        voids = objects[inside & (objects[:, _RIM] > 0)] * 1e-3
        return Voids(xy_mm=voids[:, :2], radius_mm=voids[:, _RADIUS], length_mm=2 * voids[:, _HALF_LENGTH])

    def _objects_in(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> Objects:
        """Return the objects of every block that can reach into the area, always in the same order."""
        first = np.floor((low - REACH_UM) / BLOCK_UM).astype(int)
        last = np.floor((high + REACH_UM) / BLOCK_UM).astype(int)
        return np.concatenate(
            [
                self._block(column, row)
                for row in range(first[1], last[1] + 1)
                for column in range(first[0], last[0] + 1)
            ]
        )

    def _draw_block(self, column: int, row: int) -> Objects:
        generator = np.random.default_rng(int(key_of(self._seed, column, row)))
        uniform, normal = generator.uniform, generator.normal

        def scattered(count: float) -> NDArray[np.float64]:
            corner = np.array([column, row]) * BLOCK_UM
            return corner + uniform(0, BLOCK_UM, (generator.poisson(count), 2))

        # Martensite fractures, or ferrite parts from it: damage sits along and in martensite.
        at = scattered(VOIDS * self._damage)
        at = at[np.abs(martensite_distances(self._key, at)[:, 0]) < 0.25]
        n = len(at)
        radius = np.minimum(1.35 * (1 - uniform(size=n)) ** (-1 / 1.35), 16) * PX_UM
        length, depth, rim = radius * uniform(0, 1.2, n), uniform(0.86, 0.98, n), uniform(20, 60, n)
        voids = _objects(at, length, normal(0, 0.5, n), radius, depth, rim=rim, phase=VOID)

        at = scattered(CRACKS * self._damage)
        at = at[martensite_distances(self._key, at)[:, 0] > 0.3]
        n = len(at)
        length, radius = uniform(12, 120, n) * PX_UM / 2, uniform(0.7, 2.2, n) * PX_UM
        angle, depth, rim = normal(math.pi / 2, 0.5, n), uniform(0.8, 0.95, n), uniform(10, 30, n)
        cracks = _objects(at, length, angle, radius, depth, rim=rim, phase=VOID)

        at = scattered(SHADOWS * self._artefacts)
        n = len(at)
        length, angle, radius = uniform(0, 1, n), normal(0, 0.4, n), uniform(0.1, 0.4, n)
        shadows = _objects(at, length, angle, radius, uniform(0.08, 0.34, n), soft=uniform(0.15, 0.4, n))

        at = scattered(ETCH_PITS * self._artefacts)
        n = len(at)
        pits = _objects(at, 0.0, 0.0, uniform(0.5, 1.3, n) * PX_UM, uniform(0.15, 0.62, n))

        at = scattered(CARBIDES)
        n = len(at)
        length, angle, radius = uniform(0, 0.07, n), uniform(0, math.pi, n), uniform(0.03, 0.1, n)
        carbides = _objects(at, length, angle, radius, uniform(-1.0, -0.3, n))

        limits = np.cumsum([EMPTY_SHARE, SULPHIDE_SHARE])
        voids[:, _PHASE] = VOID + np.searchsorted(limits, uniform(size=len(voids)))
        return np.concatenate([carbides, shadows, pits, voids, cracks])


def _objects(
    centres: NDArray[np.float64],
    half_length: NDArray[np.float64] | float,
    angle: NDArray[np.float64] | float,
    radius: NDArray[np.float64],
    depth: NDArray[np.float64],
    soft: NDArray[np.float64] | float = 0.0,
    rim: NDArray[np.float64] | float = 0.0,
    phase: int = 0,
) -> Objects:
    columns = (half_length, angle, radius, depth, soft, rim, phase)
    return np.column_stack([centres, *(np.broadcast_to(c, len(centres)) for c in columns)])


@compiled
def _outside_um(
    px: float, py: float, one: NDArray[np.float64], rough_key: np.uint64, last: NDArray[np.float64]
) -> float:
    """Distance of a point from the outline of an object, negative inside."""
    x, y, half_length, angle, radius = one[0], one[1], one[2], one[3], one[4]
    is_crack = half_length > 2 * radius
    cosine, sine = math.cos(angle), math.sin(angle)
    along = (px - x) * cosine + (py - y) * sine
    across = (py - y) * cosine - (px - x) * sine
    rough = 0.0
    if one[_RIM] > 0:
        grain_um = 0.4 if is_crack else 0.8 * radius
        rough = lattice_noise(rough_key, px / grain_um, py / grain_um, last, 0)[0]
    # A crack wanders off its line, the outline of a void is uneven.
    if is_crack:
        across += 2.0 * radius * rough
    along -= min(max(along, -half_length), half_length)
    away: float = math.sqrt(along * along + across * across) - radius
    if not is_crack:
        away += 0.35 * radius * rough
    return away


@compiled
def _fill(
    phases: NDArray[np.int64], xy_um: NDArray[np.float64], objects: NDArray[np.float64], key: np.uint64
) -> None:
    """Set the phase of the points that lie within an object."""
    rough_key = key + np.uint64(32)
    for n in range(objects.shape[0]):
        one = objects[n]
        last = np.full((1, 6), np.nan)
        reach = min(one[_HALF_LENGTH] + 4 * one[_RADIUS], REACH_UM)
        for i in range(xy_um.shape[0]):
            px, py = xy_um[i, 0], xy_um[i, 1]
            if (
                abs(px - one[0]) < reach
                and abs(py - one[1]) < reach
                and _outside_um(px, py, one, rough_key, last) < 0
            ):
                phases[i] = np.int64(one[_PHASE])


@compiled
def _stamp(
    image: NDArray[np.float32],
    objects: NDArray[np.float64],
    key: np.uint64,
    origin: tuple[float, float],
    per_column: tuple[float, float],
    per_row: tuple[float, float],
    left: int,
    top: int,
    probe_um: float,
) -> None:
    """Darken the image where objects are, each in the square of pixels that it can reach."""
    pitch = math.hypot(per_column[0], per_column[1])
    rows, columns = image.shape
    rough_key = key + np.uint64(32)
    for n in range(objects.shape[0]):
        one = objects[n]
        x, y, half_length, _, radius, depth, soft, rim, _ = one
        sigma = math.sqrt(probe_um * probe_um + soft * soft)
        width = 1.7 * sigma
        last = np.full((1, 6), np.nan)
        # Depth left in the middle after blurring: of a disc, or of a band if it is longer than wide.
        if half_length > radius:
            peak = math.erf(radius / (sigma * math.sqrt(2.0)))
        else:
            peak = 1 - math.exp(-radius * radius / (2 * sigma * sigma))
        halo_um = min(2 * radius, 0.35)
        reach = min(half_length + 3 * radius + max(width, 4 * halo_um if rim > 0 else 0.0), REACH_UM)
        # Centre and reach in pixels; per_column and per_row are at right angles and equally long.
        dx, dy = x - origin[0], y - origin[1]
        column = (dx * per_column[0] + dy * per_column[1]) / (pitch * pitch) - left
        row = (dx * per_row[0] + dy * per_row[1]) / (pitch * pitch) - top
        span = reach / pitch
        first_row, end_row = max(0, math.ceil(row - span)), min(rows, math.floor(row + span) + 1)
        first, end = max(0, math.ceil(column - span)), min(columns, math.floor(column + span) + 1)
        for r in range(first_row, end_row):
            for c in range(first, end):
                px = origin[0] + (left + c) * per_column[0] + (top + r) * per_row[0]
                py = origin[1] + (left + c) * per_column[1] + (top + r) * per_row[1]
                away = _outside_um(px, py, one, rough_key, last)
                edge = min(max(0.5 - away / (2 * width), 0.0), 1.0)
                inside = edge * edge * (3 - 2 * edge)
                value = image[r, c] * (1 - depth * peak * inside)
                if rim > 0:
                    value += (1 - inside) * rim * peak * math.exp(-max(away, 0.0) / halo_um)
                image[r, c] = value
