"""A whole survey through a microscope in another process, which dies and hangs meanwhile."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sparse_actors.app import run_survey
from sparse_actors.config import parse_config
from sparse_actors.messages import Message, MicroscopeFailed
from sparse_actors.recording.run_record import RunRecord

VENDOR = Path(__file__).with_name("vendor_microscope.py")
CONFIG = """
[run]
name = "hosted"
[microscope]
driver = "hosted"
[microscope.options]
command = {command}
reply_timeout_s = 2.0
[panorama]
corners_mm = [[0.0, 0.0], [0.2, 0.0], [0.0, 0.1]]
tile_fov_um = 100.0
overlap_pct = 0.0
partitions = 4
[scan.fast]
size_px = [64, 64]
dwell_ns = 100.0
[scan.analysis]
size_px = [256, 256]
dwell_ns = 100.0
[detect.options]
threshold = 3
[regions]
size_px = [32, 32]
merge = "bounding_box"
[workers]
local = 1
[limits]
min_free_disk_gb = 0.0
"""


@pytest.mark.timeout(180)
def test_a_survey_outlives_its_host(tmp_path: Path) -> None:
    faults = "die=2,hang_hard=5,return_nonsense=8,die_and_forget=10"
    state_file = tmp_path / "state.json"
    config = parse_config(
        CONFIG.format(command=json.dumps([sys.executable, str(VENDOR), str(state_file), faults]))
    )
    seen: list[Message] = []
    result = run_survey(config, out=tmp_path / "run", observe=lambda message, _: seen.append(message))
    assert (result.outcome, result.problems) == ("completed", ())
    state = json.loads(state_file.read_text())
    assert (state["x_mm"], state["y_mm"], state["view_field_mm"], state["beam_on"]) == (0.0, 0.0, 0.1, False)

    record = RunRecord.open(tmp_path / "run")
    assert len(record.recorded) > 12
    for scan_id in record.recorded:
        box, x_mm = record.scans[scan_id].box, 0.05 + 0.1 * scan_id.partition.tile.column
        rows, columns = np.indices((box.height, box.width))
        expected = (7 * (box.left + columns) + 13 * (box.top + rows) + round(1000 * x_mm)) % 200
        np.testing.assert_array_equal(record.image(scan_id), expected, err_msg=str(scan_id))

    reasons = [message.reason for message in seen if isinstance(message, MicroscopeFailed)]
    told = [
        "ended in scan_area",
        "does not return from scan_area",
        "answered scan_area with garbage",
        "ended in scan_area",
        "not as it was: x_mm was",
    ]
    # A scan may have been ordered ahead of the preparation that the last of these brings about.
    told += told[-1:] * (len(reasons) - len(told))
    assert all(part in reason for part, reason in zip(told, reasons, strict=True)), reasons
