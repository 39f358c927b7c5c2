"""The phases that maps found, over fields and sessions: each keeps its label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.messages import FieldId, Message, PhaseProposed, SpectraRecorded, WorkerJoined
from sparse_actors.sampling.open_set import NewPhase, OpenSet


class FoundPhases:
    """A fold of facts, and the open set of the field that is mapped."""

    def __init__(self) -> None:
        self._found: dict[int, PhaseProposed] = {}
        self._found_before: dict[FieldId, frozenset[int]] = {}
        """Those that were known before the first spectra of a field."""
        self._known_phases = 0
        self._open_set: OpenSet | None = None

    def learn(self, fact: Message) -> None:
        """Take in one fact; a fact learnt twice changes nothing."""
        match fact:
            case PhaseProposed(label=label):
                self._found[label] = fact
            case SpectraRecorded(field=field):
                self._found_before.setdefault(field, frozenset(self._found))
            case WorkerJoined(phases=phases):
                self._known_phases = max(self._known_phases, len(phases))
            case _:
                pass

    def begin_field(self) -> None:
        """Forget the spectra of the last field."""
        self._open_set = None

    def look(
        self,
        field: FieldId,
        axis: EnergyAxis,
        numbers: NDArray[np.int64],
        counts: NDArray[Any],
        labels: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], list[NewPhase]]:
        """Take in recorded spectra of a field; parameters and results are those of `OpenSet.take`."""
        if self._open_set is None:
            # As when the field was begun, so that what was found in it is found once more, and named alike.
            before = self._found_before[field]
            templates = {label: one.template for label, one in self._found.items() if one.axis == axis}
            self._open_set = OpenSet(
                axis,
                self._known_phases,
                {label: templates[label] for label in sorted(templates) if label in before},
                {label: templates[label] for label in sorted(templates) if label not in before},
            )
        return self._open_set.take(numbers, counts, labels)

    def proposals(self, field: FieldId, axis: EnergyAxis, phases: list[NewPhase]) -> Iterator[PhaseProposed]:
        """Return the news of those phases that nobody was told of."""
        for phase in phases:
            if phase.label not in self._found:
                proposed = PhaseProposed(
                    field=field,
                    label=phase.label,
                    members=len(phase.positions),
                    template=phase.template,
                    axis=axis,
                )
                self._found[phase.label] = proposed
                yield proposed
