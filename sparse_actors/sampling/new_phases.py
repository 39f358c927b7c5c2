"""The open set: spectra that fit no known phase, grouped on line, and proposed as new phases.

Every spectrum a classifier puts to no phase is added. It joins the group it is likeliest of, among those
whose sum it agrees with within counting noise, or starts a group. Groups that agree become one. A group
with enough spectra and counts is a new phase unless it is a mixture: at a boundary the beam excites both
sides, so that every known pair of phases leaves spectra that fit neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from sparse_actors.contracts.classifier import FITS_NONE
from sparse_actors.contracts.spectra import EnergyAxis

Floats = NDArray[np.float64]

BIN_KEV = 0.1
"""About the width of a line."""
LOWEST_KEV = 0.15
"""Channels below hold the noise peak of some detectors."""
AGREES = 4.0
"""Standard deviations from agreement up to which two spectra may be of one phase."""
DISAGREES = 6.0
"""Standard deviations from every mixture beyond which a group is new."""
PRIOR_COUNTS = 30.0
"""Weight of the mean of everything seen in the likelihood of a group of few counts."""
LIKELIER = 3.0
"""Log-likelihood by which another group must be the better one for a spectrum to move."""
MOST_OF, SOME_OF = 0.8, 0.05
LEAST_EXPECTED = 0.1
MOST_SPECTRA = 5000
"""Beyond, the oldest spectrum that found no company is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A group of spectra alike, of no single known phase."""

    group: int
    """Number of the group, for as long as it exists."""
    positions: tuple[int, ...]
    """Of its spectra, in the order they were added."""
    template: Floats
    """(channels,) sum of its spectra."""
    mixture_of: tuple[int, ...] | None
    """None for a new phase; else the labels of the phases that explain it.

    FITS_NONE stands for another group here; no label at all means noise, spread evenly over energy.
    """
    deviation: float
    """Standard deviations between the group and the mixture that explains it best."""


@dataclass(slots=True, eq=False)
class _Group:
    number: int
    sums: Floats
    members: list[int] = field(default_factory=list)
    is_dismissed: bool = False


class NewPhases:
    """Finds phases that a classifier does not know among the spectra it puts to none.

    The same spectra added in the same order give the same proposals.

    Parameters
    ----------
    axis
        Energy of the channels.
    templates
        (L, channels): the spectra of the known phases, on any scale; label 1 is the first.
    least_members, least_counts
        Spectra and counts a group needs to be proposed.
    spread
        Relative difference in a line among spectra of one phase, beside counting noise.
    """

    def __init__(
        self,
        axis: EnergyAxis,
        templates: Sequence[NDArray[np.floating]] | NDArray[np.floating],
        *,
        least_members: int = 5,
        least_counts: float = 2000.0,
        spread: float = 0.05,
    ) -> None:
        first = int(np.searchsorted(axis.energies_kev, LOWEST_KEV))
        self._starts = np.arange(first, axis.channels, max(1, round(BIN_KEV / axis.scale_kev)))
        self._known = [self._shape(template) for template in templates]
        self._accepted: list[tuple[int, _Group]] = []
        widths = np.diff(self._starts, append=axis.channels)
        self._even = widths / widths.sum()
        self._least_members = least_members
        self._least_counts = least_counts
        self._spread = spread
        self._spectra: dict[int, tuple[int, NDArray[np.integer], Floats]] = {}
        self._groups: list[_Group] = []
        self._added = self._opened = 0

    def __len__(self) -> int:
        return len(self._spectra)

    def add(self, positions: Sequence[int], counts: NDArray[np.integer]) -> None:
        """Keep spectra that fit no known phase.

        Parameters
        ----------
        positions
            (n,): where they were taken, as the caller numbers places.
        counts
            (n, channels).
        """
        for position, spectrum in zip(positions, counts, strict=True):
            binned = np.add.reduceat(spectrum, self._starts, dtype=np.float64)
            self._spectra[self._added] = (int(position), spectrum, binned)
            self._seat(self._added)
            self._added += 1
            if len(self._spectra) > MOST_SPECTRA:
                self._forget_one()

    def propose(self) -> list[Proposal]:
        """Return the groups with enough spectra and counts, the largest first."""
        self._reseat()
        ready = [group for group in self._groups if self._is_ready(group) and not group.is_dismissed]
        ready.sort(key=lambda group: (-group.sums.sum(), group.number))
        return [self._proposal(group) for group in ready]

    def know(self, templates: NDArray[np.floating]) -> None:
        """Take better templates of the known phases, (L, channels); those accepted stay."""
        self._known = [self._shape(template) for template in templates]
        self._known += [self._shaped(group.sums) for _, group in self._accepted]

    def label_of(self, spectrum: NDArray[np.integer], otherwise: int) -> int:
        """Return the label of the accepted phase that a spectrum (channels,) is of, if it is of one."""
        binned = np.add.reduceat(spectrum, self._starts, dtype=np.float64)
        fitting = self._fitting(binned, [group for _, group in self._accepted])
        if not fitting:
            return otherwise
        best = fitting[int(np.argmax(self._likelihood([binned], fitting)[0]))]
        return next(label for label, group in self._accepted if group is best)

    def alike(self, template: NDArray[np.floating], most: float) -> int | None:
        """Return the label of the accepted phase whose shape is nearest, None if all are farther than `most`.

        The distance of shapes p and q is sum (p - q)^2 / (p + q) / 2, 0..1: lines that all differ by d
        make it d^2 / 4.
        """
        shape = self._shape(template)
        distances = []
        for label, group in self._accepted:
            both = shape + (other := self._shaped(group.sums))
            distances.append((float(((shape - other)[both > 0] ** 2 / both[both > 0]).sum() / 2), label))
        distance, label = min(distances, default=(np.inf, 0))
        return label if distance <= most else None

    def count_among(self, label: int, template: NDArray[np.floating]) -> None:
        """Know a phase, found elsewhere or accepted, by the sum of its spectra (channels,)."""
        sums = np.add.reduceat(template, self._starts, dtype=np.float64)
        self._accepted.append((label, _Group(-label, sums)))
        self._known.append(self._shaped(sums))

    def accept(self, proposal: Proposal, label: int) -> None:
        """Count the proposal among the known phases, by this label."""
        self.count_among(label, proposal.template)
        self._groups = [group for group in self._groups if group.number != proposal.group]
        kept = {member for group in self._groups for member in group.members}
        self._spectra = {member: one for member, one in self._spectra.items() if member in kept}

    def dismiss(self, proposal: Proposal) -> None:
        """Go on collecting such spectra, but propose them no more."""
        for group in self._groups:
            group.is_dismissed |= group.number == proposal.group

    def _shape(self, template: NDArray[np.floating]) -> Floats:
        return self._shaped(np.add.reduceat(template, self._starts, dtype=np.float64))

    def _shaped(self, binned: Floats) -> Floats:
        shape: Floats = binned / max(float(binned.sum()), 1.0)
        return shape

    def _seat(self, member: int) -> None:
        """Put a spectrum into the group it is likeliest of, or into a new one."""
        spectrum = self._spectra[member][2]
        fitting = self._fitting(spectrum, self._groups)
        if not fitting:
            self._opened += 1
            self._groups.append(_Group(self._opened, spectrum.copy(), [member]))
            return
        group = fitting[int(np.argmax(self._likelihood([spectrum], fitting)[0]))]
        group.members.append(member)
        group.sums += spectrum
        others = [other for other in self._groups if other is not group]
        for other in self._fitting(group.sums, others):
            # The sum has changed with every group taken in.
            if self._fitting(group.sums, [other]):
                group.members.extend(other.members)
                group.sums += other.sums
                group.is_dismissed |= other.is_dismissed
                self._groups.remove(other)

    def _likelihood(self, spectra: list[Floats], groups: list[_Group]) -> Floats:
        """Return the log-likelihood of (spectra, groups), the groups' shapes softened by the mean of all."""
        sums = np.array([group.sums for group in groups])
        mean = sum(group.sums for group in self._groups or groups) + self._even
        shapes = sums + PRIOR_COUNTS * mean / mean.sum() + 1e-3
        likelihood: Floats = np.array(spectra) @ np.log(shapes / shapes.sum(1, keepdims=True)).T
        return likelihood

    def _fitting(self, spectrum: Floats, groups: list[_Group]) -> list[_Group]:
        """Return the groups whose sum differs from a spectrum by no more than noise and spread.

        Given the counts of both in a bin, those of the spectrum are binomial; the squared differences
        are summed in units of their variance, and the sum is compared with its own mean and variance.
        """
        if not groups:
            return []
        sums = np.array([group.sums for group in groups])
        both = sums + spectrum
        share = spectrum.sum() / np.maximum(both.sum(1, keepdims=True), 1)
        variance = both * share * (1 - share)
        filled = variance > 0
        variance = np.where(filled, variance, 1.0)
        excess = (spectrum - both * share) ** 2 / (variance + (self._spread * variance) ** 2)
        bins = filled.sum(1)
        scatter = np.where(filled, 2 + (1 - 6 * share * (1 - share)) / variance, 0.0).sum(1)
        deviation = (np.where(filled, excess, 0.0).sum(1) - bins + 1) / np.sqrt(np.maximum(scatter, 1))
        return [group for group, one in zip(groups, deviation, strict=True) if one < AGREES]

    def _reseat(self) -> None:
        """Seat anew what joined a group of few counts and does not belong to what it has become."""
        for group in [group for group in self._groups if self._is_ready(group)]:
            likelihood = self._likelihood(
                [self._spectra[member][2] for member in group.members], self._groups
            )
            own = likelihood[:, self._groups.index(group)]
            strayed = likelihood.max(1) > own + LIKELIER
            for member, is_strayed in zip(list(group.members), strayed, strict=True):
                spectrum = self._spectra[member][2]
                rest = _Group(0, group.sums - spectrum)
                if len(group.members) > 1 and (is_strayed or not self._fitting(spectrum, [rest])):
                    group.members.remove(member)
                    group.sums = rest.sums
                    self._seat(member)

    def _is_ready(self, group: _Group) -> bool:
        return len(group.members) >= self._least_members and group.sums.sum() >= self._least_counts

    def _proposal(self, group: _Group) -> Proposal:
        others = [other for other in self._groups if other is not group and self._is_ready(other)]
        mixtures = [
            self._mixture(group, others_in) for n in range(3) for others_in in combinations(others, n)
        ]
        deviation, labels = min(mixtures)
        return Proposal(
            group=group.number,
            positions=tuple(self._spectra[member][0] for member in group.members),
            template=np.sum([self._spectra[member][1] for member in group.members], axis=0, dtype=np.float64),
            mixture_of=labels if deviation < DISAGREES else None,
            deviation=deviation,
        )

    def _mixture(self, group: _Group, others: tuple[_Group, ...]) -> tuple[float, tuple[int, ...]]:
        """Return how far a group is from the best mixture of the known phases and these others.

        All known phases at once, since a group of spectra of few counts holds several boundaries. Even
        noise takes part. Returns standard deviations, and the labels of the phases of some share.
        """
        sums, total = group.sums, group.sums.sum()
        shapes = np.array([*self._known, *(other.sums / other.sums.sum() for other in others), self._even])
        weight = 1 / np.sqrt(np.maximum(sums, 1) + (self._spread * sums) ** 2)
        amounts, _ = nnls((shapes * weight).T, sums * weight)
        model = amounts @ shapes
        variance = model + (self._spread * model) ** 2
        named = len(self._known) - len(self._accepted)
        measured = [*(accepted for _, accepted in self._accepted), *others]
        for amount, other in zip(amounts[named:], measured, strict=False):
            variance += amount**2 * other.sums / other.sums.sum() ** 2
        for amount, other in zip(amounts[len(self._known) :], others, strict=False):
            # Of two groups alike the larger is the phase, the smaller its imperfect copy.
            if amount > MOST_OF * total and other.sums.sum() < total:
                return np.inf, ()
        used = model > LEAST_EXPECTED
        misfit = ((sums[used] - model[used]) ** 2 / variance[used]).sum() - used.sum() + len(shapes)
        labels = [*range(1, named + 1), *(label for label, _ in self._accepted), *(FITS_NONE for _ in others)]
        parts = {label for label, amount in zip(labels, amounts, strict=False) if amount > SOME_OF * total}
        return float(misfit / np.sqrt((2 + 1 / model[used]).sum())), tuple(sorted(parts))

    def _forget_one(self) -> None:
        lonely = [group for group in self._groups if len(group.members) == 1]
        oldest = min(lonely or self._groups, key=lambda group: group.members[0])
        member = oldest.members.pop(0)
        oldest.sums = oldest.sums - self._spectra.pop(member)[2]
        if not oldest.members:
            self._groups.remove(oldest)
