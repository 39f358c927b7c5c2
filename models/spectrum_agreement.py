"""How well simulated spectra agree with measured ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import xraylib
from numpy.typing import NDArray
from scipy.optimize import nnls

from sparse_actors.contracts.spectra import EnergyAxis

from .composition import Composition, elements
from .detector_response import Detector
from .physics import LOWEST_KEV, Beam, bremsstrahlung, characteristic, simulate

LEAST_SHARE = 0.005
"""A family of lines with less of the simulated counts is not compared."""
HARD_KEV = 1.0
"""Lines above are absorbed little enough to be a common scale."""
CALIBRATION_KEV = np.arange(-12, 13, 2) * 1e-3
"""Files differ in whether a channel's energy is its lower edge or its centre, and in their calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One simulated spectrum against a measured one of the same specimen."""

    cosine: float
    """Cosine similarity of the two spectra, 1 for equal shapes."""
    misplaced: float
    """Share of the counts that lie in the wrong channel: half the sum of differences."""
    shift_kev: float
    """Offset added to the axis for the best agreement."""
    line_ratios: dict[str, float]
    """Measured over simulated counts of `Fe K`, `Fe L`, ... on a common scale, and of the `continuum`."""


def agreement(
    composition: Composition,
    counts: NDArray[np.float64],
    *,
    beam: Beam,
    axis: EnergyAxis,
    detector: Detector,
    lowest_kev: float = 0.2,
) -> Agreement:
    """Compare a simulation with a measured spectrum.

    Parameters
    ----------
    composition
        What the specimen is made of.
    counts
        (channels,) measured.
    beam, axis, detector
        Of the measurement. Only the offset of the axis is fitted.
    lowest_kev
        Channels below are left out, such as a peak at zero energy.
    """
    inside = (axis.energies_kev > lowest_kev) & (axis.energies_kev < beam.kev)
    measured = counts[inside] / counts[inside].sum()
    compared = []
    edges_kev = np.append(axis.energies_kev, axis.energies_kev[-1] + axis.scale_kev)
    below = np.append(0, np.cumsum(simulate(composition, beam=beam, axis=axis, detector=detector)))
    for shift_kev in CALIBRATION_KEV:
        expected = np.diff(np.interp(edges_kev + shift_kev, edges_kev, below))[inside]
        expected /= expected.sum()
        compared.append((float(np.abs(expected - measured).sum() / 2), float(shift_kev), expected))
    misplaced, shift_kev, expected = min(compared, key=lambda one: one[0])
    shifted = replace(axis, offset_kev=axis.offset_kev + shift_kev)
    return Agreement(
        cosine=float(measured @ expected / np.sqrt((measured @ measured) * (expected @ expected))),
        misplaced=misplaced,
        shift_kev=shift_kev,
        line_ratios=_line_ratios(composition, counts, inside, beam, shifted, detector),
    )


def table(agreements: Iterable[tuple[str, Agreement]]) -> str:
    """Return one line of text per named comparison."""
    rows = [f"{'spectrum':16s} cosine misplaced shift_eV  measured / simulated"]
    for name, one in agreements:
        ratios = "  ".join(f"{line} {ratio:.2f}" for line, ratio in one.line_ratios.items())
        rows.append(
            f"{name:16s} {one.cosine:.4f}    {one.misplaced:.4f} {one.shift_kev * 1e3:+8.0f}  {ratios}"
        )
    return "\n".join(rows)


def _line_ratios(
    composition: Composition,
    counts: NDArray[np.float64],
    inside: NDArray[np.bool_],
    beam: Beam,
    axis: EnergyAxis,
    detector: Detector,
) -> dict[str, float]:
    """Fit the families of lines and the continuum one by one; 1 is the median of the K lines above 1 keV."""
    fractions = elements(composition)
    families: dict[str, list[tuple[float, float]]] = {}
    for number, transition, energy_kev, photons in characteristic(fractions, beam):
        name = f"{xraylib.AtomicNumberToSymbol(number)} {transition[0]}"
        families.setdefault(name, []).append((energy_kev, photons))
    centres = axis.energies_kev + axis.scale_kev / 2
    centres = centres[(centres > LOWEST_KEV) & (centres < beam.kev)]
    continuum = bremsstrahlung(fractions, beam, centres) * axis.scale_kev
    parts = {name: _lines(lines, axis, detector) for name, lines in families.items()}
    parts["continuum"] = detector.respond(centres, continuum, axis)
    total = sum(part.sum() for part in parts.values())
    parts = {name: part for name, part in parts.items() if part.sum() > LEAST_SHARE * total}
    # Carbon is on every specimen in a vacuum of oil pumps, and is the coating of insulators.
    carbon = detector.respond(np.array([0.277]), np.array([total]), axis)
    weight = 1 / np.sqrt(1 + counts[inside])
    columns = np.array([*parts.values(), carbon]).T[inside]
    found, _ = nnls(columns * weight[:, None], counts[inside] * weight)
    hard = {name for name, lines in families.items() if name.endswith("K") and lines[0][0] > HARD_KEV}
    amounts = dict(zip(parts, found, strict=False))
    scale = np.median([amount for name, amount in amounts.items() if name in hard])
    return {name: float(amount / scale) for name, amount in amounts.items()}


def _lines(lines: list[tuple[float, float]], axis: EnergyAxis, detector: Detector) -> NDArray[np.float64]:
    energy_kev, photons = np.array(lines).T
    return detector.respond(energy_kev, photons, axis)
