"""Random windows in a survey: drawn once all else of a tile is planned, scanned whole, kept by a kill."""

from __future__ import annotations

import pytest
from order_story import Killed, OrderStory, at, told
from story import Story, survey
from story_map import MapStory

from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import (
    FieldMapped,
    Message,
    OrderRefused,
    ProposeRegions,
    Recorded,
    RegionsPlanned,
    RegionsProposed,
    RunFinished,
    Scan,
    ScanArea,
    ScanId,
    SkipTile,
    TileFinished,
)
from sparse_actors.planning.audit import AUDIT, AuditPlan, covered_by
from sparse_actors.planning.survey_plan import FieldsPlan
from sparse_actors.runtime.virtual import Delivery, Fault

FIRST, SECOND = TileIndex(0, 0), TileIndex(0, 1)
PLAN = AuditPlan(windows=3, window_px=(8, 8), margin_px=2)
WHOLE = RunFinished(outcome="completed", reason="")


def of(kind: type[Message], messages: list[Message]) -> list:  # type: ignore[type-arg]
    return [message for message in messages if isinstance(message, kind)]


def windows(story: Story) -> dict[TileIndex, tuple[PixelBox, ...]]:
    """What was drawn, by tile; drawn once each."""
    drawn = [fact for fact in of(RegionsProposed, story.disk.journal) if fact.source == AUDIT]
    assert len({fact.partition.tile for fact in drawn}) == len(drawn)
    return {fact.partition.tile: fact.boxes for fact in drawn}


def recorded(story: Story) -> set[ScanId]:
    ids = [fact.scan_id for fact in of(Recorded, story.disk.journal)]
    assert len(ids) == len(set(ids))
    return set(ids)


def planned(story: Story) -> list[Scan]:
    facts = of(RegionsPlanned, story.disk.journal)
    return [scan for fact in facts if fact.source == AUDIT for scan in fact.scans]


UNDISTURBED = OrderStory(survey(audit=PLAN))
UNDISTURBED.tell()
MOMENTS = range(len(UNDISTURBED.bus.deliveries))
ALL = recorded(UNDISTURBED)


def test_every_tile_has_its_windows_and_they_are_scanned_whole() -> None:
    drawn = windows(UNDISTURBED)
    assert set(drawn) == {FIRST, SECOND}
    assert drawn[FIRST] != drawn[SECOND]
    scans = {scan.id: scan for scan in planned(UNDISTURBED)}
    assert sorted(scan.box for scan in scans.values()) == sorted(
        box for boxes in drawn.values() for box in boxes
    )
    assert len(scans) == 6
    assert set(scans) <= ALL
    assert all(scan.imaging == UNDISTURBED.plan.analysis and not scan.mask_boxes for scan in scans.values())


def test_what_is_drawn_is_what_the_plan_draws_again_from_the_regions() -> None:
    plan = UNDISTURBED.plan
    for tile, boxes in windows(UNDISTURBED).items():
        regions = [
            scan.box
            for fact in of(RegionsPlanned, UNDISTURBED.disk.journal)
            if fact.partition.tile == tile and fact.source != AUDIT
            for scan in fact.scans
        ]
        assert regions
        drawn, of_windows = PLAN.drawn(covered_by(regions, plan.analysis.size_px), tile, plan.seed)
        assert boxes == PLAN.exposures(drawn, plan.analysis.size_px)
        assert of_windows <= 64


@pytest.mark.parametrize("largest", [None, 2])
def test_windows_are_not_mapped(largest: int | None) -> None:
    fields = FieldsPlan(where="regions", grid_px=(32, 32), largest=largest)
    mapped = []
    for audit in (None, AuditPlan(windows=3, window_px=(16, 16), margin_px=4)):
        story = MapStory(survey(columns=2, fields=fields, audit=audit))
        assert story.tell()[-1] == WHOLE
        mapped.append({fact.field for fact in of(FieldMapped, story.disk.journal)})
    assert mapped[0] == mapped[1] != set()


