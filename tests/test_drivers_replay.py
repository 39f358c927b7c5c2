from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from sparse_actors.drivers.replay import ReplayMicroscope

from sparse_actors import plugins
from sparse_actors.contracts.microscope import Microscope
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import PixelBox, full_frame
from sparse_actors.testing.microscope_contract import MicroscopeContract

DP800 = Path(__file__).parents[2] / "shared" / "data" / "steel_dp800_DOUBTFUL_LICENCE"
PIXEL_MM = 50e-6
"""Of the small images written here."""
SIDE = 120


@pytest.fixture
def panorama(tmp_path: Path) -> np.ndarray:
    """Three of four images of a 2 x 2 panorama; the lower right one is missing."""
    image = np.random.default_rng(1).integers(0, 256, (2 * SIDE, 2 * SIDE), dtype=np.uint8)
    with (tmp_path / "layout.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["row", "col", "x_px", "y_px", "w", "h", "file"])
        for row, column in ((0, 0), (0, 1), (1, 0)):
            x, y, name = column * SIDE, row * SIDE, f"{row}-{column}.png"
            coded = cv2.imencode(".png", image[y : y + SIDE, x : x + SIDE])[1]
            (tmp_path / name).write_bytes(coded.tobytes())
            table.writerow([row, column, x, y, SIDE, SIDE, name])
    return image


def ready(directory: Path, **options: object) -> ReplayMicroscope:
    chosen = {"directory": str(directory), "pixel_nm": 50.0, "time_scale": 0, **options}
    microscope = ReplayMicroscope(**chosen)  # type: ignore[arg-type]
    microscope.connect()
    microscope.prepare()
    return microscope


class TestReplay(MicroscopeContract):
    window_px = (48, 32)
    view_field_mm = 48 * 2 * PIXEL_MM
    positions_mm = ((120 * PIXEL_MM, 70 * PIXEL_MM), (60 * PIXEL_MM, 120 * PIXEL_MM))
    stage_tolerance_mm = PIXEL_MM / 2

    @pytest.fixture
    def microscope(self, panorama: np.ndarray, tmp_path: Path) -> Microscope:
        options = {"directory": str(tmp_path), "pixel_nm": 50.0, "noise_grey": 3.0, "time_scale": 100}
        return plugins.build("microscope", "replay", options)


def test_grid_of_the_record_returns_its_pixels(panorama: np.ndarray, tmp_path: Path) -> None:
    microscope = ready(tmp_path, noise_grey=20.0)
    microscope.set_view_field(100 * PIXEL_MM)
    microscope.move_stage(120.4 * PIXEL_MM, 51.7 * PIXEL_MM)
    assert microscope.get_state().x_mm == pytest.approx(120 * PIXEL_MM)
    image = microscope.scan_area(full_frame((100, 80)), 1000, (100, 80))
    np.testing.assert_array_equal(image, panorama[12:92, 70:170])


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_coarser_grid_takes_the_pixel_under_the_centre(
    panorama: np.ndarray, tmp_path: Path, factor: int
) -> None:
    microscope = ready(tmp_path)
    microscope.set_view_field(20 * factor * PIXEL_MM)
    microscope.move_stage(120 * PIXEL_MM, 60 * PIXEL_MM)
    image = microscope.scan_area(full_frame((20, 20)), 1000, (20, 20))
    first = 120 - 10 * factor, 60 - 10 * factor
    middle = factor // 2
    expected = panorama[first[1] + middle :: factor, first[0] + middle :: factor][:20, :20]
    np.testing.assert_array_equal(image, expected)


def test_declared_noise_falls_with_dwell_time(panorama: np.ndarray, tmp_path: Path) -> None:
    for dwell_ns, sigma in ((1000, 4.0), (16000, 1.0)):
        microscope = ready(tmp_path, noise_grey=4.0, noise_dwell_ns=1000.0)
        microscope.set_view_field(160 * PIXEL_MM)
        microscope.move_stage(120 * PIXEL_MM, 60 * PIXEL_MM)
        clean = ready(tmp_path)
        clean.set_view_field(160 * PIXEL_MM)
        clean.move_stage(120 * PIXEL_MM, 60 * PIXEL_MM)
        window = (80, 50)
        truth = clean.scan_area(full_frame(window), dwell_ns, window).astype(float)
        found = microscope.scan_area(full_frame(window), dwell_ns, window)
        grey = (truth > 30) & (truth < 220)
        assert (found - truth)[grey].std() == pytest.approx((sigma**2 + 1 / 12) ** 0.5, rel=0.1)


def test_what_was_not_recorded_is_refused_with_the_place(panorama: np.ndarray, tmp_path: Path) -> None:
    microscope = ready(tmp_path)
    microscope.set_view_field(40 * PIXEL_MM)
    microscope.move_stage(120 * PIXEL_MM, 120 * PIXEL_MM)
    with pytest.raises(CapabilityError, match=r"panorama px \(120, 120\)"):
        microscope.scan_area(full_frame((40, 40)), 1000, (40, 40))
    mask = np.zeros((40, 40), dtype=np.bool_)
    mask[19, 39] = mask[39, 19] = True
    np.testing.assert_array_equal(microscope.scan_mask(mask, 1000), [panorama[119, 139], panorama[139, 119]])
    with pytest.raises(CapabilityError, match=r"panorama px \(139, 139\)"):
        microscope.scan_points(np.array([[39, 39]]), 1000, (40, 40))


def test_grid_finer_than_the_record_is_refused(panorama: np.ndarray, tmp_path: Path) -> None:
    microscope = ready(tmp_path)
    microscope.set_view_field(40 * PIXEL_MM)
    with pytest.raises(CapabilityError, match="the record has 50 nm"):
        microscope.scan_area(full_frame((80, 80)), 1000, (80, 80))


def test_metadata_tells_the_recorded_from_the_simulated(panorama: np.ndarray, tmp_path: Path) -> None:
    ready(tmp_path).save_metadata(tmp_path / "metadata.json")
    device = json.loads((tmp_path / "metadata.json").read_text())["device"]
    assert "pixel values" in device["recorded"]
    assert "scan timing" in device["simulated"]


def test_table_that_does_not_fit_is_refused(panorama: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file_pattern"):
        ready(tmp_path, file_pattern="r{row}.jpg")
    with pytest.raises(ValueError, match="cannot be read"):
        ready(tmp_path, table="other.csv")
    lines = (tmp_path / "layout.csv").read_text().replace("120,0,120", "far,0,120")
    (tmp_path / "layout.csv").write_text(lines)
    with pytest.raises(ValueError, match="line 3"):
        ready(tmp_path)


def test_image_of_another_size_or_type_is_refused(panorama: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "0-0.png").write_bytes(cv2.imencode(".png", panorama[:50, :50])[1].tobytes())
    (tmp_path / "0-1.png").write_bytes(b"not an image")
    microscope = ready(tmp_path)
    microscope.set_view_field(20 * PIXEL_MM)
    for x_px, found in ((60, r"50, 50"), (180, "no image")):
        microscope.move_stage(x_px * PIXEL_MM, 60 * PIXEL_MM)
        with pytest.raises(MicroscopeError, match=found):
            microscope.scan_area(full_frame((20, 20)), 1000, (20, 20))


@pytest.mark.skipif(not DP800.is_dir(), reason="the DP800 panorama is not here")
def test_dp800_tile_equals_the_one_assembled_from_it() -> None:
    microscope = ready(DP800, pixel_nm=33.0, file_pattern="r{row}_c{col:02d}.jpg", noise_grey=2.2)
    microscope.set_view_field(3072 * 33e-6)
    microscope.move_stage((12864 + 1536) * 33e-6, (4864 + 1536) * 33e-6)
    assembled = cv2.imread(str(DP800 / "tile3072_r3_c08.tif"), cv2.IMREAD_UNCHANGED)
    window = (3072, 3072)
    np.testing.assert_array_equal(microscope.scan_area(full_frame(window), 32000, window), assembled)
    box = PixelBox(100, 700, 128, 128)
    np.testing.assert_array_equal(microscope.scan_area(box, 32000, window), assembled[box.slices])
    fast = microscope.scan_area(full_frame((768, 768)), 32000, (768, 768)).astype(float)
    inner = (assembled[2::4, 2::4] > 30) & (assembled[2::4, 2::4] < 220)
    assert (fast - assembled[2::4, 2::4])[inner].std() == pytest.approx(2.2, rel=0.05)
