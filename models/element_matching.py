"""Which elements a spectrum shows: families of lines fitted until nothing significant is left."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xraylib
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.optimize import nnls

from sparse_actors.contracts.spectra import EnergyAxis

from .detector_response import Detector
from .element_templates import CANDIDATES, LOWEST_LINE_KEV, Family, element_templates
from .physics import Beam

Floats = NDArray[np.float64]

LEAST_SHARE = 0.004
"""Elements with a smaller share of the counts are below what the model of the others is good for."""
TOLERANCE = 0.03
"""Error of the model next to a peak, as a share of the peak: shape, weights of lines, calibration."""
HARD_KEV, WEAKENED, SOFT_WEAKENED = 1.0, 2.0, 5.0
"""Absorption by other elements changes the ratio of two families by no more than about this, below 1 keV by
more."""
PRIMARY_SHARE = 0.25
"""The hardest family with this share of an element's counts must be a peak in the spectrum."""
CONTINUUM_KEV = 0.15
"""What changes over less than this is a peak, over more continuum."""
SAME_PEAK_KEV = 0.08
RIVALS = 8
COMMON = frozenset((6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 20, 22, 24, 25, 26, 27, 28, 29, 30))
RARE = 1.1
"""How many times better than a common element a rare one must fit; most hits on rare ones are overlaps."""
PER_FAMILY = 9.0
"""What a family of lines must take off the misfit to be worth its freedom."""
MOST_ELEMENTS = 20
CALIBRATION_KEV = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementMatch:
    """An element found in a spectrum."""

    element: str
    """Symbol."""
    score: float
    """Standard deviations by which the spectrum is fitted worse without the element."""
    counts: float
    """Counts in its lines."""
    lines: tuple[str, ...]
    """Families of lines, strongest first, as HyperSpy names them: `Fe_Ka`, `Fe_La`."""


def match_elements(
    counts: NDArray[np.integer | np.floating],
    axis: EnergyAxis,
    *,
    beam_kev: float,
    detector: Detector | None = None,
    takeoff_deg: float = 40.0,
    least_score: float = 5.0,
) -> tuple[ElementMatch, ...]:
    """Return the elements of a spectrum, the most certain first.

    The lines of an element are fitted together, so that an element whose strong lines are not all
    there does not pass for another one with a line at the same energy (S, Mo, Pb; Ti, Ba; Na, Zn).

    Parameters
    ----------
    counts
        (channels,) of one spectrum or the sum of several.
    axis, beam_kev, detector, takeoff_deg
        Of the measurement; offset and gain may be off by some 20 eV.
    least_score
        Elements below are left out.
    """
    families, continuum = element_templates(axis, Beam(beam_kev, takeoff_deg), detector or Detector())
    inside = (axis.energies_kev > LOWEST_LINE_KEV) & (axis.energies_kev < beam_kev)
    measured = np.asarray(counts, dtype=np.float64)
    for _ in range(2):
        fit = _Fit(measured, inside, families, continuum, axis)
        measured = fit.calibrated(fit.search(least_score))
    fit = _Fit(measured, inside, families, continuum, axis)
    return fit.matches(fit.search(least_score), least_score)


