"""Makes the map of a field: asks for spots while earlier ones are still measured and classified.

The beam always has a batch of points waiting. Batches are chosen, and their labels taken in, in
order; see `sampling.field_map`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.classifier import FITS_NONE, Classes
from sparse_actors.mapping.found_phases import FoundPhases
from sparse_actors.mapping.map_ending import field_mapped
from sparse_actors.mapping.measured_points import MeasuredPoints
from sparse_actors.mapping.open_batch import OpenBatch, Point
from sparse_actors.messages import (
    NOT_KNOWN,
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
    MicroscopePrepared,
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
from sparse_actors.planning.spot_dose import SpotDoses
from sparse_actors.sampling.field_map import Batch, FieldMap
from sparse_actors.sampling.map_plan import MapPlan
from sparse_actors.sampling.open_set import NewPhase

TRIES = 2
"""So often a batch is given to a classifier."""
LOST_IN_A_ROW = 3
"""So many batches in a row that nobody classified, or that failed and dose forbids to repeat, end a map."""
ANSWER_S = 60.0
"""An answer from the disk or the workers is overdue after this long."""
UPDATES = 100
"""So often a map is shown while it grows."""


class SladsSampler:
    """The only source of spots for the microscope, one field at a time.

    Parameters
    ----------
    plan
        How fields are sampled.
    history
        The facts already in the journal; a field is taken up where it was left.
    doses
        What the limit of dose allows.
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
        MicroscopePrepared,
        RecordingFailed,
        WorkerJoined,
        ActorFailed,
        StopRun,
        RunPaused,
        RunContinued,
        TileSkipped,
    )

    def __init__(self, plan: MapPlan, history: Iterable[Message], doses: SpotDoses) -> None:
        self._plan = plan
        self._doses = doses
        self._measured = MeasuredPoints()
        self._recorded: dict[tuple[FieldId, int], SpectraRecorded] = {}
        self._classified: dict[tuple[FieldId, int], SpectraClassified] = {}
        self._phases = FoundPhases()
        for fact in history:
            self._remember(fact)
        self._field: MapField | None = None
        self._map: FieldMap | None = None
        self._order: MapTheField | None = None
        self._last: FieldMapped | None = None
        self._elsewhere: dict[Point, int] = {}
        self._open: dict[int, OpenBatch] = {}
        self._unclassified: dict[int, tuple[Batch, NDArray[np.int64]]] = {}
        """Batches of the field that no classifier took, and how their points are numbered."""
        self._classifications: Counter[tuple[FieldId, int]] = Counter()
        self._is_beam_lost = False
        self._is_paused = self._has_looked_again = False
        self._lost_in_a_row = self._given_up_in_a_row = 0
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
        self._doses.learn(fact)
        self._measured.learn(fact)
        self._phases.learn(fact)
        match fact:
            case SpectraRecorded(field=field, batch=number):
                self._recorded[field, number] = fact
            case SpectraClassified(field=field, batch=number):
                # What was chosen went by the first answer; a later one counts at the end of the field.
                self._classified.setdefault((field, number), fact)
            case _:
                pass

    def _entry(self, field: FieldId | None, number: int) -> OpenBatch | None:
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
                    yield self._order_of(entry)
            return
        if self._field == order.field and self._last is not None:
            if self._last.is_complete or order.attempt > 1:
                yield self._last  # which got lost
                return
        self._field, self._last, self._order = order.field, None, order
        self._map = FieldMap(order.field, self._plan, order.within_s)
        self._elsewhere = self._measured.elsewhere(order.field)
        self._phases.begin_field()
        self._open.clear()
        self._unclassified.clear()
        self._has_looked_again = False
        self._lost_in_a_row = self._given_up_in_a_row = self._shown_points = 0

    def _go_on(self) -> Iterator[Effect]:
        """Take in what is classified, in order, and send the beam on."""
        while self._map is not None and self._field is not None:
            for batch in self._map.new_batches():
                yield from self._take_up(batch)
            ready = next((entry for entry in self._open.values() if self._is_ready(entry)), None)
            if ready is None:
                break
            yield from self._take_in(ready)
        if self._map is not None and self._map.is_finished and not self._open:
            if self._unclassified and not self._has_looked_again:
                yield from self._look_again()
            else:
                yield from self._end("")

    def _take_up(self, batch: Batch) -> Iterator[Effect]:
        """Get the spectra of a batch: from the journal, from disk, or from the specimen."""
        key = self._key(batch.number)
        entry = self._open[batch.number] = OpenBatch(batch)
        entry.spare(key[0], self._measured.spared(key))
        recorded = self._recorded.get(key)
        if recorded is None:
            yield from self._spare(entry, self._elsewhere)
            yield from self._measure(entry)
            return
        gone = entry.missing_from(recorded.points_px)
        if gone is None:
            yield from self._end(f"batch {batch.number} holds other points than this version would choose")
            return
        # Of a point that was spared the news may be lost; that it was, the record shows.
        yield from self._spare(entry, {one: self._elsewhere.get(one, NOT_KNOWN) for one in gone})
        if key in self._classified and len(self._classified[key].labels) != entry.left.sum():
            del self._classified[key]
        if entry.left.any() and (key not in self._classified or self._plan.finds_phases):
            yield from self._reload(entry)

    def _spare(self, entry: OpenBatch, labels: dict[Point, int]) -> Iterator[Effect]:
        """Take points out of a batch, and say so."""
        fact = entry.spare(self._key(entry.batch.number)[0], labels)
        if fact is not None:
            self._remember(fact)
            yield fact

    def _is_ready(self, entry: OpenBatch) -> bool:
        """Whether a batch is on disk and its labels are known."""
        key = self._key(entry.batch.number)
        if entry.is_second:
            return entry.classified is not None
        if self._map is None or entry.batch.number != self._map.told:
            return False
        is_here = entry.spectra is not None or not self._plan.finds_phases
        is_labelled = entry.classified is not None or key in self._classified
        return not entry.left.any() or (is_here and is_labelled and key in self._recorded)

    def _take_in(self, entry: OpenBatch) -> Iterator[Effect]:
        field, number = key = self._key(entry.batch.number)
        assert self._map is not None  # noqa: S101  for the type checker: there are no batches without a map
        del self._open[number]
        if entry.classified is not None:
            classes = entry.classified.classes
            fact = SpectraClassified(
                field=field,
                batch=number,
                labels=classes.labels.astype(np.int64),
                confidence=classes.confidence,
                worker=entry.classified.worker,
            )
            if entry.is_second:
                yield from self._take_second_look(entry, fact)
                return
            self._remember(fact)
            yield fact
        labels, confidence = entry.spared.copy(), np.full(len(entry.spared), np.nan)
        beam_s, is_classified, found = 0.0, True, list[NewPhase]()
        if entry.left.any():
            recorded, labelled = self._recorded[key], self._classified[key]
            beam_s, is_classified = recorded.finished_s - recorded.started_s, bool(labelled.worker)
            labels[entry.left], confidence[entry.left] = labelled.labels, labelled.confidence
            numbers = self._map.points + np.flatnonzero(entry.left[labels != NOT_KNOWN])
            if not is_classified:
                self._unclassified[number] = entry.batch, numbers
            elif entry.spectra is not None and self._plan.finds_phases:
                labels[entry.left], found = self._look_for_phases(entry, numbers, labelled.labels)
        self._map.learn(number, labels, confidence, beam_s, is_classified=is_classified)
        if found:
            yield from self._count_among(found, entry)
        if self._map.points - self._shown_points >= self._map.field.box.area / UPDATES:
            self._shown_points = self._map.points
            yield PhaseMapUpdated(
                field=field,
                points=self._map.points,
                phase_map=self._map.phase_map(),
                erd=self._map.erd(),
            )

    def _look_again(self) -> Iterator[Effect]:
        """Have batches classified once more that no classifier took."""
        self._has_looked_again = True
        for number, (batch, _) in self._unclassified.items():
            entry = self._open[number] = OpenBatch(batch, is_second=True)
            key = self._key(number)
            entry.spare(key[0], self._measured.spared(key))
            yield from self._reload(entry)

    def _take_second_look(self, entry: OpenBatch, fact: SpectraClassified) -> Iterator[Effect]:
        """Label points anew that no classifier took before; the map needs nothing else of them."""
        if not fact.worker:
            return
        assert self._map is not None  # noqa: S101  for the type checker
        self._remember(fact)
        yield fact
        numbers, labels, found = self._unclassified.pop(fact.batch)[1], fact.labels, list[NewPhase]()
        if self._plan.finds_phases:
            labels, found = self._look_for_phases(entry, numbers, labels)
        for label in np.unique(labels[labels > FITS_NONE]).tolist():
            self._map.relabel(numbers[labels == label], label)
        if found:
            yield from self._count_among(found, entry)

    def _look_for_phases(
        self, entry: OpenBatch, numbers: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[NewPhase]]:
        assert self._map is not None and entry.spectra is not None  # noqa: S101, PT018  for the type checker
        of, counts = self._map.field.id, entry.spectra.counts[entry.rows]
        return self._phases.look(of, entry.spectra.axis, numbers, counts, labels)

    def _count_among(self, found: list[NewPhase], entry: OpenBatch) -> Iterator[PhaseProposed]:
        """Label the points anew that made phases known, and tell of the phases."""
        assert self._map is not None and entry.spectra is not None  # noqa: S101, PT018  for the type checker
        for phase in found:
            self._map.relabel(np.array(phase.positions), phase.label)
        yield from self._phases.proposals(self._map.field.id, entry.spectra.axis, found)

    def _end(self, fault: str) -> Iterator[Effect]:
        if self._map is None or self._field is None:
            return
        done, self._map = self._map, None
        self._open.clear()
        unclassified = sum(len(numbers) for _, numbers in self._unclassified.values())
        self._last = field_mapped(done, fault, unclassified)
        self._remember(self._last)
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

    def _measure(self, entry: OpenBatch) -> Iterator[Effect]:
        """Send the beam to the points of a batch, as far as the limit of dose allows."""
        entry.is_postponed = self._is_paused
        if self._is_paused:
            return
        assert self._order is not None and self._map is not None  # noqa: S101, PT018  for the type checker
        field, points_px = self._order.field, entry.points_px
        scanned = self._order.scanned_e_per_nm2
        is_allowed = self._doses.allowed(field, points_px, entry.live_time_s, scanned)
        refused = map(tuple, points_px[~is_allowed].tolist())
        yield from self._spare(entry, dict.fromkeys(refused, NOT_KNOWN))
        if entry.left.any():
            entry.attempt += 1
            yield self._order_of(entry)
            yield self._reminder("spots", entry, entry.attempt)
        elif len(points_px) and self._doses.is_exhausted(field, entry.batch.live_time_s[0], scanned):
            self._map.end("dose")

    def _order_of(self, entry: OpenBatch) -> MeasureSpots:
        assert self._field is not None  # noqa: S101  for the type checker
        self._doses.learn(order := entry.order(self._field))
        return order

    def _reminder(self, kind: str, entry: OpenBatch, attempt: int = 1) -> After:
        """Return a look at a batch after the longest that it may take."""
        field, number = self._key(entry.batch.number)
        return After(self._within_s, Overdue(what=f"{kind} {field} {number}", attempt=attempt))

    @property
    def _within_s(self) -> float:
        return ANSWER_S + 5 * sum(float(other.batch.live_time_s.sum()) for other in self._open.values())

    def _measure_again(self, entry: OpenBatch, reason: str, is_retryable: bool = True) -> Iterator[Effect]:
        self._given_up_in_a_row += 1
        if is_retryable and entry.attempt < self._plan.attempts:
            yield from self._measure(entry)
            if entry.left.any():
                self._given_up_in_a_row = 0
            if self._given_up_in_a_row < LOST_IN_A_ROW:
                return
        yield from self._end(f"microscope: {reason}")

    def _missing(self, entry: OpenBatch, reason: str) -> Iterator[Effect]:
        """Have a batch recorded that is not on disk: from memory, else from the specimen."""
        self._recorded.pop(self._key(entry.batch.number), None)
        if isinstance(entry.spectra, SpectraMeasured):
            yield entry.spectra
            yield self._reminder("record", entry)
        else:
            entry.spectra = entry.classified = None
            yield from self._measure_again(entry, entry.late or reason)

    def _reload(self, entry: OpenBatch) -> Iterator[Effect]:
        field, number = self._key(entry.batch.number)
        yield ReloadSpectra(field=field, batch=number, attempt=1)
        yield self._reminder("disk", entry)

    def _classify(self, spectra: SpectraMeasured | SpectraReloaded) -> Iterator[Effect]:
        entry = self._entry(spectra.field, spectra.batch)
        if entry is None or entry.spectra is not None:
            return
        key = self._key(spectra.batch)
        of = spectra if isinstance(spectra, SpectraMeasured) else self._recorded[key]
        entry.rows = entry.rows_of(of.points_px)
        if entry.rows is None:
            return
        entry.spectra = spectra
        self._given_up_in_a_row = 0
        if key not in self._classified or entry.is_second:
            yield from self._order_classification(entry, spectra)
        yield self._reminder("record", entry)

    def _order_classification(
        self, entry: OpenBatch, spectra: SpectraMeasured | SpectraReloaded
    ) -> Iterator[Effect]:
        key = spectra.field, spectra.batch
        self._classifications[key] += 1  # over all tries at the field: no two are mistaken for one doubled
        entry.attempts += 1
        entry.classifications = self._classifications[key]
        yield ClassifySpectra(
            field=spectra.field,
            batch=spectra.batch,
            attempt=entry.classifications,
            counts=spectra.counts[entry.rows],
            live_time_s=spectra.live_time_s[entry.rows],
            axis=spectra.axis,
        )
        yield self._reminder("classify", entry, entry.classifications)

    def _not_classified(self, entry: OpenBatch, lost: ClassificationLost) -> Iterator[Effect]:
        if entry.spectra is not None and entry.attempts < TRIES:
            yield from self._order_classification(entry, entry.spectra)
            return
        self._lost_in_a_row += not entry.is_second
        if self._lost_in_a_row >= LOST_IN_A_ROW and not entry.is_second:
            yield from self._end(f"{LOST_IN_A_ROW} batches in a row were not classified: {lost.reason}")
        else:
            n = int(entry.left.sum())
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
                entry.late = f"no answer within {self._within_s:.0f} s"
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
