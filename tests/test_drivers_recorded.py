"""The replay microscope scans what people have; what was exported comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from recorded_run import RecordedRun, whole_run
from sparse_actors.drivers.recorded.tiff_header import tiff_header
from sparse_actors.drivers.replay import ReplayMicroscope

from sparse_actors.errors import CapabilityError
from sparse_actors.export.formats import export
from sparse_actors.geometry import full_frame
from sparse_actors.results.run import Run

ZEISS = Path(__file__).parents[2] / "shared" / "data" / "alloys" / "test_tiff_Zeiss_SEM_1k.tif"
PIXEL_MM = 2e-3
"""Of the fast scans of the recorded run."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordedRun, Run]:
    run = whole_run(tmp_path_factory.mktemp("run") / "run", "uint16")
    return run, Run.open(run.path)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (60, 90), dtype=np.uint8)


def ready(recording: Path, **options: Any) -> ReplayMicroscope:
    microscope = ReplayMicroscope(recording=str(recording), time_scale=0, **options)
    microscope.connect()
    microscope.prepare()
    return microscope


def scanned(
    microscope: ReplayMicroscope, left: int, top: int, width: int, height: int, pixel_mm: float
) -> Any:
    """Scan a box of the panorama, with one grid pixel per recorded one."""
    microscope.set_view_field(width * pixel_mm)
    microscope.move_stage((left + width // 2) * pixel_mm, (top + height // 2) * pixel_mm)
    return microscope.scan_area(full_frame((width, height)), 1000, (width, height))


def test_an_exported_run_is_replayed_scan_by_scan(recorded: tuple[RecordedRun, Run], tmp_path: Path) -> None:
    """Overlapping tiles, overlapping regions and a mask included."""
    images, run = recorded
    microscope = ready(export(run, "paper-tiff", tmp_path / "out").path, pixel_type="uint16")
    microscope.set_view_field(64e-3)
    for scan_id, image in images.images.items():
        scan = run.record.scans[scan_id]
        microscope.move_stage(*run.record.panorama.centre_mm(scan_id.partition.tile))
        if scan.mask_boxes:
            mask = np.zeros(scan.imaging.size_px[::-1], np.bool_)
            mask[scan.box.slices] = scan.mask()
            found = microscope.scan_mask(mask, scan.imaging.dwell_ns)
        else:
            found = microscope.scan_area(scan.box, scan.imaging.dwell_ns, scan.imaging.size_px)
        np.testing.assert_array_equal(found, image, err_msg=str(scan_id))
    with pytest.raises(CapabilityError, match="nothing is recorded"):
        microscope.scan_area(full_frame((64, 48)), 1000, (64, 48))


def test_a_tree_without_a_list_of_images(recorded: tuple[RecordedRun, Run], tmp_path: Path) -> None:
    """As others write it: the name of an image, and the place of the tile."""
    folder = export(recorded[1], "paper-tiff", tmp_path / "out").path
    for path in folder.glob("tile_*/position.json"):
        said = json.loads(path.read_text())
        path.write_text(json.dumps({"x_mm": said["planned_x_mm"], "y_mm": said["planned_y_mm"]}))
    microscope = ready(folder, pixel_type="uint16", pixel_nm=1000.0)
    microscope.set_view_field(64e-3)
    for tile in recorded[1].tiles.values():
        microscope.move_stage(*tile.stage_mm)
        assert tile.fast is not None
        np.testing.assert_array_equal(microscope.scan_area(full_frame((32, 24)), 300, (32, 24)), tile.fast)
    path = folder / "tile_00000" / "position.json"
    path.write_text(json.dumps({"x_mm": 0, "y_mm": 0, "scan_rotation_deg": -30}))
    with pytest.raises(ValueError, match="tile_00000 was scanned at a rotation of -30 degrees"):
        ready(folder)
    path.write_text(json.dumps({"stage": [1, 2]}))
    with pytest.raises(ValueError, match=r"position.json holds stage; expected .* stage_x_mm, stage_y_mm"):
        ready(folder)
    path.unlink()
    with pytest.raises(ValueError, match="tile_00000: expected one JSON file"):
        ready(folder)


@pytest.mark.parametrize("is_file", [True, False])
def test_tile_configuration_of_an_export(
    recorded: tuple[RecordedRun, Run], tmp_path: Path, is_file: bool
) -> None:
    folder = export(recorded[1], "tileconfig", tmp_path / "out").path
    microscope = ready(folder / "TileConfiguration.txt" if is_file else folder, pixel_type="uint16")
    for tile, (x, y) in zip(recorded[1].tiles.values(), ((0, 0), (28, 0), (0, 21), (28, 21)), strict=True):
        assert tile.fast is not None
        # The pixels of 2 um are those that the files of ImageJ say.
        np.testing.assert_array_equal(scanned(microscope, x, y, 32, 24, PIXEL_MM), tile.fast)


def test_registered_places_and_mist(picture: np.ndarray, tmp_path: Path) -> None:
    for n, left in enumerate((0, 40)):
        (tmp_path / f"{n}.png").write_bytes(cv2.imencode(".png", picture[:, left : left + 50])[1].tobytes())
    places = {"TileConfiguration.txt": (7, 55), "TileConfiguration.registered.txt": (0.2, 39.9)}
    for name, (first, second) in places.items():
        lines = ["# comment", "dim = 2", "", f"0.png; ; ({first}, 0.0)", f"1.png; 3; ({second}, -1e-3)"]
        (tmp_path / name).write_text("\n".join(lines))
    mist = tmp_path / "mist"
    mist.mkdir()
    for n in (0, 1):
        (mist / f"{n}.png").write_bytes((tmp_path / f"{n}.png").read_bytes())
    (mist / "img-global-positions-0.txt").write_text(
        "file: 0.png; corr: -1.0000000000; position: (0, 0); grid: (0, 0);\n"
        "file: 1.png; corr: 0.9876543210; position: (40, 0); grid: (1, 0);\n"
    )
    for folder in (tmp_path, mist):
        microscope = ready(folder, pixel_nm=50.0)
        np.testing.assert_array_equal(scanned(microscope, 0, 0, 90, 60, 50e-6), picture)


def test_list_of_places_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "TileConfiguration.txt"
    path.write_text("dim = 2\nhere.tif; ; 0.0, 0.0\n")
    with pytest.raises(ValueError, match=r"line 2: 'here.tif; ; 0.0, 0.0'; expected 'name; ; \(x, y\)'"):
        ready(path)
    path.write_text("here.tif; ; (0.0, 0.0)\n")
    with pytest.raises(ValueError, match=r"1 of them are not there \(first: here.tif\)"):
        ready(path)


def write_ome(path: Path, pixels: np.ndarray, x_mm: float, y_mm: float) -> None:
    plane = {"PositionX": x_mm, "PositionXUnit": "mm", "PositionY": y_mm * 1e3, "PositionYUnit": "µm"}
    size = {
        "PhysicalSizeX": 50.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 50.0,
        "PhysicalSizeYUnit": "nm",
    }
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "YX", **size, "Plane": plane})


