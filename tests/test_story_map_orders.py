"""Orders while maps are made, and orders that are refused in words."""

from __future__ import annotations

import pytest
from order_story import COFFEE_S, OrderMapStory, OrderStory, killed, told
from story import survey
from story_map import classes_of, field_survey, map_plan

from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import (
    ContinueRun,
    FieldMapped,
    Message,
    MoveToTile,
    OrderRefused,
    PauseRun,
    ProposeRegions,
    RegionScanned,
    RegionsPlanned,
    RunContinued,
    RunFinished,
    RunPaused,
    SkipTile,
    SpectraMeasured,
    TileSkipped,
)
from sparse_actors.planning.run_orders import MAX_BOXES, MAX_PROPOSALS
from sparse_actors.planning.survey_plan import FieldsPlan
from sparse_actors.runtime.virtual import Delivery, Fault

FIRST, SECOND = TileIndex(0, 0), TileIndex(0, 1)
WHOLE = RunFinished(outcome="completed", reason="")
PAUSE = PauseRun(reason="coffee", request="p")
BOX = PixelBox(0, 0, 8, 8)

UNDISTURBED = OrderMapStory(field_survey())
UNDISTURBED.tell()
CLASSES = classes_of(UNDISTURBED.disk)
MOMENTS = range(len(UNDISTURBED.bus.deliveries))
IN_FLIGHT = 2
"""Batches that the microscope is told of at once."""


def batches_in_pause(story: OrderMapStory) -> int:
    """How many batches were measured while the run was paused."""
    times = {type(m): t for t, m in story.bus.published if isinstance(m, RunPaused | RunContinued)}
    if RunPaused not in times:
        return 0
    end_s = times.get(RunContinued, float("inf"))
    measured = [m for _, m in story.bus.published if isinstance(m, SpectraMeasured)]
    return sum(times[RunPaused] < m.started_s < end_s for m in measured)


@pytest.mark.parametrize("number", MOMENTS[::5])
def test_a_map_paused_at_any_moment_is_the_same_in_the_end(number: int) -> None:
    story = OrderMapStory(field_survey())
    messages = told(story, PAUSE, number)
    assert messages[-1] == WHOLE
    assert classes_of(story.disk) == CLASSES
    assert batches_in_pause(story) <= IN_FLIGHT
    if any(isinstance(m, RunPaused) for m in messages):
        assert story.bus.now_s > COFFEE_S


@pytest.mark.parametrize("fault", ["lost", "late", "doubled", "crash"])
def test_every_fault_after_the_pause_of_a_map_leaves_the_same_map(fault: Fault) -> None:
    for number in range(40, 80, 3):
        story = OrderMapStory(field_survey())

        def act(delivery: Delivery, number: int = number, story: OrderMapStory = story) -> Fault | None:
            if delivery.number == 40:
                story.bus.publish(PAUSE)
            return fault if delivery.number == number and delivery.actor != "person" else None

        assert story.tell(act)[-1] == WHOLE, number
        assert classes_of(story.disk) == CLASSES


def test_a_paused_map_that_is_killed_stays_paused() -> None:
    for number in MOMENTS[20:-20:15]:
        story = OrderMapStory(field_survey())
        killed(story, PAUSE, number, 8)
        if not any(isinstance(fact, RunPaused) for fact in story.disk.journal):
            continue
        spots = len(story.microscope.spots)
        assert not any(isinstance(m, RunFinished) for m in story.tell())
        assert len(story.microscope.spots) == spots
        assert told(story, ContinueRun(request="c"), 0)[-1] == WHOLE
        assert classes_of(story.disk) == CLASSES
        assert len(story.microscope.spots) <= len(CLASSES) + IN_FLIGHT * map_plan().batch_points


