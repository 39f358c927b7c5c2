"""Grey value of an etched dual-phase steel at any point: a formula, evaluated where the beam stands.

Martensite is where an anisotropic random field exceeds a level; ferrite grains are Voronoi cells
with grooves between them. Lengths are micrometres, grey values are of an 8-bit image at neutral
brightness and contrast. Everything hangs on hashes of lattice nodes, so the plane is endless,
needs no storage and has no seams.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..pixel_noise import compiled, hash64

MARTENSITE_LEVEL = 0.1336
"""The random field exceeds this on 36 % of the plane."""

# Octaves of the random field: amplitude, length along and across the rolling direction (um), and
# the turn of its lattice (rad), which hides the lattice from the eye.
_OCTAVES = (
    (0.62, 9.0, 2.8, 0.03),
    (0.42, 3.6, 1.4, -0.10),
    (0.20, 1.5, 0.7, 0.16),
    (0.08, 0.6, 0.4, -0.31),
)
_AXES = np.array(
    [
        (
            amplitude,
            math.cos(turn) / along,
            math.sin(turn) / along,
            -math.sin(turn) / across,
            math.cos(turn) / across,
        )
        for amplitude, along, across, turn in _OCTAVES
    ]
)
_FINE, _LATH = len(_OCTAVES), len(_OCTAVES) + 1
_GRAIN_UM = (6.0, 2.8)
_FERRITE_GREY, _MARTENSITE_GREY = 97.0, 166.0
_LIGHT = (0.6, -0.8)
"""Direction towards the signal channel: edges that face it are brighter, the others cast a shadow."""

_S32, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@compiled
def _low(bits: np.uint64) -> float:
    """Return the lower half of the bits as a number 0..1; by a signed integer, which converts faster."""
    return np.int64(bits & _LOW) * 2.0**-32


@compiled
def _high(bits: np.uint64) -> float:
    """Return the upper half of the bits as a number 0..1."""
    return np.int64(bits >> _S32) * 2.0**-32


@compiled
def _node(key: np.uint64, a: int, b: int) -> float:
    return _high(hash64(key, a, b)) * 2.0 - 1.0


@compiled
def lattice_noise(
    key: np.uint64, x: float, y: float, last: NDArray[np.float64], which: int
) -> tuple[float, float, float]:
    """Smooth noise in -1..1 with nodes at the integers, and its two derivatives.

    Quintic interpolation of random node values (value noise, with the fade curve of Perlin 2002).
    Row `which` of `last` (n, 6) remembers the cell and its nodes, as the next point mostly lies in
    the same one; it starts as NaN and serves one key only.
    """
    i, j = math.floor(x), math.floor(y)
    fx, fy = x - i, y - j
    u, v = fx * fx * fx * (fx * (fx * 6 - 15) + 10), fy * fy * fy * (fy * (fy * 6 - 15) + 10)
    du, dv = 30 * fx * fx * (fx * (fx - 2) + 1), 30 * fy * fy * (fy * (fy - 2) + 1)
    if i != last[which, 0] or j != last[which, 1]:
        last[which, 0], last[which, 1] = i, j
        last[which, 2], last[which, 3] = _node(key, i, j), _node(key, i + 1, j)
        last[which, 4], last[which, 5] = _node(key, i, j + 1), _node(key, i + 1, j + 1)
    a, b, c, d = last[which, 2], last[which, 3], last[which, 4], last[which, 5]
    across = a - b - c + d
    value = a + (b - a) * u + (c - a) * v + across * u * v
    return value, du * (b - a + across * v), dv * (c - a + across * u)


@compiled
def martensite_distance(
    key: np.uint64, x: float, y: float, last: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Signed distance (um) to the nearest phase boundary, positive in martensite, and its direction.

    To first order: (field - level) / |gradient|; the direction is the unit vector into martensite.
    `last` is (octaves, 6), see `lattice_noise`.
    """
    field, slope_x, slope_y = -MARTENSITE_LEVEL, 0.0, 0.0
    for octave in range(_AXES.shape[0]):
        amplitude, ux, uy, vx, vy = _AXES[octave]
        value, du, dv = lattice_noise(key + np.uint64(octave), ux * x + uy * y, vx * x + vy * y, last, octave)
        field += amplitude * value
        slope_x += amplitude * (du * ux + dv * vx)
        slope_y += amplitude * (du * uy + dv * vy)
    slope = math.sqrt(slope_x * slope_x + slope_y * slope_y) + 1e-3
    return field / slope, slope_x / slope, slope_y / slope


