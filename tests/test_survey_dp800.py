"""A whole survey on a real micrograph: dual-phase steel DP800, replayed from recorded patches."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sparse_actors.drivers.instrument_log import log_entries

from sparse_actors.app import run_survey
from sparse_actors.config import parse_config
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan
from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify

DATA = Path(__file__).parents[2] / "shared" / "data" / "steel_dp800_DOUBTFUL_LICENCE"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the recorded DP800 patches are not beside the checkout"
)

NM = 33.0
LEFT, TOP, RIGHT, BOTTOM = 9600, 4800, 20800, 8000  # columns 6-12, rows 3-4 of layout.csv
TILE = 1600
DRIFT = 10  # the dilation of section 3.3 of the SPARSE paper
REGION = 100
TAU = 20  # 0.4 % of this field are darker: voids, cracks, pits


def config(log: Path) -> str:
    mm = NM * 1e-6
    corners = [[LEFT * mm, TOP * mm], [RIGHT * mm, TOP * mm], [LEFT * mm, BOTTOM * mm]]
    return f"""
[run]
name = "dp800"
[microscope]
driver = "replay"
[microscope.options]
directory = {str(DATA)!r}
table = "layout.csv"
file_pattern = "r{{row}}_c{{col:02d}}.jpg"
pixel_nm = {NM}
noise_grey = 2.2
seed = 5
time_scale = 0.0
log_file = {str(log)!r}
[panorama]
corners_mm = {corners}
tile_fov_um = {TILE * NM * 1e-3}
overlap_pct = 0.0
[scan.fast]
size_px = [{TILE // 4}, {TILE // 4}]
dwell_ns = 32000.0
[scan.analysis]
size_px = [{TILE}, {TILE}]
dwell_ns = 32000.0
[detect.options]
threshold = {TAU}
[regions]
size_px = [{REGION}, {REGION}]
[limits]
min_free_disk_gb = 0.0
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Path]:
    folder = tmp_path_factory.mktemp("dp800")
    log = folder / "driver.jsonl"
    result = run_survey(parse_config(config(log)), out=folder / "run")
    assert (result.outcome, result.problems) == ("completed", ())
    return RunRecord.open(folder / "run"), log


@pytest.fixture(scope="module")
def field() -> Any:
    """The recorded field, columns 6-12 and rows 3-4 of the table, read without our driver."""
    image = np.zeros((BOTTOM - TOP, RIGHT - LEFT), dtype=np.uint8)
    with (DATA / "layout.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            x, y = int(row["x_px"]) - LEFT, int(row["y_px"]) - TOP
            if 0 <= x < image.shape[1] and 0 <= y < image.shape[0]:
                patch = DATA / f"r{row['row']}_c{int(row['col']):02d}.jpg"
                image[y : y + TILE, x : x + TILE] = cv2.imread(str(patch), cv2.IMREAD_GRAYSCALE)
    return image


def tile_image(field: Any, row: int, column: int) -> Any:
    return field[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]


def test_every_tile_is_surveyed(run: tuple[RunRecord, Path]) -> None:
    record, _ = run
    fast = [scan_id for scan_id in record.recorded if scan_id.is_fast]
    assert len(fast) == 2 * 7 * 4
    assert len(record.recorded) > len(fast)
    assert not record.missed
    assert not verify(record.folder.path).problems


def test_rescans_equal_the_source_pixel_for_pixel(run: tuple[RunRecord, Path], field: Any) -> None:
    record, _ = run
    checked = 0
    for scan_id in record.recorded:
        if not scan_id.is_fast:
            tile = scan_id.partition.tile
            box = record.scans[scan_id].box
            source = tile_image(field, tile.row, tile.column)[box.slices]
            np.testing.assert_array_equal(record.image(scan_id), source)
            checked += source.size
    assert checked > 1_000_000


def test_every_reference_site_that_the_fast_scan_found_is_rescanned(
    run: tuple[RunRecord, Path], field: Any
) -> None:
    record, _ = run
    detector = ThresholdDbscan(threshold=TAU)
    found = total = partly = 0
    for row in range(2):
        for column in range(7):
            sites = detector.detect(np.ascontiguousarray(tile_image(field, row, column)), 1)
            mine = [key for key in record.recorded if key.partition.tile == _tile(row, column)]
            pois = [
                PixelBox(*map(int, box))
                for partition, found_pois in record.pois.items()
                if partition.tile == _tile(row, column)
                for box in found_pois.pois.boxes_px
            ]
            rescanned = np.zeros((TILE, TILE), dtype=bool)
            for key in mine:
                if not key.is_fast:
                    rescanned[record.scans[key].box.slices] = True
            for box in sites.boxes_px:
                total += 1
                left, top, width, height = map(int, box)
                near = PixelBox(left - DRIFT, top - DRIFT, width + 2 * DRIFT, height + 2 * DRIFT)
                if any(near.intersection(poi) for poi in pois):
                    found += 1
                    inside = rescanned[PixelBox(left, top, width, height).slices]
                    # A site larger than a region may be found in pieces, each with a region of its own.
                    is_larger = max(width, height) + 2 * DRIFT > REGION
                    assert inside.any() if is_larger else inside.all(), (row, column, box)
                    partly += is_larger and not inside.all()
    print(f"{found} of {total} reference sites found by the fast scan: all that fit into a region are inside")
    print(f"a rescan, and of the larger ones all but {partly}, which are inside in part")
    assert partly < 10
    assert found > 0.5 * total


def features(record: RunRecord) -> list[tuple[Any, ...]]:
    """Tile, box and score of all that was found, in whatever part of the tile."""
    return sorted(
        (str(part.tile), *box, score)
        for part, found in record.pois.items()
        for box, score in zip(found.pois.boxes_px.tolist(), found.pois.score.tolist(), strict=True)
    )


@pytest.mark.parametrize("partitions", [1, 9, 16])
def test_any_number_of_partitions_finds_the_same(
    run: tuple[RunRecord, Path], tmp_path: Path, partitions: int
) -> None:
    parts = f"overlap_pct = 0.0\npartitions = {partitions}"
    text = config(tmp_path / "driver.jsonl").replace("overlap_pct = 0.0", parts)
    result = run_survey(parse_config(text), out=tmp_path / "run")
    assert (result.outcome, result.problems) == ("completed", ())
    split, quartered = features(RunRecord.open(tmp_path / "run")), features(run[0])
    print(f"{len(split)} features with {partitions} partitions, {len(quartered)} with 4")
    assert split == quartered
    assert len(split) > 1000


def test_pixels_in_the_journal_are_what_the_driver_counted(run: tuple[RunRecord, Path]) -> None:
    record, log = run
    journal = sum(record.scans[scan_id].pixels for scan_id in record.recorded)
    counted = sum(entry["pixels"] for entry in log_entries(log) if entry["what"] == "scan")
    print(f"journal {journal} px, driver {counted} px")
    assert journal == counted


def _tile(row: int, column: int) -> TileIndex:

    return TileIndex(row, column)
