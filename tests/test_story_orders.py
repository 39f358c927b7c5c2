"""Orders to a running survey, each at every moment of it; kill, faults and resumption keep them."""

from __future__ import annotations

import numpy as np
import pytest
from order_story import COFFEE_S, OrderStory, at, killed, told
from story import Story, survey

from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import (
    ContinueRun,
    Message,
    MicroscopeIdle,
    MoveToTile,
    OrderRefused,
    PartitionScanned,
    PauseRun,
    PoisFound,
    PrepareMicroscope,
    ProposeRegions,
    Recorded,
    RegionScanned,
    RegionsPlanned,
    RegionsProposed,
    RunContinued,
    RunFinished,
    RunPaused,
    ScanArea,
    ScanId,
    ScanMissed,
    SkipTile,
    StopRun,
    StorageReserved,
    TileFinished,
    TileSkipped,
)
from sparse_actors.runtime.virtual import Delivery, Fault

FIRST, SECOND = TileIndex(0, 0), TileIndex(0, 1)
BOXES = (PixelBox(0, 0, 20, 20), PixelBox(10, 10, 20, 20))
PAUSE = PauseRun(reason="coffee", request="p")
SKIP = SkipTile(tile=FIRST, reason="torn foil", request="s")
PROPOSAL = ProposeRegions(tile=FIRST, boxes=BOXES, source="me", request="r")
WHOLE = RunFinished(outcome="completed", reason="")


def of(kind: type[Message], messages: list[Message]) -> list:  # type: ignore[type-arg]
    return [message for message in messages if isinstance(message, kind)]


def recorded(story: Story) -> set[ScanId]:
    ids = [fact.scan_id for fact in of(Recorded, story.disk.journal)]
    assert len(ids) == len(set(ids))
    return set(ids)


UNDISTURBED = OrderStory(survey())
UNDISTURBED.tell()
MOMENTS = range(len(UNDISTURBED.bus.deliveries))
ALL = recorded(UNDISTURBED)


def check_pause(story: Story) -> None:
    """Nothing was ordered of the microscope between a pause and its end."""
    is_paused = False
    for _, message in story.bus.published:
        is_paused = isinstance(message, RunPaused) or (is_paused and not isinstance(message, RunContinued))
        assert not (is_paused and isinstance(message, ScanArea | MoveToTile | PrepareMicroscope)), message


def rescans_of(story: Story, tile: TileIndex = FIRST) -> np.ndarray:  # type: ignore[type-arg]
    """How often each pixel of a tile was rescanned for keeps."""
    planned = {scan.id: scan for m in of(StorageReserved, story.disk.journal) for scan in m.scans}
    count = np.zeros((64, 64), int)
    for scan_id in recorded(story):
        if scan_id.partition.tile == tile and not scan_id.is_fast:
            count[planned[scan_id].box.slices] += 1
    return count


def check_proposed(story: Story) -> None:
    """Every pixel that was proposed is rescanned, and none of it twice for the proposal's sake."""
    count, before = rescans_of(story), rescans_of(UNDISTURBED)
    is_proposed = np.zeros(count.shape, bool)
    for box in BOXES:
        is_proposed[box.slices] = True
    np.testing.assert_array_equal(count, np.where(is_proposed, np.maximum(before, 1), before))


@pytest.mark.parametrize("number", MOMENTS[::3])
def test_a_pause_at_any_moment_keeps_the_beam_off_and_loses_nothing(number: int) -> None:
    story = OrderStory(survey())
    messages = told(story, PAUSE, number)
    assert messages[-1] == WHOLE
    check_pause(story)
    assert recorded(story) == ALL
    if not of(RunPaused, messages):
        assert number > len(MOMENTS) - 12
        assert [m.reason for m in of(OrderRefused, messages)] in ([], ["the run is ending"])
        return
    times = {type(m): t for t, m in story.bus.published if isinstance(m, RunPaused | RunContinued)}
    assert times[RunContinued] - times[RunPaused] == COFFEE_S
    assert "paused: coffee" in [m.cause for m in of(MicroscopeIdle, messages)]
    for t, message in story.bus.published:  # detections went on
        assert not (isinstance(message, PoisFound) and times[RunPaused] + 1 < t < times[RunContinued])


@pytest.mark.parametrize("number", MOMENTS[::3])
def test_a_tile_skipped_at_any_moment_is_left_as_it_is(number: int) -> None:
    story = OrderStory(survey())
    messages = told(story, SKIP, number)
    assert messages[-1] == WHOLE
    assert not of(ScanMissed, messages)
    assert {m.tile for m in of(TileFinished, messages)} == {FIRST, SECOND}
    assert {i for i in ALL if i.partition.tile == SECOND} <= recorded(story)
    if refused := of(OrderRefused, messages):
        assert recorded(story) == ALL
        assert (
            "there is nothing left to skip" in refused[0].reason or refused[0].reason == "the run is ending"
        )
        return
    if not of(TileSkipped, messages):
        assert number > len(MOMENTS) - 4  # there was no time for an answer
        return
    after = messages[messages.index(of(TileSkipped, messages)[0]) :]
    assert not [m for m in of(ScanArea, after) if m.scan.id.partition.tile == FIRST]
    # The scan in flight ends and counts.
    for scanned in (*of(PartitionScanned, messages), *of(RegionScanned, messages)):
        assert scanned.scan.id in recorded(story)
    # Taken up again there is nothing to do.
    scans = len(story.microscope.scans)
    assert story.tell()[-1] == WHOLE
    assert len(story.microscope.scans) == scans