@pytest.mark.parametrize("mirror", ["", "x", "xy"])
def test_folder_of_tiffs_that_know_the_stage(picture: np.ndarray, tmp_path: Path, mirror: str) -> None:
    signs = [-1 if axis in mirror else 1 for axis in "xy"]
    for n, left in enumerate((0, 40)):
        x_mm, y_mm = signs[0] * (left + 25) * 50e-6, signs[1] * 30 * 50e-6
        write_ome(tmp_path / f"{n}.ome.tif", picture[:, left : left + 50], x_mm, y_mm)
    microscope = ready(tmp_path, mirror_stage=mirror)
    np.testing.assert_array_equal(scanned(microscope, 0, 0, 90, 60, 50e-6), picture)


def test_folder_of_tiffs_without_places_is_refused(picture: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture)
    with pytest.raises(ValueError, match=r"1 of 1 TIFFs do not say where the stage was .* \(first: a.tif\)"):
        ready(tmp_path)
    write_ome(tmp_path / "a.tif", picture, 0, 0)
    tifffile.imwrite(tmp_path / "b.tif", np.stack([picture] * 3, axis=-1))
    with pytest.raises(ValueError, match=r"b.tif cannot be used: .* expected grey levels"):
        ready(tmp_path)


@pytest.mark.skipif(not ZEISS.exists(), reason="the Zeiss TIFF is not here")
def test_header_of_a_zeiss_microscope(tmp_path: Path) -> None:
    header = tiff_header(ZEISS)
    assert (header.shape, header.dtype, header.pixel_nm) == ((768, 1024), "uint8", pytest.approx(2615))
    assert header.stage_mm == pytest.approx((75.6442, 60.4901))
    (tmp_path / ZEISS.name).write_bytes(ZEISS.read_bytes())
    image = scanned(ready(tmp_path), 28927 - 512, 23132 - 384, 1024, 768, 2615e-6)
    np.testing.assert_array_equal(image, tifffile.imread(ZEISS))


def test_header_of_a_tescan_microscope(picture: np.ndarray, tmp_path: Path) -> None:
    text = (
        b"\x00\x01[MAIN]\r\nPixelSizeX=5.0e-8\r\nPixelSizeY=5.0e-8\r\n[SEM]\r\nStageX=-0.00125\r\nStageY=2e-3"
    )
    tifffile.imwrite(tmp_path / "a.tif", picture, extratags=[(50431, "B", len(text), text, True)])
    header = tiff_header(tmp_path / "a.tif")
    assert (header.pixel_nm, header.stage_mm) == (pytest.approx(50), pytest.approx((-1.25, 2.0)))


@pytest.mark.parametrize("to", ["hspy", "ome-zarr"])
def test_a_large_picture_in_blocks(
    recorded: tuple[RecordedRun, Run], tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    from sparse_actors.drivers.recorded import chunked

    monkeypatch.setattr(chunked, "BLOCK_PX", 17)
    run = recorded[1]
    if to == "ome-zarr":
        zarr = pytest.importorskip("zarr", reason="zarr is not installed")
        request.addfinalizer(zarr.core.sync.cleanup_resources)
    path = export(run, to, tmp_path / ("run.hspy" if to == "hspy" else "run")).path
    with pytest.raises(ValueError, match=r"holds 2 pictures \(analysis_scans, fast_scans\)|fast_scans, ana"):
        ready(path)
    microscope = ready(path, image="fast_scans", pixel_type="uint16")
    assert run.panorama_fast is not None
    np.testing.assert_array_equal(scanned(microscope, 0, 0, 60, 45, PIXEL_MM), run.panorama_fast)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is nothing; expected a folder"):
        ready(tmp_path / "none")
    (tmp_path / "a.hspy").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"a\.hspy is not a file of HyperSpy"):
        ready(tmp_path / "a.hspy")
    with pytest.raises(ValueError, match="one of recording, directory and spectrum_image"):
        ReplayMicroscope()
