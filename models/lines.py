"""Characteristic X-ray lines of the elements, from xraylib's tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import xraylib

_TRANSITION = re.compile(r"(K|L[123]|M[1-5])([LMNO][1-7])_LINE")
_SHELLS = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
_ELECTRONS = (2, 2, 2, 4, 2, 2, 4, 4, 6)
_4F_LINES = {"M4": "M4N6", "M5": "M5N7"}
_4F_SHARE = 0.86
"""Share of the M4 and M5 emission in Mb and Ma where both are tabulated (Z >= 70)."""
LANTHANUM = 57
_MEASURED = {
    ("K", 8): 0.68,
    ("K", 9): 0.80,
    **{("L", z): 0.35 for z in range(21, 28)},
    ("L", 28): 0.5,
    ("L", 29): 0.7,
}
"""Measured over tabulated yield of soft lines, by family and atomic number.

The tables overrate the K lines of oxygen and fluorine and the L lines of metals with an open 3d shell:
O, F and Fe are measured on NIST standards at 15 keV, Cu on a cathode; Ni is between its neighbours.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a subshell."""

    transition: str
    """IUPAC notation, such as KL3."""
    energy_kev: float
    weight: float
    """Photons per vacancy of the subshell: fluorescence yield times radiative rate."""


@dataclass(frozen=True, slots=True)
class Subshell:
    """A subshell that emits lines once ionised."""

    name: str
    edge_kev: float
    electrons: int
    lines: tuple[Line, ...]
    moves_to: tuple[tuple[str, float], ...]
    """(subshell, probability) of the Coster-Kronig transitions that move the vacancy on."""

    @property
    def family(self) -> str:
        """K, L or M."""
        return self.name[0]


@cache
def subshells(atomic_number: int) -> tuple[Subshell, ...]:
    """Return the subshells of an element that emit lines, from K outwards."""
    found = []
    for index, (name, electrons) in enumerate(zip(_SHELLS, _ELECTRONS, strict=True)):
        edge_kev = _number(xraylib.EdgeEnergy, atomic_number, index)
        if not edge_kev:
            continue
        moves = tuple(
            (other, probability)
            for other in _SHELLS
            if other > name and other[0] == name[0]
            if (probability := _coster_kronig(atomic_number, name, other))
        )
        lines = _lines(atomic_number, index)
        if lines:
            found.append(Subshell(name, edge_kev, electrons, lines, moves))
    return tuple(found)


@cache
def _transitions() -> tuple[tuple[str, str, int], ...]:
    """Return (subshell, transition, xraylib's number) of every line between two subshells."""
    matches = ((_TRANSITION.fullmatch(name), name) for name in dir(xraylib))
    return tuple((m[1], m[1] + m[2], getattr(xraylib, name)) for m, name in matches if m)


def _lines(atomic_number: int, index: int) -> tuple[Line, ...]:
    shell = _SHELLS[index]
    fluorescence = _number(xraylib.FluorYield, atomic_number, index)
    rates = {}
    for subshell, transition, code in _transitions():
        rate = _number(xraylib.RadRate, atomic_number, code) if subshell == shell else 0.0
        energy_kev = _number(xraylib.LineEnergy, atomic_number, code) if rate else 0.0
        if energy_kev:
            rates[transition] = (energy_kev, rate)
    strongest = _4F_LINES.get(shell)
    if strongest and atomic_number >= LANTHANUM and strongest not in rates:
        # The tables know no 4f electrons in the light lanthanides, whose Ma and Mb do exist, at the edge.
        edge_kev = xraylib.EdgeEnergy(atomic_number, index)
        rates = {name: (energy, rate * (1 - _4F_SHARE)) for name, (energy, rate) in rates.items()}
        rates[strongest] = (edge_kev, _4F_SHARE)
        fluorescence = max(fluorescence, _number(xraylib.FluorYield, atomic_number, xraylib.M4_SHELL))
    fluorescence *= _MEASURED.get((shell[0], atomic_number), 1.0)
    return tuple(
        Line(name, energy, fluorescence * rate) for name, (energy, rate) in rates.items() if fluorescence
    )


def _coster_kronig(atomic_number: int, origin: str, target: str) -> float:
    code = getattr(xraylib, f"F{origin[0]}{origin[1]}{target[1]}_TRANS")
    return _number(xraylib.CosKronTransProb, atomic_number, code)


def _number(table: Callable[[int, int], float], atomic_number: int, code: int) -> float:
    """Return a tabulated value, 0 where xraylib has none."""
    try:
        return float(table(atomic_number, code))
    except ValueError:
        return 0.0
