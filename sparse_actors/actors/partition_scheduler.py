"""Decides what the microscope does next, and sees to it that every order is answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import ClassVar, Literal

from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import (
    ActorFailed,
    AuditUpdated,
    ConfirmRecorded,
    ContinueRun,
    DetectionReturned,
    Effect,
    FieldMapped,
    Message,
    MicroscopeFailed,
    MicroscopeIdle,
    MicroscopePrepared,
    MicroscopeReset,
    Overdue,
    PartitionScanned,
    PauseRun,
    ProposeRegions,
    Recorded,
    RecordingFailed,
    RegionScanned,
    RegionsPlanned,
    RegionsProposed,
    ResetMicroscope,
    Scan,
    ScanId,
    ScanMissed,
    SkipTile,
    SpectraRecorded,
    StopRun,
    StorageReserved,
    TileFinished,
    TileInspected,
    TileReached,
    TileSkipped,
    TimingLearned,
)
from sparse_actors.planning.detection_watch import DetectionWatch
from sparse_actors.planning.exposures import Exposures
from sparse_actors.planning.inspection_watch import InspectionWatch
from sparse_actors.planning.map_queue import MapQueue
from sparse_actors.planning.reservations import Reservations
from sparse_actors.planning.run_ending import Cause, Outcome, RunEnding, what_is_missing
from sparse_actors.planning.run_orders import RunOrder, RunOrders, plan_order
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.planning.unanswered import ANSWER_S, MakeOrder, Unanswered

MISSES_IN_A_ROW = 3
"""So many scans given up one after another mean that the microscope is broken."""

TOO_MUCH_DOSE = "one more exposure would exceed limits.max_dose_e_per_nm2"


class PartitionScheduler:
    """The only source of orders to the microscope and the recorder.

    ::

        preparing -> surveying -> mapping -> resetting -> ended
                         |           |           ^
                         +-----------+ stop, failure

    A pause keeps it where it is: what was ordered ends, and nothing is ordered of the microscope.
    Every order is given again while its answer stays out, and after `plan.scan_attempts` given
    up: a scan is reported missing, a detection failed, anything else ends the run.

    Parameters
    ----------
    plan
        The survey.
    history
        The facts already in the journal; the survey goes on after them.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (
        StopRun,
        PauseRun,
        ContinueRun,
        SkipTile,
        ProposeRegions,
        MicroscopePrepared,
        TileReached,
        PartitionScanned,
        RegionScanned,
        MicroscopeFailed,
        MicroscopeReset,
        StorageReserved,
        Recorded,
        RecordingFailed,
        DetectionReturned,
        RegionsPlanned,
        TimingLearned,
        SpectraRecorded,
        FieldMapped,
        TileInspected,
        AuditUpdated,
        ActorFailed,
    )

    def __init__(self, plan: SurveyPlan, history: Iterable[Message]) -> None:
        self._plan = plan
        self._state = SurveyState(plan)
        self._exposures = Exposures(plan, self._state)
        self._detections = DetectionWatch(plan, self._state)
        self._maps = MapQueue(plan, self._state)
        self._orders = RunOrders(plan, self._state, self._maps)
        for fact in history:
            self._fold(fact)
        self._phase: Literal["preparing", "surveying", "mapping", "resetting", "ended"] = "preparing"
        self._ending = RunEnding()
        self._unanswered = Unanswered(plan.scan_attempts)
        self._reservations = Reservations(plan, self._state, self._unanswered)
        self._inspections = InspectionWatch(self._state, self._unanswered, plan.scan_attempts)
        self._is_prepared = False
        self._is_restored = False
        self._tile: TileIndex | None = None  # to be surveyed
        self._at: TileIndex | None = None  # in the field of view
        self._idle_cause: str | None = None
        self._missed_in_a_row = 0

    def begin(self) -> Iterator[Effect]:
        """Take up the survey where the history leaves it; the microscope is left alone if nothing is left."""
        for tile in self._plan.tiles:
            yield from self._finish_tile(tile)
        if self._state.is_finished() and self._maps.next() is None:
            self._end("completed", what_is_missing(self._state, self._maps))
            self._is_restored = self._state.to_restore is None
        yield from self._go_on()

    def handle(self, message: Message) -> Iterator[Effect]:
        """Learn one fact and give the orders that follow from it."""
        if self._phase == "ended":
            return
        self._fold(message)
        yield from self._learn(message)
        yield from self._go_on()

    def _fold(self, fact: Message) -> None:
        for fold in (self._state, self._exposures, self._maps, self._orders):
            fold.learn(fact)

    # -- facts ------------------------------------------------------------------------------

    def _learn(self, message: Message) -> Iterator[Effect]:
        match message:
            case MicroscopePrepared():
                self._is_prepared, self._is_restored = True, False
                self._reservations.pixel_type = message.capabilities.limits.pixel_type
                self._exposures.time_by(message)
                self._unanswered.answered("prepare")
                if problems := self._plan.problems_with(message, self._state.pixel_type):
                    self._end("failed", "; ".join(problems), "microscope")
            case TimingLearned():
                self._exposures.time_by(message)
            case TileReached(tile=tile):
                self._unanswered.answered(f"move {tile}")
                self._at = tile
            case PartitionScanned(scan=scan) | RegionScanned(scan=scan):
                if isinstance(message, PartitionScanned):
                    self._detections.learn(message)
                yield from self._scanned(scan, message.image.nbytes)
            case MicroscopeFailed():
                yield from self._microscope_failed(message)
            case MicroscopeReset():
                self._unanswered.answered("reset")
                self._is_restored = True
            case StorageReserved(slab=slab):
                self._unanswered.answered(f"storage {slab}")
            case Recorded(scan_id=scan_id):
                yield from self._recorded(scan_id)
            case RecordingFailed():
                yield from self._recording_failed(message)
            case DetectionReturned():
                self._detections.learn(message)
            case RegionsPlanned(partition=partition):
                self._unanswered.answered(f"detect {partition}", f"plan {partition}")
                self._exposures.release(ScanId(partition))
                yield from self._reservations.ask_for_regions(self._state.regions[partition])
                yield from self._finish_tile(partition.tile)
            case ActorFailed():
                yield from self._actor_failed(message)
            case TileInspected(tile=tile):
                self._inspections.answered(tile)
            case SpectraRecorded() | AuditUpdated():
                pass  # folded
            case FieldMapped():
                self._field_mapped(message)
            case PauseRun() | ContinueRun() | SkipTile() | ProposeRegions():
                yield from self._take_order(message)
            case StopRun(reason=reason):
                self._end("stopped", reason)
            case Overdue(what=what):
                if self._unanswered.is_due(message):
                    yield from self._again(what, f"no answer within {self._unanswered[what].within_s:.0f} s")
            case _:
                raise TypeError(f"the scheduler does not take {type(message).__name__}")

    def _take_order(self, order: RunOrder) -> Iterator[Effect]:
        answer = self._orders.answer(order, is_ending=self._ending.fact is not None)
        self._fold(answer)
        yield answer
        if isinstance(answer, TileSkipped):
            for part in self._state.parts(answer.tile):
                self._unanswered.answered(f"detect {part}", f"plan {part}")
            self._inspections.answered(answer.tile)
            self._exposures.release_all(answer.tile)
            yield from self._finish_tile(answer.tile)

    def _scanned(self, scan: Scan, size_bytes: int) -> Iterator[Effect]:
        self._unanswered.answered(f"scan {scan.id}")
        self._missed_in_a_row = 0
        if scan.id not in self._state.recorded:
            self._exposures.came(scan.id, size_bytes)
            yield from self._unanswered.wait(
                f"record {scan.id}", lambda _: ConfirmRecorded(scan_id=scan.id), order_now=False
            )
        if self._state.awaits_detection(scan.id):
            yield from self._await_detection(scan.id.partition, order_now=False)

    def _recorded(self, scan_id: ScanId) -> Iterator[Effect]:
        # Pixels on disk answer the order to scan, even if the news of the scan itself got lost.
        self._unanswered.answered(f"scan {scan_id}")
        self._unanswered.answered(f"record {scan_id}")
        self._exposures.release(scan_id)
        if self._state.awaits_detection(scan_id):
            yield from self._await_detection(scan_id.partition, order_now=False)
        yield from self._finish_tile(scan_id.partition.tile)

    def _await_detection(self, part: PartitionId, *, order_now: bool) -> Iterator[Effect]:
        """Wait for the regions of a partition or seam; ask for its detection only if nobody else does."""
        within_s = self._detections.within_s(backlog=self._unanswered.count("detect"))
        yield from self._unanswered.wait(
            f"detect {part}", partial(self._detections.order, part), within_s, order_now=order_now
        )

    def _microscope_failed(self, failed: MicroscopeFailed) -> Iterator[Effect]:
        what = failed.order
        if failed.scan_id is not None:
            name = f"scan {failed.scan_id}"
            self._unanswered.answered(name)
            if self._state.is_settled(failed.scan_id):
                yield from self._finish_tile(failed.scan_id.partition.tile)
                return
            failures = self._exposures.failed(failed.scan_id)
            if failures >= self._plan.scan_attempts or not failed.is_retryable:
                yield from self._give_up(failed.scan_id, failed.reason)
            elif failures > 1:
                # Once is an accident; twice, and the connection or the stage is made sure of.
                self._is_prepared = False
        else:
            name = f"move {failed.tile}" if failed.tile else what
            if name not in self._unanswered:
                return
            if not failed.is_retryable:
                self._unanswered.answered(name)
                self._end("failed", f"{what}: {failed.reason}", "microscope")
            else:
                yield from self._again(name, failed.reason)

    def _give_up(self, scan_id: ScanId, reason: str, *, is_fault: bool = True) -> Iterator[Effect]:
        missed = ScanMissed(scan_id=scan_id, reason=reason)
        self._state.learn(missed)
        self._exposures.drop(scan_id)
        yield missed
        self._missed_in_a_row += is_fault
        if self._missed_in_a_row >= MISSES_IN_A_ROW:
            self._end("failed", f"{MISSES_IN_A_ROW} scans in a row failed, the last: {reason}", "microscope")
        yield from self._finish_tile(scan_id.partition.tile)

    def _recording_failed(self, failed: RecordingFailed) -> Iterator[Effect]:
        if failed.is_disk_error:
            self._end("failed", f"storage: {failed.reason}", "storage")
            self._unanswered.drop("record", "storage")
        elif failed.scan_id is not None and failed.scan_id not in self._state.recorded:
            self._unanswered.answered(f"record {failed.scan_id}")
            self._exposures.drop(failed.scan_id)
            self._state.forget(failed.scan_id)
            if self._state.is_settled(failed.scan_id):
                yield from self._finish_tile(failed.scan_id.partition.tile)
            elif self._exposures.failed(failed.scan_id) >= self._plan.scan_attempts:
                yield from self._give_up(failed.scan_id, failed.reason)
            elif failed.scan_id.partition.tile != self._tile:
                # The stage has moved on: come back for it.
                self._tile = None

    def _actor_failed(self, failed: ActorFailed) -> Iterator[Effect]:
        if failed.is_final:
            self._end("failed", f"{failed.actor}: {failed.error}", "actor")
            self._unanswered.drop("record", "storage")
            if failed.actor == "microscope":
                yield from self._finished()
        elif failed.actor == "sampler" and (what := self._unanswered.command or "").startswith("map"):
            yield from self._again(what, failed.error)
        elif failed.actor == "microscope":
            # Rebuilt, it knows nothing: prepare it and go to the tile anew.
            self._is_prepared = False
            self._unanswered.answered(self._unanswered.command or "")

    # -- orders -----------------------------------------------------------------------------

    def _go_on(self) -> Iterator[Effect]:
        if self._ending.fact is None and (pause := self._orders.due()) is not None:
            yield from self._take_order(pause)
        yield from self._inspections.go_on()
        missed = -1
        while missed != len(self._state.missed):  # a scan that is refused gives way to the next
            missed = len(self._state.missed)
            yield from self._next_order()

    def _next_order(self) -> Iterator[Effect]:
        if self._unanswered.command is not None or self._phase == "ended":
            return
        if self._ending.fact is not None:
            yield from self._wind_up()
        elif self._orders.pause is not None:
            yield from self._idle(f"paused: {self._orders.pause.reason}")
        elif not self._is_prepared:
            self._at = None
            yield from self._command("prepare", self._plan.prepare)
        else:
            self._phase = "surveying"
            yield from self._survey()

    def _survey(self) -> Iterator[Effect]:
        if self._tile is None or self._state.is_scanned(self._tile):
            yield from self._choose_tile()
        if self._tile is None:
            return
        tile = self._tile
        if tile != self._at:
            yield from self._move_to(tile)
            return
        pending = self._state.undetected(tile)
        for part in pending:  # of seams the images are there without asking if all were made just now
            is_there = self._exposures.are_ordered(self._plan.fast_scans(tile))
            is_lost = self._state.images_of(part) is None
            yield from self._await_detection(part, order_now=is_lost or not is_there)
        if not pending and not self._state.fast_left(tile):
            if (windows := self._state.audit_due(tile)) is not None:
                self._fold(windows)
                yield windows
            for proposed in self._state.unplanned(tile):
                yield from self._plan_proposed(proposed)
        scan = self._exposures.next(tile, self._detections.longest_s)
        if scan is not None:
            yield from self._expose(scan)
        elif pending or self._state.unplanned(tile):
            yield from self._idle("detection" if pending else "planning")
        else:
            # Regions planned while the microscope was not ready have no storage ordered yet.
            yield from self._take_up(tile)
            yield from self._idle("storage")

    def _choose_tile(self) -> Iterator[Effect]:
        self._tile = None
        left = tuple(islice(self._state.tiles_left(), 2))
        for tile in left:  # this one and, ahead of time, the next
            yield from self._take_up(tile)
        if left:
            self._tile = left[0]
        elif self._state.is_finished():
            yield from self._map_fields()
        else:
            yield from self._idle("storage")  # the last images are still being written

    def _map_fields(self) -> Iterator[Effect]:
        """Leave the beam to the sampler, one field after the other."""
        field = self._maps.next()
        if field is None:
            self._end("completed", what_is_missing(self._state, self._maps))
            yield from self._wind_up()
            return
        if field.id.tile != self._at:
            yield from self._move_to(field.id.tile)
            return
        self._phase = "mapping"
        scanned = self._exposures.on_field(field)
        order = self._maps.order(field, scanned, lambda: self._orders.pause is not None)
        yield from self._command(f"map {field.id}", order)

    def _field_mapped(self, mapped: FieldMapped) -> None:
        self._unanswered.answered(f"map {mapped.field.id}")
        if mapped.field.id.tile in self._state.skipped:
            return
        self._missed_in_a_row = 0 if mapped.is_complete else self._missed_in_a_row + 1
        if not mapped.is_complete:
            self._is_prepared = False  # the connection and the stage are made sure of
        if self._missed_in_a_row >= MISSES_IN_A_ROW:
            self._end(
                "failed", f"{MISSES_IN_A_ROW} maps in a row failed, the last: {mapped.reason}", "microscope"
            )

    def _move_to(self, tile: TileIndex) -> Iterator[Effect]:
        self._at = None
        yield from self._command(f"move {tile}", partial(self._plan.move, tile))

    def _take_up(self, tile: TileIndex) -> Iterator[Effect]:
        """Reserve what a tile needs on disk, and ask for detections that an interruption lost."""
        yield from self._reservations.take_up(tile)
        for scan in self._plan.fast_scans(tile):
            if scan.id in self._state.recorded and self._state.awaits_detection(scan.id):
                yield from self._await_detection(scan.id.partition, order_now=True)

    def _plan_proposed(self, proposed: RegionsProposed) -> Iterator[Effect]:
        yield from self._unanswered.wait(f"plan {proposed.partition}", partial(plan_order, proposed))

    def _expose(self, scan: Scan) -> Iterator[Effect]:
        obstacle = self._exposures.obstacle(scan)
        if obstacle == "dose":
            yield from self._give_up(scan.id, TOO_MUCH_DOSE, is_fault=False)
        elif obstacle:
            yield from self._idle(obstacle)
        else:
            within_s = 30 + 3 * self._exposures.duration_s(scan)
            yield from self._command(f"scan {scan.id}", lambda _: self._exposures.order(scan), within_s, scan)

    def _idle(self, cause: str) -> Iterator[Effect]:
        if cause != self._idle_cause:
            self._idle_cause = cause
            yield MicroscopeIdle(cause=cause)

    def _finish_tile(self, tile: TileIndex) -> Iterator[Effect]:
        is_open = tile in self._plan.tiles and tile not in self._state.finished
        if is_open and self._state.is_complete(tile) and self._unanswered.scanning != tile:
            finished = TileFinished(tile=tile)
            self._state.learn(finished)
            yield finished

    # -- the end ----------------------------------------------------------------------------

    def _end(self, outcome: Outcome, reason: str, cause: Cause = "") -> None:
        """Decide how the run ends."""
        if (what := self._unanswered.command or "").startswith("map"):
            self._unanswered.answered(what)  # the sampler hears of the end by itself
        if outcome != "completed":
            self._inspections.stop()
        self._ending.decide(outcome, reason, cause)

    def _wind_up(self) -> Iterator[Effect]:
        self._phase = "resetting"
        if not self._is_restored:
            # The end waits for what is being written and for nothing else.
            self._unanswered.drop("storage", "detect", "plan")
            yield from self._command("reset", lambda attempt: ResetMicroscope(attempt=attempt))
        elif not self._unanswered:
            yield from self._finished()

    def _finished(self) -> Iterator[Effect]:
        self._phase = "ended"
        if self._ending.fact is not None:
            yield self._ending.fact

    # -- waiting for answers ------------------------------------------------------------------

    def _command(
        self, what: str, order: MakeOrder, within_s: float = ANSWER_S, scan: Scan | None = None
    ) -> Iterator[Effect]:
        """Give the microscope its one order."""
        self._idle_cause = None
        self._unanswered.command = what
        yield from self._unanswered.wait(what, order, within_s, scan)

    def _again(self, what: str, reason: str) -> Iterator[Effect]:
        """Order the same thing once more, or give it up."""
        scan, kind = self._unanswered[what].scan, what.partition(" ")[0]
        is_paused = self._orders.pause is not None and kind in ("prepare", "move", "scan")
        if is_paused or (scan is not None and self._state.is_settled(scan.id)):
            self._unanswered.answered(what)  # ordered anew if it is still wanted when the run goes on
            if scan is not None:
                yield from self._finish_tile(scan.id.partition.tile)
            return
        is_allowed = scan is None or self._exposures.is_allowed(scan)
        effects = self._unanswered.again(what) if is_allowed else None
        if effects is not None:
            yield from effects
            return
        self._unanswered.answered(what)
        if scan is not None:
            yield from self._give_up(scan.id, reason if is_allowed else TOO_MUCH_DOSE, is_fault=is_allowed)
        elif kind == "reset":
            self._is_restored = True  # not so, but nothing more can be done about it here
            self._end("failed", f"the microscope was not reset: {reason}", "microscope")
        elif kind in ("prepare", "move"):
            self._end("failed", f"{what}: {reason}", "microscope")
        else:
            self._end("failed", f"{what}: {reason}", "storage" if kind in ("storage", "record") else "actor")
