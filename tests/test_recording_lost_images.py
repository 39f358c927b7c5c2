"""Images that are gone or damaged: the result has all others, and a resumed run exposes them again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import kills
import numpy as np
import pytest
import story
from recorded_run import TILES, RecordedRun, whole_run

from sparse_actors import app
from sparse_actors.actors.region_planner import RegionPlanner
from sparse_actors.app import run_survey
from sparse_actors.config import parse_config
from sparse_actors.contracts.detector import Pois
from sparse_actors.errors import JournalError
from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import ImagesLost, PoisFound, ScanId
from sparse_actors.recording.journal import read_journal
from sparse_actors.recording.lost_images import lost_images
from sparse_actors.recording.nexus import finalize
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    return whole_run(tmp_path / "run", "uint16")


def flip_a_pixel(slab: Path, dataset: str) -> None:
    with h5py.File(slab) as file:
        at = file[dataset].id.get_offset()
    with slab.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def damage(run: RecordedRun) -> set[ScanId]:
    """Flip a pixel, delete a slab, and overwrite a header; returns whose pixels are gone."""
    slab = run.store.folder.slab
    flip_a_pixel(slab("r000c000p0-regions"), "4_4_16_12")
    slab("r000c001-fast").unlink()
    with slab("r001c001-fast").open("r+b") as file:
        file.write(bytes(200))
    first, second, fourth = (TILES[i] for i in (0, 1, 3))
    return {
        ScanId(PartitionId(first, 0), 0),
        *(ScanId(PartitionId(tile, i)) for tile in (second, fourth) for i in range(2)),
    }


def test_the_result_has_everything_but_the_damaged_images_and_says_so(run: RecordedRun) -> None:
    gone = damage(run)
    problems = finalize(run.path)
    assert len(problems) == len(gone)
    assert all(any(f"scan {scan_id} is left out" in problem for problem in problems) for scan_id in gone)
    with h5py.File(run.path / "run.nxs") as file:
        regions = file["entry/regions"]
        status = regions["status"].asstr()[()].tolist()
        assert status == ["lost"] + ["recorded"] * 4 + ["missed"]
        kept = ScanId(PartitionId(TILES[0], 0), 1)
        np.testing.assert_array_equal(regions[regions["path"].asstr()[1]][()], run.images[kept])
        stack = file["entry/measurement/event_fast/image_fast/stack_2d"]
        assert list(stack["tile"].asstr()) == [str(TILES[0]), str(TILES[2])]
        assert len(file["entry/timing/scan"]) == 13 - len(gone)
    found = "\n".join(verify(run.path).problems)
    assert all(f"scan {scan_id}: " in found for scan_id in gone)
    assert finalize(run.path) == problems  # as often as one likes


def test_nothing_is_left_of_the_images_and_there_is_a_result_still(run: RecordedRun) -> None:
    for path in run.store.folder.data.iterdir():
        path.unlink()
    assert len(finalize(run.path)) == len(run.images)
    with h5py.File(run.path / "run.nxs") as file:
        assert len(file["entry/pois/x_px"]) == 6
        assert "panorama_fast" not in file["entry"]


def test_a_slab_damaged_after_it_was_packed_costs_nothing(tmp_path: Path) -> None:
    run = whole_run(tmp_path, outcome="stopped")  # keeps its slabs
    finalize(run.path)
    damage(run)
    assert lost_images(run.path) == []
    assert finalize(run.path) == ()
    for scan_id, image in run.images.items():
        np.testing.assert_array_equal(RunRecord.open(run.path).image(scan_id), image)


@pytest.mark.parametrize("content", [b"", b"nothing that HDF5 knows", None])
def test_a_damaged_packed_file_is_a_problem_and_no_crash(run: RecordedRun, content: bytes | None) -> None:
    finalize(run.path)
    packed = run.path / "data" / "fast.h5"
    if content is None:
        with h5py.File(packed, "r+") as file:
            del file["scans/crc32"]
    else:
        packed.write_bytes(content)
    assert any("fast.h5" in problem for problem in verify(run.path).problems)
    assert {i for fact in lost_images(run.path) for i in fact.scan_ids} == {
        i for i in run.images if i.is_fast
    }
    assert len(finalize(run.path)) == sum(i.is_fast for i in run.images)


def test_what_must_not_be_read_is_not_lost(run: RecordedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(RunRecord, "image", refuse)
    with pytest.raises(PermissionError):
        lost_images(run.path)


def test_a_slab_that_cannot_be_read_is_put_aside_for_a_new_one(run: RecordedRun) -> None:
    scans = RunRecord.open(run.path).slabs["r000c000-fast"].scans
    path = run.store.folder.slab("r000c000-fast")
    path.write_bytes(b"no slab")
    run.store.reserve("r000c000-fast", scans, "uint16")
    image = run.images[scans[0].id]
    np.testing.assert_array_equal(
        run.store.read("r000c000-fast", scans[0], run.store.write("r000c000-fast", scans[0], image)), image
    )
    assert path.with_name("r000c000-fast.h5.damaged").read_bytes() == b"no slab"
    assert any("was put aside" in warning for warning in verify(run.path).warnings)
    path.write_bytes(b"")
    with pytest.raises((JournalError, OSError)):
        RunRecord.open(run.path).image(scans[1].id)


def test_what_is_exposed_and_detected_again_is_planned_as_before() -> None:
    plan, part = story.survey(), PartitionId(TileIndex(0, 0), 0)
    first, other = (
        PoisFound(partition=part, pois=Pois.at(points), worker="w", elapsed_s=0)
        for points in ([(10, 10), (40, 40)], [(60, 5)])
    )
    planner = RegionPlanner(plan, ())
    stands = list(planner.handle(first))
    assert list(planner.handle(other)) == stands
    assert list(RegionPlanner(plan, stands).handle(other)) == stands
    assert list(RegionPlanner(plan, ()).handle(other)) != stands


# -- the whole survey ------------------------------------------------------------------------


def survey(folder: Path, **options: Any) -> app.RunResult:
    text = kills.CONFIG.format(time_scale=0, log=str(folder / "log.jsonl"), state=str(folder / "state.json"))
    return run_survey(parse_config(text), out=folder / "run", **options)


@pytest.mark.parametrize("is_packed", [False, True])
def test_lost_images_are_exposed_again_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    with monkeypatch.context() as patch:
        if not is_packed:
            patch.setattr(app, "finalize", lambda folder, check: ())
        assert survey(tmp_path).outcome == "completed"
    record = RunRecord.open(tmp_path / "run")
    before = dict(record.recorded)
    data = tmp_path / "run" / "data"
    if is_packed:
        (data / "regions.h5").unlink()
        wanted = {scan_id for scan_id in before if not scan_id.is_fast}
    else:
        first = record.slabs["r000c000-fast"].scans
        flip_a_pixel(data / "r000c000-fast.h5", str(first[0].box))
        (data / "r000c001-fast.h5").unlink()
        regions = sorted(path for path in data.glob("*-regions.h5"))[0]
        os.truncate(regions, 100)
        wanted = {first[0].id, *(scan.id for scan in record.slabs["r000c001-fast"].scans)}
        wanted |= {scan.id for scan in record.slabs[regions.stem].scans}
    seen: list[Any] = []
    result = survey(tmp_path, resume=True, observe=lambda message, number: seen.append(message))
    assert (result.outcome, result.reason, result.problems) == ("completed", "", ())
    assert "are to be exposed again" in result.note
    facts = [fact for fact in read_journal(tmp_path / "run" / "journal") if isinstance(fact, ImagesLost)]
    assert {scan_id for fact in facts for scan_id in fact.scan_ids} == wanted
    assert [message for message in seen if isinstance(message, ImagesLost)] == facts
    record = RunRecord.open(tmp_path / "run")
    assert record.recorded.keys() == before.keys()
    assert {i for i, recorded in record.recorded.items() if recorded != before[i]} == wanted
    assert {i for i, count in record.exposures.items() if count > 1} == wanted
    assert record.scans.keys() == before.keys()  # the plans stand
    assert not verify(tmp_path / "run").problems
    assert record.finished_tiles == {TileIndex(0, 0), TileIndex(0, 1)}
