"""Maps on the virtual bus, undisturbed and with each fault at each message."""

from __future__ import annotations

import numpy as np
import pytest
from story import START, survey
from story_map import (
    CLASSIFICATION_S,
    MapStory,
    classes_of,
    field_survey,
    map_plan,
    phase_of,
)

from sparse_actors.messages import (
    FieldMapped,
    Message,
    PhaseMapUpdated,
    RegionsPlanned,
    RunFinished,
    SpectraMeasured,
    StopRun,
)
from sparse_actors.planning.survey_plan import FieldsPlan
from sparse_actors.runtime.virtual import Delivery, Fault


def ending(messages: list[Message]) -> RunFinished:
    (finished,) = [message for message in messages if isinstance(message, RunFinished)]
    return finished


def maps(messages: list[Message]) -> list[FieldMapped]:
    return [message for message in messages if isinstance(message, FieldMapped)]


def test_a_whole_tile_is_mapped_from_a_quarter_of_its_points() -> None:
    story = MapStory(field_survey())
    messages = story.tell()
    assert ending(messages) == RunFinished(outcome="completed", reason="")
    (mapped,) = maps(messages)
    assert (mapped.is_complete, mapped.reason) == (True, "points")
    assert len(mapped.labels) == len(story.microscope.spots) == len(classes_of(story.disk)) == 24 * 24 // 4
    rows, columns = np.indices((24, 24))
    x_mm, y_mm = story.plan.panorama.centre_mm(story.plan.all_tiles[0])
    at_tile = type(START)(x_mm=x_mm, y_mm=y_mm)
    truth = phase_of(np.column_stack([columns.ravel(), rows.ravel()]), at_tile).reshape(24, 24)
    assert (mapped.phase_map != truth).mean() < 0.12
    assert story.microscope.state == START
    assert any(isinstance(message, PhaseMapUpdated) for message in messages)
    assert not story.microscope.scans  # no survey


def test_the_beam_never_waits_at_a_dwell_of_a_millisecond() -> None:
    how = map_plan(live_time_s=0.001, live_time_range_s=(0.001, 0.001), fraction=0.5)
    story = MapStory(field_survey(grid_px=(48, 48)), how)
    measured = [message for message in story.tell() if isinstance(message, SpectraMeasured)]
    busy_s = sum(message.finished_s - message.started_s for message in measured)
    whole_s = measured[-1].finished_s - measured[0].started_s
    assert CLASSIFICATION_S > 10 * 0.001
    assert busy_s == pytest.approx(whole_s)


def test_the_regions_of_a_survey_are_mapped_each_for_itself() -> None:
    fields = FieldsPlan(where="regions", grid_px=(32, 32))
    story = MapStory(survey(columns=2, fields=fields))
    messages = story.tell()
    assert ending(messages).outcome == "completed"
    planned = [scan for m in messages if isinstance(m, RegionsPlanned) for scan in m.scans]
    assert len(maps(messages)) == len(planned) > 4
    assert {m.field.id.tile for m in maps(messages)} == set(story.plan.tiles)
    for mapped in maps(messages):
        box = mapped.field.box
        inside = {(x, y) for field, x, y in classes_of(story.disk) if field == str(mapped.field.id)}
        assert all(box.left <= x < box.right and box.top <= y < box.bottom for x, y in inside)
        assert len(inside) == len(mapped.labels)


def test_only_the_largest_regions_if_asked() -> None:
    fields = FieldsPlan(where="regions", grid_px=(32, 32), largest=2)
    messages = MapStory(survey(columns=2, fields=fields)).tell()
    chosen = [m.field.box.area for m in maps(messages)]
    planned = [scan.box.area // 4 for m in messages if isinstance(m, RegionsPlanned) for scan in m.scans]
    assert len(chosen) == 2
    assert min(chosen) >= sorted(planned)[-2]


def test_beam_time_is_shared_by_area() -> None:
    story = MapStory(field_survey(columns=2, time_s=0.5))
    mapped = maps(story.tell())
    assert [m.reason for m in mapped] == ["time", "time"]
    spots = [spot[0] for spot in story.microscope.spots]
    assert len(spots) * 0.01 == pytest.approx(0.5, rel=0.2)


UNDISTURBED = MapStory(field_survey())
UNDISTURBED.tell()
DELIVERIES = UNDISTURBED.bus.deliveries
CLASSES = classes_of(UNDISTURBED.disk)


@pytest.mark.parametrize("fault", ["lost", "late", "doubled", "crash"])
def test_every_fault_at_every_message_leaves_the_same_map(fault: Fault) -> None:
    for delivery in DELIVERIES:
        story = MapStory(field_survey())
        messages = story.tell(lambda d, at=delivery.number: fault if d.number == at else None)
        where = f"{fault} {type(delivery.message).__name__} to {delivery.actor}, delivery {delivery.number}"
        assert ending(messages) == RunFinished(outcome="completed", reason=""), where
        assert classes_of(story.disk) == CLASSES, where
        assert story.microscope.state == START, where


def test_stopped_at_any_message_and_resumed_the_map_is_the_same() -> None:
    for delivery in DELIVERIES[::2]:
        story = MapStory(field_survey())

        def stop(d: Delivery, at: int = delivery.number, story: MapStory = story) -> None:
            if d.number == at:
                story.bus.publish(StopRun(reason="test"))

        assert ending(story.tell(stop)).outcome in ("stopped", "completed")
        assert story.microscope.state == START
        assert ending(story.tell()).outcome == "completed"
        assert classes_of(story.disk) == CLASSES
        assert len(story.microscope.spots) == len(CLASSES)


def test_killed_at_any_message_and_resumed_only_spots_in_flight_are_measured_twice() -> None:
    class Killed(BaseException):
        pass

    in_flight = 2 * map_plan().batch_points
    for delivery in DELIVERIES:
        story = MapStory(field_survey())

        def kill(d: Delivery, at: int = delivery.number) -> None:
            if d.number == at:
                raise Killed

        with pytest.raises(Killed):
            story.tell(kill)
        assert ending(story.tell()).outcome == "completed"
        assert classes_of(story.disk) == CLASSES
        assert len(story.microscope.spots) <= len(CLASSES) + in_flight


def test_a_detector_that_fails_now_and_then_costs_nothing_but_time() -> None:
    story = MapStory(field_survey())
    story.microscope.fail_spots = 2
    assert ending(story.tell()).outcome == "completed"
    assert classes_of(story.disk) == CLASSES


def test_a_detector_that_fails_always_ends_the_run_with_its_reason() -> None:
    story = MapStory(field_survey(columns=3))
    story.microscope.fail_spots = 1000
    end = ending(story.tell())
    assert (end.outcome, end.cause) == ("failed", "microscope")
    assert "detector warmed up" in end.reason
    assert story.microscope.state == START
    story.microscope.fail_spots = 0
    assert ending(story.tell()) == RunFinished(outcome="completed", reason="")
