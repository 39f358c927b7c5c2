"""Spectra grouped by phase, all at once and without knowing any phase: what a library is made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis

Floats = NDArray[np.float64]

SPREAD = 0.3
"""Relative difference of spectra that still counts as one phase, whatever their counts: beside noise,
topography, absorption and traces of light elements change the lines of one phase by so much."""
SIGMA = 5.0
"""So many standard deviations of chance beyond this, and two groups are different phases."""
BIN_KEV = 0.1
"""About the resolution of the detector."""
LEAST_KEV = 0.1
"""Below lies the zero-energy peak."""
LEAST_EXPECTED = 5.0
"""Counts of a spectrum in a bin."""
LEAST_MEMBERS = 2
LEAST_SHARE = 0.02
"""A phase has at least so many spectra, and this share of all; what is rarer is chance."""


@dataclass(frozen=True, slots=True)
class SpectrumGroup:
    """Spectra of one phase."""

    name: str
    """Empty where nobody gave one."""
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """What was found."""

    groups: tuple[SpectrumGroup, ...]
    """The largest first."""
    left: tuple[int, ...]
    """Spectra that are too few of their kind."""


def grouped(
    counts: NDArray[np.integer],
    axis: EnergyAxis,
    names: Sequence[str] = (),
    phases: int | None = None,
) -> Grouping | None:
    """Group spectra: the two groups that are most alike are joined, again and again.

    Two groups are of one phase as long as 2 [L(a) + L(b) - L(a + b)], L(x) = sum x log(x / sum x), is what
    chance and SPREAD explain. Its chance is that of chi-squared, however many counts each has (S. S. Wilks,
    Ann. Math. Stat. 9, 60, 1938); a relative difference s adds s^2 N_a N_b / (N_a + N_b).

    Parameters
    ----------
    counts
        (n, channels).
    axis
        Energy of the channels.
    names
        Of the phases of the first spectra; those of different names stay apart.
    phases
        How many there are; None: as many as differ by more than SPREAD.

    Returns
    -------
    None if the spectra do not show so many phases.
    """
    joining = _Joining(_binned(counts, axis), names)
    found: tuple[list[SpectrumGroup], list[int]] | None = None
    while True:
        big, left = joining.phases()
        closest = joining.closest()
        ends = closest is None or (phases is None and closest[0] > 1)
        if len(big) == phases or (phases is None and ends):
            found = big, left
        if ends or closest is None:
            break
        joining.join(*closest[1:])
    if found is None:
        return None
    groups = sorted(found[0], key=lambda group: -len(group.members))
    return Grouping(tuple(groups), tuple(sorted(found[1])))


class _Joining:
    """Groups on their way, and how far apart they are: 1 is as far as groups of one phase may be."""

    def __init__(self, binned: Floats, names: Sequence[str]) -> None:
        self._least = max(LEAST_MEMBERS, math.ceil(LEAST_SHARE * len(binned)))
        self._names = list(dict.fromkeys(names))
        self._members = [[i for i, other in enumerate(names) if other == name] for name in self._names]
        self._members += [[i] for i in range(len(names), len(binned))]
        self._names += [""] * (len(binned) - len(names))
        self._sums = np.array([binned[members].sum(axis=0) for members in self._members])
        self._ratios = np.full((len(self._sums), len(self._sums)), np.inf)
        for i in range(1, len(self._sums)):
            self._ratios[i, :i] = self._ratios[:i, i] = _ratios(self._sums[i], self._sums[:i])
        named = np.array([bool(name) for name in self._names])
        self._ratios[np.ix_(named, named)] = np.inf

    def closest(self) -> tuple[float, int, int] | None:
        """Return the ratio and the numbers of the two groups most alike, None if no two may be joined."""
        one, other = sorted(map(int, np.unravel_index(self._ratios.argmin(), self._ratios.shape)))
        ratio = float(self._ratios[one, other])
        return (ratio, one, other) if math.isfinite(ratio) else None

    def join(self, one: int, other: int) -> None:
        """Make one group of two."""
        self._members[one] += self._members.pop(other)
        name = self._names.pop(other)
        self._names[one] = self._names[one] or name
        self._sums[one] += self._sums[other]
        self._sums = np.delete(self._sums, other, axis=0)
        self._ratios = np.delete(np.delete(self._ratios, other, axis=0), other, axis=1)
        row = _ratios(self._sums[one], self._sums)
        row[one] = np.inf
        if self._names[one]:
            row[[bool(name) for name in self._names]] = np.inf
        self._ratios[one] = self._ratios[:, one] = row

    def phases(self) -> tuple[list[SpectrumGroup], list[int]]:
        """Return the groups that are named or large enough, and the members of the others."""
        groups, left = [], []
        for name, members in zip(self._names, self._members, strict=True):
            if name or len(members) >= self._least:
                groups.append(SpectrumGroup(name, tuple(sorted(members))))
            else:
                left += members
        return groups, left


def _ratios(one: Floats, others: Floats) -> Floats:
    """Return the misfit of one group (bins,) with each of others over what chance and SPREAD explain."""
    misfit = 2 * (_log_likelihood(one) + _log_likelihood(others) - _log_likelihood(one + others))
    freedom = max(1, len(one) - 1)
    total, totals = one.sum(), others.sum(axis=1)
    common = total * totals / np.maximum(total + totals, 1)
    ratios: Floats = misfit / (freedom + SIGMA * math.sqrt(2 * freedom) + SPREAD**2 * common)
    return ratios


def _log_likelihood(counts: Floats) -> Floats:
    total = counts.sum(axis=-1, keepdims=True)
    share = np.divide(counts, total, out=np.ones_like(counts), where=counts > 0)
    likelihood: Floats = (counts * np.log(share)).sum(axis=-1)
    return likelihood


def _binned(counts: NDArray[np.integer], axis: EnergyAxis) -> Floats:
    """Return (n, bins): bins are wider than BIN_KEV where the spectra have few counts."""
    first = int(np.argmax(axis.energies_kev >= LEAST_KEV))
    step = max(1, round(BIN_KEV / axis.scale_kev))
    places = np.arange(first, axis.channels, step)
    fine: Floats = np.add.reduceat(counts, places, axis=1, dtype=np.float64)
    enough, starts, held = LEAST_EXPECTED * len(counts), [0], 0.0
    for number, total in enumerate(fine.sum(axis=0).tolist()):
        if held >= enough:
            starts.append(number)
            held = 0.0
        held += total
    if held < enough and len(starts) > 1:
        starts.pop()  # the rest goes to the bin before it
    binned: Floats = np.add.reduceat(fine, starts, axis=1)
    return binned
