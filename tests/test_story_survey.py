"""A whole survey on the virtual bus, undisturbed and with each fault at each message."""

from __future__ import annotations

import numpy as np
import pytest
from story import START, MemoryDisk, ModelMicroscope, Story, picture, survey

from sparse_actors.imaging import Imaging
from sparse_actors.messages import (
    ActorFailed,
    Message,
    MicroscopeIdle,
    PartitionScanned,
    Recorded,
    RegionScanned,
    RunFinished,
    ScanId,
    ScanMissed,
    StopRun,
    TileFinished,
)
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.runtime.virtual import Delivery, Fault


def ending(messages: list[Message]) -> RunFinished:
    (finished,) = [message for message in messages if isinstance(message, RunFinished)]
    return finished


def recorded(disk: MemoryDisk) -> list[ScanId]:
    return [fact.scan_id for fact in disk.journal if isinstance(fact, Recorded)]


def check_all_there(story: Story, missed: set[ScanId] = frozenset()) -> None:
    """Every partition is fast-scanned and every region rescanned, once each, or reported missing."""
    ids = recorded(story.disk)
    assert len(ids) == len(set(ids))
    state = SurveyState(story.plan)
    for fact in story.disk.journal:
        state.learn(fact)
    for tile in story.plan.tiles:
        for fast in story.plan.fast_scans(tile):
            assert fast.id in ids or fast.id in missed
            assert fast.id.partition in state.regions or fast.id in missed
            for region in state.regions.get(fast.id.partition, ()):
                assert region.id in ids or region.id in missed


def check_pixels(story: Story) -> None:
    for tile in story.plan.tiles:
        x_mm, y_mm = story.plan.panorama.centre_mm(tile)
        state = type(START)(x_mm=x_mm, y_mm=y_mm)
        for slab in story.disk.slabs.values():
            for scan_id, image in slab.items():
                if scan_id.partition.tile == tile and scan_id.is_fast:
                    fast = story.plan.fast_scans(tile)[scan_id.partition.index]
                    np.testing.assert_array_equal(image, picture(state, fast.box))


def test_an_undisturbed_survey_records_everything_and_resets_the_microscope() -> None:
    story = Story(survey())
    messages = story.tell()
    assert ending(messages).outcome == "completed"
    check_all_there(story)
    check_pixels(story)
    assert story.microscope.state == START
    assert not story.microscope.is_connected
    assert [m.tile for m in messages if isinstance(m, TileFinished)] == list(story.plan.tiles)
    assert len(story.microscope.scans) == len(recorded(story.disk)) == len(story.exposures)


def test_each_tile_is_left_only_when_its_regions_are_scanned() -> None:
    story = Story(survey(columns=3))
    scans = [m.scan.id for m in story.tell() if isinstance(m, PartitionScanned | RegionScanned)]
    tiles = [scan_id.partition.tile for scan_id in scans]
    assert tiles == sorted(tiles)


def test_the_order_is_that_of_figure_3_when_detection_takes_less_than_a_scan() -> None:
    # A fast scan of 8 x 8 pixels takes 64 us + overheads; make it longer than the detection.
    story = Story(survey(columns=1, fast=Imaging((16, 16), 10_000_000), scan_order="paper"))
    messages = story.tell()
    order = [
        (m.scan.id.partition.index, m.scan.id.is_fast)
        for m in messages
        if isinstance(m, PartitionScanned | RegionScanned)
    ]
    compact = [step for n, step in enumerate(order) if n == 0 or step != order[n - 1]]
    fast, rescan = True, False
    assert compact == [
        (0, fast), (1, fast), (0, rescan), (2, fast), (1, rescan), (3, fast), (2, rescan), (3, rescan),
    ]  # fmt: skip
    idle = [m.cause for m in messages if isinstance(m, MicroscopeIdle)]
    assert idle.count("detection") == 1  # the last partition of the tile


def deliveries() -> list[Delivery]:
    story = Story(survey())
    story.tell()
    return story.bus.deliveries


DELIVERIES = deliveries()


