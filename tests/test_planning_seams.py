"""Seams: a tile detected part by part is detected as a whole would be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from seam_detection import DETECTORS, TILE, assert_same, found_in_parts, pictures, plan_of

from sparse_actors.contracts.detector import Pois
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan
from sparse_actors.geometry import PartitionId, PixelBox
from sparse_actors.messages import DetectImage
from sparse_actors.planning.seams import Seam, is_sure, left_to_seam, seams

PARTITIONS = (1, 2, 4, 9, 16)


def boxes(*each: tuple[int, int, int, int]) -> Any:
    return np.array(each, dtype=np.int64).reshape(-1, 4)


def test_seams_are_where_partitions_meet() -> None:
    tile = PixelBox(0, 0, 100, 60)
    assert seams((100, 60), 1) == ()
    assert seams((100, 60), 2) == (Seam(1, 30, tile),)
    assert seams((100, 60), 9) == (Seam(0, 33, tile), Seam(0, 66, tile), Seam(1, 20, tile), Seam(1, 40, tile))


def test_a_band_ends_with_the_tile() -> None:
    vertical, _, horizontal, _ = seams((100, 60), 9)
    assert vertical.band(10) == PixelBox(23, 0, 20, 60)
    assert vertical.band(40) == PixelBox(0, 0, 73, 60)
    assert horizontal.band(500) == PixelBox(0, 0, 100, 60)


def test_sure_is_what_stays_clear_of_inner_edges_and_of_what_does_not() -> None:
    window, tile = PixelBox(0, 0, 50, 60), PixelBox(0, 0, 100, 60)
    found = boxes(
        (0, 0, 3, 60), (43, 5, 3, 3), (44, 20, 3, 3), (39, 16, 2, 2), (39, 14, 2, 2), (39, 30, 2, 2)
    )
    assert is_sure(found, window, tile, 4).tolist() == [True, True, False, False, True, True]


def test_a_band_shows_what_lies_as_deep_as_the_features_at_its_line() -> None:
    seam = Seam(0, 50, PixelBox(0, 0, 100, 60))
    found = boxes((48, 5, 22, 3), (72, 20, 2, 2), (74, 30, 2, 2), (27, 40, 1, 1), (24, 40, 1, 1))
    wanted = left_to_seam(found, seam, seam.band(40), 4)
    assert wanted is not None
    assert wanted.tolist() == [True, True, False, True, False]  # up to 20 + 4 from the line
    assert left_to_seam(found, seam, seam.band(27), 4) is None
    assert left_to_seam(boxes(), seam, seam.band(16), 4) is not None
    assert left_to_seam(boxes(), seam, seam.band(15), 4) is None


@settings(max_examples=120, deadline=None)
@given(
    image=pictures(),
    partitions=st.sampled_from(PARTITIONS),
    detector=st.sampled_from(DETECTORS),
    halo_px=st.sampled_from([32, 40]),
    turns=st.lists(st.integers(0, 9), max_size=60),
)
def test_parts_find_what_the_whole_tile_shows(
    image: Any, partitions: int, detector: tuple[ThresholdDbscan, int], halo_px: int, turns: list[int]
) -> None:
    detect, scale = detector
    found = found_in_parts(image, scale, partitions, halo_px, detect, turns)
    assert_same(found, detect.detect(image, scale))


@settings(max_examples=30, deadline=None)
@given(
    image=npst.arrays(np.uint8, (70, 50), elements=st.sampled_from([10, 130])),
    turns=st.lists(st.integers(0, 9)),
)
def test_sizes_need_not_divide_evenly(image: Any, turns: list[int]) -> None:
    detect = ThresholdDbscan()
    assert_same(found_in_parts(image, 4, 9, 32, detect, turns), detect.detect(image, 4))


@pytest.mark.parametrize("partitions", [2, 4, 9, 16])
def test_a_spiral_around_a_crossing_is_one_feature(partitions: int) -> None:
    rows, columns = np.mgrid[:384, :384]
    distance, turn = np.hypot(columns - 192, rows - 192), np.arctan2(rows - 192, columns - 192) / (2 * np.pi)
    image = np.where((abs((distance / 24 - turn) % 1 - 0.5) < 0.1) & (distance < 180), 10, 130).astype(
        np.uint8
    )
    image[5:8, 100:103] = 10
    orders: list[DetectImage] = []
    detect = ThresholdDbscan()
    found = found_in_parts(image, 4, partitions, 32, detect, orders=orders)
    assert_same(found, detect.detect(image, 4))
    whole = [order for order in orders if order.image.shape == image.shape]
    assert len(whole) == 1  # one answer is enough for all seams


def test_without_features_at_the_line_the_band_is_detected_once() -> None:
    image = np.full((256, 256), 130, np.uint8)
    image[40:50, 40:50] = image[126:130, 20:30] = 10
    orders: list[DetectImage] = []
    found = found_in_parts(image, 4, 4, 32, ThresholdDbscan(), orders=orders)
    seams_found = {part.index: len(pois) for part, pois in found.items()}
    assert seams_found == {0: 1, 1: 0, 2: 0, 3: 0, 4: 0, 5: 1}
    assert sorted(order.image.shape for order in orders) == [(64, 256), *[(128, 128)] * 4, (256, 64)]


def test_points_without_a_size_come_from_the_seam_they_are_near() -> None:
    class Darkest:
        def detect(self, image: Any, scale: int) -> Any:
            return [((x + 0.5) * scale, (y + 0.5) * scale) for y, x in np.argwhere(image < 50)]

    image = np.full((128, 128), 130, np.uint8)
    image[[20, 63, 63, 100], [20, 64, 100, 62]] = 10
    found = found_in_parts(image, 4, 4, 32, Darkest())
    assert_same(found, Pois.at(Darkest().detect(image, 4)))
    assert len(found[PartitionId(TILE, 0)]) == 1
    assert sum(len(found[part]) for part in plan_of((128, 128), 4, 4, 32).parts(TILE)[4:]) == 3
