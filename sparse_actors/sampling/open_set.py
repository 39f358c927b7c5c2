"""Phases that nobody told the classifier of, found while a map is made.

Spectra that fit no known phase are grouped as they come (`new_phases`); a group with enough spectra and
counts that is no mixture gets a label of its own, and its points are told anew. What is found depends on
the spectra and their order alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.classifier import FITS_NONE, MAX_PHASES
from sparse_actors.contracts.spectra import EnergyAxis

from .new_phases import NewPhases, Proposal

LEAST_COUNTS = 50
"""A spectrum of fewer counts tells of no phase: it is like too many."""
KNOWN_SPECTRA = 200
"""So many spectra of a phase make its template."""
SPREAD = 0.1
"""Relative difference in a line among spectra of one phase: of composition, topography, absorption."""
ALIKE = 0.02
"""Groups whose lines differ by less than some 30 % are of one phase; see `NewPhases.alike`."""
LEAST_KNOWN = 3
"""No phase is proposed before so many spectra of a known one are there to tell mixtures by."""


@dataclass(frozen=True, slots=True, eq=False)
class NewPhase:
    """A phase that was found."""

    label: int
    template: NDArray[np.float64]
    """(channels,): sum of its spectra."""
    positions: tuple[int, ...]
    """Of the spectra that make it, as numbered in `OpenSet.take`."""


class OpenSet:
    """Labels of spectra, those of phases found on the way included.

    Parameters
    ----------
    axis
        Energy of the channels.
    phases
        How many the classifier knows.
    found
        Label and template of the phases found before these spectra were taken.
    since
        The same of those found later: by these spectra themselves, if they are taken in once more, or
        in other fields. What is proposed and is like one of them gets its label.
    """

    def __init__(
        self,
        axis: EnergyAxis,
        phases: int,
        found: Mapping[int, NDArray[np.float64]] | None = None,
        since: Mapping[int, NDArray[np.float64]] | None = None,
    ) -> None:
        found, since = found or {}, since or {}
        self._groups = NewPhases(axis, (), spread=SPREAD)
        for label, template in found.items():
            self._groups.count_among(label, template)
        self._since = NewPhases(axis, ())
        for label, template in since.items():
            self._since.count_among(label, template)
        self._last = max((phases, *found, *since))
        self._phases = phases
        self._sums = np.zeros((phases, axis.channels))
        self._seen = np.zeros(phases, np.int64)

    def take(
        self, positions: NDArray[np.int64], counts: NDArray[Any], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[NewPhase]]:
        """Take spectra in, in the order in which they count.

        Parameters
        ----------
        positions
            (n,): numbers of the points.
        counts
            (n, channels).
        labels
            (n,): as the classifier says, FITS_NONE for none.

        Returns
        -------
        labels, new
            (n,) with phases found before put in; and the phases that these spectra made known, one of them
            perhaps once more by other spectra. Their points are to be labelled anew.
        """
        result = labels.copy()
        for label in np.unique(labels[labels > FITS_NONE]).tolist():
            self._learn(label, counts[labels == label])
        tells = counts.sum(axis=1, dtype=np.int64) >= LEAST_COUNTS
        for row in np.flatnonzero((labels == FITS_NONE) & tells).tolist():
            result[row] = self._groups.label_of(counts[row], FITS_NONE)
        unknown = np.flatnonzero((result == FITS_NONE) & tells)
        if not len(unknown):
            return result, []
        self._groups.add(positions[unknown].tolist(), counts[unknown])
        new: list[NewPhase] = []
        if self._seen.max(initial=0) < LEAST_KNOWN and self._phases:
            return result, new
        while (proposal := self._next()) is not None:
            label = self._groups.alike(proposal.template, ALIKE)
            if label is None:
                label = self._since.alike(proposal.template, ALIKE)
            if label is None:
                if self._last == MAX_PHASES:
                    break
                label = self._last = self._last + 1
            self._groups.accept(proposal, label)
            new.append(NewPhase(label, proposal.template, proposal.positions))
            result[np.isin(positions, proposal.positions)] = label
        return result, new

    def _learn(self, label: int, counts: NDArray[Any]) -> None:
        if label <= self._phases and self._seen[label - 1] < KNOWN_SPECTRA:
            self._sums[label - 1] += counts.sum(axis=0)
            self._seen[label - 1] += len(counts)
            self._groups.know(self._sums[self._seen > 0])

    def _next(self) -> Proposal | None:
        proposals = self._groups.propose()
        return next((one for one in proposals if one.mixture_of is None), None)
