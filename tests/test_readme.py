"""The examples of the README run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"

CONFIG = """
[microscope]
driver = "my_microscope:MyMicroscope"
options = { grey = 30 }
[panorama]
corners_mm = [[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]]
tile_fov_um = 100.0
[scan.fast]
size_px = [32, 32]
dwell_ns = 100.0
[scan.analysis]
size_px = [128, 128]
dwell_ns = 100.0
[detect]
detector = "my_detector:DarkestPixel"
options = { below = 40 }
[regions]
size_px = [16, 16]
[limits]
min_free_disk_gb = 0.0
"""


def examples() -> dict[str, str]:
    blocks = re.findall(r"```python\n(# (\w+\.py)\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return {name: code for code, name in blocks}


def test_driver_and_detector_of_the_readme_make_a_survey(tmp_path: Path) -> None:
    files = examples()
    assert set(files) == {"my_microscope.py", "my_detector.py", "test_my_microscope.py"}
    for name, code in files.items():
        assert len(code.splitlines()) <= 25
        (tmp_path / name).write_text(code, encoding="utf-8")
    (tmp_path / "c.toml").write_text(CONFIG, encoding="utf-8")
    run = tmp_path / "run"
    result = subprocess.run(
        [sys.executable, "-m", "sparse_actors", "run", "c.toml", "--out", str(run), "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    from sparse_actors.recording.run_record import RunRecord

    record = RunRecord.open(run)
    regions = [scan_id for scan_id in record.recorded if not scan_id.is_fast]
    assert len(regions) == 4  # one in each partition: the image is dark everywhere
    assert (record.image(regions[0]) == 30).all()


def test_the_contract_is_run_as_the_readme_says_and_finds_what_the_example_leaves_out(tmp_path: Path) -> None:
    for name, code in examples().items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    # scripts/test.py does this in its own environment, from the folder of the checkout.
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", str(tmp_path / "test_my_microscope.py")],
        cwd=README.parent,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = re.findall(r"^FAILED .*::(\w+)", result.stdout, re.MULTILINE)
    assert set(failed) == {
        "test_full_frame_has_shape_and_type_and_is_new",
        "test_image_follows_the_stage",
        "test_is_named_and_stays_closed_until_connected",
        "test_what_is_outside_the_limits_is_refused",
        "test_reset_without_connection_says_so",
        "test_metadata_is_json_with_the_stage_position",
    }
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed[1]) > 25
