"""The daemon and its runs as processes: killed, stopped, taken up again."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from daemons import PATIENCE_S, DaemonProcess, Gated, command, until

from sparse_actors.cli.exit_codes import ExitCode
from sparse_actors.network.control import read_address
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="kills and signals as POSIX has them"),
    pytest.mark.timeout(300),
]


def is_whole(survey: Gated, *, exposed_again: int = 0) -> None:
    """Every scan is recorded as it was exposed, and at most so many were exposed twice."""
    report = verify(survey.run)
    assert report.problems == []
    record = RunRecord.open(survey.run)
    assert record.outcome is not None
    assert record.outcome.outcome == "completed"
    assert len(record.recorded) <= survey.exposures() <= len(record.recorded) + exposed_again


def test_a_run_outlives_a_killed_daemon_and_the_queue_goes_on_as_it_was(tmp_path: Path) -> None:
    first, second = Gated(tmp_path / "first"), Gated(tmp_path / "second")
    second.gate.touch()
    with DaemonProcess(tmp_path / "queue") as daemon:
        numbers = [daemon.submit(first), daemon.submit(second)]
        first.waits()
        run = read_address(first.run)
        assert run is not None
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        before = json.loads((daemon.folder / "queue.json").read_text())
        assert psutil.pid_exists(run.pid)
        # The daemon is dead: what concerns the run is asked of the run.
        seen = json.loads(command("status", "--run", first.run, "--json").stdout)
        assert (seen["run"]["pid"], seen["run"]["state"]) == (run.pid, "running")
        assert "end of scan" in seen["run"]["waits_for"]
        daemon.start()
        assert json.loads((daemon.folder / "queue.json").read_text()) == before
        listed = [(r.run, r.name, r.state) for r in daemon.runs()]
        assert listed == [(numbers[0], "first", "running"), (numbers[1], "second", "waiting")]
        assert json.loads(command("workers", "--queue", daemon.folder, "--json").stdout)["workers"]
        first.gate.touch()
        watched = command("watch", "--queue", daemon.folder, "--json")
        assert watched.exit_code == ExitCode.DONE, watched.output
        assert json.loads(watched.stdout)["folder"] == str(first.run)
        assert daemon.wait_for(numbers[1], "done").begun_s >= daemon.wait_for(numbers[0], "done").ended_s
        assert "goes on since an earlier daemon died" in daemon.said()
    for survey in first, second:
        is_whole(survey)
        assert read_address(survey.run) is None


def test_a_stopped_run_holds_the_queue_and_goes_on_even_if_all_are_killed(tmp_path: Path) -> None:
    survey = Gated(tmp_path / "survey")
    with DaemonProcess(tmp_path / "queue") as daemon:
        number = daemon.submit(survey)
        survey.waits()
        said = json.loads(command("stop", "--queue", daemon.folder, "--json").stdout)["said"]
        assert f"run {number} ends after the scan in flight" in said
        until(lambda: "ends after the scan in flight" in daemon.said(), "the run is told")
        survey.gate.touch()
        daemon.wait_for(number, "stopped")
        assert RunRecord.open(survey.run).outcome.outcome == "stopped"
        assert (survey.instrument()["x_mm"], survey.instrument()["beam_on"]) == (0.0, False)
        assert "none begins" in command("stop", "--queue", daemon.folder).output
        survey.gate.unlink()
        assert command("resume", "--queue", daemon.folder).exit_code == 0
        survey.waits()
        run = read_address(survey.run)
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        os.kill(run.pid, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(run.pid), "the run is dead")
        survey.gate.touch()
        daemon.start()
        daemon.wait_for(number, "done")
        assert "broke off" in daemon.said()
    is_whole(survey, exposed_again=1)


@pytest.mark.long
def test_one_signal_ends_the_run_in_order_and_two_at_once(tmp_path: Path) -> None:
    survey = Gated(tmp_path / "survey")
    with DaemonProcess(tmp_path / "queue") as daemon:
        number = daemon.submit(survey)
        survey.waits()
        daemon.signal(signal.SIGTERM)
        until(lambda: "ends after the scan in flight" in daemon.said(), "the run is told")
        refused = command("submit", survey.config, "--queue", daemon.folder, "--json")
        assert "the daemon is ending" in json.loads(refused.stdout)["problems"][0]
        assert daemon.process.poll() is None  # it waits for the scan
        survey.gate.touch()
        assert daemon.wait() == ExitCode.STOPPED
        assert RunRecord.open(survey.run).outcome.outcome == "stopped"
        survey.gate.unlink()
        daemon.start()
        survey.waits()
        daemon.signal(signal.SIGINT)
        until(lambda: daemon.said().count("ends after the scan in flight") == 2, "the run is told")
        daemon.signal(signal.SIGINT)
        assert daemon.wait() == ExitCode.INTERRUPTED  # with the gate shut
        assert (survey.instrument()["x_mm"], survey.instrument()["beam_on"]) == (0.0, False)
        queue = json.loads((daemon.folder / "queue.json").read_text())
        assert [(e["number"], e["state"]) for e in queue["entries"]] == [(number, "waiting")]
        nobody = command("status", "--queue", daemon.folder)
        assert nobody.exit_code == ExitCode.NOBODY_ANSWERS
        assert "sparse-actors serve --queue" in nobody.stderr


def test_stop_now_reaches_the_run_though_the_daemon_is_dead(tmp_path: Path) -> None:
    survey = Gated(tmp_path / "survey", driver="LeasedMicroscope")
    with DaemonProcess(tmp_path / "queue") as daemon:
        number = daemon.submit(survey)
        survey.waits()
        second = command("run", survey.config, "--out", tmp_path / "other", "--json")
        assert second.exit_code == ExitCode.INSTRUMENT_IN_USE
        (problem,) = json.loads(second.stdout)["problems"]
        assert str(survey.run) in problem
        assert f"process {read_address(survey.run).pid}" in problem
        assert not (tmp_path / "other").exists()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        stopped = command("stop", "--now", "--queue", daemon.folder)
        assert f"run {number} in {survey.run} was told to end" in stopped.output
        until(lambda: read_address(survey.run) is None, "the run has ended")
        assert RunRecord.open(survey.run).outcome.outcome == "stopped"
        daemon.start()
        assert daemon.wait_for(number, "stopped").reason.startswith("stop received")


def test_a_run_without_a_daemon_is_paused_and_a_tile_skipped(tmp_path: Path) -> None:
    survey = Gated(tmp_path / "survey")
    process = survey.start()
    try:
        survey.waits()
        paused = command("pause", "--run", survey.run, "--reason", "coffee", "--json")
        assert json.loads(paused.stdout)["said"] == "paused: coffee", paused.output
        survey.gate.touch()
        seen = json.loads(command("status", "--run", survey.run, "--json").stdout)
        assert (seen["run"]["state"], seen["run"]["waits_for"]) == ("paused", "coffee")
        refused = command("skip", "r009c000", "--run", survey.run)
        assert refused.exit_code == ExitCode.RUN_FAILED
        assert "not of this run" in refused.stderr
        skipped = command("skip", "r000c001", "--run", survey.run, "--reason", "charged up")
        assert "r000c001 is left out" in skipped.stdout, skipped.output
        assert "goes on" in command("resume", "--run", survey.run).stdout
        assert process.wait(PATIENCE_S) == ExitCode.DONE
    finally:
        process.kill()
        process.wait()
    tiles = {scan_id.partition.tile.column for scan_id in RunRecord.open(survey.run).recorded}
    assert tiles == {0}
    is_whole(survey)
