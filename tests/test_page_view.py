"""What the page shows of a run, and what each browser has not seen of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_run import CONFIG, TILES, started, whole_run

from sparse_actors.cli.run import survey_progress
from sparse_actors.config import parse_config
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.messages import (
    FieldId,
    FieldMapped,
    ImagesLost,
    MapField,
    Message,
    PhaseMapUpdated,
    RegionsPlanned,
    RunFinished,
    RunPaused,
    SpectraClassified,
    SpectraRecorded,
    TileReached,
    TileSkipped,
)
from sparse_actors.page.batches import TILES as TILES_AT_A_TIME
from sparse_actors.page.batches import batch
from sparse_actors.page.maps import KEPT, SHOWN_PX, MapsView
from sparse_actors.page.sentences import LONGEST, sentence
from sparse_actors.page.tiles import POIS_SHOWN, STATES
from sparse_actors.page.view import RunView
from sparse_actors.recording.journal import read_journal
from sparse_actors.recording.run_folder import RunFolder


def view_of(facts: list[Message]) -> RunView:
    view = RunView()
    config = parse_config(CONFIG)
    view.begin(Path("run"), config, survey_progress(config))
    for number, fact in enumerate(facts, start=1):
        view.observe(fact, number)
    return view


@pytest.fixture
def facts(tmp_path: Path) -> list[Message]:
    whole_run(tmp_path)
    return read_journal(RunFolder(tmp_path).journal)


def state(view: RunView, tile: TileIndex) -> str:
    return STATES[view.tiles[tile].state]


def test_a_tile_goes_through_its_states(facts: list[Message]) -> None:
    seen: dict[TileIndex, list[str]] = {tile: [] for tile in TILES}
    view = view_of([])
    for number, fact in enumerate(facts, start=1):
        view.observe(fact, number)
        for tile in view.tiles:
            if not seen[tile] or seen[tile][-1] != state(view, tile):
                seen[tile].append(state(view, tile))
    assert seen[TILES[0]] == ["scanning", "detecting", "done"]
    assert seen[TILES[2]][-1] == "missing", "one of its scans was given up"
    assert view.state == "completed"


def test_a_tile_whose_parts_are_all_planned_is_rescanned(facts: list[Message]) -> None:
    first = [fact for fact in facts if not isinstance(fact, RunFinished)]
    end = next(n for n, fact in enumerate(first) if isinstance(fact, RegionsPlanned))
    view = view_of(first[: end + 1])
    tile = view.tiles[TILES[0]]
    assert state(view, TILES[0]) == "detecting"
    for index in range(1, tile.parts):
        part = PartitionId(TILES[0], index)
        view.observe(RegionsPlanned(partition=part, scans=(), strategy="none", predicted_s=0.0), 1000 + index)
    assert state(view, TILES[0]) == "rescanning"
    assert tile.undetected_parts == 0


def test_lost_images_take_a_tile_back(facts: list[Message]) -> None:
    view = view_of(facts)
    lost = tuple(scan_id for scan_id in view.tiles[TILES[0]].recorded if scan_id.is_fast)
    view.observe(ImagesLost(slab=f"{TILES[0]}-fast", scan_ids=lost, reason="damaged"), 10_000)
    assert state(view, TILES[0]) == "waiting"
    assert not view.tiles[TILES[0]].fast


def test_what_became_of_regions_stands_in_their_order(facts: list[Message]) -> None:
    tile = view_of(facts).tiles[TILES[2]]
    assert tile.progress()["c"] == "dm"
    assert tile.findings()["r"] == [0, 0, 8, 8, 0, 20, 2, 8, 8, 0]
    assert tile.findings()["p"] == [4, 4, 24, 6]


def test_a_resumed_run_tries_again_what_was_missed(facts: list[Message]) -> None:
    view = view_of(facts)
    view.observe(started(1), 10_000)
    assert view.tiles[TILES[2]].progress()["c"] == "dp"
    assert state(view, TILES[2]) == "detecting"
    assert state(view, TILES[0]) == "done"
    assert view.state == "running"


def test_points_beyond_what_a_picture_can_show_are_counted_only(facts: list[Message]) -> None:
    from sparse_actors.contracts.detector import Pois
    from sparse_actors.messages import PoisFound

    view = view_of(facts)
    many = Pois.at(np.ones((POIS_SHOWN + 5, 2)))
    part = PartitionId(TILES[3], 0)
    view.observe(PoisFound(partition=part, pois=many, worker="w", elapsed_s=0.1), 10_000)
    tile = view.tiles[TILES[3]]
    assert tile.pois_found == POIS_SHOWN + 5
    assert len(tile.findings()["p"]) == 2 * POIS_SHOWN


def test_a_browser_that_does_not_read_costs_no_more_than_the_run(facts: list[Message]) -> None:
    view = view_of(facts)
    with view.reading() as unseen:
        for number in range(2000):
            reached = next(fact for fact in facts if isinstance(fact, TileReached))
            view.observe(replace(reached, attempt=number), 20_000 + number)
        assert unseen.tiles == set(TILES)
        assert not unseen.fields
    assert not view.readers


def test_tiles_of_a_large_run_come_in_portions(facts: list[Message]) -> None:
    view = view_of(facts)
    some = view.tiles[TILES[0]]
    for column in range(2 * TILES_AT_A_TIME):
        tile = TileIndex(0, column)
        view.tiles[tile] = replace(some, index=tile)
    with view.reading() as unseen:
        counts = []
        while unseen.tiles:
            counts.append(len(unseen.tiles))
            assert batch(view, unseen, None)
        assert max(counts) > TILES_AT_A_TIME
        assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("message", "level", "words"),
    [
        (RunPaused(reason="lunch"), "note", "Paused: lunch"),
        (TileSkipped(tile=TILES[0], reason="dirt"), "note", "left out: dirt"),
        (RunFinished(outcome="failed", reason="x " * 400), "bad", "The run failed"),
    ],
)
def test_what_happened_is_said_in_words(message: Message, level: str, words: str) -> None:
    said = sentence(message)
    assert said is not None
    assert said[0] == level
    assert words in said[1]
    assert len(said[1]) <= LONGEST


FIELD = MapField(FieldId(TileIndex(0, 1), 0), PixelBox(2, 4, 20, 10), (64, 48))


def batch_of(number: int, *points: tuple[int, int]) -> SpectraRecorded:
    return SpectraRecorded(
        field=FIELD.id,
        batch=number,
        attempt=1,
        slab="r000c001m0000-spectra0000",
        first=0,
        points_px=np.array(points, dtype=np.int64),
        live_time_s=np.full(len(points), 0.1),
        crc32=0,
        started_s=1.0,
        finished_s=2.0,
    )


def classified(number: int, *labels: int) -> SpectraClassified:
    return SpectraClassified(
        field=FIELD.id,
        batch=number,
        labels=np.array(labels, dtype=np.int64),
        confidence=np.full(len(labels), 0.9),
        worker="w",
    )


def mapped(labels: list[int], points: list[tuple[int, int]], phases: Any) -> FieldMapped:
    return FieldMapped(
        field=FIELD,
        is_complete=True,
        reason="",
        points_px=np.array(points, dtype=np.int64),
        labels=np.array(labels, dtype=np.int64),
        distortion=0.01,
        distortion_range=(0.0, 0.02),
        phase_map=phases,
        confidence=np.ones(FIELD.shape, np.float32),
        erd=np.ones(FIELD.shape, np.float32),
    )


def test_measured_points_fill_in_and_the_map_is_that_of_the_nearest() -> None:
    maps = MapsView()
    maps.take(batch_of(0, (2, 4), (21, 13)), FIELD)
    view = maps.take(classified(0, 1, 2), FIELD)
    assert view is not None
    assert view.points == 2
    assert view.measured[0, 0] == 2
    assert view.measured[9, 19] == 3
    assert (view.phase_map()[:, :8] == 1).all()
    assert (view.phase_map()[:, 14:] == 2).all()
    assert maps.last_labels == (2, 0.9)
    header, blocks = maps.to_browser()
    assert header["size"] == [20, 10]
    assert [len(block) for block in blocks] == [200, 200, 200]
    assert not header["hasErd"]


def test_the_map_that_taps_show_comes_before_the_nearest_point_and_the_end_before_both() -> None:
    maps = MapsView()
    maps.take(batch_of(0, (2, 4)), FIELD)
    maps.take(classified(0, 1), FIELD)
    grown = np.full(FIELD.shape, 3, np.uint8)
    erd = np.full(FIELD.shape, 0.5, np.float32)
    maps.take(PhaseMapUpdated(field=FIELD.id, points=1, phase_map=grown, erd=erd), FIELD)
    assert maps.shown is not None
    assert (maps.shown.phase_map() == 3).all()
    assert maps.to_browser()[0]["erdLargest"] == 0.5
    ended = np.full(FIELD.shape, 2, np.uint8)
    maps.take(mapped([1, 2], [(2, 4), (3, 4)], ended), FIELD)
    maps.take(PhaseMapUpdated(field=FIELD.id, points=1, phase_map=grown, erd=erd), FIELD)
    assert (maps.shown.phase_map() == 2).all(), "what comes late does not replace the end"
    assert maps.shown.points == 2


def test_of_maps_made_long_ago_a_small_picture_is_kept(facts: list[Message]) -> None:
    view = view_of(facts)
    for number in range(KEPT + 3):
        one = replace(FIELD, id=FieldId(TileIndex(0, 1), number))
        ended = mapped([1], [(2, 4)], np.full(FIELD.shape, 7, np.uint8))
        view.observe(replace(ended, field=one), 10_000 + number)
    with view.reading() as unseen:
        assert len(unseen.fields) == KEPT + 3
        while unseen.fields:
            assert batch(view, unseen, None)
    place, small = view.maps.small(FIELD.id)
    assert place.box == FIELD.box
    assert (small == 7).all()


def test_a_large_map_is_reduced_and_loses_no_measured_point() -> None:
    large = replace(FIELD, box=PixelBox(0, 0, 3 * SHOWN_PX - 1, 40), grid_px=(4096, 4096))
    maps = MapsView()
    maps.take(batch_of(0, (7, 7)), large)
    maps.take(classified(0, 4), large)
    header, (measured, phases, _) = maps.to_browser()
    width, height = header["size"]
    assert width <= SHOWN_PX
    assert len(measured) == len(phases) == width * height
    assert max(measured) == 5
