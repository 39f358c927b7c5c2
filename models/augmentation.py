"""What an instrument does to spectra, so that a network learns to allow for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis

from .templates import Templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How far training spectra differ from the library's; every spectrum draws its own."""

    dose_counts: tuple[float, float] = (30.0, 10_000.0)
    """Least and most counts, drawn log-uniformly: the range the classifier is for."""
    gain_error: float = 0.001
    """Standard deviation of the relative error of the energy scale."""
    drift_kev: float = 0.003
    """Standard deviation of the shift of the energy axis."""
    broadening_kev: float = 0.02
    """Most that the detector's standard deviation is wider, added in squares."""
    pile_up: float = 0.01
    """Largest share of counts that are the sum of two photons."""
    background_per_channel: tuple[float, float] = (0.0, 0.0)
    """Least and most mean noise counts per channel."""


def training_shapes(
    templates: Templates, phases: NDArray[np.int64], augmentation: Augmentation, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return what spectra of the given phases (n,), from 0, may look like: (n, channels of the axis), sum 1.

    Each differs from its template by as much as the library's spectra of that phase do, and then by
    what the instrument does.
    """
    starts, channels = templates.bin_starts, templates.shapes.shape[1]
    widths = np.diff(starts, append=channels)
    spread = np.array([random.choice(templates.spread[phase]) for phase in phases.tolist()])
    departure = np.sqrt(spread)[:, None] * random.standard_normal((len(phases), len(starts)))
    whole = np.zeros((len(phases), templates.axis.channels))
    whole[:, templates.window] = templates.shapes[phases] * np.repeat(
        np.maximum(1 + departure, 0), widths, axis=1
    )
    seen = through_instrument(whole, templates.axis, augmentation, random)
    seen[:, : templates.window.start] = 0
    shapes: NDArray[np.float64] = seen / seen.sum(axis=1, keepdims=True)
    return shapes


def random_doses(augmentation: Augmentation, n: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw (n,) doses in counts, log-uniformly."""
    least, most = augmentation.dose_counts
    doses: NDArray[np.float64] = least * (most / least) ** random.uniform(size=n)
    return doses


def counted(
    shapes: NDArray[np.float64], window: slice, augmentation: Augmentation, random: np.random.Generator
) -> NDArray[np.float32]:
    """Draw Poisson counts of shapes, (n, channels), each at a dose of its own and with its own background."""
    n = len(shapes)
    expected = shapes * random_doses(augmentation, n, random)[:, None]
    expected[:, window] += random.uniform(*augmentation.background_per_channel, (n, 1))
    counts: NDArray[np.float32] = random.poisson(expected).astype(np.float32)
    return counts


def through_instrument(
    shapes: NDArray[np.float64], axis: EnergyAxis, augmentation: Augmentation, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return spectra, (n, channels), broadened, piled up, and on an energy axis that is a little wrong."""
    n, channels = shapes.shape
    frequency = np.fft.rfftfreq(2 * channels)
    sigma = random.uniform(0, augmentation.broadening_kev, (n, 1)) / axis.scale_kev
    transformed = np.fft.rfft(shapes, 2 * channels) * np.exp(-2 * (np.pi * frequency * sigma) ** 2)
    # The energies of two photons add: channel i + j, less the channel of zero energy.
    both = transformed**2 * np.exp(-2j * np.pi * frequency * axis.offset_kev / axis.scale_kev)
    share = random.uniform(0, augmentation.pile_up, (n, 1)) / shapes.sum(axis=1, keepdims=True)
    mixed = (1 - 2 * share * shapes.sum(axis=1, keepdims=True)) * transformed + share * both
    blurred = np.maximum(np.fft.irfft(mixed, 2 * channels)[:, :channels], 0)
    edges = np.arange(channels + 1)
    gain = 1 + augmentation.gain_error * random.standard_normal((n, 1))
    drift = augmentation.drift_kev * random.standard_normal((n, 1)) / axis.scale_kev
    # An energy seen in channel c comes from where the true axis has it.
    source = (edges - drift + axis.offset_kev / axis.scale_kev) / gain - axis.offset_kev / axis.scale_kev
    below = np.concatenate([np.zeros((n, 1)), np.cumsum(blurred, axis=1)], axis=1)
    moved = np.stack([np.interp(at, edges, sums) for at, sums in zip(source, below, strict=True)])
    return np.diff(moved, axis=1)


def thinned(
    counts: NDArray[np.integer], dose_counts: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Return spectra, (n, channels), as they would be with fewer counts: each count is kept or not.

    Exact for measured spectra, which stay Poisson counts, but a dose (n,) above a spectrum's own counts
    leaves it as it is.
    """
    total = np.maximum(counts.sum(axis=1), 1)
    return random.binomial(counts, np.minimum(1, dose_counts / total)[:, None])
