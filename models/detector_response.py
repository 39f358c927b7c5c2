"""What a silicon drift detector makes of the X-rays that reach it: efficiency, broadening and artefacts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xraylib
from numba import njit
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis

from .composition import attenuation_cm2_g, mass_fractions

PAIR_EV = 3.65
"""Mean energy of an electron-hole pair in silicon."""
FANO = 0.118
MN_KA_EV = 5895.0
SILICON_KA_KEV = 1.740
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))

Layer = tuple[str, float]
"""(formula, mass thickness in µg/cm²)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """A silicon drift detector; the defaults are a polymer window on a silicon grid.

    Notes
    -----
    Energies and efficiencies follow the usual description of a Si detector (Goldstein et al.,
    *Scanning Electron Microscopy and X-Ray Microanalysis*, 4th ed., ch. 16).
    """

    resolution_ev_mn_ka: float = 130.0
    """Full width at half maximum at Mn Ka (5.895 keV)."""
    window: tuple[Layer, ...] = (("C10H8O4", 42.0), ("Al", 10.8))
    """300 nm polyester and 40 nm aluminium: about a Moxtek AP3.3."""
    grid_open: float = 0.77
    """Share of the window not covered by the supporting grid; 1 without grid."""
    grid_um: float = 380.0
    """Thickness of the silicon grid."""
    dead_layer_um: float = 0.05
    """Silicon in front of the active volume whose charge is lost."""
    thickness_um: float = 450.0
    """Active silicon."""
    tail: float = 0.01
    """Share of the counts with incompletely collected charge; they fall off below the peak."""
    tail_kev: float = 0.25
    """Distance from the peak at which the tail has fallen to 1/e."""
    pile_up: float = 0.0
    """Share of the counts that are the sum of two photons."""
    zero_peak: float = 0.0
    """Counts of the peak at zero energy per count of X-rays."""

    def sigma_kev(self, energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard deviation (keV) of the response at the given energies.

        FWHM² = noise² + 5.545 * 3.65 eV * F * E (Fitzgerald, Keil & Heinrich 1968).
        """
        scale = FWHM_PER_SIGMA**2 * PAIR_EV * FANO
        square_ev = self.resolution_ev_mn_ka**2 + scale * (np.asarray(energy_kev) * 1e3 - MN_KA_EV)
        sigma: NDArray[np.float64] = np.sqrt(np.maximum(square_ev, 30.0**2)) / FWHM_PER_SIGMA * 1e-3
        return sigma

    def efficiency(self, energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of photons that is counted, (n,) for energies (n,) in keV."""
        silicon = attenuation_cm2_g({14: 1.0}, energy_kev) * xraylib.ElementDensity(14) * 1e-4
        through = np.full(len(energy_kev), 1.0)
        for formula, ug_cm2 in self.window:
            through *= np.exp(-attenuation_cm2_g(mass_fractions(formula), energy_kev) * ug_cm2 * 1e-6)
        grid = self.grid_open + (1 - self.grid_open) * np.exp(-silicon * self.grid_um)
        stopped = -np.expm1(-silicon * self.thickness_um)
        counted: NDArray[np.float64] = through * grid * np.exp(-silicon * self.dead_layer_um) * stopped
        return counted

    def respond(
        self, energy_kev: NDArray[np.float64], photons: NDArray[np.float64], axis: EnergyAxis
    ) -> NDArray[np.float64]:
        """Return what is counted of photons that reach the window.

        Parameters
        ----------
        energy_kev, photons
            (n,) each: lines, or a continuum cut into narrow steps.
        axis
            The channels.

        Returns
        -------
        (channels,) expected counts, on the scale of `photons`.
        """
        counted = photons * self.efficiency(energy_kev)
        escaped = counted * _escape_share(energy_kev)
        edges_kev = axis.offset_kev + axis.scale_kev * np.arange(axis.channels + 1, dtype=np.float64)
        every_kev = np.concatenate([energy_kev, energy_kev - SILICON_KA_KEV])
        every = np.concatenate([counted - escaped, escaped])
        usable = every_kev > 0
        energy_kev, counted = every_kev[usable], every[usable]
        spectrum = np.zeros(axis.channels)
        spectrum += _spread(energy_kev, counted * (1 - self.tail), self.sigma_kev(energy_kev), edges_kev)
        spectrum += _fall_off(energy_kev, counted * self.tail, self.tail_kev, edges_kev)
        return self._with_artefacts(spectrum, edges_kev)

    def _with_artefacts(
        self, spectrum: NDArray[np.float64], edges_kev: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        total = spectrum.sum()
        if self.pile_up and total:
            # The energies of two photons add: channel i + j, less the channel of zero energy.
            both = np.convolve(spectrum, spectrum) / total
            zero = round(-edges_kev[0] / (edges_kev[1] - edges_kev[0]))
            both = both[zero:] if zero >= 0 else np.concatenate([np.zeros(-zero), both])
            spectrum = (1 - 2 * self.pile_up) * spectrum + self.pile_up * both[: len(spectrum)]
        if self.zero_peak:
            zero_energy = np.zeros(1)
            spectrum = spectrum + _spread(
                zero_energy, np.array([self.zero_peak * total]), self.sigma_kev(zero_energy), edges_kev
            )
        return spectrum


def _escape_share(energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of photons whose silicon K photon leaves the crystal (Reed & Ware 1972)."""
    edge_kev = xraylib.EdgeEnergy(14, xraylib.K_SHELL)
    jump = 1 - 1 / xraylib.JumpFactor(14, xraylib.K_SHELL)
    inward = attenuation_cm2_g({14: 1.0}, energy_kev)
    outward = attenuation_cm2_g({14: 1.0}, np.array([SILICON_KA_KEV]))
    share = 0.5 * xraylib.FluorYield(14, xraylib.K_SHELL) * jump
    share = share * (1 - outward / inward * np.log1p(inward / outward))
    return np.where(energy_kev > edge_kev, share, 0.0)


@njit(cache=True)
def _spread(energy_kev, counts, sigma_kev, edges_kev):  # type: ignore[no-untyped-def]
    """Add up a Gaussian per energy, integrated over each channel."""
    spectrum = np.zeros(len(edges_kev) - 1)
    first, step = edges_kev[0], edges_kev[1] - edges_kev[0]
    for k in range(len(energy_kev)):
        low = max(int((energy_kev[k] - 6 * sigma_kev[k] - first) / step), 0)
        high = min(int((energy_kev[k] + 6 * sigma_kev[k] - first) / step) + 1, len(spectrum))
        if high <= low:
            continue
        before = _below((edges_kev[low] - energy_kev[k]) / sigma_kev[k])
        for channel in range(low, high):
            after = _below((edges_kev[channel + 1] - energy_kev[k]) / sigma_kev[k])
            spectrum[channel] += counts[k] * (after - before)
            before = after
    return spectrum


@njit(cache=True)
def _fall_off(energy_kev, counts, length_kev, edges_kev):  # type: ignore[no-untyped-def]
    """Add up an exponential below each energy, down to zero energy, integrated over each channel."""
    spectrum = np.zeros(len(edges_kev) - 1)
    first, step = edges_kev[0], edges_kev[1] - edges_kev[0]
    for k in range(len(energy_kev)):
        whole = 1 - math.exp(-energy_kev[k] / length_kev)
        end = min(int((energy_kev[k] - first) / step), len(spectrum) - 1)
        start = max(int((energy_kev[k] - 8 * length_kev - first) / step), int(-first / step), 0)
        for channel in range(start, end + 1):
            near = energy_kev[k] - min(edges_kev[channel + 1], energy_kev[k])
            far = energy_kev[k] - max(edges_kev[channel], 0.0)
            spectrum[channel] += (
                counts[k] * (math.exp(-near / length_kev) - math.exp(-far / length_kev)) / whole
            )
    return spectrum


@njit(cache=True)
def _below(deviations):  # type: ignore[no-untyped-def]  # pragma: no cover
    return 0.5 * (1 + math.erf(deviations / math.sqrt(2)))
