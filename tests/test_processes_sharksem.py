"""Whole surveys on a SharkSEM server: as processes, and while the server fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sparse_actors.drivers.sharksem.fake_faults import Faults
from sparse_actors.drivers.sharksem.fake_instrument import FakeInstrument
from sparse_actors.drivers.sharksem.fake_server import FakeServer

from sparse_actors.app import RunResult, run_survey
from sparse_actors.config import parse_config
from sparse_actors.lease import lease_file
from sparse_actors.messages import Message, PartitionScanned
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify

CONFIG = """
[run]
name = "tescan"
seed = 3
[microscope]
driver = "sharksem"
[microscope.options]
host = "127.0.0.1"
port = {port}
masks = {masks!r}
reply_timeout_s = 2.0
silence_timeout_s = 2.0
[panorama]
corners_mm = [[0.0, 0.0], [0.05, 0.0], [0.0, 0.025]]
tile_fov_um = 25.0
overlap_pct = 0.0
[panorama.at_corners]
working_distance_mm = [9.9, 9.95, 9.98]
brightness_pct = [50.0, 50.0, 50.0]
contrast_pct = [50.0, 50.0, 50.0]
[scan.fast]
size_px = [192, 192]
dwell_ns = 8000.0
[scan.analysis]
size_px = [768, 768]
dwell_ns = 8000.0
[detect.options]
threshold = 60
[regions]
size_px = [48, 48]
[workers]
local = 1
[limits]
min_free_disk_gb = 0.0
"""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(instrument=FakeInstrument(time_scale=0)) as server:
        yield server


def survey(server: FakeServer, folder: Path, *changes: str, **options: Any) -> RunResult:
    config = parse_config(CONFIG.format(port=server.port, masks="none"), changes)
    return run_survey(config, out=folder, **options)


def images(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    record = RunRecord.open(folder)
    return {str(scan_id): record.image(scan_id) for scan_id in record.recorded}


def settings(sem: FakeInstrument) -> tuple[Any, ...]:
    channels = [(c.detector, c.is_enabled, c.bits) for c in sem.channels]
    return (list(sem.stage), sem.working_distance_mm, sem.view_field_mm, sem.beam_state(), sem.blanker,
            sem.live_scanning, dict(sem.gain_black), channels)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray[Any, Any]]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with FakeServer(instrument=FakeInstrument(time_scale=0)) as server:
        before = settings(server.instrument)
        result = survey(server, folder)
        assert (result.outcome, result.problems) == ("completed", ())
        assert settings(server.instrument) == before
        record = RunRecord.open(folder)
        journal = sum(record.scans[scan_id].pixels for scan_id in record.recorded)
        assert server.exposed_pixels == journal
        assert not verify(folder).problems
    return images(folder)


@pytest.mark.timeout(180)
def test_commands_run_a_survey_from_the_shell(tmp_path: Path) -> None:
    module = "sparse_actors.drivers.sharksem.fake_server"
    command = [
        sys.executable,
        "-m",
        module,
        "--port",
        "0",
        "--time-scale",
        "0",
        "--fault",
        "stale_frame",
        "--fault",
        "reply_delay_s=0.01",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rpartition(":")[2])
            (tmp_path / "c.toml").write_text(CONFIG.format(port=port, masks="stream"))
            run = [sys.executable, "-m", "sparse_actors", "run", str(tmp_path / "c.toml"), "--out"]
            done = subprocess.run(
                [*run, str(tmp_path / "run")], capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            server.terminate()
    assert len(images(tmp_path / "run")) > 8


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "fault",
    [
        "lose_chunk",
        "cut_control",
        pytest.param("wrong_frame_id", marks=pytest.mark.long),
        pytest.param("resend_chunk", marks=pytest.mark.long),
        pytest.param("stop_image", marks=pytest.mark.long),
        pytest.param("cut_data", marks=pytest.mark.long),
        pytest.param("half_close", marks=pytest.mark.long),
        pytest.param("garble_data", marks=pytest.mark.long),
    ],
)
def test_a_scan_that_is_spoilt_is_scanned_again(
    server: FakeServer, tmp_path: Path, undisturbed: dict[str, np.ndarray[Any, Any]], fault: str
) -> None:
    server.faults = Faults(on_scans={2, 7, 8})
    setattr(server.faults, fault, True)
    before = settings(server.instrument)
    result = survey(server, tmp_path / "run")
    assert (result.outcome, result.problems) == ("completed", ())
    assert settings(server.instrument) == before
    found = images(tmp_path / "run")
    assert found.keys() == undisturbed.keys()
    for name, image in found.items():
        np.testing.assert_array_equal(image, undisturbed[name], err_msg=name)


def at_scan(number: int, act: Callable[[], object]) -> Callable[[Message, int], None]:
    seen: list[Message] = []

    def observe(message: Message, _: int) -> None:
        if isinstance(message, PartitionScanned):
            seen.append(message)
            if len(seen) == number:
                act()

    return observe


@pytest.mark.timeout(180)
def test_a_server_that_dies_ends_the_run_with_a_plain_message(server: FakeServer, tmp_path: Path) -> None:
    result = survey(server, tmp_path / "run", observe=at_scan(2, server.stop))
    assert result.outcome == "failed"
    assert "no connection to a SharkSEM server at 127.0.0.1" in result.reason + " ".join(result.problems)


@pytest.mark.timeout(180)
def test_a_server_that_hangs_for_ever_ends_the_run_with_a_plain_message(
    server: FakeServer, tmp_path: Path
) -> None:
    def hang() -> None:
        server.faults.hang_after = "ScScanXY"

    result = survey(
        server, tmp_path / "run", "microscope.options.reply_timeout_s=0.5", observe=at_scan(2, hang)
    )
    assert result.outcome == "failed"
    assert "no reply to" in result.reason + " ".join(result.problems)


@pytest.mark.timeout(180)
def test_a_value_out_of_reach_ends_the_run_and_the_microscope_is_reset(
    server: FakeServer, tmp_path: Path
) -> None:
    before = settings(server.instrument)
    result = survey(server, tmp_path / "run", "panorama.at_corners.working_distance_mm=[1.0,1.0,1.0]")
    assert result.outcome == "failed"
    assert "working_distance_mm = 1 is out of reach: the microscope makes it 2" in result.reason
    assert settings(server.instrument) == before


def test_two_runs_on_one_microscope_exclude_each_other(tmp_path: Path) -> None:
    def lease(**options: Any) -> Path | None:
        config = parse_config(CONFIG.format(port=8300, masks="none"), [])
        table = config.microscope.model_copy(update={"options": {**config.microscope.options, **options}})
        return lease_file(tmp_path, table)

    assert lease() == lease(masks="stream")
    assert len({lease(), lease(port=8310), lease(host="sem2")}) == 3