class _Fit:
    """Weighted non-negative least squares of one spectrum, element by element."""

    def __init__(
        self,
        measured: Floats,
        inside: NDArray[np.bool_],
        families: tuple[Family, ...],
        continuum: Floats,
        axis: EnergyAxis,
    ) -> None:
        self._axis = axis
        self._inside = inside
        self._all = measured
        self._measured = measured[inside]
        smooth = gaussian_filter1d(measured, 0.03 / axis.scale_kev)
        near = maximum_filter1d(smooth, int(0.2 / axis.scale_kev))[inside]
        self._weight = 1 / np.sqrt(np.maximum(smooth[inside], 0.5) + (TOLERANCE * near) ** 2)
        piled = np.convolve(measured, measured)[max(round(-axis.offset_kev / axis.scale_kev), 0) :]
        always = np.vstack([continuum, piled[: len(measured)] / max(measured.sum(), 1)])
        self._families = families
        columns = np.vstack([always, [family.expected for family in families]])[:, inside]
        self._always = len(always)
        self._sizes = np.maximum(columns.sum(1), 1e-300)
        self._columns = columns / self._sizes[:, None]
        # All fits are of subsets of the same columns, so the channels are projected out once.
        weighted = np.vstack([self._columns, self._measured]) * self._weight
        triangle = np.asarray(np.linalg.qr(weighted.T, mode="r"))
        self._design, self._target = triangle[:, :-1], triangle[:, -1]
        peaks = self._columns[self._always :] - self._wide(self._columns[self._always :])
        self._peaks = peaks * self._weight
        self._peak_sizes = np.sqrt((self._peaks**2).sum(1)) + 1e-300
        self._primary = {}
        for z in {family.atomic_number for family in families}:
            own = self._chosen([z])
            total = sum(self._sizes[self._always + f] for f in own)
            strong = [f for f in own if self._sizes[self._always + f] > PRIMARY_SHARE * total]
            self._primary[z] = max(strong, key=lambda f: families[f].hardest_kev)

    def _wide(self, spectra: Floats) -> Floats:
        smooth: Floats = gaussian_filter1d(spectra, CONTINUUM_KEV / self._axis.scale_kev, axis=-1)
        return smooth

    def search(self, least_score: float) -> list[int]:
        """Return the atomic numbers of elements that leave nothing significant unexplained."""
        found = self._exchanged(self._extended([], CANDIDATES, least_score))
        # A rare element may stand for two common ones, as In for K and Ca.
        for z in [z for z in found if z not in COMMON]:
            rest = [other for other in found if other != z]
            without = tuple(other for other in CANDIDATES if other != z)
            found = min(self._exchanged(self._extended(rest, without, least_score), z), found, key=self._cost)
        return found

    def _cost(self, found: list[int]) -> float:
        return self._misfit(found) + PER_FAMILY * len(self._chosen(found))

    def _extended(self, start: list[int], candidates: tuple[int, ...], least_score: float) -> list[int]:
        """Add the element that explains most until none is significant."""
        found = list(start)
        while len(found) < MOST_ELEMENTS:
            residual = self._measured - self._model(found)
            scores = self._peaks @ ((residual - self._wide(residual)) * self._weight) / self._peak_sizes
            rivals = [z for z in candidates if z not in found and self._is_peak(z, scores, least_score)]
            rivals = sorted(rivals, key=lambda z: -scores[self._primary[z]])[:RIVALS]
            rivals = [z for z in rivals if self._is_complete([*found, z], z)]
            if not rivals:
                break
            before = self._misfit(found)
            gains = {z: self._gain(before, found, z) for z in rivals}
            best = max(rivals, key=lambda z: gains[z])
            if gains[best] <= 0:
                break
            found.append(best)
        return found

    def _exchanged(self, found: list[int], excluded: int | None = None) -> list[int]:
        """Replace each element by one with a peak at the same energy, where all is fitted better then."""
        for z in list(found):
            rest = [other for other in found if other != z]
            near = [
                rival
                for rival in self._primary
                if rival not in (*rest, excluded)
                and abs(self._peak_kev(rival) - self._peak_kev(z)) < SAME_PEAK_KEV
            ]
            complete = [rival for rival in near if self._is_complete([*rest, rival], rival)]
            before = self._misfit(rest)
            found = (
                [*rest, max(complete, key=lambda rival: self._gain(before, rest, rival))]
                if complete
                else rest
            )
        return found

    def _peak_kev(self, z: int) -> float:
        return self._families[self._primary[z]].hardest_kev

    def _is_peak(self, z: int, scores: Floats, least_score: float) -> bool:
        return z in self._primary and scores[self._primary[z]] > least_score

    def _gain(self, before: float, found: list[int], z: int) -> float:
        gain = before - self._misfit([*found, z]) - PER_FAMILY * len(self._chosen([z]))
        return gain if z in COMMON else gain / RARE

    def matches(self, found: list[int], least_score: float) -> tuple[ElementMatch, ...]:
        """Return what is significant once all is fitted together, best first."""
        while True:
            whole, amounts = self._misfit(found), self._amounts(found)
            total = max(float(self._measured.sum()), 1.0)
            scores = {z: self._misfit([o for o in found if o != z]) - whole for z in found}
            counts = {z: sum(amounts[f] for f in self._chosen([z])) for z in found}
            weak = [
                z
                for z in found
                if scores[z] < least_score**2
                or counts[z] < LEAST_SHARE * total
                or not self._is_complete(found, z)
            ]
            if not weak:
                break
            found = [z for z in found if z != min(weak, key=lambda z: scores[z])]
        matched = []
        for z in found:
            own = sorted((f for f in self._chosen([z]) if amounts[f]), key=lambda f: -amounts[f])
            matched.append(
                ElementMatch(
                    element=xraylib.AtomicNumberToSymbol(z),
                    score=float(np.sqrt(scores[z])),
                    counts=float(counts[z]),
                    lines=tuple(self._families[f].name for f in own),
                )
            )
        return tuple(sorted(matched, key=lambda match: -match.score))

    def calibrated(self, found: list[int]) -> Floats:
        """Return the spectrum with offset and gain moved to where the lines of these elements are."""
        model = self._model(found)
        energies = self._axis.energies_kev
        slope = np.gradient(model, self._axis.scale_kev)
        columns = np.array([slope, slope * (energies[self._inside] - 2.0)]).T * self._weight[:, None]
        # A spectrum of few counts must not calibrate itself on noise.
        prior = np.diag([1 / 0.005, 1 / 0.002])
        target = np.concatenate([(model - self._measured) * self._weight, np.zeros(2)])
        (offset, gain), *_ = np.linalg.lstsq(np.vstack([columns, prior]), target, rcond=None)
        moved = np.clip(offset + gain * (energies - 2.0), -CALIBRATION_KEV, CALIBRATION_KEV)
        shifted: Floats = np.interp(energies + moved, energies, self._all)
        return shifted

    def _is_complete(self, found: list[int], z: int) -> bool:
        """Whether every harder family of an element is as strong as its softer ones ask for."""
        amounts = self._amounts(found)
        own = sorted(self._chosen([z]), key=lambda f: self._families[f].hardest_kev)
        for soft, hard in pairwise(own):
            weakened = WEAKENED if self._families[soft].hardest_kev > HARD_KEV else SOFT_WEAKENED
            ratio = self._sizes[self._always + hard] / self._sizes[self._always + soft]
            missing = amounts[soft] * ratio / weakened - amounts[hard]
            if missing * self._peak_sizes[hard] > 3:
                return False
        return amounts[self._primary[z]] > 0

    def _chosen(self, found: list[int]) -> list[int]:
        return [i for i, family in enumerate(self._families) if family.atomic_number in found]

    def _solve(self, found: list[int]) -> tuple[list[int], Floats, float]:
        """Return the columns used, the counts in each, and the misfit."""
        used = [*range(self._always), *(self._always + f for f in self._chosen(found))]
        solution, misfit = nnls(self._design[:, used], self._target)
        return used, solution, float(misfit)

    def _model(self, found: list[int]) -> Floats:
        used, solution, _ = self._solve(found)
        model: Floats = solution @ self._columns[used]
        return model

    def _misfit(self, found: list[int]) -> float:
        return self._solve(found)[2] ** 2

    def _amounts(self, found: list[int]) -> dict[int, float]:
        """Return the counts in every family of these elements."""
        used, solution, _ = self._solve(found)
        return {column - self._always: float(amount) for column, amount in zip(used, solution, strict=True)}
