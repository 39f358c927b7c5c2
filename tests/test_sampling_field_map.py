"""The map of one field: when it ends, how long it looks, and labels that change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from story_map import map_plan

from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.sampling.erd_model import default
from sparse_actors.sampling.field_map import Batch, FieldMap
from sparse_actors.scan import FieldId, MapField

FIELD = MapField(FieldId(TileIndex(0, 0), 0), PixelBox(4, 2, 24, 24), (32, 32))


def grown(
    confidence: float = 1.0, within_s: float | None = None, **changes: Any
) -> tuple[FieldMap, list[Batch]]:
    """Make a map of two phases, left and right, with labels of this confidence."""
    field_map = FieldMap(FIELD, map_plan(**changes), within_s)
    batches = []
    while new := field_map.new_batches():
        for batch in new:
            batches.append(batch)
            labels = 1 + (batch.points_px[:, 0] >= 16)
            sure = np.full(len(labels), confidence)
            field_map.learn(batch.number, labels, sure, float(batch.live_time_s.sum()))
    assert field_map.is_finished
    return field_map, batches


def test_points_are_those_of_the_field_and_measured_once() -> None:
    field_map, batches = grown()
    points = np.concatenate([batch.points_px for batch in batches])
    assert len(np.unique(points, axis=0)) == len(points) == field_map.points == 24 * 24 // 4
    assert (points >= (4, 2)).all()
    assert (points < (28, 26)).all()
    assert (field_map.result().phase_map[:, :10] == 1).all()
    assert (field_map.result().phase_map[:, 14:] == 2).all()


def test_a_map_ends_when_it_is_good_enough() -> None:
    early, _ = grown(distortion=0.2)
    never, _ = grown(distortion=1e-6)
    assert (early.ended, never.ended) == ("distortion", "points")
    assert early.points < never.points
    assert early.result().distortion_range[1] <= 0.2 + 0.1  # of the better map, at the end


def test_a_map_does_not_end_while_particles_a_few_pixels_across_are_missing() -> None:
    random = np.random.default_rng(0)
    truth = np.ones((96, 96), np.int64)
    for row, column in random.integers(1, 95, (60, 2)):
        truth[row - 1 : row + 2, column] = truth[row, column - 1 : column + 2] = 2
    assert 0.025 < (truth == 2).mean() < 0.035
    field = MapField(FieldId(TileIndex(0, 0), 0), PixelBox(0, 0, 96, 96), (96, 96))
    field_map = FieldMap(field, map_plan(model=default(), fraction=0.2, start_fraction=0.01, distortion=0.01))
    while new := field_map.new_batches():
        for batch in new:
            labels = truth[batch.points_px[:, 1], batch.points_px[:, 0]]
            field_map.learn(batch.number, labels, np.ones(len(labels)), 0.0)
    result = field_map.result()
    wrong = (result.phase_map != truth).mean()
    assert wrong > 0.01
    assert field_map.ended == "points"
    assert result.distortion_range[0] <= wrong <= result.distortion_range[1]


def test_a_map_does_not_end_before_it_could_have_met_a_rare_phase() -> None:
    field = MapField(FieldId(TileIndex(0, 0), 0), PixelBox(0, 0, 64, 64), (64, 64))
    plan = map_plan(model=default(), fraction=0.2, start_fraction=0.01, distortion=0.02)
    field_map = FieldMap(field, plan)
    while new := field_map.new_batches():
        for batch in new:
            n = len(batch.points_px)
            field_map.learn(batch.number, np.ones(n, np.int64), np.ones(n), 0.0)
    assert field_map.ended == "distortion"
    assert 183 <= field_map.points < 250


def test_a_map_ends_with_its_time() -> None:
    field_map, batches = grown(within_s=0.5)
    assert field_map.ended == "time"
    assert sum(float(batch.live_time_s.sum()) for batch in batches) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("confidence", "longest"), [(0.7, True), (0.9999, False)])
def test_the_live_time_is_what_the_classifier_needs(confidence: float, longest: bool) -> None:
    _, batches = grown(confidence, live_time_range_s=(0.002, 0.05))
    assert batches[0].live_time_s[0] == 0.01
    last = batches[-1].live_time_s[-1]
    assert last == (0.05 if longest else 0.002)
    _, fixed = grown(confidence)
    assert {float(batch.live_time_s[0]) for batch in fixed} == {0.01}


def test_points_that_turn_out_to_be_of_another_phase_are_labelled_anew() -> None:
    field_map, _ = grown()
    before = field_map.result()
    chosen = np.flatnonzero(before.labels == 2)
    field_map.relabel(chosen, 3)
    after = field_map.result()
    assert (after.labels[chosen] == 3).all()
    assert (after.labels == 1).sum() == (before.labels == 1).sum()
    assert set(np.unique(after.phase_map)) == {1, 3}
    assert set(np.unique(field_map.phase_map())) == {1, 3}
