"""X-ray spectra of a flat, homogeneous specimen from first principles, to train classifiers on.

The electron beam ionises atoms while it slows down; the X-rays are absorbed on their way to the
detector. Sources of the parts:

- ionisation: Casnati, Tartari & Baraldi, J. Phys. B 15 (1982) 155;
- slowing down: Joy & Luo, Scanning 11 (1989) 176, with J by Berger & Seltzer (1964);
- depth distribution and backscatter: XPP, Pouchou & Pichoir, *Electron Probe Quantitation* (1991) 31;
- bremsstrahlung: Kramers, Phil. Mag. 46 (1923) 836, corrected (see `bremsstrahlung`);
- lines, yields, Coster-Kronig transitions and absorption: xraylib (Schoonjans et al. 2011).

Fluorescence of one element by the lines of another is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import xraylib
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis

from .composition import Composition, attenuation_cm2_g, elements
from .detector_response import Detector
from .lines import subshells
from .spectrum_library import SpectrumLibrary

Floats = NDArray[np.float64]

AVOGADRO = 6.02214e23
RYDBERG_KEV = 0.0136057
ELECTRON_REST_KEV = 510.999
BOHR_AREA_CM2 = 2.80028e-17
LOWEST_KEV = 0.1
"""Nothing is emitted below: the tables of absorption end here."""
KRAMERS = 3.69e-6
"""Photons per electron, keV and atomic number."""
STEEPER_PER_KEV = 0.70


@dataclass(frozen=True, slots=True)
class Beam:
    """How the specimen is hit, and where the detector looks from."""

    kev: float
    takeoff_deg: float = 40.0


def simulate(
    composition: Composition,
    *,
    beam: Beam,
    axis: EnergyAxis,
    detector: Detector | None = None,
    counts: float | None = None,
) -> Floats:
    """Return the expected counts per channel of a spectrum.

    Parameters
    ----------
    composition
        Mass fractions of elements or compounds.
    beam, axis, detector
        As measured; a default polymer-window detector if none is given.
    counts
        Total of the spectrum; None: per electron and for a detector all around (4 pi).
    """
    fractions = elements(composition)
    lines = characteristic(fractions, beam)
    centres = axis.energies_kev + axis.scale_kev / 2
    inside = (centres > LOWEST_KEV) & (centres < beam.kev)
    continuum = bremsstrahlung(fractions, beam, centres[inside]) * axis.scale_kev
    energies = np.concatenate([[energy for _, _, energy, _ in lines], centres[inside]])
    photons = np.concatenate([[count for *_, count in lines], continuum])
    expected = (detector or Detector()).respond(energies, photons, axis)
    return expected if counts is None else expected * (counts / expected.sum())


def library_from_physics(
    phases: Mapping[str, Composition],
    *,
    beam: Beam,
    axis: EnergyAxis,
    spectra_per_phase: int,
    counts: tuple[float, float],
    seed: int,
    detector: Detector | None = None,
    counts_per_s: float = 1e4,
) -> SpectrumLibrary:
    """Draw labelled spectra of some phases.

    Parameters
    ----------
    phases
        Composition by name; label 1 is the first.
    beam, axis, detector
        The instrument that will take the spectra to classify.
    spectra_per_phase
        How many of each.
    counts
        Least and most expected counts of a spectrum, drawn evenly on a logarithmic scale.
    seed
        Of the random numbers.
    counts_per_s
        Count rate, from which the live times follow.

    Raises
    ------
    ValueError
        A composition cannot be read.
    ClassifierError
        The phases are none or too many for a library.
    """
    random = np.random.default_rng(seed)
    spectra, doses = [], []
    for composition in phases.values():
        expected = simulate(composition, beam=beam, axis=axis, detector=detector, counts=1.0)
        dose = np.exp(random.uniform(math.log(counts[0]), math.log(counts[1]), spectra_per_phase))
        spectra.append(random.poisson(dose[:, None] * expected).astype(np.uint32))
        doses.append(dose)
    return SpectrumLibrary(
        counts=np.concatenate(spectra),
        labels=np.repeat(np.arange(1, len(phases) + 1, dtype=np.int32), spectra_per_phase),
        phases=tuple(phases),
        live_time_s=np.concatenate(doses) / counts_per_s,
        axis=axis,
        beam_kev=beam.kev,
    )


def characteristic(fractions: Mapping[int, float], beam: Beam) -> list[tuple[int, str, float, float]]:
    """Return (atomic number, transition, energy in keV, photons per electron in 4 pi) of every line."""
    emitted: list[tuple[int, str, float, float]] = []
    for atomic_number, fraction in fractions.items():
        shells = [shell for shell in subshells(atomic_number) if shell.edge_kev < beam.kev * 0.99]
        vacancies = dict.fromkeys((shell.name for shell in shells), 0.0)
        for shell in shells:
            vacancies[shell.name] += (
                shell.electrons
                * BOHR_AREA_CM2
                * float(_ionisation(np.array(beam.kev), np.array(shell.edge_kev)))
            )
            for other, probability in shell.moves_to:
                if other in vacancies:
                    vacancies[other] += vacancies[shell.name] * probability
            lines = [line for line in shell.lines if line.energy_kev > LOWEST_KEV]
            depth = escaping_depth(
                fractions,
                beam,
                np.full(len(lines), shell.edge_kev),
                np.array([line.energy_kev for line in lines]),
            )
            atoms_g = AVOGADRO * fraction / xraylib.AtomicWeight(atomic_number)
            emitted += [
                (
                    atomic_number,
                    line.transition,
                    line.energy_kev,
                    atoms_g * vacancies[shell.name] * line.weight * d,
                )
                for line, d in zip(lines, depth, strict=True)
            ]
    return emitted


def bremsstrahlung(fractions: Mapping[int, float], beam: Beam, energy_kev: Floats) -> Floats:
    """Return the continuum, photons per electron and keV in 4 pi, (n,) at energies (n,) below the beam's.

    N(E) = K Z (E0 - E) / E * R * exp(-0.70 E / Z) * f(chi): Kramers' law, less what backscattered
    electrons take away, with a steeper fall for light elements. K and 0.70 are fitted to six NIST
    standards at 15 keV (Z = 10 to 26).
    """
    z = sum(part * number for number, part in fractions.items())
    generated = z * (beam.kev - energy_kev) / energy_kev * np.exp(-STEEPER_PER_KEV * energy_kev / z)
    kept = _kept(_mean_root_z(fractions), beam.kev / energy_kev)
    absorbed = escaping_depth(fractions, beam, energy_kev, energy_kev)
    emitted: Floats = KRAMERS * generated * kept * absorbed / _ionised_depth(fractions, beam.kev, energy_kev)
    return emitted


def escaping_depth(
    fractions: Mapping[int, float], beam: Beam, edge_kev: Floats, energy_kev: Floats
) -> Floats:
    """Return the effective mass depth (g/cm²) that emits towards the detector: XPP's F(chi).

    Parameters
    ----------
    fractions
        Mass fractions by atomic number.
    beam
        Beam and take-off angle.
    edge_kev
        (n,) energy needed to excite.
    energy_kev
        (n,) energy of the photon.
    """
    area = _ionised_depth(fractions, beam.kev, edge_kev)
    u0 = beam.kev / edge_kev
    z = _mean_root_z(fractions)
    eta = _backscattered(z)
    surface = 1 + 3.3 * (1 - u0 ** -(2 - 2.3 * eta)) * eta**1.2
    x, y = 1 + 1.3 * math.log(z), 0.2 + z / 200
    inverse = 1 + x * np.log1p(y * (1 - u0**-0.42)) / math.log1p(y)
    mean = area / np.maximum(inverse, surface * (1 + 1e-9))
    g = 0.22 * math.log(4 * z) * (1 - 2 * np.exp(-z * (u0 - 1) / 15))
    h = 1 - 10 * (1 - 1 / (1 + u0 / 10)) / z**2
    b = math.sqrt(2) * (1 + np.sqrt(1 - mean * surface / area)) / mean
    slope = np.minimum(g * h**4, 0.9 * b * mean**2 * (b - 2 * surface / area)) * area / mean**2
    a = (slope + b * (2 * surface - b * area)) / (b * area * (2 - b * mean) - surface)
    ratio = (a - b) / b
    ratio = np.where(np.abs(ratio) < 1e-6, 1e-6, ratio)
    big_b = (b**2 * area * (1 + ratio) - slope - surface * b * (2 + ratio)) / ratio
    big_a = (big_b / b + surface - b * area) * (1 + ratio) / ratio
    chi = attenuation_cm2_g(dict(fractions), energy_kev) / math.sin(math.radians(beam.takeoff_deg))
    depth: Floats = (surface + big_b / (b + chi) - big_a * b * ratio / (b * (1 + ratio) + chi)) / (b + chi)
    return depth


def _ionised_depth(fractions: Mapping[int, float], beam_kev: float, edge_kev: Floats) -> Floats:
    """Return how deep (g/cm²) the beam would ionise at its first cross-section, (n,) for edges (n,).

    R ∫ Q(E) / (-dE/d(rho s)) dE / Q(E0), from the edge to the beam's energy.
    """
    nodes, weights = _gauss_legendre()
    half = (beam_kev - edge_kev) / 2
    energy = edge_kev[:, None] + half[:, None] * (1 + nodes)
    along = _ionisation(energy, edge_kev[:, None]) / _stopping(fractions, energy)
    first = _ionisation(np.full(len(edge_kev), beam_kev), edge_kev)
    kept = _kept(_mean_root_z(fractions), beam_kev / edge_kev)
    depth: Floats = kept * half * (along @ weights) / first
    return depth


@cache
def _gauss_legendre() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(24)
    return nodes, weights


def _kept(z: float, overvoltage: Floats) -> Floats:
    """Return the share of the ionisation that backscattered electrons leave behind (XPP's R)."""
    eta = _backscattered(z)
    mean_energy = 0.595 + eta / 3.7 + eta**4.55
    q = (2 * mean_energy - 1) / (1 - mean_energy)
    spent = overvoltage - 1 - (1 - overvoltage ** -(1 + q)) / (1 + q)
    possible = (2 + q) * (1 + overvoltage * (np.log(overvoltage) - 1))
    share: Floats = 1 - eta * mean_energy * (1 - spent / possible)
    return share


def _ionisation(energy_kev: Floats, edge_kev: Floats) -> Floats:
    """Return the cross-section per electron of a subshell, in squared Bohr radii (Casnati et al. 1982)."""
    u = energy_kev / edge_kev
    i, t = edge_kev / ELECTRON_REST_KEV, energy_kev / ELECTRON_REST_KEV
    relativistic = (2 + i) / (2 + t) * ((1 + t) / (1 + i)) ** 2
    speed = (i + t) * (2 + t) * (1 + i) ** 2 / (t * (2 + t) * (1 + i) ** 2 + i * (2 + i))
    psi = (edge_kev / RYDBERG_KEV) ** (-0.0318 + 0.3160 / u - 0.1135 / u**2)
    phi = 10.57 * np.exp(-1.736 / u + 0.317 / u**2)
    section: Floats = (RYDBERG_KEV / edge_kev) ** 2 * relativistic * speed**1.5 * psi * phi * np.log(u) / u
    return section


def _stopping(fractions: Mapping[int, float], energy_kev: Floats) -> Floats:
    """Return the energy lost per mass depth, keV cm²/g (Bethe, with J as Joy & Luo change it)."""
    loss = np.zeros_like(energy_kev)
    for z, part in fractions.items():
        j = (9.76 * z + 58.5 * z**-0.19) * 1e-3
        k = 0.731 + 0.0688 * math.log10(z)
        loss += part * z / xraylib.AtomicWeight(z) * np.log(1.166 * (energy_kev + k * j) / j)
    return 78500 / energy_kev * loss


def _mean_root_z(fractions: Mapping[int, float]) -> float:
    return sum(part * math.sqrt(z) for z, part in fractions.items()) ** 2


def _backscattered(z: float) -> float:
    """Return the share of backscattered electrons."""
    return 1.75e-3 * z + 0.37 * -math.expm1(-0.015 * z**1.3)
