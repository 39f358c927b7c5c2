"""Synthetic phase maps that look like microstructures, to train and to judge samplers without anybody's data.

Every image comes from its seed alone. Lengths are drawn as shares of the image, so that a large image is a
small one seen with more pixels, which is how the sampler's features see it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter
from scipy.spatial import cKDTree

Labels = NDArray[np.int32]
Kind = Literal["lamellae", "islands", "grains", "particles", "dendrites"]

KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_PHASES = 6


def label_image(
    shape: tuple[int, int],
    *,
    seed: int | tuple[int, ...],
    kind: Kind | None = None,
    phases: int | None = None,
) -> Labels:
    """Draw one phase map.

    Parameters
    ----------
    shape
        (rows, columns), at least 16 x 16.
    seed
        The same seed, shape, kind and phases give the same image.
    kind, phases
        What to draw and with how many phases, 2 to MAX_PHASES; None: drawn from the seed.

    Returns
    -------
    numpy.ndarray
        (rows, columns) of int32, labels 1..phases. Every image holds at least two of them.

    Raises
    ------
    ValueError
        When the image is too small or the number of phases out of range.
    """
    if min(shape) < 16:
        raise ValueError(f"a phase map needs at least 16 x 16 pixels, got {shape[0]} x {shape[1]}")
    if phases is not None and not 2 <= phases <= MAX_PHASES:
        raise ValueError(f"phases = {phases}: must be 2 to {MAX_PHASES}")
    rng = np.random.default_rng(seed)
    drawn_kind, drawn_phases = KINDS[rng.integers(len(KINDS))], int(rng.integers(2, MAX_PHASES + 1))
    count = phases or drawn_phases
    while True:
        labels = _DRAW[kind or drawn_kind](shape, count, rng)
        if labels.min() != labels.max():
            # Segmented images have been through a median filter; single pixels are noise there, not phases.
            return np.asarray(median_filter(labels, 3), np.int32)


def label_images(count: int, shape: tuple[int, int], *, seed: int) -> Iterator[Labels]:
    """Draw phase maps of all kinds in turn, one at a time (see `label_image`)."""
    for index in range(count):
        yield label_image(shape, seed=(seed, index), kind=KINDS[index % len(KINDS)])


def _islands(shape: tuple[int, int], phases: int, rng: np.random.Generator) -> Labels:
    """Bands of a random field, so that phases lie inside each other, on one or two length scales."""
    field = _field(shape, _length(shape, rng, 1 / 24, 1 / 8), rng)
    if rng.random() < 0.5:
        field += rng.uniform(0.2, 0.6) * _field(shape, _length(shape, rng, 1 / 64, 1 / 24), rng)
    return _bands(field, phases, rng)


def _lamellae(shape: tuple[int, int], phases: int, rng: np.random.Generator) -> Labels:
    """Stripes of a eutectic in colonies of different direction, each of two of the phases."""
    colonies = _cells(shape, int(rng.integers(2, 9)), rng)
    rows, columns = np.indices(shape)
    period = _length(shape, rng, 1 / 16, 1 / 5)
    wobble = _field(shape, 2 * period, rng) * rng.uniform(0.5, 2)
    labels = np.empty(shape, dtype=np.int32)
    share = rng.uniform(-0.5, 0.5)
    for colony in range(colonies.max() + 1):
        angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        along = rows * np.sin(angle) + columns * np.cos(angle)
        wave = np.sin(2 * np.pi * along / period + phase + wobble)
        pair = rng.permutation(phases)[:2] + 1
        inside = colonies == colony
        labels[inside] = np.where(wave > share, *pair)[inside]
    return labels


def _grains(shape: tuple[int, int], phases: int, rng: np.random.Generator) -> Labels:
    """Grains with bent boundaries, each of one phase."""
    cells = _cells(shape, int(np.exp(rng.uniform(np.log(8), np.log(150)))), rng)
    return _shares(phases, rng, cells.max() + 1)[cells]


def _particles(shape: tuple[int, int], phases: int, rng: np.random.Generator) -> Labels:
    """Ellipses of lognormal sizes and ragged outline in a matrix."""
    rows, columns = np.indices(shape)
    radius, spread = _length(shape, rng, 1 / 48, 1 / 12), rng.uniform(0.2, 0.7)
    cover = rng.uniform(0.1, 0.5) * rows.size
    ragged = 1 + rng.uniform(0, 0.3) * _field(shape, radius, rng)
    labels = np.ones(shape, dtype=np.int32)
    area = 0.0
    while area < cover:
        size = radius * np.exp(rng.normal(0, spread))
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        angle, aspect = rng.uniform(0, np.pi), rng.uniform(1, 2.5)
        phase = rng.integers(2, phases + 1)
        reach = int(3 * size * aspect) + 1
        window = np.s_[
            max(0, int(row) - reach) : int(row) + reach + 1,
            max(0, int(column) - reach) : int(column) + reach + 1,
        ]
        y, x = rows[window] - row, columns[window] - column
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        labels[window][np.hypot(along / aspect, across * aspect) < size * ragged[window]] = phase
        area += np.pi * size**2
    return labels


def _dendrites(shape: tuple[int, int], phases: int, rng: np.random.Generator) -> Labels:
    """Trunks with side arms on both sides, thicker towards the root, between them the other phases."""
    rows, columns = np.indices(shape)
    labels = _bands(_field(shape, _length(shape, rng, 1 / 12, 1 / 4), rng), phases, rng)
    bent = _field(shape, _length(shape, rng, 1 / 8, 1 / 3), rng) * _length(shape, rng, 1 / 100, 1 / 40)
    for _ in range(int(rng.integers(2, 6))):
        angle, length = rng.uniform(0, 2 * np.pi), _length(shape, rng, 1 / 3, 1.0)
        spacing = _length(shape, rng, 1 / 16, 1 / 7)
        y, x = rows - rng.uniform(0, shape[0]) + bent, columns - rng.uniform(0, shape[1]) + bent
        along, across = x * np.cos(angle) + y * np.sin(angle), np.abs(y * np.cos(angle) - x * np.sin(angle))
        # An arm leaves the trunk at 60 degrees, as long as the tip is far.
        taper = np.clip(1 - along / length, 0, 1)
        along_arm = (along - across / np.sqrt(3)) % spacing
        arm = (np.abs(along_arm - spacing / 2) < spacing * 0.3 * np.sqrt(taper)) & (
            across < 0.35 * length * taper
        )
        trunk = across < 0.3 * spacing * np.sqrt(taper)
        labels[(along > 0) & (taper > 0) & (arm | trunk)] = 1
    return labels


_DRAW: dict[Kind, Callable[[tuple[int, int], int, np.random.Generator], Labels]] = {
    "lamellae": _lamellae,
    "islands": _islands,
    "grains": _grains,
    "particles": _particles,
    "dendrites": _dendrites,
}


def _length(shape: tuple[int, int], rng: np.random.Generator, least: float, most: float) -> float:
    """Draw a length in pixels, log-uniform between two shares of the image's shorter side, at least 3 px."""
    return max(3.0, min(shape) * float(np.exp(rng.uniform(np.log(least), np.log(most)))))