@compiled
def _grain(key: np.uint64, x: float, y: float) -> tuple[float, float, float]:
    """Distance (um) to the nearest grain boundary, and two random numbers 0..1 of the grain."""
    u, v = x / _GRAIN_UM[0], y / _GRAIN_UM[1]
    i, j = math.floor(u), math.floor(v)
    first, second, name = 1e9, 1e9, np.uint64(0)
    for b in range(j - 1, j + 2):
        for a in range(i - 1, i + 2):
            gap_u, gap_v = max(a - u, u - a - 1, 0.0), max(b - v, v - b - 1, 0.0)
            if gap_u * gap_u + gap_v * gap_v > second:
                continue
            bits = hash64(key, a, b)
            du, dv = a + _low(bits) - u, b + _high(bits) - v
            square = du * du + dv * dv
            if square < first:
                first, second, name = square, first, bits
            elif square < second:
                second = square
    name = hash64(name, 1, 2)
    boundary = (math.sqrt(second) - math.sqrt(first)) * 0.5 * _GRAIN_UM[1]
    return boundary, _low(name), _high(name)


@compiled
def _grey(key: np.uint64, x: float, y: float, probe_um: float, last: NDArray[np.float64]) -> float:
    """Grey value under a probe of standard deviation `probe_um`.

    The probe is applied to each part in closed form: edges widen, textures fade with their length.
    """
    distance, into_x, into_y = martensite_distance(key, x, y, last)
    boundary, shade, turn = _grain(key + np.uint64(16), x, y)
    width = 0.02 + 1.7 * probe_um
    part = min(max(0.5 + distance / (2 * width), 0.0), 1.0)
    martensite = part * part * (3 - 2 * part)
    fade = 1 / (1 + (probe_um / 0.06) ** 2)
    facing = into_x * _LIGHT[0] + into_y * _LIGHT[1]

    grey = _FERRITE_GREY + 9 * (shade - 0.5)
    if martensite < 1:
        fine, _, _ = lattice_noise(key + np.uint64(17), x / 0.11, y / 0.07, last, _FINE)
        groove_um = 0.05 + probe_um
        grey += 4 * fade * fine
        if boundary < 4 * groove_um:
            grey -= 13 * (0.05 / groove_um) * math.exp(-((boundary / groove_um) ** 2))
        if facing > 0 and distance > -1:
            grey -= 9 * facing * math.exp(-((distance / 0.35) ** 2))
    if martensite > 0:
        # Laths run in one of the directions of their grain, on a lattice ten times longer than wide.
        angle = math.pi * turn
        cosine, sine = math.cos(angle), math.sin(angle)
        lath, _, _ = lattice_noise(
            key + np.uint64(18), (x * cosine + y * sine) / 1.1, (y * cosine - x * sine) / 0.12, last, _LATH
        )
        inside = _MARTENSITE_GREY + 14 * (shade - 0.5) + 10 * fade * lath
        grey += martensite * (inside - grey)
    rim_um = 0.07 + probe_um
    if abs(distance) < 4 * rim_um:
        rim = math.exp(-(((distance - 0.03) / rim_um) ** 2))
        grey += 42 * (0.07 / rim_um) * (1 - 0.6 * facing) * rim
    return grey


@compiled
def grey_values(
    key: np.uint64,
    x0: float,
    y0: float,
    per_column: tuple[float, float],
    per_row: tuple[float, float],
    left: int,
    top: int,
    shape: tuple[int, int],
    probe_um: float,
) -> NDArray[np.float32]:
    """Evaluate the grey value at x0 + column * per_column + row * per_row (um), (rows, columns)."""
    image = np.empty(shape, dtype=np.float32)
    last = np.full((len(_OCTAVES) + 2, 6), np.nan)
    for row in range(shape[0]):
        for column in range(shape[1]):
            x = x0 + (left + column) * per_column[0] + (top + row) * per_row[0]
            y = y0 + (left + column) * per_column[1] + (top + row) * per_row[1]
            image[row, column] = _grey(key, x, y, probe_um, last)
    return image


@compiled
def martensite_distances(key: np.uint64, xy_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate `martensite_distance` at points (n, 2); returns (n, 3): distance and direction."""
    result = np.empty((len(xy_um), 3))
    last = np.full((len(_OCTAVES), 6), np.nan)
    for i in range(len(xy_um)):
        distance, into_x, into_y = martensite_distance(key, xy_um[i, 0], xy_um[i, 1], last)
        result[i, 0], result[i, 1], result[i, 2] = distance, into_x, into_y
    return result
