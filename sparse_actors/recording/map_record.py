"""The maps of a run, folded from its journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import JournalError
from sparse_actors.imaging import spot_s
from sparse_actors.messages import (
    NOT_KNOWN,
    FieldId,
    FieldMapped,
    Message,
    MicroscopePrepared,
    PhaseNamed,
    PhaseProposed,
    SpectraClassified,
    SpectraRecorded,
    SpotsSpared,
    SpotsStarted,
    WorkerJoined,
)

from .spectra import SpectraStore


@dataclass(slots=True)
class MapRecord:
    """What was measured for maps, and what came of it."""

    folder: Path
    batches: dict[tuple[FieldId, int], SpectraRecorded] = field(default_factory=dict)
    """Whose spectra are safe, in the order of recording."""
    classified: dict[tuple[FieldId, int], SpectraClassified] = field(default_factory=dict)
    mapped: dict[FieldId, FieldMapped] = field(default_factory=dict)
    """The last map of each field; a run that was killed in a field has none of it before it is resumed."""
    phases: tuple[str, ...] = ()
    """Names; label 1 is the first."""
    started: list[SpotsStarted] = field(default_factory=list)
    """Every batch that the beam set out for."""
    left_out: dict[FieldId, set[tuple[int, int]]] = field(default_factory=dict)
    """Points of a field, x and y, that got no (further) spectrum for the limit of dose."""
    _settling_s: float = 0.0
    exposed_s: list[float] = field(default_factory=list)
    """Of each batch that was started: how long the beam exposed, as far as is known."""

    def take(self, message: Message) -> None:
        """Take in one message of the journal."""
        match message:
            case WorkerJoined(phases=phases) if not self.phases:
                self.phases = phases
            case PhaseProposed(label=label):
                self._name(label, f"found, {label}")
            case PhaseNamed(label=label, name=name):
                self._name(label, name)
            case MicroscopePrepared(capabilities=can):
                self._settling_s = can.limits.spectrum_overhead_s
            case SpotsStarted(live_time_s=live_time_s):
                self.started.append(message)
                self.exposed_s.append(float(spot_s(live_time_s, settling_s=self._settling_s).sum()))
            case SpotsSpared(field=field_id, points_px=points_px, labels=labels):
                left_out = points_px[labels == NOT_KNOWN].tolist()
                self.left_out.setdefault(field_id, set()).update((x, y) for x, y in left_out)
            case SpectraRecorded(field=field_id, batch=batch):
                self.batches[field_id, batch] = message
                self._timed(message)
            case SpectraClassified(field=field_id, batch=batch):
                self.classified[field_id, batch] = message
            case FieldMapped(field=map_field):
                self.mapped[map_field.id] = message
            case _:
                pass

    def _timed(self, recorded: SpectraRecorded) -> None:
        """Take what a batch took for how long it exposed, unless it was expected to take longer."""
        for n in range(len(self.started) - 1, -1, -1):
            if self.started[n].started_s == recorded.started_s:
                self.exposed_s[n] = max(self.exposed_s[n], recorded.finished_s - recorded.started_s)
                return

    def readable(self) -> tuple[dict[FieldId, list[SpectraRecorded]], list[str]]:
        """Return the batches of each field whose spectra are as recorded, and what is wrong with the rest."""
        good: dict[FieldId, list[SpectraRecorded]] = {}
        problems = []
        for (field_id, batch), recorded in sorted(self.batches.items()):
            try:
                self.spectra(recorded)
                good.setdefault(field_id, []).append(recorded)
            except (JournalError, OSError) as error:
                problems.append(f"spectra of {field_id}, batch {batch}: {error}")
        return good, problems

    def _name(self, label: int, name: str) -> None:
        unnamed = (f"phase {n}" for n in range(len(self.phases) + 1, label))
        names = [*self.phases, *unnamed, name]
        names[label - 1] = name
        self.phases = tuple(names[: max(len(self.phases), label)])

    @property
    def beam_s(self) -> float:
        """Live time of all points that the beam set out for, recorded or not."""
        return sum(float(batch.live_time_s.sum()) for batch in self.started)

    @property
    def spots_recorded(self) -> int:
        """Number of spectra on disk."""
        return sum(len(batch.points_px) for batch in self.batches.values())

    def spectra(self, recorded: SpectraRecorded) -> tuple[NDArray[Any], EnergyAxis]:
        """Return the counts (n, channels) of a batch and their energy axis, checked.

        Raises
        ------
        JournalError
            They are missing, or not those that were recorded.
        """
        return SpectraStore(self.folder).read(recorded)
