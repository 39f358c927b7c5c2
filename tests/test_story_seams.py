"""Surveys with seams on the virtual bus: undisturbed, with each fault at each message, resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from story import DETECTION_S, START, ModelMicroscope, ModelPool, Story, survey

from sparse_actors.actors.detector_actor import DetectorActor
from sparse_actors.contracts.detector import Pois
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.imaging import Imaging
from sparse_actors.messages import (
    After,
    DetectImage,
    DetectionFailed,
    DetectionLost,
    DetectionReturned,
    Effect,
    Message,
    MicroscopeIdle,
    PartitionReloaded,
    PartitionScanned,
    PoisFound,
    Recorded,
    RegionsPlanned,
    RunFinished,
    ScanMissed,
    StopRun,
    TileFinished,
)
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.runtime.virtual import Delivery, Fault

SIDE, SCALE = 48, 2


def seam_survey(**changes: Any) -> SurveyPlan:
    fast, analysis = Imaging((SIDE, SIDE), 1000), Imaging((SIDE * SCALE, SIDE * SCALE), 1000)
    return survey(fast=fast, analysis=analysis, halo_px=8, reach_px=1, **changes)


PLAN = seam_survey()
V, H = 4, 5  # the seams are numbered after the partitions


def scene(number: int) -> Any:
    """Each tile has features inside partitions, across seams, on the crossing and at the edge."""
    image = np.full((SIDE, SIDE), 200, np.uint8)
    image[4:7, 5:8] = image[30:33, 40:44] = 10
    if number == 0:
        image[10:12, 22:27] = image[24, 0:6] = image[23:25, 23:25] = 10
        image[40, 8:33] = 10  # longer than the halo
        image[44, 30:32] = 10  # beside it, and far from any seam
    else:
        image[20:28, 30:32] = image[22, 47] = image[0:3, 24] = 10
    return image


class Specimen(ModelMicroscope):
    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Any:
        pixels = super().scan_area(box, dwell_ns, window_px)
        return scene(round(self.state.x_mm / 0.1 - 0.5))[box.slices] if window_px == (SIDE, SIDE) else pixels


def components(image: Any, scale: int) -> Pois:
    found = ndimage.find_objects(ndimage.label(image < 50)[0])
    corners = [(c.start, r.start, c.stop - c.start, r.stop - r.start) for r, c in found]
    boxes = np.array(corners, dtype=np.int64).reshape(-1, 4) * scale
    return Pois.at(boxes[:, :2] + boxes[:, 2:] / 2, boxes_px=boxes)


class ComponentPool(ModelPool):
    def find(self, image: Any, scale: int) -> Pois:
        return components(image, scale)


class SeamStory(Story):
    pool = ComponentPool

    def __init__(self, plan: SurveyPlan = PLAN) -> None:
        super().__init__(plan)
        self.microscope = Specimen(lambda seconds: self.bus.spend(seconds))

    @property
    def state(self) -> SurveyState:
        state = SurveyState(self.plan)
        for fact in self.disk.journal:
            state.learn(fact)
        return state


def outcome(messages: list[Message]) -> RunFinished:
    (finished,) = [message for message in messages if isinstance(message, RunFinished)]
    return finished


def truth(tile: TileIndex) -> set[tuple[int, ...]]:
    return set(map(tuple, components(scene(tile.column), SCALE).boxes_px.tolist()))


def found(messages: list[Message], tile: TileIndex) -> dict[PartitionId, list[tuple[int, ...]]]:
    return {
        m.partition: [tuple(box) for box in m.pois.boxes_px.tolist()]
        for m in messages
        if isinstance(m, PoisFound) and m.partition.tile == tile
    }


def check(story: SeamStory, where: str = "") -> None:
    """All scans are recorded once, each part is planned, and each feature lies in a rescan."""
    ids = [fact.scan_id for fact in story.disk.journal if isinstance(fact, Recorded)]
    assert len(ids) == len(set(ids)), where
    state = story.state
    for tile in story.plan.tiles:
        regions = [scan for part in story.plan.parts(tile) for scan in state.regions.get(part, ())]
        assert {scan.id for scan in (*story.plan.fast_scans(tile), *regions)} <= set(ids), where
        for box in truth(tile):
            assert any(scan.box.contains(PixelBox(*box)) for scan in regions), (where, tile, box)


def test_each_feature_is_found_once_and_as_in_the_whole_tile() -> None:
    story = SeamStory()
    messages = story.tell()
    assert outcome(messages).outcome == "completed"
    check(story)
    for tile in story.plan.tiles:
        boxes = [box for boxes in found(messages, tile).values() for box in boxes]
        assert len(boxes) == len(set(boxes))
        assert set(boxes) == truth(tile)
    first = found(messages, story.plan.tiles[0])
    assert len(first[PartitionId(story.plan.tiles[0], 3)]) == 2  # what is clear of the seams is not kept back


def test_a_tile_ends_with_its_seams_and_they_wait_for_no_other_tile() -> None:
    messages = SeamStory().tell()
    planned = [m.partition for m in messages if isinstance(m, RegionsPlanned)]
    ends = [m.tile for m in messages if isinstance(m, TileFinished)]
    assert ends == list(PLAN.tiles)
    for tile in PLAN.tiles:
        own = [m for m in messages if isinstance(m, RegionsPlanned | TileFinished | PartitionScanned)]
        last = max(n for n, m in enumerate(own) if isinstance(m, RegionsPlanned) and m.partition.tile == tile)
        (end,) = [n for n, m in enumerate(own) if isinstance(m, TileFinished) and m.tile == tile]
        assert last < end
    assert planned.index(PartitionId(PLAN.tiles[0], H)) < planned.index(PartitionId(PLAN.tiles[1], 0))
    idle = [m.cause for m in messages if isinstance(m, MicroscopeIdle)]
    assert idle.count("detection") >= 1


def test_a_region_within_one_already_planned_is_not_scanned_again() -> None:
    story = SeamStory(seam_survey(columns=1, region_px=(SIDE * SCALE, SIDE * SCALE)))
    messages = story.tell()
    assert outcome(messages).outcome == "completed"
    check(story)
    seams = [m for m in messages if isinstance(m, RegionsPlanned) and m.partition.index >= V]
    assert [m.scans for m in seams] == [(), ()]
    assert sum(len(boxes) for part, boxes in found(messages, story.plan.tiles[0]).items() if part.index >= V)


def deliveries(plan: SurveyPlan) -> list[Delivery]:
    story = SeamStory(plan)
    story.tell()
    return story.bus.deliveries


ONE_TILE = seam_survey(columns=1)


@pytest.mark.parametrize("fault", ["lost", "late", "doubled", "crash"])
def test_every_fault_at_every_message_loses_no_feature(fault: Fault) -> None:
    for delivery in deliveries(ONE_TILE):
        story = SeamStory(ONE_TILE)
        messages = story.tell(lambda d, at=delivery.number: fault if d.number == at else None)
        where = f"{fault} {type(delivery.message).__name__} to {delivery.actor}, delivery {delivery.number}"
        assert outcome(messages).outcome == "completed", where
        assert not [m for m in messages if isinstance(m, ScanMissed | DetectionFailed)], where
        check(story, where)
        assert story.microscope.state == START, where
        for tile in story.plan.tiles:
            assert {box for boxes in found(messages, tile).values() for box in boxes} == truth(tile), where


def test_stopped_or_killed_at_any_message_and_resumed_no_feature_is_lost() -> None:
    class Killed(BaseException):
        pass

    for delivery in deliveries(PLAN)[::2]:
        story = SeamStory()

        def disturb(d: Delivery, at: int = delivery.number, story: Story = story) -> None:
            if d.number == at:
                if at % 4:
                    raise Killed
                story.bus.publish(StopRun(reason="test"))

        try:
            story.tell(disturb)
        except Killed:
            pass
        messages = story.tell()
        where = f"{type(delivery.message).__name__} to {delivery.actor}, delivery {delivery.number}"
        assert outcome(messages).outcome == "completed", where
        assert not [m for m in messages if isinstance(m, ScanMissed | DetectionFailed)], where
        assert story.bus.now_s < 100, where  # nothing was waited for in vain
        check(story, where)


def test_a_seam_that_cannot_be_detected_is_rescanned_whole() -> None:
    class FailsAtBands(ComponentPool):
        def handle(self, message: Any) -> Iterator[Effect]:
            if isinstance(message, DetectImage) and message.partition.index >= V:
                lost = DetectionLost(
                    partition=message.partition, attempt=message.attempt, reason="no", worker="w"
                )
                yield After(DETECTION_S, lost)
            elif isinstance(message, DetectionLost):
                yield message
            else:
                yield from super().handle(message)

    class Failing(SeamStory):
        pool = FailsAtBands

    story = Failing()
    messages = story.tell()
    assert outcome(messages).outcome == "completed"
    tile = story.plan.tiles[0]
    plans = {m.partition: m for m in messages if isinstance(m, RegionsPlanned)}
    # A line of 16 and 9 fast pixels lies across the vertical seam: wider than the halo, with the reach.
    for index, box in ((V, PixelBox(14, 0, 54, 96)), (H, PixelBox(0, 32, 96, 32))):
        plan = plans[PartitionId(tile, index)]
        assert (plan.strategy, plan.is_fallback) == ("whole seam", True)
        assert [scan.box for scan in plan.scans] == [box]
    check(story)
    failed = [m.partition.index for m in messages if isinstance(m, DetectionFailed)]
    assert sorted(failed) == [V, V, H, H]


def test_seams_of_a_tile_with_a_missing_partition_are_rescanned_whole() -> None:
    class Stubborn(Specimen):
        def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Any:
            if window_px == (SIDE, SIDE) and box.left and box.top and self.state.x_mm < 0.1:
                self.fail_next = 1
            return super().scan_area(box, dwell_ns, window_px)

    story = SeamStory()
    story.microscope = Stubborn(lambda seconds: story.bus.spend(seconds))
    messages = story.tell()
    assert outcome(messages) == RunFinished(outcome="completed", reason="1 scans are missing")
    assert story.bus.now_s < 100
    plans = {m.partition: m.strategy for m in messages if isinstance(m, RegionsPlanned)}
    first, second = story.plan.tiles
    assert {plans[PartitionId(first, index)] for index in (V, H)} == {"whole seam"}
    assert "whole seam" not in {plans[part] for part in story.plan.parts(second)}

    story.microscope = Specimen(lambda seconds: story.bus.spend(seconds))
    assert outcome(story.tell()) == RunFinished(outcome="completed", reason="")
    assert PartitionId(first, 3) in story.state.regions


def test_what_the_journal_has_is_not_found_again() -> None:
    tile = PLAN.tiles[0]
    messages = SeamStory().tell()
    history = [m for m in messages if isinstance(m, PoisFound) and m.partition != PartitionId(tile, H)]
    actor = DetectorActor(PLAN, history)
    orders: list[DetectImage] = []
    for scan in PLAN.fast_scans(tile):
        reloaded = PartitionReloaded(
            partition=PartitionId(tile, H), scan=scan, attempt=101, image=scene(0)[scan.box.slices].copy()
        )
        orders += [m for m in actor.handle(reloaded) if isinstance(m, DetectImage)]
    (order,) = orders
    done = DetectionReturned(
        partition=order.partition,
        attempt=order.attempt,
        pois=components(order.image, SCALE),
        worker="w",
        elapsed_s=0,
    )
    (again,) = actor.handle(done)
    assert isinstance(again, PoisFound)
    assert found([again], tile) == {
        part: boxes for part, boxes in found(messages, tile).items() if part == PartitionId(tile, H)
    }


def test_the_images_of_a_tile_are_dropped_with_its_seams() -> None:
    actor = DetectorActor(PLAN, ())
    tile = PLAN.tiles[0]
    orders: list[DetectImage] = []
    for scan in PLAN.fast_scans(tile):
        image = scene(0)[scan.box.slices].copy()
        scanned = PartitionScanned(scan=scan, attempt=1, image=image, dwell_ns=1, started_s=0, finished_s=0)
        orders += [m for m in actor.handle(scanned) if isinstance(m, DetectImage)]
    while orders:
        order = orders.pop(0)
        pois = components(order.image, SCALE)
        done = DetectionReturned(
            partition=order.partition, attempt=order.attempt, pois=pois, worker="w", elapsed_s=0
        )
        orders += [m for m in actor.handle(done) if isinstance(m, DetectImage)]
    assert not actor._tiles[tile].images
    assert not actor._jobs
    list(actor.handle(TileFinished(tile=tile)))
    assert not actor._tiles
