"""Where to measure before anything is known: points that cover the field evenly, or at random."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

StartKind = Literal["halton", "sobol", "r2", "random", "uniform"]

_PLASTIC = 1.32471795724474602596
"""The real root of x^3 = x + 1."""


def start_points(kind: StartKind, mask: NDArray[np.bool_], n: int, seed: int) -> NDArray[np.int64]:
    """Choose n different pixels of a field.

    Parameters
    ----------
    kind
        halton, sobol
            The scrambled sequences of these names.
        r2
            Multiples of (1/g, 1/g^2) from a random point, modulo 1, g the plastic number (M. Roberts, 2018).
        random
            Each set of n pixels is equally likely.
        uniform
            The centres of a square grid; the seed has no influence.
    mask
        (rows, columns), which pixels belong to the field.
    n
        1 to the number of these pixels.
    seed
        The same arguments give the same points.

    Returns
    -------
    numpy.ndarray
        (n,), row * columns + column, in the order of the sequence.

    Raises
    ------
    ValueError
        When the field has fewer than n pixels, or the kind is unknown.
    """
    inside = np.flatnonzero(mask)
    if not 0 < n <= len(inside):
        raise ValueError(f"cannot choose {n} of {len(inside)} pixels")
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.choice(inside, n, replace=False).astype(np.int64)
    rows, columns = mask.shape
    share = len(inside) / mask.size
    # A sequence meets some pixels twice and some outside; the more so the fuller the field gets.
    for attempt in range(30):
        unit = _sequence(kind, mask.shape, math.ceil(n / share * 1.1**attempt), rng.spawn(1)[0])
        pixels = (unit[:, 0] * rows).astype(np.int64) * columns + (unit[:, 1] * columns).astype(np.int64)
        pixels = pixels[mask.ravel()[pixels]]
        chosen: NDArray[np.int64] = pixels[np.sort(np.unique(pixels, return_index=True)[1])]
        if len(chosen) >= n:
            break
    else:
        missed = np.setdiff1d(inside, chosen)
        chosen = np.concatenate([chosen, rng.permutation(missed)])
    if kind == "uniform" and len(chosen) > n:
        chosen = chosen[np.linspace(0, len(chosen) - 1, n).round().astype(np.int64)]
    return chosen[:n]


def _sequence(
    kind: StartKind, shape: tuple[int, int], n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return n points (n, 2) of the unit square."""
    match kind:
        case "halton":
            unit = qmc.Halton(2, rng=rng).random(n)
        case "sobol":
            # A power of two keeps the balance of the sequence.
            unit = qmc.Sobol(2, rng=rng).random_base2((n - 1).bit_length())
        case "r2":
            unit = (rng.random(2) + np.arange(1, n + 1)[:, None] / [_PLASTIC, _PLASTIC**2]) % 1
        case "uniform":
            spacing = np.sqrt(shape[0] * shape[1] / n)
            counts = [int(np.ceil(side / spacing)) for side in shape]
            unit = (np.indices(counts).reshape(2, -1).T + 0.5) / counts
        case _:
            raise ValueError(f"start = {kind!r}: must be halton, sobol, r2, random or uniform")
    points: NDArray[np.float64] = unit
    return points
