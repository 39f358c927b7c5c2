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
    assert set(files) == {"my_microscope.py", "my_detector.py"}
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
