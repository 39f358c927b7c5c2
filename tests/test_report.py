"""The report of a run says what is on disk, in one page that is safe to open and to send."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recorded_run
from recorded_run import TILES, RecordedRun, region, whole_run
from report_pages import checked, opened
from typer.testing import CliRunner

from sparse_actors.cli.commands import app
from sparse_actors.config import parse_config
from sparse_actors.contracts.detector import Pois
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.messages import (
    AuditUpdated,
    FieldId,
    FieldMapped,
    MapField,
    MicroscopeFailed,
    PoisFound,
    RunPaused,
    WorkerJoined,
    WorkerLost,
)
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.mosaic import Mosaic
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.report import panorama_map, pdf, run_report
from sparse_actors.report.at_end import report_problems
from sparse_actors.report.pictures import GreyRange, jpeg
from sparse_actors.report.run_report import write_report
from sparse_actors.report.sites import found_sites
from sparse_actors.toml_text import toml_value

HOSTILE = "<script>alert(1)</script><img src=http://a.example/x onerror=alert(2)> \"'&"
CONFIG = """
[run]
name = "steel"
seed = 7
[sample]
name = {name}
[microscope]
driver = "simulated"
beam_current_pa = 3000.0
[panorama]
corners_mm = [[1.0, 2.0], [1.12, 2.0], [1.0, 2.09]]
tile_fov_um = 64.0
overlap_pct = 10.0
partitions = 2
[scan.fast]
size_px = [32, 24]
dwell_ns = 300.0
[scan.analysis]
size_px = [64, 48]
dwell_ns = 3200.0
[regions]
size_px = [16, 12]
[limits]
max_dose_e_per_nm2 = 500.0
{more}
"""
EDS = """
[eds]
where = "field"
grid_px = [8, 6]
live_time_ms = 5.0
[eds.options]
library = "phases.npz"
"""


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give recorded runs a configuration that the program would resolve."""

    def set_config(name: str = "dual phase", more: str = "") -> None:
        text = parse_config(CONFIG.format(name=toml_value(name), more=more)).to_toml()
        monkeypatch.setattr(recorded_run, "CONFIG", text)

    set_config()
    return set_config


def test_the_report_tells_what_was_found_what_is_missing_and_what_it_cost(
    tmp_path: Path, complete: Any
) -> None:
    whole_run(tmp_path)
    page = checked(write_report(tmp_path))
    assert "steel completed" in page.text
    assert "4 of 4 tiles finished" in page.text
    # Three regions, a mask and two regions around a site each, one of which another tile shows as well.
    sites = found_sites(RunRecord.open(tmp_path), Mosaic(RunRecord.open(tmp_path).panorama, (64, 48)))
    assert (len(sites), sites.seen_twice) == (5, 1)
    assert "5 sites found" in page.text
    assert "1 scan is missing." in page.text
    assert "the scan failed three times" in page.text
    assert "the limit was 500 (limits.max_dose_e_per_nm2)" in page.text
    assert "seed of everything random 1" in page.text
    assert "Not known: the run had no audit." in page.text
    assert page.source.count('<img src="data:image/jpeg') == 8  # four of them have a recorded rescan
    assert page.of("image")[0]["href"].startswith("data:image/jpeg;base64,")
    assert write_report(tmp_path).stat().st_size < 200_000


def test_the_map_has_every_region_at_its_place(tmp_path: Path, complete: Any) -> None:
    whole_run(tmp_path)
    page = checked(write_report(tmp_path))
    layers = {one["class"]: one["d"] for one in page.of("path") if "d" in one and "class" in one}
    boxes = set(re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)", layers["rescanned"]))
    assert ("4", "4", "16", "12") in boxes
    assert ("58", "3", "8", "8") in boxes  # of the mask, in the second tile, which begins at 56
    assert set(re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)", layers["missing"])) == {("20", "44", "8", "8")}
    assert len(re.findall("M", layers["tile-finished"])) == 4


def test_nothing_that_comes_from_a_run_becomes_part_of_the_page(tmp_path: Path, complete: Any) -> None:
    complete(HOSTILE, EDS)
    run = RecordedRun(tmp_path)
    run.fast(TILES[0])
    run.journal.append(
        WorkerJoined(worker=HOSTILE, host=HOSTILE, pid=1, phases=(HOSTILE,), models=(HOSTILE,))
    )
    run.journal.append(WorkerLost(worker=HOSTILE, reason=HOSTILE))
    run.journal.append(MicroscopeFailed(order="scan", reason=HOSTILE, attempt=1))
    run.journal.append(RunPaused(reason=HOSTILE))
    run.journal.append(mapped(reason=HOSTILE))
    (tmp_path / "config.toml").write_text(f"# {HOSTILE}", encoding="utf-8")
    run.finish("stopped")
    path = write_report(tmp_path)
    page = checked(path)
    assert len(page.of("script")) == 1
    assert page.text.count("<script>alert(1)</script>") >= 7
    with opened(path) as shown:
        assert shown.locator("script").count() == 1


