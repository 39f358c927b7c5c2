"""What the daemon does about runs that crash, cannot be started or ask for the impossible."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import kills
import pytest
from daemons import TESTS, until

from sparse_actors.cli.serve import given_up
from sparse_actors.daemon import child, daemon, run_queue
from sparse_actors.daemon.daemon import Daemon
from sparse_actors.daemon.requests import (
    DaemonStatus,
    Hold,
    QueuedRun,
    ResumeQueue,
    SkipRun,
    Submit,
    Submitted,
)
from sparse_actors.daemon.run_queue import Entry, RunQueue
from sparse_actors.errors import ControlError
from sparse_actors.network.control import Done, ask
from sparse_actors.run_requests import Status, Stop


class Serving:
    """A daemon in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.given_up: list[Entry] = []
        self.daemon = Daemon(folder, self.said.append, self.given_up.append)
        self.thread = threading.Thread(target=self.daemon.serve)
        self.thread.start()
        until(lambda: self.said, "the daemon serves")

    def submit(self, config: str, cwd: Path | None = None, **more: Any) -> int:
        fields = {"name": "a", "overrides": (), "out": "", "out_dir": "runs"} | more
        request = Submit(config=config, cwd=str(cwd or self.folder), **fields)
        return ask(self.folder, request, Submitted).run

    def wait_for(self, number: int, state: str) -> QueuedRun:
        def found() -> QueuedRun | None:
            runs = ask(self.folder, Status(), DaemonStatus).runs
            return next((run for run in runs if (run.run, run.state) == (number, state)), None)

        run: QueuedRun = until(found, f"run {number} {state}: {self.said}")
        return run

    def end(self) -> None:
        self.daemon._signals.ask("the test", 2)
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    monkeypatch.setattr(run_queue, "PAUSES_S", (0.0,))
    monkeypatch.setenv("PYTHONPATH", TESTS)
    made = Serving(tmp_path / "queue")
    yield made
    made.end()


def config(folder: Path, driver: str) -> str:
    text = kills.CONFIG.format(time_scale=0, log=str(folder / "log"), state=str(folder / "state"))
    return text.replace('driver = "simulated"', f'driver = "{driver}"')


@pytest.mark.skipif(sys.platform == "win32", reason="dies of a signal")
def test_a_driver_that_takes_its_process_with_it_is_given_up_and_the_queue_goes_on(
    serving: Serving, tmp_path: Path
) -> None:
    crashing = serving.submit(config(tmp_path, "gated_microscope:CrashingMicroscope"))
    wrong = serving.submit("[run]\nname = 3\n")
    run = serving.wait_for(crashing, "failed")
    assert run.reason == "given up after 3 tries: the process ended by signal SIGKILL: out of memory"
    assert serving.wait_for(wrong, "failed").reason.startswith("ConfigError: run.name = 3: expected text")
    until(lambda: len(serving.given_up) == 2, "both are told of")
    assert [entry.number for entry in serving.given_up] == [crashing, wrong]
    with pytest.raises(ControlError, match="is failed"):
        ask(serving.folder, SkipRun(run=wrong), Done)


def test_a_run_whose_folder_is_gone_is_given_up_in_words(serving: Serving, tmp_path: Path) -> None:
    number = serving.submit(config(tmp_path, "simulated"), cwd=tmp_path / "gone")
    assert "could not be started" in serving.wait_for(number, "failed").reason


@pytest.mark.parametrize("refused", [{2}, {3, 4}, {4}])
def test_a_disk_that_refuses_for_a_while_ends_nothing(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: set[int]
) -> None:
    monkeypatch.setattr(daemon, "DISK_S", 0.0)
    ask(serving.folder, Hold(), Done)
    number = serving.submit("[run]\nname = 3\n")
    publish, calls = run_queue.disk.publish, count(1)

    def refusing(temporary: Path, final: Path) -> None:
        if next(calls) in refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        publish(temporary, final)

    monkeypatch.setattr(run_queue.disk, "publish", refusing)
    ask(serving.folder, ResumeQueue(), Done)
    assert serving.wait_for(number, "failed").reason.startswith("ConfigError")
    assert any("No space left" in said for said in serving.said)


def test_a_process_makes_no_run_before_the_daemon_has_noted_it(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", child._START, "run", "--out", str(tmp_path / "run")]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    assert ended.returncode == 75
    assert not (tmp_path / "run").exists()


def test_a_held_queue_is_skipped_reordered_and_resumed(serving: Serving, tmp_path: Path) -> None:
    ask(serving.folder, Hold(), Done)
    first, second = (serving.submit("", name=name) for name in ("first", "second"))
    urgent = serving.submit("", name="urgent", at_front=True)
    assert "no run is going on" in ask(serving.folder, Stop(), Done).said
    status = ask(serving.folder, Status(), DaemonStatus)
    assert [run.run for run in status.runs] == [urgent, first, second]
    assert (status.is_held, status.is_ending) == (True, False)
    for number in (urgent, first, second):
        ask(serving.folder, SkipRun(run=number), Done)
    assert ask(serving.folder, ResumeQueue(), Done).said == "the queue goes on"
    with pytest.raises(ControlError, match="nothing to resume"):
        ask(serving.folder, ResumeQueue(), Done)
    with pytest.raises(ControlError, match="there is no run 99"):
        ask(serving.folder, ResumeQueue(run=99), Done)
    with pytest.raises(ControlError, match="absolute"):
        serving.submit("", cwd=Path("here"))
    assert [entry.state for entry in RunQueue.open(serving.folder, lambda: 0).entries] == ["skipped"] * 3


def test_two_daemons_do_not_serve_one_queue(serving: Serving) -> None:
    with pytest.raises(ControlError, match=r"a daemon serves .* already, process \d+"):
        Daemon(serving.folder, print).serve()
    assert ask(serving.folder, Status(), DaemonStatus).runs == ()


def test_whom_the_configuration_names_is_told_that_a_run_was_given_up(tmp_path: Path) -> None:
    told = tmp_path / "told"
    write = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    entry = Entry(
        number=1,
        name="a",
        config=f"[hooks]\ncommand = ['{sys.executable}', '-c', \"{write}\", '{told}']\n",
        overrides=('hooks.on=["failed"]',),
        cwd="/",
        out="",
        out_dir="runs",
        submitted_s=0.0,
        reason="given up",
    )
    given_up(entry).close()
    assert '"reason": "given up"' in told.read_text()
