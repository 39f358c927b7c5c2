"""What a specimen or a window is made of, and how much of X-rays it absorbs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xraylib
from numpy.typing import NDArray

Composition = str | Mapping[str, float]
"""`SiO2`, `Fe:0.7,Ni:0.3` (mass fractions, of compounds too) or a mapping of the same."""


def elements(composition: Composition) -> dict[int, float]:
    """Return the mass fractions by atomic number, which add to 1.

    Raises
    ------
    ValueError
        Unreadable, or a fraction that is not positive.
    """
    if isinstance(composition, str):
        parts = [part.partition(":") for part in composition.split(",")]
        composition = {name.strip(): float(share or 1) for name, _, share in parts}
    if not composition or min(composition.values()) <= 0:
        raise ValueError(f"composition {composition!r}: expected positive mass fractions")
    fractions: dict[int, float] = {}
    for formula, share in composition.items():
        for atomic_number, part in mass_fractions(formula).items():
            fractions[atomic_number] = fractions.get(atomic_number, 0.0) + share * part
    total = sum(fractions.values())
    return {z: part / total for z, part in sorted(fractions.items())}


def mass_fractions(formula: str) -> dict[int, float]:
    """Return the mass fractions by atomic number of a chemical formula such as `SiO2`.

    Raises
    ------
    ValueError
        Not a formula.
    """
    parsed = xraylib.CompoundParser(formula)
    return dict(zip(parsed["Elements"], parsed["massFractions"], strict=True))


def attenuation_cm2_g(fractions: dict[int, float], energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mass attenuation coefficient (cm²/g), (n,) for energies (n,), by Bragg's rule."""
    # Energy by energy, not by xraylib_np: its threads wait for each other 15 ms a call on a busy computer.
    energies = np.asarray(energy_kev, dtype=np.float64).tolist()
    table = [[xraylib.CS_Total(z, energy) for energy in energies] for z in fractions]
    mixed: NDArray[np.float64] = np.array(list(fractions.values())) @ np.array(table)
    return mixed
