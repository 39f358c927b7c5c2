"""Makes the map of a field: asks for spots while earlier ones are still measured and classified.

The beam always has a batch of points waiting. Batches are chosen, and their labels taken in, in
order; see `sampling.field_map`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.classifier import Classes
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.messages import (
    ActorFailed,
    After,
    ClassificationLost,
    ClassificationReturned,
    ClassifySpectra,
    ConfirmSpectra,
    Effect,
    FieldId,
    FieldMapped,
    MapField,
    MapTheField,
    MeasureSpots,
    Message,
    MicroscopeFailed,
    Overdue,
    PhaseMapUpdated,
    PhaseProposed,
    RecordingFailed,
    ReloadSpectra,
    RunContinued,
    RunPaused,
    SpectraClassified,
    SpectraMeasured,
    SpectraMissing,
    SpectraRecorded,
    SpectraReloaded,
    StopRun,
    TileSkipped,
    WorkerJoined,
)
from sparse_actors.sampling.field_map import Batch, FieldMap
from sparse_actors.sampling.map_plan import MapPlan
from sparse_actors.sampling.open_set import NewPhase, OpenSet

TRIES = 2
"""So often a batch is given to a classifier."""
LOST_IN_A_ROW = 3
"""So many batches that no worker could classify, one after another, end the map."""
ANSWER_S = 60.0
"""An answer from the disk or the workers is overdue after this long."""
UPDATES = 100
"""So often a map is shown while it grows."""


@dataclass(slots=True)
class _Open:
    """A batch on its way: to be measured, recorded and classified."""

    batch: Batch
    attempt: int = 0
    """Of measuring it."""
    is_postponed: bool = False
    """To be measured when the run goes on."""
    spectra: SpectraMeasured | SpectraReloaded | None = None
    attempts: int = 0
    """How often it was given to a classifier."""
    classifications: int = 0
    """The number of the last time."""
    classified: ClassificationReturned | None = None


class SladsSampler:
    """The only source of spots for the microscope, one field at a time.

    Parameters
    ----------
    plan
        How fields are sampled.
    history
        The facts already in the journal; a field is taken up where it was left.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (
        MapTheField,
        SpectraMeasured,
        SpectraRecorded,
        SpectraMissing,
        SpectraReloaded,
        ClassificationReturned,
        ClassificationLost,
        MicroscopeFailed,
        RecordingFailed,
        WorkerJoined,
        ActorFailed,
        StopRun,
        RunPaused,
        RunContinued,
        TileSkipped,
    )

    def __init__(self, plan: MapPlan, history: Iterable[Message]) -> None:
        self._plan = plan
        self._recorded: dict[tuple[FieldId, int], SpectraRecorded] = {}
        self._classified: dict[tuple[FieldId, int], SpectraClassified] = {}
        self._found: dict[int, PhaseProposed] = {}
        self._known_phases = 0
        self._open_set: OpenSet | None = None
        for fact in history:
            self._remember(fact)
        self._field: MapField | None = None
        self._map: FieldMap | None = None
        self._last: FieldMapped | None = None
        self._open: dict[int, _Open] = {}
        self._classifications: Counter[tuple[FieldId, int]] = Counter()
        self._is_beam_lost = False
        self._is_paused = False
        self._lost_in_a_row = 0
        self._shown_points = 0

    def handle(self, message: Message) -> Iterator[Effect]:
        """Take in one fact, and ask for what follows from it."""
        self._remember(message)
        match message:
            case MapTheField():
                yield from self._begin(message)
            case StopRun():
                yield from self._end("stopped")
            case RunPaused():
                self._is_paused = True
            case RunContinued():
                yield from self._continue()
            case TileSkipped(tile=tile, reason=reason):
                if self._field is not None and self._field.id.tile == tile:
                    yield from self._end(f"skipped: {reason}")
            case RecordingFailed(is_disk_error=True, reason=reason):
                yield from self._end(f"storage: {reason}")
            case ActorFailed(is_final=True, actor=actor):
                yield from self._end(f"{actor} failed")
            case ActorFailed(actor="microscope"):
                self._is_beam_lost = True  # until it is prepared, and the field ordered anew
            case MicroscopeFailed(order="spots", field=field, batch=int(number)) if entry := self._entry(
                field, number
            ):
                if message.attempt == entry.attempt and not self._is_beam_lost:
                    yield from self._measure_again(entry, message.reason, message.is_retryable)
            case SpectraMeasured() | SpectraReloaded():
                yield from self._classify(message)
            case SpectraRecorded(field=field, batch=number):
                if (entry := self._entry(field, number)) and entry.spectra is None:
                    yield from self._reload(entry)  # the news of their coming was lost
            case SpectraMissing(field=field, batch=number, reason=reason):
                if entry := self._entry(field, number):
                    yield from self._missing(entry, reason)
            case ClassificationReturned(field=field, batch=number):
                if (entry := self._entry(field, number)) and message.attempt == entry.classifications:
                    entry.classified = message
                    self._lost_in_a_row = 0
            case ClassificationLost(field=field, batch=number):
                if (entry := self._entry(field, number)) and message.attempt == entry.classifications:
                    yield from self._not_classified(entry, message)
            case Overdue(what=what, attempt=attempt):
                yield from self._overdue(what, attempt)
            case _:
                pass
        yield from self._go_on()

    def _remember(self, fact: Message) -> None:
        match fact:
            case SpectraRecorded(field=field, batch=number):
                self._recorded[field, number] = fact
            case SpectraClassified(field=field, batch=number):
                self._classified[field, number] = fact
            case PhaseProposed(label=label):
                self._found[label] = fact
            case WorkerJoined(phases=phases):
                self._known_phases = max(self._known_phases, len(phases))
            case _:
                pass

    def _entry(self, field: FieldId | None, number: int) -> _Open | None:
        is_current = self._field is not None and self._field.id == field
        return self._open.get(number) if is_current else None

    # -- a field ----------------------------------------------------------------------------

    def _begin(self, order: MapTheField) -> Iterator[Effect]:
        self._is_beam_lost = False
        self._is_paused = order.is_paused
        if self._field == order.field and self._map is not None:
            if self._is_paused:
                return
            yield from self._continue()
            # The microscope may have been prepared anew, and then has forgotten what it was told; else it
            # knows these orders by their attempt.
            for number, entry in self._open.items():
                if entry.attempt and entry.spectra is None and self._key(number) not in self._recorded:
                    yield self._order(entry)
            return
        if self._field == order.field and self._last is not None:
            if self._last.is_complete or order.attempt > 1:
                yield self._last  # which got lost
                return
        self._field, self._last = order.field, None
        self._map = FieldMap(order.field, self._plan, order.within_s)
        self._open_set = None
        self._open.clear()
        self._lost_in_a_row = self._shown_points = 0

    def _go_on(self) -> Iterator[Effect]:
        """Take in what is classified, in order, and send the beam on."""
        while self._map is not None and self._field is not None:
            for batch in self._map.new_batches():
                yield from self._take_up(batch)
            ready = next((entry for entry in self._open.values() if self._is_ready(entry)), None)
            if ready is None:
                break
            yield from self._take_in(ready)
        if self._map is not None and self._map.is_finished:
            yield from self._end("")

    def _take_up(self, batch: Batch) -> Iterator[Effect]:
        """Get the spectra of a batch: from the journal, from disk, or from the specimen."""
        key = self._key(batch.number)
        entry = self._open[batch.number] = _Open(batch)
        recorded = self._recorded.get(key)
        if recorded is None:
            yield from self._measure(entry)
        elif not np.array_equal(recorded.points_px, batch.points_px):
            yield from self._end(f"batch {batch.number} holds other points than this version would choose")
        elif key not in self._classified or self._plan.finds_phases:
            yield from self._reload(entry)

    def _is_ready(self, entry: _Open) -> bool:
        """Whether a batch is on disk and its labels are known."""
        key = self._key(entry.batch.number)
        is_here = entry.spectra is not None or not self._plan.finds_phases
        is_next = self._map is not None and entry.batch.number == self._map.told
        is_labelled = entry.classified is not None or key in self._classified
        return is_next and is_here and is_labelled and key in self._recorded

    def _take_in(self, entry: _Open) -> Iterator[Effect]:
        number = entry.batch.number
        key = self._key(number)
        recorded = self._recorded[key]
        if entry.classified is not None:
            classes = entry.classified.classes
            fact = SpectraClassified(
                field=key[0],
                batch=number,
                labels=classes.labels.astype(np.int64),
                confidence=classes.confidence,
                worker=entry.classified.worker,
            )
            self._classified[key] = fact
            yield fact
        labelled = self._classified[key]
        assert self._map is not None  # noqa: S101  for the type checker: there are no batches without a map
        del self._open[number]
        beam_s = recorded.finished_s - recorded.started_s
        is_lost = not labelled.worker  # no classifier saw it: it tells nothing of new phases
        if entry.spectra is None or is_lost or not self._plan.finds_phases:
            self._map.learn(number, labelled.labels, labelled.confidence, beam_s)
        else:
            labels, found = self._look_for_phases(entry.spectra, labelled.labels)
            self._map.learn(number, labels, labelled.confidence, beam_s)
            yield from self._count_among(found, entry.spectra.axis)
        if self._map.points - self._shown_points >= self._map.field.box.area / UPDATES:
            self._shown_points = self._map.points
            yield PhaseMapUpdated(
                field=key[0],
                points=self._map.points,
                phase_map=self._map.phase_map(),
                erd=self._map.erd(),
            )

    def _look_for_phases(
        self, spectra: SpectraMeasured | SpectraReloaded, labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[NewPhase]]:
        assert self._map is not None  # noqa: S101  for the type checker
        if self._open_set is None:
            earlier = {
                label: found.template
                for label, found in sorted(self._found.items())
                if found.field != self._map.field.id and found.axis == spectra.axis
            }
            self._open_set = OpenSet(spectra.axis, self._known_phases, earlier)
        numbers = self._map.points + np.arange(len(labels))
        return self._open_set.take(numbers, spectra.counts, labels)

    def _count_among(self, found: list[NewPhase], axis: EnergyAxis) -> Iterator[PhaseProposed]:
        """Label the points anew that made phases known, and tell of the phases."""
        assert self._map is not None  # noqa: S101  for the type checker
        for phase in found:
            self._map.relabel(np.array(phase.positions), phase.label)
            if phase.label not in self._found:
                proposed = PhaseProposed(
                    field=self._map.field.id,
                    label=phase.label,
                    members=len(phase.positions),
                    template=phase.template,
                    axis=axis,
                )
                self._found[phase.label] = proposed
                yield proposed

    def _end(self, fault: str) -> Iterator[Effect]:
        if self._map is None or self._field is None:
            return
        done, self._map = self._map, None
        self._open.clear()
        result = done.result()
        self._last = FieldMapped(
            field=self._field,
            is_complete=not fault,
            reason=fault or done.ended,
            points_px=result.points_px,
            labels=result.labels,
            distortion=result.distortion,
            distortion_range=result.distortion_range,
            phase_map=result.phase_map,
            confidence=result.confidence,
            erd=result.erd,
        )
        yield self._last

    def _continue(self) -> Iterator[Effect]:
        """Measure what a pause kept back."""
        self._is_paused = False
        for entry in self._open.values():
            if entry.is_postponed:
                yield from self._measure(entry)

    # -- a batch ----------------------------------------------------------------------------

    def _key(self, number: int) -> tuple[FieldId, int]:
        assert self._field is not None  # noqa: S101  for the type checker
        return self._field.id, number

    def _measure(self, entry: _Open) -> Iterator[Effect]:
        entry.is_postponed = self._is_paused
        if self._is_paused:
            return
        entry.attempt += 1
        yield self._order(entry)
        yield self._reminder("spots", entry, entry.attempt)

    def _order(self, entry: _Open) -> MeasureSpots:
        assert self._field is not None  # noqa: S101  for the type checker
        return MeasureSpots(
            field=self._field.id,
            batch=entry.batch.number,
            attempt=entry.attempt,
            points_px=entry.batch.points_px,
            live_time_s=entry.batch.live_time_s,
            grid_px=self._field.grid_px,
        )

    def _reminder(self, kind: str, entry: _Open, attempt: int = 1) -> After:
        """Return a look at a batch after the longest that it may take."""
        field, number = self._key(entry.batch.number)
        beam_s = sum(float(other.batch.live_time_s.sum()) for other in self._open.values())
        return After(ANSWER_S + 5 * beam_s, Overdue(what=f"{kind} {field} {number}", attempt=attempt))

    def _measure_again(self, entry: _Open, reason: str, is_retryable: bool = True) -> Iterator[Effect]:
        if is_retryable and entry.attempt < self._plan.attempts:
            yield from self._measure(entry)
        else:
            yield from self._end(f"microscope: {reason}")

    def _missing(self, entry: _Open, reason: str) -> Iterator[Effect]:
        """Have a batch recorded that is not on disk: from memory, else from the specimen."""
        self._recorded.pop(self._key(entry.batch.number), None)
        if isinstance(entry.spectra, SpectraMeasured):
            yield entry.spectra
            yield self._reminder("record", entry)
        else:
            entry.spectra = entry.classified = None
            yield from self._measure_again(entry, reason)

    def _reload(self, entry: _Open) -> Iterator[Effect]:
        field, number = self._key(entry.batch.number)
        yield ReloadSpectra(field=field, batch=number, attempt=1)
        yield self._reminder("disk", entry)

    def _classify(self, spectra: SpectraMeasured | SpectraReloaded) -> Iterator[Effect]:
        entry = self._entry(spectra.field, spectra.batch)
        if entry is None or entry.spectra is not None:
            return
        entry.spectra = spectra
        if self._key(spectra.batch) not in self._classified:
            yield from self._order_classification(entry, spectra)
        yield self._reminder("record", entry)

    def _order_classification(
        self, entry: _Open, spectra: SpectraMeasured | SpectraReloaded
    ) -> Iterator[Effect]:
        key = spectra.field, spectra.batch
        self._classifications[key] += 1  # over all tries at the field: no two are mistaken for one doubled
        entry.attempts += 1
        entry.classifications = self._classifications[key]
        yield ClassifySpectra(
            field=spectra.field,
            batch=spectra.batch,
            attempt=entry.classifications,
            counts=spectra.counts,
            live_time_s=spectra.live_time_s,
            axis=spectra.axis,
        )
        yield self._reminder("classify", entry, entry.classifications)

    def _not_classified(self, entry: _Open, lost: ClassificationLost) -> Iterator[Effect]:
        if entry.spectra is not None and entry.attempts < TRIES:
            yield from self._order_classification(entry, entry.spectra)
            return
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= LOST_IN_A_ROW:
            yield from self._end(f"{LOST_IN_A_ROW} batches in a row were not classified: {lost.reason}")
        else:
            n = len(entry.batch.points_px)
            none = Classes(labels=np.zeros(n, np.int32), confidence=np.zeros(n))
            entry.classified = ClassificationReturned(
                field=lost.field, batch=lost.batch, attempt=lost.attempt, classes=none, worker="", elapsed_s=0
            )

    def _overdue(self, what: str, attempt: int) -> Iterator[Effect]:
        kind, name, number = what.split(" ")
        entry = self._open.get(int(number)) if self._field and str(self._field.id) == name else None
        if entry is None:
            return
        field, batch = key = self._key(int(number))
        match kind:
            case "spots" if entry.spectra is None and entry.attempt == attempt:
                # Only the news may have been lost on its way: what is on disk counts.
                yield ConfirmSpectra(field=field, batch=batch)
                yield self._reminder(kind, entry, attempt)
            case "record" if key not in self._recorded:
                yield ConfirmSpectra(field=field, batch=batch)
                yield self._reminder(kind, entry, attempt)
            case "disk" if entry.spectra is None:
                yield from self._reload(entry)
            case "classify" if entry.classified is None and entry.classifications == attempt:
                yield from self._not_classified(
                    entry,
                    ClassificationLost(
                        field=field, batch=batch, attempt=attempt, reason="no answer", worker=""
                    ),
                )
            case _:
                pass
