"""Spectra for the tests of classifiers: three made-up phases of Gaussian lines on a continuum."""

from pathlib import Path

import numpy as np
from sparse_actors.models.spectrum_library import SpectrumLibrary

from sparse_actors.contracts.spectra import EnergyAxis

AXIS = EnergyAxis(channels=2048, offset_kev=-0.2, scale_kev=0.01)
LINES_KEV = {
    "quartz": ((0.525, 0.25), (1.740, 0.6)),
    "feldspar": ((0.525, 0.25), (1.487, 0.2), (1.740, 0.4)),
    "iron": ((0.705, 0.1), (6.404, 0.7)),
}
PHASES = ("quartz", "feldspar")


def shape(phase, axis=AXIS, zero_peak=0.0):
    """Expected share of each channel; what the zero-energy peak adds comes on top."""
    energy = axis.energies_kev + axis.scale_kev / 2
    spectrum = np.where((energy > 0.1) & (energy < 15), np.exp(-energy / 3), 0)
    spectrum *= (1 - sum(share for _, share in LINES_KEV[phase])) / spectrum.sum()
    for line_kev, share in (*LINES_KEV[phase], (0.0, zero_peak)):
        sigma_kev = np.sqrt(0.025**2 + 0.00365 * 0.118 * line_kev)
        peak = np.exp(-0.5 * ((energy - line_kev) / sigma_kev) ** 2)
        spectrum = spectrum + share * peak / peak.sum()
    return spectrum


def drawn(phase, n, dose, seed=0, axis=AXIS, background=0.0, zero_peak=0.0):
    random = np.random.default_rng([seed, sum(map(ord, phase))])
    expected = dose * shape(phase, axis, zero_peak) + background
    return random.poisson(expected, (n, axis.channels)).astype(np.uint32)


def library(per_phase=6, dose=7500, phases=PHASES, axis=AXIS, live_time_s=10.0, seed=5):
    return SpectrumLibrary(
        counts=np.concatenate([drawn(phase, per_phase, dose, seed, axis) for phase in phases]),
        labels=np.repeat(np.arange(1, len(phases) + 1), per_phase).astype(np.int32),
        phases=tuple(phases),
        axis=axis,
        live_time_s=np.full(per_phase * len(phases), live_time_s),
        beam_kev=15.0,
    )


def saved(folder: Path, spectra=None) -> Path:
    path = folder / "library.npz"
    (library() if spectra is None else spectra).save(path)
    return path