def test_another_seed_draws_other_windows() -> None:
    other = OrderStory(survey(audit=PLAN, seed=5))
    other.tell()
    assert windows(other) != windows(UNDISTURBED)


def test_the_stage_does_not_come_back_for_the_windows() -> None:
    tiles = [scan.id.partition.tile for _, scan in _exposed(UNDISTURBED)]
    assert tiles == sorted(tiles)


def _exposed(story: Story) -> list[tuple[float, Scan]]:
    return [(t, m.scan) for t, m in story.bus.published if isinstance(m, ScanArea)]


@pytest.mark.parametrize("number", MOMENTS[::17])
def test_a_run_that_was_killed_has_the_same_windows_and_repeats_nothing(number: int) -> None:
    story = OrderStory(survey(audit=PLAN))

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        story.tell(at(number, kill))
    before = windows(story)
    messages = story.tell()
    assert messages[-1] == WHOLE
    assert windows(story) == windows(UNDISTURBED)
    assert before.items() <= windows(story).items()
    assert recorded(story) == ALL


@pytest.mark.parametrize("fault", ["lost", "crash"])
@pytest.mark.parametrize("number", MOMENTS[::23])
def test_a_message_lost_or_an_actor_rebuilt_costs_no_window(number: int, fault: Fault) -> None:
    def once(delivery: Delivery) -> Fault | None:
        return fault if delivery.number == number else None

    story = OrderStory(survey(audit=PLAN))
    assert story.tell(once)[-1] == WHOLE
    assert windows(story) == windows(UNDISTURBED)
    assert {scan.id for scan in planned(story)} <= recorded(story)


def test_a_tile_that_is_skipped_has_no_windows() -> None:
    story = OrderStory(survey(audit=PLAN))
    messages = told(story, SkipTile(tile=SECOND, reason="torn foil", request="s"), 3)
    assert messages[-1] == WHOLE
    assert set(windows(story)) == {FIRST}
    assert {m.tile for m in of(TileFinished, messages)} == {FIRST, SECOND}


def test_what_somebody_proposed_before_is_covered_and_scanned_besides() -> None:
    half = (PixelBox(0, 0, 64, 40),)
    story = OrderStory(survey(audit=PLAN))
    number = next(
        d.number
        for d in UNDISTURBED.bus.deliveries
        if d.message == of(RegionsPlanned, UNDISTURBED.disk.journal)[0]
    )
    messages = told(story, ProposeRegions(tile=FIRST, boxes=half, source="me", request="r"), number)
    assert messages[-1] == WHOLE
    assert all(box.bottom > 40 for box in windows(story)[FIRST])


def test_nobody_else_may_call_regions_an_audit() -> None:
    story = OrderStory(survey(audit=PLAN))
    proposal = ProposeRegions(tile=FIRST, boxes=(PixelBox(0, 0, 8, 8),), source=AUDIT, request="r")
    (refused,) = of(OrderRefused, told(story, proposal, len(MOMENTS) // 2))
    assert "give another" in refused.reason
    assert windows(story) == windows(UNDISTURBED)


def test_a_tile_rescanned_whole_has_nothing_to_audit() -> None:
    story = OrderStory(survey(audit=PLAN, region_px=(64, 64)))
    assert story.tell()[-1] == WHOLE
    assert windows(story) == {FIRST: (), SECOND: ()}
    assert planned(story) == []


def test_a_microscope_that_cannot_scan_so_little_ends_the_run_at_once() -> None:
    story = OrderStory(survey(audit=AuditPlan(windows=1, window_px=(1, 1), margin_px=0)))
    story.microscope.limits = type(story.microscope.limits)(min_region_px=4)
    finished = story.tell()[-1]
    assert isinstance(finished, RunFinished)
    assert finished.outcome == "failed"
    assert "audit.size_px" in finished.reason
