"""The audit of a recorded run: its images are judged again, its windows are those that the run drew."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import kills
import numpy as np
import pytest
from numpy.typing import NDArray
from recorded_run import ANALYSIS, TILES, RecordedRun, region
from typer.testing import CliRunner, Result

from sparse_actors.cli.commands import app
from sparse_actors.cli.exit_codes import ExitCode
from sparse_actors.evaluation.run_audit import AuditError, RunAudit, audit_run
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.messages import RegionsPlanned, Scan, ScanId, TileFinished, TileSkipped
from sparse_actors.planning.audit import AUDIT, AuditPlan, covered_by
from sparse_actors.recording.run_record import RunRecord

PLAN = AuditPlan(windows=4, window_px=(16, 16), margin_px=2)
FIELD, SEED = ANALYSIS.size_px, 3
WINDOWS = 2  # number of the part, after two partitions


class Brightest:
    """Every pixel of a grey level is a site."""

    def detect(self, image: NDArray[Any], scale: int) -> NDArray[np.float64]:
        assert scale == 1
        return np.argwhere(image == 255)[:, ::-1] + 0.5


@dataclass
class Audited:
    """A run with regions and windows, and what an independent count over all pixels makes of it."""

    run: RecordedRun

    def tile(self, tile: TileIndex, *regions: Scan, unrecorded: int = 0) -> tuple[int, list[int]]:
        """Record a tile; return sites found, and missed ones in each of its windows that are recorded."""
        run = self.run
        run.fast(tile)
        if regions:
            slab = run.plan(*regions)
            for scan in regions:
                run.record(slab, scan)
        boxes = [box for scan in regions for box in scan.mask_boxes or (scan.box,)]
        covered = covered_by(boxes, FIELD)
        drawn, _ = PLAN.drawn(covered, tile, SEED)
        part = PartitionId(tile, WINDOWS)
        scans = tuple(
            Scan(ScanId(part, number), box, ANALYSIS)
            for number, box in enumerate(PLAN.exposures(drawn, FIELD))
        )
        planned = RegionsPlanned(partition=part, scans=scans, strategy="", predicted_s=1, source=AUDIT)
        run.journal.append(planned)
        if scans:
            run.reserve(f"{part}-regions", *scans)
        kept = scans[unrecorded:]
        for scan in kept:
            run.record(f"{part}-regions", scan)
        run.journal.append(TileFinished(tile=tile))
        found = np.full(FIELD[::-1], -1)
        for scan in reversed(regions):
            values = np.full((scan.box.height, scan.box.width), -1)
            values[scan.mask()] = run.images[scan.id].ravel()
            view = found[scan.box.slices]
            view[values >= 0] = values[values >= 0]
        missed = []
        for window, scan in zip(drawn[unrecorded:], kept, strict=True):
            seen = np.zeros(FIELD[::-1], bool)
            seen[scan.box.slices] = run.images[scan.id] == 255
            inside = covered_by([window], FIELD) & ~covered
            missed.append(int((seen & inside).sum()))
        return int((found == 255).sum()), missed

    def judge(self) -> RunAudit:
        return audit_run(RunRecord.open(self.run.path), PLAN, SEED, Brightest(), FIELD)


@pytest.fixture
def audited(tmp_path: Path) -> Audited:
    run = RecordedRun(tmp_path / "run")
    run.random = np.random.default_rng(11)
    return Audited(run)


def overlapping(tile: TileIndex) -> tuple[Scan, ...]:
    part = PartitionId(tile, 0)
    return region(part, 0, PixelBox(0, 0, 40, 30)), region(part, 1, PixelBox(20, 10, 40, 30))


def test_sites_are_counted_once_where_regions_overlap_and_missed_only_outside(audited: Audited) -> None:
    found, missed = audited.tile(TILES[0], *overlapping(TILES[0]))
    more, others = audited.tile(TILES[1])
    told = audited.judge()
    assert found > 3
    assert sum(missed + others) > 2  # else nothing is tested
    assert (told.estimate.found, told.estimate.seen) == (found + more, sum(missed + others))
    assert (told.estimate.tiles, told.estimate.windows, told.not_audited) == (2, 8, 0)
    assert told.beam_s == pytest.approx(8 * 0.5)  # that many windows, at half a second each
    assert told.beam_share == pytest.approx(8 / (8 + 2 + 4))


def test_a_mask_is_judged_where_it_was_scanned(audited: Audited) -> None:
    mask = region(PartitionId(TILES[0], 0), 0, PixelBox(0, 0, 40, 20), PixelBox(30, 10, 30, 30))
    found, missed = audited.tile(TILES[0], mask)
    told = audited.judge().estimate
    assert found > 2
    assert (told.found, told.seen) == (found, sum(missed))


def test_a_window_without_an_image_is_as_good_as_not_drawn(audited: Audited) -> None:
    _, missed = audited.tile(TILES[0], *overlapping(TILES[0]), unrecorded=1)
    audited.tile(TILES[1], unrecorded=4)
    told = audited.judge()
    assert (told.estimate.windows, told.estimate.seen, told.not_audited) == (3, sum(missed), 1)


def test_tiles_that_are_not_finished_or_were_skipped_do_not_count(audited: Audited) -> None:
    audited.tile(TILES[0])
    audited.tile(TILES[1])
    audited.run.fast(TILES[2])
    audited.run.journal.append(TileSkipped(tile=TILES[1], reason="torn foil"))
    assert audited.judge().estimate.tiles == 1


def test_a_run_without_windows_says_so(audited: Audited) -> None:
    audited.run.fast(TILES[0])
    audited.run.journal.append(TileFinished(tile=TILES[0]))
    with pytest.raises(AuditError, match="none of 1 finished tiles has a window"):
        audited.judge()


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_survey_is_audited_from_the_command_line(tmp_path: Path) -> None:
    text = kills.CONFIG.format(
        time_scale=0, log=str(tmp_path / "log.jsonl"), state=str(tmp_path / "state.json")
    )
    # Much of what is dark in the analysis image is not in the fast one at this threshold.
    text = text.replace("threshold = 60", "threshold = 76")
    text += "[workers]\nlocal = 1\n[audit]\nwindows = 40\nsize_px = [96, 96]\noptions = { threshold = 80 }\n"
    file, out = tmp_path / "c.toml", tmp_path / "run"
    file.write_text(text, encoding="utf-8")
    result = invoke("run", file, "--out", out, "--json")
    assert result.exit_code == ExitCode.DONE, result.stderr
    record = RunRecord.open(out)
    windows = [scan for plan in record.regions.values() if plan.source == AUDIT for scan in plan.scans]
    assert len(windows) == 80
    assert all(scan.id in record.recorded for scan in windows)
    assert all(max(scan.box.width, scan.box.height) <= 96 + 32 for scan in windows)
    told = json.loads(invoke("audit", out, "--json").stdout)
    assert (told["tiles"], told["windows"], told["not_audited"]) == (2, 80, 0)
    assert told["seen"] > 0
    assert 0 < told["low"] < told["recall"] < told["high"] < 1
    assert 0 < told["beam_share"] < 1
    _is_told_while_it_goes_on(record, told, result)
    said = invoke("audit", out).stderr
    assert f"recall {told['recall']:.1%}" in said
    assert "80 windows" in said


def _is_told_while_it_goes_on(record: RunRecord, told: dict[str, Any], result: Result) -> None:
    """By workers, from the same images as by `audit` afterwards: in the record, the result and the report."""
    first, last = record.audits.values()
    assert first.tiles == 1
    names = {"tiles": "tiles", "found": "all_found", "missed": "all_missed", "low": "recall_low"}
    for name, live in {**names, "recall": "recall", "high": "recall_high"}.items():
        assert getattr(last, live) == pytest.approx(told[name])
    figures = json.loads(result.stdout)["figures"]["audit"]
    assert (figures["tiles"], figures["recall"]) == (2, last.recall)
    assert "recall by the audit" in result.stderr
    assert f"{last.recall:.1%}" in result.stderr
    with h5py.File(record.folder.nexus) as file:
        audit, regions = file["entry/audit"], file["entry/regions"]
        assert list(audit["missed_seen"]) == [sum(first.missed), sum(last.missed)]
        assert audit["recall_so_far"][-1] == last.recall
        is_window = regions["source"].asstr()[:] == AUDIT
        seen = regions["sites_seen"][:]
        assert (seen >= 0).all()
        assert seen[~is_window].sum() >= told["found"]
        assert seen[is_window].sum() >= told["seen"]


def test_a_survey_that_was_not_audited_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = RecordedRun(out)
    run.fast(TILES[0])
    run.finish()
    result = invoke("audit", out, "--json")
    assert result.exit_code == ExitCode.BAD_CONFIG
    assert "[audit]" in json.loads(result.stdout)["problems"][0]
