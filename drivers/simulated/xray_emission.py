"""X-ray spectra of a composition: lines, continuum, window and resolution of the detector.

Simple physics, to give spectra of the right looks: nothing here quantifies. A line of the K shell
has the strength w / A * omega * (U - 1)**1.67 (mass fraction, atomic mass, fluorescence yield,
overvoltage; Green and Cosslett 1961), with omega = Z**4 / (Z**4 + 1e6) (Wentzel's form, Goldstein et
al., Scanning Electron Microscopy and X-ray Microanalysis, 2003). The continuum is
Z (E0 - E) / E (Kramers 1923). Absorption falls with the third power of the energy. A line has the
width sqrt(FWHM_Mn**2 + 2.5 eV (E - E_Mn)) (Fiori and Newbury 1978).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis

BEAM_KEV = 15.0
CONTINUUM = 1.17e-4
"""Strength per keV of the continuum beside the lines; iron then has a third of its counts in it."""
WINDOW_KEV = 0.22
"""The window lets 1/e pass at this energy, 60 % of the line of carbon."""
L_SHELL = 0.5
"""Strength of the L line of Cr, Mn and Fe beside their K lines, before the window."""
MN_KEV, MN_FWHM_EV = 5.895, 130.0


@dataclass(frozen=True, slots=True)
class Element:
    """Atomic number, standard atomic mass, energy of the K edge, and (energy, share) of the lines."""

    number: int
    mass: float
    edge_kev: float
    lines: tuple[tuple[float, float], ...]


# Energies and intensities (K alpha 1, 2: 100, 50): X-ray Data Booklet (LBNL 2009), tables 1-1 to 1-3;
# K alpha is the mean of its two lines. Shares are of K alpha.
ELEMENTS = {
    "C": Element(6, 12.011, 0.2842, ((0.2770, 1.0),)),
    "O": Element(8, 15.999, 0.5431, ((0.5249, 1.0),)),
    "Al": Element(13, 26.982, 1.5596, ((1.4866, 1.0), (1.5575, 1 / 150))),
    "Si": Element(14, 28.085, 1.8389, ((1.7398, 1.0), (1.8359, 2 / 150))),
    "S": Element(16, 32.06, 2.4720, ((2.3074, 1.0), (2.4640, 5 / 150))),
    "Ca": Element(20, 40.078, 4.0381, ((3.6905, 1.0), (4.0127, 13 / 150))),
    "Cr": Element(24, 51.996, 5.9890, ((5.4116, 1.0), (5.9467, 15 / 150), (0.5728, L_SHELL))),
    "Mn": Element(25, 54.938, 6.5390, ((5.8951, 1.0), (6.4905, 17 / 150), (0.6374, L_SHELL))),
    "Fe": Element(26, 55.845, 7.1120, ((6.3995, 1.0), (7.0580, 17 / 150), (0.7050, L_SHELL))),
}


def emission(
    mass_fractions: Mapping[str, float], axis: EnergyAxis, absorption: float = 0.0
) -> NDArray[np.float64]:
    """Return the share of the counts in each channel, (channels,), of a composition.

    Parameters
    ----------
    mass_fractions
        Of the elements of `ELEMENTS`; they need not add up to 1.
    absorption
        Absorption on the way out of the specimen, as the exponent at 1 keV.
    """
    centres_kev = axis.energies_kev + axis.scale_kev / 2
    total = sum(mass_fractions.values())
    spectrum = np.zeros(axis.channels)
    mean_number = 0.0
    for symbol, mass in mass_fractions.items():
        element = ELEMENTS[symbol]
        mean_number += mass / total * element.number
        yield_k = element.number**4 / (element.number**4 + 1e6)
        strength = mass / total / element.mass * yield_k * (BEAM_KEV / element.edge_kev - 1) ** 1.67
        for line_kev, share in element.lines:
            sigma_kev = _fwhm_kev(line_kev) / 2.3548
            line = np.exp(-0.5 * ((centres_kev - line_kev) / sigma_kev) ** 2) / sigma_kev
            spectrum += strength * share * line / math.sqrt(2 * math.pi)
    emitted = (centres_kev > 0.1) & (centres_kev < BEAM_KEV)
    energies_kev = np.where(emitted, centres_kev, BEAM_KEV)
    spectrum += CONTINUUM * mean_number / ELEMENTS["Fe"].number * (BEAM_KEV / energies_kev - 1)
    spectrum *= emitted * np.exp(-(WINDOW_KEV**3 + absorption) / energies_kev**3)
    result: NDArray[np.float64] = spectrum / spectrum.sum()
    return result


def _fwhm_kev(energy_kev: float) -> float:
    return 1e-3 * math.sqrt(MN_FWHM_EV**2 + 2.5 * (energy_kev - MN_KEV) * 1e3)