def mapped(reason: str = "points") -> FieldMapped:
    """A map of 8 x 6 points: 12 of the second phase, measured at two of each."""
    phases = np.ones((6, 8), np.uint8)
    phases[2:5, 2:6] = 2
    return FieldMapped(
        field=MapField(FieldId(TILES[0], 0), PixelBox(0, 0, 8, 6), (8, 6)),
        is_complete=True,
        reason=reason,
        points_px=np.array([[0, 0], [7, 5], [2, 2], [5, 4]]),
        labels=np.array([1, 1, 2, 2]),
        distortion=0.02,
        distortion_range=(0.01, 0.05),
        phase_map=phases,
        confidence=np.where(phases == 1, 0.9, 0.6).astype(np.float32),
        erd=np.zeros((6, 8), np.float32),
    )


def test_phases_have_shares_with_bounds_and_confidence(tmp_path: Path, complete: Any) -> None:
    complete(more=EDS)
    run = RecordedRun(tmp_path)
    run.journal.append(WorkerJoined(worker="w", host="h", pid=1, phases=("ferrite", "martensite")))
    run.journal.append(mapped())
    run.finish()
    page = checked(write_report(tmp_path))
    assert "ferrite 75.00 % 70.00 % to 80.00 % 0.900 2" in page.text
    assert "martensite 25.00 % 20.00 % to 30.00 % 0.600 2" in page.text
    assert "eds.points_pct reached" in page.text


@pytest.mark.parametrize(
    ("at_most", "said"), [(0.9, "That is below the limit of 95.0 %"), (1.0, "Nothing says")]
)
def test_recall_is_told_with_its_interval_and_limit(
    tmp_path: Path, complete: Any, at_most: float, said: str
) -> None:
    complete(more="[audit]\nwindows = 2\nsize_px = [8, 8]\nmargin_px = 2\n")
    run = whole_run(tmp_path, outcome="stopped")
    journal, _, _ = Journal.open(run.path / "journal")
    for number, tile in enumerate(TILES[:2], start=1):
        journal.append(
            AuditUpdated(
                tile=tile,
                found=3,
                windows=9,
                missed=(0, 1),
                tiles=number,
                all_found=3 * number,
                all_missed=4.5 * number,
                missed_low=1.0 * number,
                missed_high=9.0 * number,
                recall=0.4,
                recall_low=0.25,
                recall_high=0.75,
                confidence=0.95,
                tiles_of_limit=number,
                recall_at_most=at_most,
                least_recall=0.95,
            )
        )
    journal.close()
    text = checked(write_report(tmp_path)).text
    assert "Recall 40.0 % , with 95 % confidence 25.0 % to 75.0 % : 6 sites found in 2 tiles;" in text
    assert "2 missed ones seen in 4 random windows, which makes 9 (2 to 18) in all of them." in text
    assert said in text


def test_a_site_where_tiles_overlap_counts_once(tmp_path: Path, complete: Any) -> None:
    run = RecordedRun(tmp_path)
    for tile in TILES[:2]:
        run.fast(tile)
    # The tiles overlap by 8 px: 60 in the first is 4 in the second.
    for tile, x_px in ((TILES[0], 60.0), (TILES[1], 4.0), (TILES[1], 30.0)):
        found = Pois.at([(x_px, 20.0)], boxes_px=[(int(x_px), 20, 4, 9)])
        part = PartitionId(tile, 1 if x_px == 30 else 0)
        run.journal.append(PoisFound(partition=part, pois=found, worker="w", elapsed_s=0.1))
    run.finish("stopped")
    record = RunRecord.open(tmp_path)
    sites = found_sites(record, Mosaic(record.panorama, (64, 48)))
    assert sites.picture_px.tolist() == [[60.0, 20.0], [86.0, 20.0]]
    assert sites.seen_twice == 1
    assert sites.size_um.tolist() == [6.0, 6.0]  # boxes of 4 x 9 px of 1 um
    assert sites.searched_um2 == 120 * 48
    page = checked(write_report(tmp_path))
    assert "seen a second time 1" in page.text
    assert "347.2 per mm²" in page.text  # 2 on 5760 um^2
    # Poisson, 2 counted: 0.2422 to 7.2247 (Garwood 1936).
    assert "(95 %: 42.05 to 1 254)" in page.text


def test_a_run_that_goes_on_can_be_reported(tmp_path: Path, complete: Any) -> None:
    run = RecordedRun(tmp_path)
    run.fast(TILES[0])
    run.journal.close()
    page = checked(write_report(tmp_path))
    assert "steel unfinished" in page.text
    assert "The run has no end so far." in page.text
    assert "1 " in page.text
    assert "tiles not begun (3)" in page.text


