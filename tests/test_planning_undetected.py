"""Where a seam cannot be detected, what is rescanned instead holds every feature that would be lost."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seam_detection import DETECTORS, TILE, pictures, plan_of

from sparse_actors.actors.detector_actor import DetectorActor
from sparse_actors.actors.region_planner import RegionPlanner
from sparse_actors.contracts.detector import checked_pois
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan
from sparse_actors.geometry import PixelBox
from sparse_actors.messages import (
    DetectImage,
    DetectionFailed,
    DetectionLost,
    DetectionReturned,
    Message,
    PartitionScanned,
    PoisFound,
    RegionsPlanned,
)
from sparse_actors.planning.seams import NONE, Seam, undetected
from sparse_actors.wire import pack, unpack

SEAM = Seam(0, 50, PixelBox(0, 0, 100, 60))
LEFT, RIGHT = PixelBox(0, 0, 50, 60), PixelBox(50, 0, 50, 60)


def boxes(*each: tuple[int, int, int, int]) -> Any:
    return np.array(each, dtype=np.int64).reshape(-1, 4)


def test_it_is_as_wide_as_what_each_side_left_to_the_seam() -> None:
    assert undetected(SEAM, 8, [(LEFT, NONE), (RIGHT, NONE)], 4) == PixelBox(42, 0, 16, 60)
    # 30 deep at the line, one beside its end, and one that is no nearer than the reach to either.
    left = boxes((20, 5, 30, 2), (14, 10, 3, 3), (2, 20, 3, 3))
    assert undetected(SEAM, 8, [(LEFT, left), (RIGHT, NONE)], 4) == PixelBox(10, 0, 48, 60)
    right = boxes((51, 5, 20, 2))
    assert undetected(SEAM, 8, [(LEFT, left), (RIGHT, right)], 4) == PixelBox(10, 0, 65, 60)
    # Left to another seam, at the far side.
    assert undetected(SEAM, 8, [(LEFT, boxes((0, 58, 9, 2))), (RIGHT, NONE)], 4) == PixelBox(42, 0, 16, 60)


def test_a_partition_of_which_nothing_is_known_is_rescanned_as_deep_as_it_is() -> None:
    assert undetected(SEAM, 8, [(LEFT, None), (RIGHT, NONE)], 4) == PixelBox(0, 0, 58, 60)
    assert undetected(SEAM, 8, [(LEFT, NONE), (RIGHT, None)], 4) == PixelBox(42, 0, 58, 60)


def outcome_without(
    failing: set[int], image: Any, scale: int, partitions: int, detector: ThresholdDbscan
) -> tuple[list[Any], list[PixelBox]]:
    """Detect a tile part by part, some seams in vain; returns the boxes found and those rescanned instead."""
    plan = plan_of((image.shape[1], image.shape[0]), scale, partitions, 32)
    actor, planner = DetectorActor(plan, ()), RegionPlanner(plan, ())
    under_way: deque[Message] = deque(
        PartitionScanned(
            scan=scan, attempt=1, image=image[scan.box.slices].copy(), dwell_ns=1, started_s=0, finished_s=0
        )
        for scan in plan.fast_scans(TILE)
    )
    found: list[Any] = []
    rescanned: list[PixelBox] = []
    while under_way:
        for effect in actor.handle(under_way.popleft()):
            if isinstance(effect, DetectImage):
                under_way.append(answer(effect, failing, scale, detector))
                continue
            effect = unpack(pack(effect))  # as the journal keeps it
            for planned in planner.handle(effect):
                if isinstance(effect, DetectionFailed) and isinstance(planned, RegionsPlanned):
                    rescanned += [scan.box for scan in planned.scans]
            if isinstance(effect, PoisFound):
                found += effect.pois.boxes_px.tolist()
    return found, rescanned


def answer(order: DetectImage, failing: set[int], scale: int, detector: ThresholdDbscan) -> Message:
    part, attempt = order.partition, order.attempt
    if part.index in failing:
        return DetectionLost(partition=part, attempt=attempt, reason="no", worker="w")
    pois = checked_pois(detector.detect(order.image, scale), order.image.shape, scale)
    return DetectionReturned(partition=part, attempt=attempt, pois=pois, worker="w", elapsed_s=0)


@settings(max_examples=80, deadline=None)
@given(
    image=pictures(),
    partitions=st.sampled_from([2, 4, 9]),
    detector=st.sampled_from(DETECTORS),
    failing=st.sets(st.integers(0, 3), min_size=1),
)
def test_every_feature_is_found_or_rescanned(
    image: Any, partitions: int, detector: tuple[ThresholdDbscan, int], failing: set[int]
) -> None:
    detect, scale = detector
    seams = {partitions + number for number in failing}
    found, rescanned = outcome_without(seams, image, scale, partitions, detect)
    is_rescanned = np.zeros((image.shape[0] * scale, image.shape[1] * scale), dtype=np.bool_)
    for box in rescanned:
        is_rescanned[box.slices] = True
    known = {tuple(box) for box in found}
    for corner in checked_pois(detect.detect(image, scale), image.shape, scale).boxes_px.tolist():
        assert tuple(corner) in known or is_rescanned[PixelBox(*corner).slices].all()


@pytest.mark.parametrize("partitions", [2, 4])
def test_a_feature_longer_than_the_halo_is_not_lost_with_its_seam(partitions: int) -> None:
    image = np.full((256, 256), 130, np.uint8)
    image[20:200, 30:33] = 10  # across the horizontal seam at 128, which it leaves by 108 and 72 pixels
    horizontal = partitions + (partitions == 4)
    found, (rescan,) = outcome_without({horizontal}, image, 4, partitions, ThresholdDbscan())
    assert found == []
    (whole,) = ThresholdDbscan().detect(image, 4).boxes_px.tolist()
    assert rescan.contains(PixelBox(*whole))
    assert rescan.height < 4 * 256 - 200  # and no more than that
