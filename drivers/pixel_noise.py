"""Noise that belongs to a pixel: the same exposure gives the same value, whatever box it lies in.

Every value is a hash of a key and of the pixel's column and row, so that a sub-region equals the
crop of the full frame, and a mask the image at its pixels. Nothing is drawn in sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])

_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S48 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(48)


def compiled(function: Function) -> Function:
    """Compile with numba: cached on disk, without the GIL, and without reordering of floats.

    Reordering would let a pixel's last bit depend on where in the loop it is computed.
    """
    return cast("Function", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@compiled
def hash64(key: np.uint64, a: int, b: int) -> np.uint64:
    """Mix a key and two integers to 64 random bits (finaliser of SplitMix64, Steele et al. 2014)."""
    h = np.uint64(key) ^ (np.uint64(a) * _ODD[0]) ^ (np.uint64(b) * _ODD[1])
    h = (h ^ (h >> _S30)) * _MIX_1
    h = (h ^ (h >> _S27)) * _MIX_2
    return h ^ (h >> _S31)


def key_of(*integers: int) -> np.uint64:
    """Fold integers of any sign into one key for `hash64`."""
    key = np.uint64(0)
    for integer in integers:
        # Compiled functions hand 64 bits back as a Python int; typed again, or numba takes it as signed.
        key = np.uint64(hash64(key, integer, 1))
    return key


@cache
def _normal_table() -> NDArray[np.float32]:
    """Quantiles of the standard normal distribution at 65536 equal steps; the ends are +-4.3 sigma."""
    quantile = NormalDist().inv_cdf
    return np.array([quantile((i + 0.5) / 65536) for i in range(65536)], dtype=np.float32)


@compiled
def _add_noise(
    values: NDArray[np.float32],
    columns: NDArray[np.int64],
    rows: NDArray[np.int64],
    shot: float,
    read_variance: float,
    key: np.uint64,
    normal: NDArray[np.float32],
) -> None:
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            value = values[i, j]
            deviate = normal[hash64(key, columns[i, j], rows[i, j]) >> _S48]
            values[i, j] = value + np.sqrt(max(shot * value, 0.0) + read_variance) * deviate


def add_noise(
    values: NDArray[np.float32],
    columns: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    shot_grey: float,
    read_noise_grey: float,
    key: np.uint64,
) -> None:
    """Add noise of variance shot_grey * value + read_noise_grey**2, in place.

    Parameters
    ----------
    values
        (rows, columns) of an image or (n,) of points, grey values.
    columns, rows
        Place of each value on the grid; of a shape that broadcasts to that of `values`.
    shot_grey
        Variance per grey value; electron counting makes it fall as 1 / dwell time.
    key
        Names the exposure: seed, stage position, grid and dwell time.
    """
    table = np.atleast_2d(values)
    at_columns, at_rows = np.broadcast_to(columns, table.shape), np.broadcast_to(rows, table.shape)
    _add_noise(table, at_columns, at_rows, shot_grey, read_noise_grey**2, key, _normal_table())
