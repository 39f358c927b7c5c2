"""The audit while the run goes on: it tells after every tile, and pauses the run below its limit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from order_story import AGAIN_S, COFFEE_S, Killed, at
from rich.console import Console
from story import Story, survey

from sparse_actors.cli.display import summary
from sparse_actors.cli.progress import Progress
from sparse_actors.geometry import TileIndex
from sparse_actors.messages import (
    After,
    AuditUpdated,
    ContinueRun,
    Effect,
    InspectionFailed,
    InspectionLost,
    InspectRegion,
    Message,
    Overdue,
    PartitionScanned,
    RegionInspected,
    RegionsPlanned,
    RunContinued,
    RunFinished,
    RunPaused,
    StopRun,
    TileFinished,
    TileInspected,
)
from sparse_actors.planning.audit import AUDIT, AuditPlan
from sparse_actors.planning.audit_watch import is_of_audit
from sparse_actors.runtime.virtual import Delivery, Fault, VirtualBus

TILES = 3
WHOLE = RunFinished(outcome="completed", reason="")


def plan(least: float | None) -> Any:
    return survey(
        columns=TILES,
        audit=AuditPlan(windows=20, window_px=(8, 8), margin_px=2, least_recall=least),
    )


class Patient:
    """Lets a run that was paused go on after a while."""

    accepts: tuple[type[Message], ...] = (RunPaused, RunContinued)

    def handle(self, message: Any) -> Iterator[Effect]:
        if isinstance(message, RunPaused):
            yield After(COFFEE_S, Overdue(what=message.request, attempt=1))
        elif isinstance(message, Overdue):
            yield ContinueRun(request=f"after {message.what}")
            if message.attempt < 5:  # an order may be lost
                yield After(AGAIN_S, Overdue(what=message.what, attempt=message.attempt + 1))


class AuditStory(Story):
    def attach_more(self, bus: VirtualBus) -> None:
        bus.attach("patient", Patient.accepts, Patient)


def of(kind: type[Message], messages: list[Message]) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


def told(story: Story) -> list[AuditUpdated]:
    """What the journal holds of the audit, each tile once."""
    return list({fact.tile: fact for fact in of(AuditUpdated, story.disk.journal)}.values())


def seen(story: Story) -> dict[TileIndex, tuple[int, tuple[int, ...]]]:
    """What was found, and missed in each window, by tile."""
    return {fact.tile: (fact.found, fact.missed) for fact in told(story)}


def pauses(story: Story) -> list[RunPaused]:
    made = [fact for fact in of(RunPaused, story.disk.journal) if is_of_audit(fact.request)]
    return list({fact.request: fact for fact in made}.values())


UNDISTURBED = AuditStory(plan(0.6))
UNDISTURBED.tell()
MOMENTS = range(len(UNDISTURBED.bus.deliveries))


def test_every_tile_is_audited_before_the_run_ends() -> None:
    assert [fact.tile for fact in told(UNDISTURBED)] == [TileIndex(0, column) for column in range(TILES)]
    assert [fact.tiles for fact in told(UNDISTURBED)] == [1, 2, 3]
    last = told(UNDISTURBED)[-1]
    assert last.all_found == sum(fact.found for fact in told(UNDISTURBED)) > 0
    assert last.recall_low < last.recall < last.recall_high
    expected = sum(fact.windows / len(fact.missed) * sum(fact.missed) for fact in told(UNDISTURBED))
    assert last.all_missed == pytest.approx(expected)


def test_a_recall_below_the_limit_pauses_the_run_as_soon_as_it_is_known() -> None:
    (first, *_) = pauses(UNDISTURBED)
    below = next(fact for fact in told(UNDISTURBED) if fact.is_below_limit)
    assert below.recall_at_most < 0.6
    assert f"at most {below.recall_at_most:.2%}" in first.reason
    journal = UNDISTURBED.disk.journal
    paused, continued = journal.index(first), journal.index(of(RunContinued, journal)[0])
    assert journal.index(below) < paused < continued
    published = UNDISTURBED.bus.published
    times = [t for t, m in published if isinstance(m, RunPaused | RunContinued)][:2]
    assert not [t for t, m in published if isinstance(m, PartitionScanned) and times[0] + 1 < t < times[1]]


def test_whoever_lets_it_go_on_has_the_evidence_begin_anew() -> None:
    facts, paused = told(UNDISTURBED), False
    of_limit = 0
    for fact in UNDISTURBED.disk.journal:
        if isinstance(fact, AuditUpdated):
            of_limit += 1
            assert fact.tiles_of_limit == of_limit
        paused |= isinstance(fact, RunPaused)
        if isinstance(fact, RunContinued) and paused:
            of_limit, paused = 0, False
    assert facts[-1].tiles_of_limit < TILES


def test_regions_are_looked_at_again_without_an_audit_too() -> None:
    story = AuditStory(survey(columns=TILES, inspects=True))
    assert story.tell()[-1] == WHOLE
    planned = {scan.id for fact in of(RegionsPlanned, story.disk.journal) for scan in fact.scans}
    inspected = of(RegionInspected, story.disk.journal)
    assert {fact.scan_id for fact in inspected} == planned != set()
    assert len(inspected) == len(planned)
    assert [fact.tile for fact in of(TileInspected, story.disk.journal)] == list(story.plan.tiles)
    assert not told(story)
    progress = Progress(tiles=TILES, partitions=4, analysis=story.plan.analysis)
    for number, fact in enumerate(story.disk.journal):
        progress.observe(fact, number)
    figures = progress.figures()
    empty = sum(len(fact.pois) == 0 for fact in inspected)
    assert (figures.regions_inspected, figures.artefacts, figures.audit) == (len(planned), empty, None)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary(figures, "completed", "", Path("run")))
    assert f"{len(planned) - empty} with sites, {empty} artefacts" in console.export_text()


def test_windows_are_no_artefacts() -> None:
    progress = Progress(tiles=TILES, partitions=4, analysis=UNDISTURBED.plan.analysis)
    for number, fact in enumerate(UNDISTURBED.disk.journal):
        progress.observe(fact, number)
    windows = sum(len(f.scans) for f in of(RegionsPlanned, UNDISTURBED.disk.journal) if f.source == AUDIT)
    assert windows
    inspected = len(of(RegionInspected, UNDISTURBED.disk.journal))
    assert progress.figures().regions_inspected == inspected - windows


def test_without_a_limit_nothing_is_paused() -> None:
    story = AuditStory(plan(None))
    assert story.tell()[-1] == WHOLE
    assert not pauses(story)
    assert seen(story) == seen(UNDISTURBED)


@pytest.mark.parametrize("number", MOMENTS[::61])
def test_a_run_that_was_killed_is_told_and_paused_the_same(number: int) -> None:
    story = AuditStory(plan(0.6))

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        story.tell(at(number, kill))
    is_told = bool(told(story))
    changes = [fact for fact in story.disk.journal if isinstance(fact, RunPaused | RunContinued)]
    if changes and isinstance(changes[-1], RunPaused):
        # Who takes a run up that was killed in a pause finds it paused, and lets it go on.
        messages = story.tell(between=lambda bus: bus.publish(ContinueRun(request="after the kill")))
    else:
        messages = story.tell()
    assert messages[-1] == WHOLE
    assert seen(story) == seen(UNDISTURBED)
    if is_told:  # before, the tiles may come in another order
        assert pauses(story)[0] == pauses(UNDISTURBED)[0]
    inspected = [fact.scan_id for fact in of(RegionInspected, story.disk.journal)]
    assert len(inspected) == len(set(inspected))


@pytest.mark.parametrize("fault", ["lost", "crash", "doubled"])
@pytest.mark.parametrize("number", MOMENTS[::97])
def test_a_message_lost_or_an_actor_rebuilt_costs_no_tile(number: int, fault: Fault) -> None:
    def once(delivery: Delivery) -> Fault | None:
        return fault if delivery.number == number else None

    story = AuditStory(plan(0.6))
    assert story.tell(once)[-1] == WHOLE
    assert seen(story) == seen(UNDISTURBED)
    facts = [fact for fact in story.disk.journal if isinstance(fact, TileFinished | AuditUpdated)]
    # An answer that was lost is asked for again after minutes, which may be when all is scanned.
    assert pauses(story) or all(isinstance(fact, TileFinished) for fact in facts[:TILES])


def test_an_inspection_that_fails_twice_is_given_up_and_the_tile_told_without_it() -> None:
    def break_one(delivery: Delivery) -> Fault | None:
        message = delivery.message
        if delivery.actor == "workers" and isinstance(message, InspectRegion) and message.scan_id == broken:
            lost = InspectionLost(
                scan_id=message.scan_id, attempt=message.attempt, reason="no", worker="model"
            )
            story.bus.publish(lost)
            return "lost"
        return None

    broken = of(RegionInspected, UNDISTURBED.disk.journal)[0].scan_id
    story = AuditStory(plan(None))
    assert story.tell(break_one)[-1] == WHOLE
    (failed,) = of(InspectionFailed, story.disk.journal)
    assert failed.scan_id == broken
    assert "2 tries: no" in failed.reason
    assert told(story)[0].found < told(UNDISTURBED)[0].found
    assert told(story)[1].found == told(UNDISTURBED)[1].found


def test_a_pool_that_never_answers_ends_with_the_tiles_given_up() -> None:
    def silent(delivery: Delivery) -> Fault | None:
        return "lost" if isinstance(delivery.message, InspectRegion) else None

    story = AuditStory(plan(0.6))
    assert story.tell(silent)[-1] == WHOLE
    assert not told(story)
    assert [bool(fact.problem) for fact in of(TileInspected, story.disk.journal)] == [True] * TILES


def test_a_run_that_is_stopped_does_not_wait_and_is_audited_when_taken_up() -> None:
    story = AuditStory(plan(None))
    finished = next(d.number for d in UNDISTURBED.bus.deliveries if isinstance(d.message, TileFinished))
    messages = story.tell(at(finished, lambda: story.bus.publish(StopRun(reason="enough"))))
    assert messages[-1] == RunFinished(outcome="stopped", reason="enough")
    assert story.tell()[-1] == WHOLE
    assert seen(story) == seen(UNDISTURBED)