def test_images_that_cannot_be_read_are_said_and_do_not_keep_the_report_from_being_written(
    tmp_path: Path, complete: Any
) -> None:
    run = whole_run(tmp_path)
    for slab in (run.path / "data").glob("*.h5"):
        slab.write_bytes(b"damaged")
    page = checked(write_report(tmp_path))
    assert "Images or spectra cannot be read back." in page.text
    assert "scan r001c001p1: " in page.text


def test_too_many_regions_for_a_page_are_left_out_and_said(
    tmp_path: Path, complete: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panorama_map, "MOST_DRAWN", 3)
    whole_run(tmp_path)
    page = checked(write_report(tmp_path))
    assert "2 of 5 sites found are not drawn: there are too many for one page." in page.text


def test_the_picture_stays_small_however_noisy_it_is() -> None:
    side = panorama_map.MOST_PX
    noise = np.random.default_rng(0).integers(0, 65536, (side, side), np.uint16)
    greys = GreyRange.of(noise)
    assert (greys.eight_bits(noise).min(), greys.eight_bits(noise).max()) == (0, 255)
    assert len(jpeg(greys.eight_bits(noise))) < 6_000_000


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "the report was not written (OSError: "),
        (KeyboardInterrupt(), "the report was not written; `sparse-actors report` writes it"),
        (
            ZeroDivisionError("division by zero"),
            "(ZeroDivisionError: division by zero); the run is not harmed",
        ),
    ],
)
def test_a_report_that_fails_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(run_report, "write_report", fails)
    (problem,) = report_problems(tmp_path, lambda: None, ())
    assert said in problem


def test_what_went_wrong_after_the_last_scan_is_in_the_report(tmp_path: Path, complete: Any) -> None:
    whole_run(tmp_path)
    assert report_problems(tmp_path, lambda: None, ("THE MICROSCOPE WAS NOT RESET: x",)) == ()
    assert "THE MICROSCOPE WAS NOT RESET: x" in checked(tmp_path / "report.html").text


def test_the_command_writes_it_and_says_where(tmp_path: Path, complete: Any) -> None:
    whole_run(tmp_path)
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "report.html") in result.stdout
    empty = tmp_path / "empty"
    empty.mkdir()
    result = CliRunner().invoke(app, ["report", str(empty)])
    assert result.exit_code == 5
    assert "is not a run: it has no journal" in result.output


def test_the_map_moves_zooms_and_says_where_the_pointer_is(tmp_path: Path, complete: Any) -> None:
    whole_run(tmp_path)
    with opened(write_report(tmp_path), viewport={"width": 1200, "height": 900}) as page:
        picture = page.locator("#panorama > svg")
        assert picture.get_attribute("viewBox") == "0 0 120 90"
        box = picture.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert (
            page.locator("#panorama output").inner_text() == "stage x 1.0600 mm, y 2.0450 mm, tile r000c000"
        )
        assert page.locator(".bar span").inner_text() == "20 µm"
        page.locator("#panorama").focus()
        page.keyboard.press("+")
        page.keyboard.press("ArrowRight")
        x, y, width, height = map(float, picture.get_attribute("viewBox").split())
        assert (width, height) == (80, 60)
        assert (x, y) == (30, 15)
        assert page.locator(".bar span").inner_text() == "10 µm"
        page.get_by_role("button", name="all").click()
        assert picture.get_attribute("viewBox") == "0 0 120 90"
        page.locator('[data-layer="rescanned"]').uncheck()
        assert not page.locator("#panorama path.rescanned").is_visible()


def test_a_large_panorama_is_reduced_and_says_so(
    tmp_path: Path, complete: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panorama_map, "MOST_PX", 30)
    run = RecordedRun(tmp_path)
    for tile in TILES:
        run.fast(tile)
    part = PartitionId(TileIndex(0, 0), 0)
    scan = region(part, 0, PixelBox(4, 4, 16, 12))
    run.record(run.plan(scan), scan)
    run.finish("stopped")
    assert "a pixel of the picture is 4 000 nm wide" in checked(write_report(tmp_path)).text


def test_it_is_printed_where_a_browser_is_and_else_a_person_is_told_how(
    tmp_path: Path, complete: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_run(tmp_path)
    if next(pdf._browsers(), None) is not None:
        result = CliRunner().invoke(app, ["report", str(tmp_path), "--pdf"])
        assert result.exit_code == 0, result.output
        printed = (tmp_path / "report.pdf").read_bytes()
        assert printed.startswith(b"%PDF-")
        assert 20_000 < len(printed) < 1_000_000
    monkeypatch.setattr(pdf, "_browsers", lambda: iter(()))
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--pdf"])
    assert result.exit_code == 1
    assert "neither Chromium, Chrome nor Edge was found here" in result.output
    monkeypatch.setattr(pdf, "_browsers", lambda: iter([sys.executable]))
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--pdf"])
    assert "print it from the browser" in result.output
    assert not (tmp_path / "report.pdf").exists()
