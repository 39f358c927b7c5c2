"""Spectra of the phases: made from compositions, or read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import MicroscopeError

from .xray_emission import emission

AXIS = EnergyAxis(channels=2048, offset_kev=0.0, scale_kev=0.01)
SPECTRA_PER_PHASE = 12
"""As many as in section 3.2.1 of the SLADS-EDS paper."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What a phase is made of, and how many counts it gives beside the matrix."""

    name: str
    mass_fractions: Mapping[str, float] = field(default_factory=dict)
    rate: float = 1.0


# A dual-phase steel has less alloy in its islands: this much lets a short measurement tell them.
STEEL = (
    Phase("matrix", {"Fe": 0.985, "Mn": 0.015}),
    Phase("islands", {"Fe": 0.80, "Cr": 0.12, "Mn": 0.08}),
    Phase("voids, with residue of polishing", {"C": 0.60, "O": 0.25, "Si": 0.15}, 0.4),
    Phase("manganese sulphide", {"Mn": 0.63, "S": 0.37}, 0.9),
    Phase("oxide inclusions", {"Al": 0.30, "Ca": 0.15, "Si": 0.10, "O": 0.45}, 0.8),
)
"""Phases 1, 2 ... of the simulated specimen."""


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumLibrary:
    """Some spectra of each phase, without noise of their own."""

    axis: EnergyAxis
    counts: NDArray[np.float64]
    """(n, channels), sorted by phase; in any unit, but the same for all."""
    phase: NDArray[np.int64]
    """(n,): 1 ... of each spectrum."""


def steel_library(seed: int, spread: float) -> SpectrumLibrary:
    """Make spectra of the phases of `STEEL`.

    Parameters
    ----------
    seed
        Of the spread.
    spread
        Standard deviation, relative, of each mass fraction and of the number of counts; absorption
        at 1 keV has an exponent of this order.
    """
    generator = np.random.default_rng(seed)
    counts, phases = [], []
    for number, phase in enumerate(STEEL, start=1):
        for _ in range(SPECTRA_PER_PHASE):
            amounts = phase.mass_fractions
            factors = np.exp(spread * generator.standard_normal(len(amounts) + 1))
            varied = {name: amounts[name] * factor for name, factor in zip(amounts, factors, strict=False)}
            absorption = spread * abs(generator.standard_normal())
            counts.append(phase.rate * factors[-1] * emission(varied, AXIS, absorption))
            phases.append(number)
    return SpectrumLibrary(AXIS, np.array(counts), np.array(phases, dtype=np.int64))


def read_library(path: Path) -> SpectrumLibrary:
    """Read spectra from an npz file.

    It holds `counts` (n, channels), `phase` (n,) with numbers from 1, `energy_offset_keV` and
    `energy_scale_keV`.

    Raises
    ------
    ValueError
        The file cannot be read or is no such library.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            counts = np.asarray(file["counts"], dtype=np.float64)
            phase = np.asarray(file["phase"], dtype=np.int64)
            offset_kev, scale_kev = float(file["energy_offset_keV"]), float(file["energy_scale_keV"])
        axis = EnergyAxis(channels=counts.shape[-1], offset_kev=offset_kev, scale_kev=scale_kev)
    except (OSError, KeyError, ValueError, TypeError, IndexError, MicroscopeError) as error:
        raise ValueError(f"spectra = {str(path)!r} cannot be read: {error}") from error
    numbers = np.unique(phase)
    if (
        counts.ndim != 2
        or phase.shape != counts.shape[:1]
        or not (np.isfinite(counts).all() and (counts >= 0).all() and (counts.sum(axis=1) > 0).all())
        or not np.array_equal(numbers, np.arange(1, len(numbers) + 1))
    ):
        raise ValueError(
            f"spectra = {str(path)!r}: expected counts (n, channels) without a negative or empty spectrum, "
            f"and phase (n,) with all of 1 ... L; got {counts.shape}, and phases {numbers.tolist()}"
        )
    order = np.argsort(phase, kind="stable")
    return SpectrumLibrary(axis, counts[order], phase[order])
