"""Exports of tables, trees and spectra, and what becomes of an export that is stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from recorded_run import CONFIG, TILES, RecordedRun, whole_run
from test_recording_maps import AXIS, recorded_map
from typer.testing import CliRunner, Result

from sparse_actors.cli.commands import app
from sparse_actors.errors import ExportError
from sparse_actors.export import formats, paper_tiff
from sparse_actors.export.formats import FORMATS, export
from sparse_actors.geometry import PartitionId
from sparse_actors.messages import ScanId
from sparse_actors.results.run import Run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    return whole_run(tmp_path_factory.mktemp("run") / "run")


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_paper_tree_has_every_scan_at_its_place(recorded: RecordedRun, tmp_path: Path) -> None:
    run = Run.open(recorded.path)
    folder = export(run, "paper-tiff", tmp_path / "out").path
    assert (folder / "config.toml").read_text() == CONFIG
    assert sorted(path.name for path in folder.glob("tile_*")) == [f"tile_{n:05d}" for n in range(4)]
    found = 0
    for number, tile in enumerate(TILES):
        inside = folder / f"tile_{number:05d}"
        position = json.loads((inside / "position.json").read_text())
        assert (position["tile"], position["stage_x_mm"]) == (str(tile), 1.0 + tile.column)
        assert (position["view_field_um"], position["grid_px"]) == (pytest.approx([64, 48]), [64, 48])
        assert position["working_distance_mm"] == 10.0
        assert {entry["file"] for entry in position["images"]} == {p.name for p in inside.glob("*.tiff")}
        for entry in position["images"]:
            scan = next(scan for scan in run.record.scans.values() if str(scan.id) == entry["scan"])
            with tifffile.TiffFile(inside / entry["file"]) as file:
                header = json.loads(file.pages[0].description)
                assert {name: header[name] for name in entry} == entry
                np.testing.assert_array_equal(
                    file.asarray()[scan.mask()],
                    recorded.images[scan.id].ravel(),
                )
                per_cm = file.pages[0].tags["XResolution"].value
                assert 1e4 * per_cm[1] / per_cm[0] == pytest.approx(2.0 if scan.id.is_fast else 1.0)
            # The name alone says where the image lies in the tile, on the grid of 64 x 48.
            left, top, width, height = map(int, entry["file"].removesuffix(".tiff").split("_"))
            factor = 2 if scan.id.is_fast else 1
            assert (left, top) == (scan.box.left * factor, scan.box.top * factor)
            assert (width, height) == (scan.box.width * factor, scan.box.height * factor)
            found += 1
    assert found == len(recorded.images)


def test_tile_configuration_and_trakem2(recorded: RecordedRun, tmp_path: Path) -> None:
    run = Run.open(recorded.path)
    for name in ("tileconfig", "trakem2"):
        export(run, name, tmp_path / name)
    lines = (tmp_path / "tileconfig" / "TileConfiguration.txt").read_text().splitlines()
    assert "dim = 2" in lines
    # The tiles lie 56 and 42 um apart, 28 and 21 pixels of the fast scan.
    assert lines[-4:] == [
        "tile_r000_c000.tif; ; (0.0, 0.0)",
        "tile_r000_c001.tif; ; (28.0, 0.0)",
        "tile_r001_c000.tif; ; (0.0, 21.0)",
        "tile_r001_c001.tif; ; (28.0, 21.0)",
    ]
    last = (tmp_path / "trakem2" / "trakem2.txt").read_text().splitlines()[-1]
    assert last.split("\t") == ["tile_r001_c001.tif", "28", "21", "0"]
    fast = np.vstack([recorded.images[ScanId(PartitionId(TILES[3], i))] for i in range(2)])
    for name in ("tileconfig", "trakem2"):
        with tifffile.TiffFile(tmp_path / name / "tile_r001_c001.tif") as file:
            np.testing.assert_array_equal(file.asarray(), fast)
            assert file.imagej_metadata["unit"] == "micron"


def test_tables_and_points(recorded: RecordedRun, tmp_path: Path) -> None:
    export(Run.open(recorded.path), "csv", tmp_path / "run")
    with (tmp_path / "run" / "sites.csv").open(newline="") as file:
        sites = list(csv.DictReader(file))
    assert (len(sites), float(sites[0]["x_px"]), float(sites[0]["stage_x_mm"])) == (
        6,
        12.0,
        pytest.approx(1.012),
    )
    recorded_map(tmp_path / "map run")
    export(Run.open(tmp_path / "map run"), "csv", tmp_path / "map")
    (points,) = (tmp_path / "map").glob("points_*.csv")
    with points.open(newline="") as file:
        first, *_ = csv.DictReader(file)
    assert first == {
        "x_px": "2", "y_px": "2", "x_um": "10.0", "y_um": "10.0",
        "live_time_s": "0.01", "label": "1", "phase": "phase 1",
    }  # fmt: skip


def test_spectra_open_in_rosettasciio(tmp_path: Path) -> None:
    msa = pytest.importorskip("rsciio.msa", reason="rosettasciio is not installed")
    recorded_map(tmp_path / "run")
    config = Run.open(tmp_path / "run")
    (shown,) = config.maps.values()
    folder = export(config, "msa", tmp_path / "out").path
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{shown.name}_1_phase-1.msa",
        f"{shown.name}_all.msa",
    ]
    (signal,) = msa.file_reader(str(folder / f"{shown.name}_all.msa"))
    np.testing.assert_array_equal(signal["data"], np.arange(80).reshape(4, 20).sum(axis=0))
    (axis,) = signal["axes"]
    assert (axis["units"], axis["scale"]) == ("keV", pytest.approx(AXIS.scale_kev))
    assert axis["offset"] == pytest.approx(AXIS.offset_kev + AXIS.scale_kev / 2)
    assert signal["metadata"]["Signal"]["signal_type"].startswith("EDS")
    assert "'live_time': 0.04" in str(signal["metadata"])


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_run_without_what_is_wanted_says_so(name: str, recorded: RecordedRun, tmp_path: Path) -> None:
    """Of survey and map each format takes one at least; what is missing is said, and nothing left."""
    recorded_map(tmp_path / "map")
    runs = {"survey": Run.open(recorded.path), "map": Run.open(tmp_path / "map")}
    refused = {"msa": {"survey"}, "csv": set(), "hspy": set(), "paper-tiff": set()}.get(name, {"map"})
    if name == "ome-zarr":
        pytest.importorskip("zarr", reason="zarr is not installed")
    for kind in refused:
        with pytest.raises(ExportError, match="there are no"):
            export(runs[kind], name, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["map"]


def test_nothing_is_overwritten(recorded: RecordedRun, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    result = invoke("export", recorded.path, "--to", "csv", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert "nothing is overwritten" in json.loads(result.stdout)["problems"][0]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_export_that_is_stopped_leaves_nothing_that_looks_whole(
    recorded: RecordedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    seen = []

    def stop(*arguments: Any) -> None:
        seen.extend(path.name for path in tmp_path.rglob("*.tiff"))
        if len(seen) > 3:
            raise error("stopped")
        tifffile.imwrite(*arguments[:2])

    monkeypatch.setattr(paper_tiff, "write_tiff", stop)
    with pytest.raises(error):
        export(Run.open(recorded.path), "paper-tiff", tmp_path / "out")
    assert seen
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    scan_id = ScanId(PartitionId(TILES[0], 0), 0)
    slab = tmp_path / "run" / "data" / "r000c000p0-regions.h5"
    slab.write_bytes(slab.read_bytes().replace(run.images[scan_id].tobytes(), bytes(16 * 12)))
    result = invoke("export", tmp_path / "run", "--to", "paper-tiff", "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert str(scan_id) in said["problems"][0]
    assert said["path"] == str(tmp_path / "run" / "export" / "paper-tiff")
    inside = tmp_path / "run" / "export" / "paper-tiff" / "tile_00000"
    assert len(list(inside.glob("*.tiff"))) == 4
    assert len(json.loads((inside / "position.json").read_text())["images"]) == 4


def test_formats_are_named(recorded: RecordedRun) -> None:
    result = invoke("export", recorded.path, "--to", "jpeg")
    assert result.exit_code == 1
    assert "expected one of paper-tiff, ome-tiff" in result.stderr
    shown = invoke("export", "--help").stdout
    assert all(name in shown.replace("\n", " ") for name in ("msa", "hspy", "trakem2"))
    assert set(formats.FORMATS) == {
        "paper-tiff", "ome-tiff", "ome-zarr", "imagej-tiff", "tileconfig", "trakem2", "csv", "hspy", "msa",
    }  # fmt: skip
