"""Taps in other processes and other languages, at a run and without one; the examples a user would copy."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kills
import numpy as np
import pytest
from tapped_run import FIRST, Run, scanned

import sparse_actors
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.messages import (
    Message,
    PartitionScanned,
    ProposeRegions,
    Recorded,
    RegionsProposed,
    RunFinished,
    RunStarted,
    ScanId,
    TileFinished,
)
from sparse_actors.recording.run_record import RunRecord

SCRIPTS = Path(__file__).parents[1] / "scripts"
WAIT_S = 60


@pytest.fixture
def run() -> Iterator[Run]:
    run = Run()
    yield run
    run.taps.close()


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def two_free_ports() -> int:
    """Return a port that is free, as is the next."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


@contextmanager
def started(command: list[Any], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a program; it does not outlive the block."""
    with subprocess.Popen([str(part) for part in command], text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def told(run: Run, *command: str | Path) -> list[str]:
    """Start a subscriber, say something when it listens, end, and return what it printed."""
    run.journal.append(TileFinished(tile=FIRST))
    with started([*command], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith("now"):
                break
        # Its subscriptions are on their way; what it has heard once it hears from then on.
        lines += _said_until_heard(run, process.stdout)
        run.say(TileFinished(tile=TileIndex(0, 2)), scanned(3))
        run.taps.close()
        lines += [line.rstrip() for line in process.stdout]
        assert process.wait(WAIT_S) == 0
    return lines


def _said_until_heard(run: Run, stdout: Any) -> list[str]:
    heard = threading.Event()

    def say() -> None:
        while not heard.wait(0.05):
            run.say(TileFinished(tile=TileIndex(0, 1)), scanned(1))

    sayer = threading.Thread(target=say)
    sayer.start()
    lines: list[str] = []
    while not {"TileFinished", "PartitionScanned"} <= {word for line in lines for word in _words(line)}:
        line = stdout.readline()
        assert line, lines
        lines.append(line.rstrip())
    heard.set()
    sayer.join()
    return lines


def _words(line: str) -> list[str]:
    return line.replace('"', " ").replace(",", " ").split()


def test_thirty_lines_of_python_without_this_package_hear_a_run(run: Run) -> None:
    lines = told(
        run, sys.executable, SCRIPTS / "tap_plain.py", run.taps.endpoint, "TileFinished", "PartitionScanned"
    )
    assert lines[0] == "before TileFinished {'tile': {'row': 0, 'column': 0}}"
    (last,) = [line for line in lines if "'column': 2" in line]
    assert last.split(" ", 2)[1] == "TileFinished"
    assert last.endswith("lost 0")
    assert any(line.split()[1] == "PartitionScanned" and "[256]" in line for line in lines[2:])


def test_a_program_in_c_hears_a_run(run: Run, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    headers = [Path("/usr/include/zmq.h"), Path("/usr/include/msgpack.h")]
    if compiler is None or not all(header.exists() for header in headers):
        pytest.skip("needs cc, libzmq3-dev and libmsgpack-dev")
    program = tmp_path / "tap_plain"
    source = SCRIPTS / "tap_plain.c"
    flags = ["-Wall", "-Wextra", "-Werror", "-lzmq", "-lmsgpackc", "-o", program]
    subprocess.run([compiler, source, *flags], check=True)
    host, _, port = run.taps.endpoint.rpartition(":")
    lines = told(run, program, host, port, "TileFinished", "PartitionScanned")
    (last,) = [line for line in lines if '"column"=>2' in line.replace(" ", "").replace(":", "=>")]
    assert "TileFinished" in last
    assert "array of 256 bytes" in lines


def test_the_command_writes_lines_and_arrays(run: Run, tmp_path: Path) -> None:
    run.journal += [TileFinished(tile=TileIndex(0, n)) for n in range(5)]
    command = [sys.executable, "-m", "sparse_actors", "tap", "--at", run.taps.endpoint]
    with started([*command, "TileFinished", "--every", "2"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert [line["tile"]["column"] for line in lines] == [0, 2, 4]
        assert lines[0]["kind"] == "TileFinished"
        run.taps.close()
        assert process.wait(WAIT_S) == 0
    again = Run()
    again.journal.append(TileFinished(tile=FIRST))
    with started(
        [*command[:-1], again.taps.endpoint, "PartitionScanned", "--to", "npy", "--out", tmp_path / "arrays"]
    ) as process:
        saved = tmp_path / "arrays" / "PartitionScanned_000001_image.npy"
        while not saved.exists() and process.poll() is None:
            again.say(scanned(1))
        again.taps.close()
        assert process.wait(WAIT_S) == 0
    np.testing.assert_array_equal(np.load(saved), scanned(1).image)
    wrong = subprocess.run([*command, "TileFinnished"], capture_output=True, text=True, check=False)
    assert wrong.returncode != 0
    assert "meant 'TileFinished'?" in wrong.stderr


@pytest.mark.timeout(240)
def test_a_run_is_heard_from_beginning_to_end_and_rescans_what_is_proposed(tmp_path: Path) -> None:
    survey = kills.KilledSurvey(tmp_path)
    door, images = two_free_ports(), two_free_ports()
    survey.config.write_text(
        survey.config.read_text()
        + f'[taps]\nlisten = "tcp://127.0.0.1:{door}"\nimages_listen = "tcp://127.0.0.1:{images}"\n'
    )
    command = [
        sys.executable,
        "-m",
        "sparse_actors",
        "run",
        survey.config,
        "--out",
        survey.run,
    ]
    environment = os.environ | {"SPARSE_ACTORS_TAP_TOKEN": "open sesame"}
    with started(command, env=environment, stderr=subprocess.DEVNULL) as process:
        heard: list[Message] = []
        with sparse_actors.listen(f"tcp://127.0.0.1:{door}", wait_s=2 * WAIT_S) as listener:
            for message in listener:
                heard.append(message)
                if isinstance(message, Recorded) and str(message.scan_id) == "r000c000p0":
                    order = ProposeRegions(
                        tile=message.scan_id.partition.tile,
                        boxes=(PixelBox(700, 700, 60, 60),),
                        source="test",
                        request=str(message.scan_id),
                    )
                    assert isinstance(listener.propose(order, "open sesame"), RegionsProposed)
        assert process.wait(WAIT_S) == 0
    record = RunRecord.open(survey.run)
    assert {m.scan_id for m in heard if isinstance(m, Recorded)} == set(record.recorded)
    assert len([m for m in heard if isinstance(m, Recorded)]) == len(record.recorded)
    assert {m.scan.id for m in heard if isinstance(m, PartitionScanned)} <= set(record.recorded)
    assert any(isinstance(m, PartitionScanned) for m in heard)
    assert [m.outcome for m in heard if isinstance(m, RunFinished)] == ["completed"]
    (proposed,) = [planned for planned in record.regions.values() if planned.source]
    assert (proposed.source, proposed.partition.tile) == ("test", FIRST)
    assert {scan.id for scan in proposed.scans} <= set(record.recorded)


def test_the_histogram_shows_what_is_too_bright() -> None:
    example = script("tap_histogram")
    image = np.zeros((10, 10), np.uint8)
    image[:, 5:] = 255
    assert example.bars(example.histogram(image)) == "█" + " " * 62 + "█"


def test_bright_spots_are_proposed_where_they_are() -> None:
    example = script("tap_classify")
    message = scanned(0, 64)
    image = np.full((64, 64), 50, np.uint8)
    image[40:45, 10:16] = 250
    object.__setattr__(message, "image", image)
    (box,) = example.boxes(message, 256)  # 4 analysis pixels for each
    assert box.contains(PixelBox(40, 160, 24, 20))
    assert box.area < 2 * (24 + 16) * (20 + 16)
    object.__setattr__(message, "image", np.full((64, 64), 50, np.uint8))
    assert example.boxes(message, 256) == ()


def test_documents_follow_the_event_model() -> None:
    example = script("tap_bluesky")
    started = RunStarted(name="a", session=0, started_s=5.0, seed=1, version="0", config_toml="")
    times = {"dwell_ns": 1.0, "started_s": 6.0, "finished_s": 8.0}
    recorded = Recorded(scan_id=ScanId(PartitionId(FIRST, 2)), attempt=1, slab="a", crc32=1, **times)
    end = RunFinished(outcome="completed", reason="")
    names, documents = zip(*example.documents([started, recorded, recorded, end]), strict=True)
    assert names == ("start", "descriptor", "event", "event", "stop")
    start, descriptor, first, second, stop = documents
    assert descriptor["run_start"] == stop["run_start"] == start["uid"]
    assert first["descriptor"] == descriptor["uid"]
    assert (first["seq_num"], second["seq_num"], stop["num_events"]) == (1, 2, {"primary": 2})
    assert set(first["data"]) == set(first["timestamps"]) == set(descriptor["data_keys"])
    assert first["data"]["scan_s"] == 2.0
    assert stop["exit_status"] == "success"
    assert len({document["uid"] for document in documents}) == 5


@pytest.mark.parametrize("images", ["preview", "full"])
def test_taps_that_nobody_reads_do_not_fill_the_memory(images: str) -> None:
    figures = script("benchmark_taps").stream(20, 2.0, 200.0, images, side_px=1024)
    image_mb = 1024**2 * 2 / 1e6
    offered_mb = figures["images"] * image_mb
    # Two wait in the daemon, one is on its way, and for each tap what it did not take.
    kept = 20 * (2 + 1) if images == "full" else 20
    assert offered_mb > 30 * image_mb
    assert figures["memory_most_mb"] - figures["memory_before_mb"] < (kept + 10) * image_mb
