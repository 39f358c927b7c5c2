"""Measured spectra of specimens whose composition is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis

DATA = Path(__file__).parents[1].parent / "shared" / "data"

AT_15_KEV = {
    "Al2O3": "Al2O3",
    "CaF2": "CaF2",
    "Fe": "Fe",
    "K412": "SiO2:0.4535,FeO:0.0996,MgO:0.1933,CaO:0.1525,Al2O3:0.0927",
    "MgO": "MgO",
    "SiO2": "SiO2",
}
AT_20_KEV = {
    "ADM-6005a": "O:0.3398,Al:0.0664,Si:0.0405,Ca:0.0683,Ti:0.0713,Zn:0.1055,Ge:0.3037",
    "Al std": "Al",
    "CaF2 std": "CaF2",
    "Fe std": "Fe",
    "Ge std": "Ge",
    "Si std": "Si",
    "SiO2 std": "SiO2",
    "Ti trimmed": "Ti",
    "Zn std": "Zn",
}


class Standard(NamedTuple):
    """The sum of the spectra of one material."""

    name: str
    composition: str
    counts: NDArray[np.float64]
    axis: EnergyAxis
    beam_kev: float


def standards(beam_kev: float) -> Iterator[Standard]:
    """Yield the NIST standards at 15 or 20 keV; skip the test where there are none."""
    file = DATA / "eds_spectra" / ("nist_15keV.npz" if beam_kev == 15 else "nist_ADM6005a.npz")
    if not file.exists():
        pytest.skip(f"{file.name} is not there")
    with np.load(file) as read:
        spectra, names = read["counts"], read["names"]
        offsets, scales = read["energy_offset_keV"], read["energy_scale_keV"]
    for material, composition in (AT_15_KEV if beam_kev == 15 else AT_20_KEV).items():
        chosen = [i for i, name in enumerate(names) if name.replace("IIIE ", "").startswith(material)]
        chosen = [i for i in chosen if beam_kev == 20 or names[i].replace("IIIE ", "")[len(material)] == "["]
        first = chosen[0]
        axis = EnergyAxis(
            channels=spectra.shape[1], offset_kev=float(offsets[first]), scale_kev=float(scales[first])
        )
        yield Standard(material, composition, spectra[chosen].sum(0, dtype=np.float64), axis, beam_kev)


def mineral_map() -> tuple[NDArray[np.uint32], NDArray[np.uint8], EnergyAxis, float]:
    """Return the spectra (rows, columns, channels) of four minerals, their labels, axis and beam energy."""
    file = DATA / "eds_maps" / "chevkinite_30x30.npz"
    if not file.exists():
        pytest.skip(f"{file.name} is not there")
    with np.load(file) as read:
        shape = tuple(read["shape"])
        counts = np.zeros(np.prod(shape), np.uint32)
        counts[read["idx"]] = read["val"]
        axis = EnergyAxis(
            channels=int(shape[2]),
            offset_kev=float(read["energy_offset_keV"]),
            scale_kev=float(read["energy_scale_keV"]),
        )
        return counts.reshape(shape), read["labels_reference"], axis, float(read["beam_keV"])
