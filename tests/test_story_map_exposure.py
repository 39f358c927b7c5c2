"""What maps spare: points with too much dose, points of another field, and what nobody could classify."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from story import survey
from story_map import AXIS, MapPool, MapStory, SpectralMicroscope, field_survey, map_plan

from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.imaging import dose_e_per_nm2
from sparse_actors.messages import (
    NOT_KNOWN,
    ClassificationLost,
    ClassifySpectra,
    FieldId,
    FieldMapped,
    MapField,
    MeasureSpots,
    Message,
    RegionsPlanned,
    RunFinished,
    SpectraClassified,
    SpectraRecorded,
    SpotsSpared,
    SpotsStarted,
    StopRun,
)
from sparse_actors.planning import map_queue
from sparse_actors.planning.survey_plan import FieldsPlan
from sparse_actors.runtime.virtual import Delivery

CURRENT_PA = 100.0
ONE = dose_e_per_nm2(CURRENT_PA, 0.01e9, 100_000 / 24)
"""Of a spectrum of 10 ms on a point of the map grid of 24 x 24."""


def limited(spectra: float, **changes: Any) -> Any:
    """Whole tiles on which no point may have more than so many spectra."""
    plan = field_survey(**changes)
    return replace(plan, beam_current_pa=CURRENT_PA, max_dose_e_per_nm2=spectra * ONE)


def of(kind: type, messages: list[Message]) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


def exposures(story: MapStory) -> Counter[tuple[float, int, int]]:
    """How often the beam was at each point, by what the instrument's note before each exposure says."""
    return Counter(
        (fact.field, x, y) for fact in of(SpotsStarted, story.exposures) for x, y in fact.points_px.tolist()
    )


class Killed(BaseException):
    pass


def killed_at(number: int) -> Callable[[Delivery], None]:
    def kill(delivery: Delivery) -> None:
        if delivery.number == number:
            raise Killed

    return kill