def _field(shape: tuple[int, int], length_px: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a Gaussian random field (rows, columns) of mean 0 and deviation 1."""
    field = gaussian_filter(rng.standard_normal(shape), length_px / 2, mode="wrap")
    return np.asarray((field - field.mean()) / field.std())


def _bands(field: NDArray[np.float64], phases: int, rng: np.random.Generator) -> Labels:
    """Cut a field at quantiles into phases of random shares, in random order."""
    limits = np.quantile(field, np.cumsum(rng.dirichlet(np.full(phases, 3.0)))[:-1])
    return (rng.permutation(phases) + 1).astype(np.int32)[np.digitize(field, limits)]


def _cells(shape: tuple[int, int], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which of `count` random points is nearest, seen through a bent lens."""
    size = min(shape) / np.sqrt(count)
    seen = np.moveaxis(np.indices(shape), 0, -1).astype(np.float64)
    for axis in range(2):
        seen[..., axis] += 0.15 * size * _field(shape, size, rng)
    points = rng.uniform(0, 1, (count, 2)) * shape
    return np.asarray(cKDTree(points).query(seen)[1])


def _shares(phases: int, rng: np.random.Generator, count: int) -> Labels:
    """Draw the phase of `count` grains."""
    return rng.choice(np.arange(1, phases + 1), count, p=rng.dirichlet(np.full(phases, 3.0))).astype(np.int32)
