"""Spectra of the elements, each family of lines apart, and of the continuum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import xraylib
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis

from .detector_response import Detector
from .physics import LOWEST_KEV, Beam, bremsstrahlung, characteristic

Floats = NDArray[np.float64]

CANDIDATES = tuple(z for z in range(6, 93) if z not in (10, 18, 36, 43, 54, 61, *range(84, 90), 91))
"""Carbon to uranium, without noble gases and what has no stable isotope, other than Th and U."""
CONTINUUM = (6, 13, 26, 47, 82)
"""Elements whose bremsstrahlung, added up, makes the continuum of an unknown specimen."""
LOWEST_LINE_KEV, LOWEST_OUTER_KEV = 0.2, 0.4
"""L and M lines below 0.4 keV are too weak to tell from carbon, which is on everything."""


@dataclass(frozen=True, slots=True)
class Family:
    """The lines of one shell of a pure element, per electron."""

    atomic_number: int
    shell: str
    hardest_kev: float
    expected: Floats

    @property
    def name(self) -> str:
        """Return what HyperSpy calls its first line, such as `Fe_Ka`."""
        return f"{xraylib.AtomicNumberToSymbol(self.atomic_number)}_{self.shell}a"


@cache
def _pure_lines(beam: Beam) -> tuple[tuple[int, str, tuple[tuple[float, float], ...]], ...]:
    """Return (atomic number, shell, lines as energy in keV and photons) of every candidate alone."""
    families = []
    for z in CANDIDATES:
        lines = characteristic({z: 1.0}, beam)
        for shell in "KLM":
            chosen = tuple((energy, photons) for _, name, energy, photons in lines if name[0] == shell)
            if chosen:
                families.append((z, shell, chosen))
    return tuple(families)


@lru_cache(maxsize=8)
def element_templates(axis: EnergyAxis, beam: Beam, detector: Detector) -> tuple[tuple[Family, ...], Floats]:
    """Return the families of every candidate and the (continua, channels)."""
    families = []
    for z, shell, lines in _pure_lines(beam):
        energy_kev, photons = np.array(lines).T
        strong = energy_kev[photons > 0.2 * photons.max()]
        expected = detector.respond(energy_kev, photons, axis)
        lowest_kev = LOWEST_LINE_KEV if shell == "K" else LOWEST_OUTER_KEV
        if strong.max() > lowest_kev and expected.sum() > 0:
            families.append(Family(z, shell, float(strong.max()), expected))
    centres = axis.energies_kev + axis.scale_kev / 2
    centres = centres[(centres > LOWEST_KEV) & (centres < beam.kev)]
    continuum = [
        detector.respond(centres, bremsstrahlung({z: 1.0}, beam, centres) * axis.scale_kev, axis)
        for z in CONTINUUM
    ]
    return tuple(families), np.array(continuum)
