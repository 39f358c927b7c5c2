"""The microscope contract, and a survey, on the Demo microscope of fibsem."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from sparse_actors.drivers.fibsem import FibsemMicroscope, fraction

from sparse_actors.app import run_survey
from sparse_actors.config import parse_config
from sparse_actors.contracts.microscope import Microscope, MicroscopeState
from sparse_actors.errors import CapabilityError, MicroscopeError, StageError
from sparse_actors.geometry import PixelBox
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify
from sparse_actors.testing.microscope_contract import MicroscopeContract

HAS_FIBSEM = importlib.util.find_spec("fibsem") is not None
needs_fibsem = pytest.mark.skipif(not HAS_FIBSEM, reason="the optional package fibsem is not installed")
# fibsem and what it imports are not ours to mend.
needs_quiet = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def demo_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of fibsem whose Demo microscope shows one image, at once."""
    import yaml
    from fibsem.config import DEFAULT_CONFIGURATION_PATH

    monkeypatch.setenv("FIBSEM_SIM_NO_DELAY", "1")
    folder = tmp_path / "specimen"
    folder.mkdir()
    rng = np.random.default_rng(5)
    image = rng.integers(120, 200, (256, 256)).astype(np.uint8)
    image[40:60, 70:90] = image[180:200, 150:180] = 5
    tifffile.imwrite(folder / "image.tif", image)
    config = yaml.safe_load(Path(DEFAULT_CONFIGURATION_PATH).read_text(encoding="utf-8"))
    config["sim"] = {**config.get("sim", {}), "sem": str(folder), "fib": str(folder), "use_cycle": True}
    path = tmp_path / "microscope-configuration.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@needs_fibsem
@needs_quiet
class TestDemo(MicroscopeContract):
    @pytest.fixture
    def microscope(self, demo_config: Path) -> Iterator[Microscope]:
        microscope = FibsemMicroscope(manufacturer="Demo", config_path=str(demo_config))
        yield microscope
        microscope.disconnect()

    def test_image_follows_the_stage(self, ready: Microscope) -> None:
        pytest.skip("the Demo microscope shows the same image wherever the stage is")


SURVEY = """
[run]
name = "demo"
[microscope]
driver = "fibsem"
[microscope.options]
manufacturer = "Demo"
config_path = {config_path!r}
stage_signs = [-1, 1]
[panorama]
corners_mm = [[0.0, 0.0], [0.2, 0.0], [0.0, 0.1]]
tile_fov_um = 100.0
overlap_pct = 0.0
[panorama.at_corners]
working_distance_mm = [4.0, 4.01, 4.0]
[scan.fast]
size_px = [128, 128]
dwell_ns = 100.0
[scan.analysis]
size_px = [512, 512]
dwell_ns = 1000.0
[detect.options]
threshold = 60
[regions]
size_px = [64, 64]
[workers]
local = 1
[limits]
min_free_disk_gb = 0.0
"""


@needs_fibsem
@needs_quiet
@pytest.mark.timeout(180)
def test_a_survey_of_the_demo_microscope(demo_config: Path, tmp_path: Path) -> None:
    config = parse_config(SURVEY.format(config_path=str(demo_config)))
    result = run_survey(config, out=tmp_path / "run")
    assert (result.outcome, result.problems) == ("completed", ())
    assert not verify(tmp_path / "run").problems
    record = RunRecord.open(tmp_path / "run")
    rescans = [scan_id for scan_id in record.recorded if not scan_id.is_fast]
    assert len(record.recorded) - len(rescans) == 8
    assert rescans
    microscope = FibsemMicroscope(manufacturer="Demo", config_path=str(demo_config))
    microscope.connect()
    microscope.prepare()
    frame = microscope.scan_area(PixelBox(0, 0, 512, 512), 1000.0, (512, 512))
    microscope.disconnect()
    for scan_id in rescans:
        scan = record.scans[scan_id]
        values = frame[scan.box.slices][scan.mask()] if scan.mask_boxes else frame[scan.box.slices]
        np.testing.assert_array_equal(record.image(scan_id), values)


@given(st.integers(1, 6144), st.data())
def test_fractions_become_the_same_pixels_again(size: int, data: st.DataObject) -> None:
    left = data.draw(st.integers(0, size - 1))
    width = data.draw(st.integers(1, size - left))
    assert int(fraction(left, size) * size) == left
    assert int(fraction(width, size) * size) == width
    assert fraction(left, size) + fraction(width, size) <= 1 + 1e-12


# -- without the package ---------------------------------------------------------------------------


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("sparse_actors.drivers.fibsem.importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(CapabilityError, match=r'No module named .*pip install "sparse-actors\[fibsem\]"'):
        FibsemMicroscope(manufacturer="Demo").connect()


class Stuck:
    """What fibsem's microscope looks like to the driver; its stage does not move."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.rotation_rad = 0.0

    def get_stage_position(self) -> SimpleNamespace:
        return SimpleNamespace(x=0.001, y=0.002, z=0.003, r=0.1, t=0.2, coordinate_system="RAW")

    def get_scan_rotation(self, beam: Any) -> float:
        return self.rotation_rad

    def set_working_distance(self, distance_m: float, beam: Any) -> None:
        raise OSError("no answer")

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.asked.append(name)


@pytest.fixture
def stuck() -> tuple[FibsemMicroscope, Stuck]:
    microscope, inside = FibsemMicroscope(manufacturer="Demo", stage_signs=[-1, 1]), Stuck()
    microscope._microscope = inside
    microscope._structures = SimpleNamespace(FibsemStagePosition=SimpleNamespace)
    return microscope, inside


def test_a_stage_that_does_not_arrive_is_an_error(stuck: tuple[FibsemMicroscope, Stuck]) -> None:
    with pytest.raises(StageError, match=r"sent to \(3, 2\) mm stands at \(-1, 2\) mm"):
        stuck[0].move_stage(3.0, 2.0)
    stuck[0].move_stage(-1.0, 2.0)


def test_a_rotated_scan_is_refused(stuck: tuple[FibsemMicroscope, Stuck]) -> None:
    microscope, inside = stuck
    inside.rotation_rad = math.radians(10)
    with pytest.raises(CapabilityError, match=r"scan rotation is 10\.00 deg"):
        microscope.prepare()
    assert "turn_on" not in inside.asked
    inside.rotation_rad = math.tau
    microscope.prepare()
    assert inside.asked == ["turn_on", "unblank"]


def test_reset_restores_what_it_can_and_names_the_rest(stuck: tuple[FibsemMicroscope, Stuck]) -> None:
    microscope, inside = stuck
    state = MicroscopeState(
        x_mm=5.0,
        y_mm=0.0,
        working_distance_mm=4.0,
        view_field_mm=0.1,
        brightness_pct=50.0,
        contrast_pct=40.0,
        beam_on=False,
    )
    with pytest.raises(
        MicroscopeError, match=r"stands at .*; set_working_distance of fibsem failed: OSError: no"
    ):
        microscope.reset_microscope(state)
    assert inside.asked[-4:] == [
        "set_field_of_view",
        "set_detector_brightness",
        "set_detector_contrast",
        "turn_off",
    ]


@pytest.mark.parametrize(
    "options",
    [{"stage_signs": [1, 0]}, {"dwell_range_ns": [100.0, 50.0]}, {"stage_tolerance_um": 0.0}],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        FibsemMicroscope(manufacturer="Demo", **options)