class JournalingStory(MapStory):
    """The note before each exposure is in the journal, as in a run."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.exposures = self.disk.journal


@pytest.mark.parametrize(("spectra", "most"), [(1.5, 1), (2.5, 2)])
def test_after_kills_and_faults_no_point_gets_more_than_the_limit(spectra: float, most: int) -> None:
    story = JournalingStory(limited(spectra))
    for number in (40, 25, 60, 90):
        story.microscope.fail_spots = 1
        with pytest.raises(Killed):
            story.tell(killed_at(number))
    messages = story.tell()
    assert of(RunFinished, messages)[0].outcome == "completed"
    counted = exposures(story)
    assert max(counted.values()) == most
    spared = of(SpotsSpared, story.disk.journal)
    assert all((fact.labels == NOT_KNOWN).all() for fact in spared)
    left_out = sum(len(fact.points_px) for fact in spared)
    assert left_out > 0 if most == 1 else left_out >= 0
    (mapped,) = of(FieldMapped, messages)
    assert (mapped.is_complete, len(mapped.labels)) == (
        True,
        24 * 24 // 4,
    )  # others instead
    without = {(x, y) for fact in spared for x, y in fact.points_px.tolist()}
    assert not without & set(map(tuple, mapped.points_px.tolist()))


def test_without_a_limit_what_was_lost_is_measured_again() -> None:
    story = JournalingStory(field_survey())
    story.microscope.fail_spots = 1
    story.tell()
    assert max(exposures(story).values()) == 2
    assert not of(SpotsSpared, story.disk.journal)


def test_a_map_that_may_measure_nothing_ends_and_says_why() -> None:
    story = JournalingStory(limited(0.9))
    messages = story.tell()
    (mapped,) = of(FieldMapped, messages)
    assert (mapped.is_complete, mapped.reason, len(mapped.labels)) == (True, "dose", 0)
    assert not exposures(story)
    assert of(RunFinished, messages)[0].outcome == "completed"


def test_a_detector_that_always_fails_is_not_tried_on_every_point_of_a_limited_map() -> None:
    story = JournalingStory(limited(1.5, columns=3))
    story.microscope.fail_spots = 10_000
    messages = story.tell()
    assert of(RunFinished, messages)[0].outcome == "failed"
    assert "detector warmed up" in of(FieldMapped, messages)[0].reason
    assert sum(exposures(story).values()) < 24 * 24 // 4


def test_time_to_settle_and_dead_time_count() -> None:
    class Dead(SpectralMicroscope):
        def acquire_spectra(self, points_px: Any, live_time_s: Any, window_px: Any) -> Any:
            self._spend(float(live_time_s.sum()))  # as long again
            return super().acquire_spectra(points_px, live_time_s, window_px)

    story = JournalingStory(limited(1.5))
    story.microscope = Dead(lambda seconds: story.bus.spend(seconds))
    (mapped,) = of(FieldMapped, story.tell())
    # The first batches are out before anybody knows; then no point is allowed that takes twice the dose.
    assert mapped.reason == "dose"
    assert 0 < len(mapped.labels) <= 4 * map_plan().batch_points


@pytest.fixture
def two_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    def fields(self: Any) -> tuple[MapField, ...]:
        tile = TileIndex(0, 0)
        boxes = PixelBox(0, 0, 18, 24), PixelBox(6, 0, 18, 24)
        return tuple(MapField(FieldId(tile, n), box, (24, 24)) for n, box in enumerate(boxes))

    monkeypatch.setattr(map_queue.MapQueue, "fields", fields)


@pytest.mark.usefixtures("two_fields")
def test_a_point_measured_in_one_field_is_taken_over_by_the_other() -> None:
    story = MapStory(field_survey())
    first, second = of(FieldMapped, story.tell())
    assert max(Counter(story.microscope.spots).values()) == 1
    labels = {
        tuple(point): label for point, label in zip(first.points_px.tolist(), first.labels, strict=True)
    }
    shared = [
        (labels[x, y], label)
        for (x, y), label in zip(second.points_px.tolist(), second.labels, strict=True)
        if (x, y) in labels
    ]
    assert shared
    assert all(one == other for one, other in shared)
    assert len(second.labels) == 18 * 24 // 4
    assert sum(len(fact.points_px) for fact in of(SpotsSpared, story.disk.journal)) == len(shared)


@pytest.mark.usefixtures("two_fields")
def test_fields_that_overlap_and_are_killed_end_the_same() -> None:
    undisturbed = MapStory(field_survey())
    wanted = [(m.points_px.tolist(), m.labels.tolist()) for m in of(FieldMapped, undisturbed.tell())]
    for delivery in undisturbed.bus.deliveries[::6]:
        story = MapStory(field_survey())
        with pytest.raises(Killed):
            story.tell(killed_at(delivery.number))
        story.tell()
        last = {m.field.id: m for m in of(FieldMapped, story.disk.journal)}
        found = [(last[i].points_px.tolist(), last[i].labels.tolist()) for i in sorted(last)]
        assert found == wanted


class RefusingPool(MapPool):
    """Loses some batches, always."""

    lost: frozenset[int] = frozenset()

    def handle(self, message: Any) -> Iterator[Any]:
        if isinstance(message, ClassifySpectra) and message.batch in self.lost:
            yield ClassificationLost(
                field=message.field,
                batch=message.batch,
                attempt=message.attempt,
                reason="nobody",
                worker="w",
            )
        else:
            yield from super().handle(message)


class RefusingStory(MapStory):
    pool = RefusingPool


def test_a_batch_that_nobody_classified_is_counted_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = MapStory(field_survey())
    undisturbed.tell()
    story = RefusingStory(field_survey())
    monkeypatch.setattr(RefusingPool, "lost", frozenset({3, 7}))
    (mapped,) = of(FieldMapped, messages := story.tell())
    n = 2 * map_plan().batch_points
    assert (mapped.is_complete, mapped.unclassified, (mapped.labels == 0).sum()) == (True, n, n)
    assert of(RunFinished, messages)[0] == RunFinished(
        outcome="completed", reason=f"{n} points were not classified"
    )
    spots = len(story.microscope.spots)
    monkeypatch.setattr(RefusingPool, "lost", frozenset({7}))
    (mapped,) = of(FieldMapped, story.tell())
    assert mapped.unclassified == n // 2
    monkeypatch.setattr(RefusingPool, "lost", frozenset())
    (mapped,) = of(FieldMapped, messages := story.tell())
    assert (mapped.unclassified, (mapped.labels == 0).sum()) == (0, 0)
    assert of(RunFinished, messages)[0] == RunFinished(outcome="completed", reason="")
    assert len(story.microscope.spots) == spots == len(mapped.labels)
    assert not of(FieldMapped, story.tell())  # nothing is left


def test_workers_that_are_back_at_the_end_of_a_field_classify_what_was_left() -> None:
    class Recovering(RefusingPool):
        def handle(self, message: Any) -> Iterator[Any]:
            self.lost = frozenset({2} if getattr(message, "attempt", 0) <= 2 else ())
            yield from super().handle(message)

    class RecoveringStory(MapStory):
        pool = Recovering

    story = RecoveringStory(field_survey())
    (mapped,) = of(FieldMapped, story.tell())
    assert (mapped.unclassified, (mapped.labels == 0).sum()) == (0, 0)
    workers = [fact.worker for fact in of(SpectraClassified, story.disk.journal) if fact.batch == 2]
    assert workers == ["", "model"]


def test_spectra_that_never_come_are_said_to_be_so() -> None:
    story = MapStory(field_survey())
    messages = story.tell(lambda d: "lost" if isinstance(d.message, MeasureSpots) else None)
    assert {m.reason for m in of(FieldMapped, messages)} == {"microscope: no answer within 60 s"}


def test_what_is_stopped_while_points_are_spared_goes_on_the_same() -> None:
    story = JournalingStory(limited(1.5))
    story.microscope.fail_spots = 1

    def stop(delivery: Delivery) -> None:
        if delivery.number == 70:
            story.bus.publish(StopRun(reason="test"))

    story.tell(stop)
    (mapped,) = of(FieldMapped, story.tell())
    assert (mapped.is_complete, mapped.reason) == (True, "points")
    assert max(exposures(story).values()) == 1


def test_the_doses_of_scans_count_at_the_points_they_cover() -> None:
    fields = FieldsPlan(where="regions", grid_px=(32, 32))
    one = dose_e_per_nm2(CURRENT_PA, 0.01e9, 100_000 / 32)
    plan = survey(1, fields=fields, beam_current_pa=CURRENT_PA, max_dose_e_per_nm2=1.0001 * one)
    story = JournalingStory(plan)
    messages = story.tell()
    assert [m.reason for m in of(FieldMapped, messages)] == ["dose"] * len(of(FieldMapped, messages))
    assert any(m.scans for m in of(RegionsPlanned, messages))
    roomy = survey(1, fields=fields, beam_current_pa=CURRENT_PA, max_dose_e_per_nm2=1.1 * one)
    assert {m.reason for m in of(FieldMapped, JournalingStory(roomy).tell())} == {"points"}
    assert AXIS.channels == 3
    assert not of(SpectraRecorded, messages)