@pytest.mark.parametrize("fault", ["lost", "late", "doubled", "crash"])
def test_every_fault_at_every_message_is_survived(fault: Fault) -> None:
    for delivery in DELIVERIES:
        story = Story(survey())
        messages = story.tell(lambda d, at=delivery.number: fault if d.number == at else None)
        where = f"{fault} {type(delivery.message).__name__} to {delivery.actor}, delivery {delivery.number}"
        end = ending(messages)
        assert end.outcome == "completed", f"{where}: {end}"
        missed = {m.scan_id for m in messages if isinstance(m, ScanMissed)}
        assert not missed, where
        check_all_there(story)
        check_pixels(story)
        assert story.microscope.state == START, where
        if fault == "crash":
            assert any(isinstance(m, ActorFailed) for m in messages)


def test_a_scan_that_keeps_failing_is_reported_missing_and_the_rest_goes_on() -> None:
    class Stubborn(ModelMicroscope):
        def scan_area(self, box, dwell_ns, window_px):  # type: ignore[no-untyped-def]
            if window_px == (16, 16) and (box.left, box.top) == (8, 8) and self.state.x_mm < 0.1:
                self.fail_next = 1
            return super().scan_area(box, dwell_ns, window_px)

    story = Story(survey())
    story.microscope = Stubborn(lambda seconds: story.bus.spend(seconds))
    messages = story.tell()
    missed = {m.scan_id for m in messages if isinstance(m, ScanMissed)}
    assert missed == {story.plan.fast_scans(story.plan.tiles[0])[3].id}
    assert ending(messages) == RunFinished(outcome="completed", reason="1 scans are missing")
    check_all_there(story, missed)

    # Taken up again with a mended microscope, exactly what was missing is scanned.
    before = set(recorded(story.disk))
    story.microscope = ModelMicroscope(lambda seconds: story.bus.spend(seconds))
    assert ending(story.tell()) == RunFinished(outcome="completed", reason="")
    check_all_there(story)
    new = set(recorded(story.disk)) - before
    assert {scan_id.partition for scan_id in new} == {next(iter(missed)).partition}
    assert len(story.microscope.scans) == len(new)


def test_a_broken_microscope_ends_the_run_after_three_scans_and_can_be_resumed() -> None:
    story = Story(survey())
    story.microscope.fail_next = 1000
    end = ending(story.tell())
    assert (end.outcome, end.cause) == ("failed", "microscope")
    assert "scan generator tripped" in end.reason
    assert story.microscope.state == START
    story.microscope.fail_next = 0
    assert ending(story.tell()).outcome == "completed"
    check_all_there(story)


def test_stopped_at_any_message_and_resumed_the_result_is_the_same() -> None:
    whole = Story(survey())
    whole.tell()
    for delivery in DELIVERIES[::3]:
        story = Story(survey())

        def stop(d: Delivery, at: int = delivery.number, story: Story = story) -> None:
            if d.number == at:
                story.bus.publish(StopRun(reason="test"))

        end = ending(story.tell(stop))
        assert end.outcome in ("stopped", "completed")
        assert story.microscope.state == START
        assert ending(story.tell()).outcome == "completed"
        check_all_there(story)
        assert sorted(map(str, recorded(story.disk))) == sorted(map(str, recorded(whole.disk)))


def test_killed_at_any_message_and_resumed_at_most_the_scan_in_flight_is_exposed_twice() -> None:
    class Killed(BaseException):
        pass

    for delivery in DELIVERIES:
        story = Story(survey())

        def kill(d: Delivery, at: int = delivery.number) -> None:
            if d.number == at:
                raise Killed

        with pytest.raises(Killed):
            story.tell(kill)
        exposed = len(story.microscope.scans)
        assert ending(story.tell()).outcome == "completed"
        check_all_there(story)
        check_pixels(story)
        assert exposed <= len(story.microscope.scans) <= len(recorded(story.disk)) + 1


def test_a_finished_run_taken_up_again_leaves_the_microscope_alone() -> None:
    story = Story(survey())
    story.tell()
    scans, resets = len(story.microscope.scans), story.microscope.resets
    assert ending(story.tell()).outcome == "completed"
    assert (len(story.microscope.scans), story.microscope.resets) == (scans, resets)
