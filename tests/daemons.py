"""A daemon in a process of its own, and runs for it that wait at a gate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kills
from typer.testing import CliRunner, Result

from sparse_actors.cli.commands import app
from sparse_actors.daemon.child import Child
from sparse_actors.daemon.requests import DaemonStatus, QueuedRun
from sparse_actors.daemon.run_queue import RunQueue
from sparse_actors.errors import NobodyAnswersError
from sparse_actors.network.control import ask
from sparse_actors.run_requests import Status

TESTS = str(Path(__file__).parent)
PATIENCE_S = 180.0


def until(is_so: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait for something to be true; returns it."""
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not in {patience_s} s: {what}"
        time.sleep(0.02)
    return found


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def environment() -> dict[str, str]:
    """Return the variables of a process that finds the drivers of the tests."""
    path = os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


class Gated:
    """A survey of which the microscope waits at a gate."""

    def __init__(self, folder: Path, driver: str = "GatedMicroscope", free: int = 3) -> None:
        folder.mkdir(parents=True)
        self.folder, self.gate, self.run = folder, folder / "gate", folder / "run"
        self.log, self.state, self.config = (folder / name for name in ("log.jsonl", "state.json", "c.toml"))
        text = kills.CONFIG.format(time_scale=0, log=str(self.log), state=str(self.state))
        text = text.replace('driver = "simulated"', f'driver = "gated_microscope:{driver}"')
        gate = f"[microscope.options]\ngate = {str(self.gate)!r}\nfree = {free}\n"
        text = text.replace("[microscope.options]\n", gate).replace(
            'name = "killed"', f'name = "{folder.name}"'
        )
        self.config.write_text(text + "[workers]\nlocal = 1\n", encoding="utf-8")

    def start(self) -> subprocess.Popen[bytes]:
        """Make the run in a process, without a daemon."""
        arguments = ["run", str(self.config), "--out", str(self.run)]
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "sparse_actors", *arguments],
                stdout=output,
                stderr=output,
                env=environment(),
            )

    def waits(self) -> None:
        """Return when the microscope waits at the gate."""
        waits = self.gate.with_name("gate.waits")
        until(waits.exists, f"{self.folder.name} at its gate")
        waits.unlink()

    def instrument(self) -> dict[str, Any]:
        """What the microscope was left as."""
        state: dict[str, Any] = json.loads(self.state.read_text())["state"]
        return state

    def exposures(self) -> int:
        """How many scans the instrument made."""
        return sum("pixels" in json.loads(line) for line in self.log.read_text().splitlines())


class DaemonProcess:
    """`serve` in a process; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder.with_name("serve.txt")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> DaemonProcess:
        """Start it, and wait until it answers."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sparse_actors", "serve", "--queue", str(self.folder)],
                stdout=output,
                stderr=output,
                env=environment(),
            )
        until(lambda: self._answers() or self.process.poll() is not None, "the daemon answers")
        assert self.process.poll() is None, self.said()
        return self

    def _answers(self) -> bool:
        try:
            status = ask(self.folder, Status(), DaemonStatus, timeout_s=1)
        except NobodyAnswersError:
            return False
        return status.pid == self.process.pid

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def submit(self, survey: Gated, *more: object) -> int:
        """Submit a run on the command line; returns its number."""
        result = command(
            "submit", survey.config, "--out", survey.run, "--queue", self.folder, "--json", *more
        )
        assert result.exit_code == 0, result.output
        return int(json.loads(result.stdout)["run"])

    def runs(self) -> list[QueuedRun]:
        return list(ask(self.folder, Status(), DaemonStatus).runs)

    def wait_for(self, number: int, *states: str) -> QueuedRun:
        """Wait until a run is in one of some states."""

        def found() -> QueuedRun | None:
            return next((r for r in self.runs() if r.run == number and r.state in states), None)

        run: QueuedRun = until(found, f"run {number} {' or '.join(states)}: {self.said()}")
        return run

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> DaemonProcess:
        return self.start()

    def __exit__(self, *error: object) -> None:
        for _ in range(3):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(20)
                except subprocess.TimeoutExpired:
                    continue
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        # What a failed test leaves waiting at its gate.
        for entry in RunQueue.open(self.folder, time.time).entries:
            Child.adopt(entry, self.folder).kill()
