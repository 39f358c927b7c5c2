"""Tiles detected part by part, as the daemon does it, with the detector in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from sparse_actors.actors.detector_actor import DetectorActor
from sparse_actors.contracts.detector import Detector, Pois, checked_pois
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan
from sparse_actors.geometry import Panorama, PartitionId, TileIndex
from sparse_actors.imaging import Imaging
from sparse_actors.messages import DetectImage, DetectionReturned, Message, PartitionScanned, PoisFound
from sparse_actors.planning.survey_plan import SurveyPlan

TILE = TileIndex(0, 0)
SIDE = 96


def plan_of(size_px: tuple[int, int], scale: int, partitions: int, halo_px: int) -> SurveyPlan:
    return SurveyPlan(
        panorama=Panorama(((0, 0), (0.1, 0), (0, 0.1)), (0.1, 0.1)),
        fast=Imaging(size_px, 1000),
        analysis=Imaging((size_px[0] * scale, size_px[1] * scale), 1000),
        partitions=partitions,
        halo_px=halo_px,
        reach_px=halo_px // 8,
        region_px=(8, 8),
        merging="greedy",
        timing=None,
    )


def found_in_parts(
    image: Any,
    scale: int,
    partitions: int,
    halo_px: int,
    detector: Detector,
    turns: Sequence[int] = (),
    orders: list[DetectImage] | None = None,
) -> dict[PartitionId, Pois]:
    """Detect a fast image part by part; `turns` says which message comes next of those under way."""
    plan = plan_of((image.shape[1], image.shape[0]), scale, partitions, halo_px)
    actor = DetectorActor(plan, ())
    under_way: deque[Message] = deque(
        PartitionScanned(
            scan=scan, attempt=1, image=image[scan.box.slices].copy(), dwell_ns=1, started_s=0, finished_s=0
        )
        for scan in plan.fast_scans(TILE)
    )
    found: dict[PartitionId, Pois] = {}
    turn = iter(turns)
    while under_way:
        under_way.rotate(-(next(turn, 0) % len(under_way)))
        for effect in actor.handle(under_way.popleft()):
            if isinstance(effect, PoisFound):
                assert effect.partition not in found
                found[effect.partition] = effect.pois
            else:
                assert isinstance(effect, DetectImage)
                if orders is not None:
                    orders.append(effect)
                pois = checked_pois(detector.detect(effect.image, scale), effect.image.shape, scale)  # type: ignore[arg-type]
                under_way.append(
                    DetectionReturned(
                        partition=effect.partition,
                        attempt=effect.attempt,
                        pois=pois,
                        worker="here",
                        elapsed_s=0,
                    )
                )
    assert set(found) == set(plan.parts(TILE))
    return found


def assert_same(found: dict[PartitionId, Pois], whole: Pois) -> None:
    """Check that the features are the same: boxes and scores bit for bit, centroids but for the last bit.

    A centroid counts from the corner of the part, so that its rounding differs.
    """
    boxes = np.concatenate([pois.boxes_px for pois in found.values()])
    score = np.concatenate([pois.score for pois in found.values()])
    xy = np.concatenate([pois.xy_px for pois in found.values()])
    ours, theirs = (
        np.lexsort((*np.round(p, 6).T, s, *b.T))
        for b, s, p in ((boxes, score, xy), (whole.boxes_px, whole.score, whole.xy_px))
    )
    np.testing.assert_array_equal(boxes[ours], whole.boxes_px[theirs])
    np.testing.assert_array_equal(score[ours], whole.score[theirs])
    np.testing.assert_allclose(xy[ours], whole.xy_px[theirs], rtol=0, atol=1e-9)


def painted(draw: st.DrawFn) -> Any:
    """A noisy background with dark discs, lines and rings, many of them on a seam or a crossing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = rng.normal(130, draw(st.sampled_from([0, 5, 40])), (SIDE, SIDE))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    place = st.one_of(st.sampled_from([0, 24, 32, 48, 64, 72, SIDE - 1]), st.integers(0, SIDE - 1))
    for _ in range(draw(st.integers(0, 8))):
        x, y = draw(place) + draw(st.floats(-3, 3)), draw(place) + draw(st.floats(-3, 3))
        grey = draw(st.integers(0, 60))
        distance = np.hypot(columns - x, rows - y)
        kind = draw(st.sampled_from(["disc", "ring", "line", "spiral"]))
        if kind == "disc":
            image[distance < draw(st.floats(0.5, 12))] = grey
        elif kind == "ring":
            radius = draw(st.floats(2, 60))
            image[abs(distance - radius) < draw(st.floats(0.5, 2))] = grey
        elif kind == "line":
            angle = draw(st.one_of(st.sampled_from([0.0, np.pi / 2]), st.floats(0, np.pi)))
            across = (columns - x) * np.sin(angle) - (rows - y) * np.cos(angle)
            along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
            thick, length = draw(st.floats(0.5, 2)), draw(st.floats(2, 150))
            image[(abs(across) < thick) & (abs(along) < length)] = grey
        else:
            turn = np.arctan2(rows - y, columns - x) / (2 * np.pi)
            pitch = draw(st.floats(5, 12))
            image[(abs((distance / pitch - turn) % 1 - 0.5) < 0.15) & (distance < 40)] = grey
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


@st.composite
def pictures(draw: st.DrawFn) -> Any:
    if draw(st.booleans()):
        return painted(draw)
    # Black and white noise: as many clusters that share border points as there can be.
    density = draw(st.floats(0.05, 0.7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.where(rng.random((SIDE, SIDE)) < density, 10, 130).astype(np.uint8)


DETECTORS = [
    (ThresholdDbscan(), 4),
    (ThresholdDbscan(eps_px=2.3, min_points=12, interpolation="lanczos"), 4),
    (ThresholdDbscan(min_area_px=20, interpolation="lanczos"), 5),
    (ThresholdDbscan(polarity="bright", threshold=131), 2),
    (ThresholdDbscan(min_points=3), 1),
]