@pytest.mark.parametrize("tile", [FIRST, SECOND])
def test_a_tile_skipped_while_maps_are_made_is_left(tile: TileIndex) -> None:
    undisturbed = OrderMapStory(field_survey(columns=3))
    undisturbed.tell()
    skip = SkipTile(tile=tile, reason="torn foil", request="s")
    for number in range(0, len(undisturbed.bus.deliveries) // 2, 53):
        story = OrderMapStory(field_survey(columns=3))
        messages = told(story, skip, number)
        assert messages[-1] == WHOLE, number  # nothing is missing
        complete = {m.field.id.tile for m in messages if isinstance(m, FieldMapped) and m.is_complete}
        assert complete | {tile} == set(story.plan.all_tiles)
        if any(isinstance(m, TileSkipped) for m in messages):
            assert tile not in complete
            after = messages[messages.index(next(m for m in messages if isinstance(m, TileSkipped))) :]
            assert not [m for m in after if isinstance(m, MoveToTile) and m.tile == tile]


def test_regions_proposed_while_maps_are_made_are_rescanned_and_mapped_too() -> None:
    fields = FieldsPlan(where="regions", grid_px=(32, 32))
    undisturbed = OrderMapStory(survey(columns=2, fields=fields))
    undisturbed.tell()
    deliveries = undisturbed.bus.deliveries
    first_map = next(d.number for d in deliveries if isinstance(d.message, SpectraMeasured))
    before = [m.field for _, m in undisturbed.bus.published if isinstance(m, FieldMapped)]
    for number in (first_map + 5, len(deliveries) - 60):
        story = OrderMapStory(survey(columns=2, fields=fields))
        order = ProposeRegions(tile=FIRST, boxes=(PixelBox(54, 0, 10, 10),), source="me", request="r")
        messages = told(story, order, number)
        assert messages[-1] == WHOLE
        assert [m for m in messages if isinstance(m, RegionScanned) and m.scan.id.partition.index == 4]
        mapped = [m.field for m in messages if isinstance(m, FieldMapped)]
        assert set(before) < set(mapped)  # under the same names
        assert len(mapped) == len(set(mapped)) > len(before)


REFUSED: list[tuple[Message, str]] = [
    (ContinueRun(request="x"), "the run is not paused"),
    (PauseRun(reason="  ", request="x"), "reason: expected 1 to 200 printable characters"),
    (PauseRun(reason="a\nb", request="x"), "reason: expected 1 to 200 printable characters"),
    (PauseRun(reason="a", request="x" * 201), "request has 201 characters"),
    (SkipTile(tile=TileIndex(7, 0), reason="a", request="x"), "tile r007c000 is not of this run"),
    (SkipTile(tile=SECOND, reason="", request="x"), "reason: expected"),
    (ProposeRegions(tile=TileIndex(7, 0), boxes=(BOX,), source="me"), "not of this run"),
    (ProposeRegions(tile=SECOND, boxes=(BOX,), source="me"), "tile r000c001 is not surveyed yet"),
    (ProposeRegions(tile=FIRST, boxes=(), source="me"), "0 boxes, expected 1 to 1000"),
    (ProposeRegions(tile=FIRST, boxes=(BOX,) * (MAX_BOXES + 1), source="me"), "1001 boxes"),
    (ProposeRegions(tile=FIRST, boxes=(BOX.shifted(60, 0),), source="me"), "leaves the field of view of 64"),
    (ProposeRegions(tile=FIRST, boxes=(BOX.shifted(-1, 0),), source="me"), "leaves the field of view"),
    (ProposeRegions(tile=FIRST, boxes=(PixelBox(0, 0, 64, 33),) * 2, source="me"), "more area than"),
    (ProposeRegions(tile=FIRST, boxes=(BOX,), source=""), "source: expected"),
]


@pytest.mark.parametrize(("order", "reason"), REFUSED, ids=[text for _, text in REFUSED])
def test_an_order_that_cannot_be_followed_is_refused_in_words(order: Message, reason: str) -> None:
    story = OrderStory(survey())
    messages = told(story, order, 60)
    (refused,) = [m for m in messages if isinstance(m, OrderRefused)]
    assert refused.order == type(order).__name__
    assert reason in refused.reason
    assert messages[-1] == WHOLE
    assert refused in story.disk.journal


def test_an_order_that_comes_again_is_carried_out_once() -> None:
    story = OrderStory(survey())
    box = ProposeRegions(tile=FIRST, boxes=(PixelBox(30, 0, 9, 9),), source="me", request="r")
    skip = SkipTile(tile=SECOND, reason="torn foil", request="s")
    late_pause = {60: PAUSE, 61: ContinueRun(request="c"), 62: PAUSE, 63: box, 64: box, 65: skip, 66: skip}

    def act(delivery: Delivery) -> None:
        if order := late_pause.get(delivery.number):
            story.bus.publish(order)

    messages = story.tell(act)
    assert messages[-1] == WHOLE
    (refused,) = [m for m in messages if isinstance(m, OrderRefused)]
    assert "carried out before" in refused.reason
    proposed = [m.scan.id for m in messages if isinstance(m, RegionScanned) and m.scan.id.partition.index > 3]
    assert len(proposed) == len(set(proposed))
    assert {scan_id.partition.index for scan_id in proposed} == {4}
    assert len([m for m in messages if isinstance(m, RunPaused)]) == 1
    skipped = TileSkipped(tile=SECOND, reason="torn foil", request="s")
    assert [m for m in messages if isinstance(m, TileSkipped)] == [skipped] * 2  # the same answer


def test_proposals_of_a_tile_are_limited_in_number_and_end_with_it() -> None:
    story = OrderStory(survey())

    def act(delivery: Delivery) -> None:
        if delivery.number == 60:
            for n in range(MAX_PROPOSALS + 1):
                story.bus.publish(ProposeRegions(tile=FIRST, boxes=(BOX,), source="me", request=str(n)))
        if delivery.number == 400:
            story.bus.publish(SkipTile(tile=SECOND, reason="torn foil", request="s"))
            story.bus.publish(ProposeRegions(tile=SECOND, boxes=(BOX,), source="me", request="late"))

    messages = story.tell(act)
    reasons = [m.reason for m in messages if isinstance(m, OrderRefused)]
    assert reasons[0] == f"tile {FIRST} has had {MAX_PROPOSALS} proposals, which is the limit"
    assert reasons[1:] in ([], [f"tile {SECOND} is skipped: torn foil"])
    assert messages[-1] == WHOLE


def test_no_pixel_gets_more_dose_than_allowed_though_it_was_proposed() -> None:
    one = 100e-12 / 1.602176634e-19 * 1e-6 / (0.1e6 / 64) ** 2  # electrons per nm^2 of a rescan of 1 us
    fast = one * (16 / 64) ** 2
    order = ProposeRegions(tile=FIRST, boxes=(PixelBox(54, 0, 9, 9),), source="me", request="r")
    for limit, is_scanned in ((one * 1.01 + fast, True), (one * 0.9 + fast, False)):
        story = OrderStory(survey(beam_current_pa=100.0, max_dose_e_per_nm2=limit))
        messages = told(story, order, 60)
        assert messages[-1].reason == ""
        proposed = [m for m in messages if isinstance(m, RegionScanned) and m.scan.id.partition.index == 4]
        assert bool(proposed) == is_scanned
        (planned,) = [m for m in messages if isinstance(m, RegionsPlanned) and m.source]
        assert sum(box.area for box in planned.left_out) == (0 if is_scanned else 81)