@pytest.mark.parametrize("number", MOMENTS[::3])
def test_regions_proposed_at_any_moment_are_scanned_once(number: int) -> None:
    story = OrderStory(survey())
    messages = told(story, PROPOSAL, number)
    assert messages[-1] == WHOLE
    if refused := of(OrderRefused, messages):
        assert refused[0].reason in (f"tile {FIRST} is not surveyed yet", "the run is ending")
        assert recorded(story) == ALL
        return
    if not of(RegionsProposed, messages):
        assert number > len(MOMENTS) - 4
        return
    check_proposed(story)
    (planned,) = [m for m in of(RegionsPlanned, messages) if m.source]
    assert (planned.source, planned.partition.index) == ("me", 4)
    assert {scan.id for scan in planned.scans} == recorded(story) - ALL
    scans = [m.scan.id for m in messages if isinstance(m, PartitionScanned | RegionScanned)]
    proposed = [n for n, scan_id in enumerate(scans) if scan_id.partition.index == 4]
    of_second = [n for n, scan_id in enumerate(scans) if scan_id.partition.tile == SECOND]
    moves = [n for n, m in enumerate(messages) if isinstance(m, MoveToTile) and m.tile == SECOND]
    if messages.index(of(RegionsProposed, messages)[0]) < moves[0]:
        assert max(proposed) < min(of_second)  # before the tile was left
    else:
        assert max(of_second) < min(proposed)  # by going back at the end


@pytest.mark.parametrize("later", [1, 4, 12])
def test_a_pause_outlives_the_daemon(later: int) -> None:
    for number in MOMENTS[5:-30:13]:
        story = OrderStory(survey())
        killed(story, PAUSE, number, later)
        if not of(RunPaused, story.disk.journal):
            continue
        scans = len(story.microscope.scans)
        messages = story.tell()  # nobody lets it go on: nothing more happens
        assert not of(RunFinished, messages), number
        assert len(story.microscope.scans) == scans
        messages = told(story, ContinueRun(request="c"), 0)
        assert messages[-1] == WHOLE
        assert recorded(story) == ALL


def test_a_run_stopped_in_a_pause_goes_on_when_it_is_taken_up_again() -> None:
    story = Story(survey())
    messages = story.tell(at(40, lambda: story.bus.publish(PAUSE)))
    assert not of(RunFinished, messages)  # for ever
    story = Story(survey(), story.disk)
    end = story.tell(at(0, lambda: story.bus.publish(StopRun(reason="home"))))[-1]
    assert end.outcome == "stopped"
    story.disk.append(end)  # the recorder is the last to stop
    assert not story.microscope.scans
    assert story.tell()[-1] == WHOLE
    assert recorded(story) == ALL


@pytest.mark.parametrize("later", [1, 4, 12])
def test_a_skipped_tile_stays_skipped_when_the_run_is_taken_up_again(later: int) -> None:
    for number in MOMENTS[5:100:13]:
        story = OrderStory(survey())
        killed(story, SKIP, number, later)
        is_skipped = bool(of(TileSkipped, story.disk.journal))
        before = recorded(story)
        messages = story.tell()
        assert messages[-1] == WHOLE
        new = {i for i in recorded(story) - before if i.partition.tile == FIRST}
        if is_skipped:
            assert not [m for m in of(ScanArea, messages) if m.scan.id.partition.tile == FIRST]
            assert not new, number
        else:
            assert recorded(story) == ALL


@pytest.mark.parametrize("later", [1, 4, 12])
def test_proposed_regions_are_scanned_though_the_daemon_is_killed(later: int) -> None:
    for number in MOMENTS[5:-5:13]:
        story = OrderStory(survey())
        killed(story, PROPOSAL, number, later)
        is_there = bool(of(RegionsProposed, story.disk.journal))
        messages = told(story, PROPOSAL, 3)  # whoever had no answer asks again
        assert messages[-1] == WHOLE
        if is_there or of(RegionsProposed, messages):
            check_proposed(story)
            assert len(of(RegionsPlanned, [m for m in story.disk.journal if getattr(m, "source", "")])) >= 1


@pytest.mark.parametrize("fault", ["lost", "late", "doubled", "crash"])
@pytest.mark.parametrize("order", [PAUSE, SKIP, PROPOSAL], ids=lambda order: type(order).__name__)
def test_every_fault_after_an_order_is_survived(order: Message, fault: Fault) -> None:
    for number in range(60, 130, 3):
        story = OrderStory(survey())

        def act(delivery: Delivery, number: int = number, story: Story = story) -> Fault | None:
            if delivery.number == 60:
                story.bus.publish(order)
            return fault if delivery.number == number and delivery.actor != "person" else None

        messages = story.tell(act)
        where = f"{fault} at {story.bus.deliveries[number]}"
        assert messages[-1] == WHOLE, where
        assert not of(ScanMissed, messages), where
        check_pause(story)
        if isinstance(order, ProposeRegions):
            check_proposed(story)
        elif isinstance(order, PauseRun):
            assert recorded(story) == ALL, where
        else:
            assert {i for i in ALL if i.partition.tile == SECOND} <= recorded(story), where
