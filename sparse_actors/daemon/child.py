"""The process in which a run of the queue is made, also one that an earlier daemon started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import psutil

from sparse_actors.config_sources import PREFIX
from sparse_actors.errors import ControlError
from sparse_actors.network.control import Done, ask
from sparse_actors.own_group import own_group
from sparse_actors.run_requests import Stop

from .run_queue import Entry

MAX_RESULT_BYTES = 4_000_000
MAX_WORDS, MAX_WORDS_BYTES = 200, 4000
# It waits for the word to go: should the daemon die before it has written down which process this is,
# the word never comes, and no run is made that nobody knows of.
_START = (
    "import sys\n"
    "if sys.stdin.buffer.read(1) != b'g': sys.exit(75)\n"
    "from sparse_actors.cli import main\n"
    "main()\n"
)


class Child:
    """One process; made by `start` or `adopt`.

    Parameters
    ----------
    process
        Of which only `poll` and `wait` are used; None for one that has ended, nobody saw how.
    folder
        Of the run.
    papers
        Folder of the entry, with `result.json` and `output.txt`.
    said_before
        How many bytes of `output.txt` are of earlier processes.
    """

    def __init__(
        self,
        process: psutil.Process | psutil.Popen | None,
        folder: Path,
        papers: Path,
        said_before: int = 0,
    ) -> None:
        self._process = process
        self._folder = folder
        self._papers = papers
        self._said_before = said_before

    @classmethod
    def start(cls, entry: Entry, papers: Path, known: Callable[[int, float], None]) -> Child:
        """Start a run, or take one up.

        Parameters
        ----------
        entry
            With its folder.
        papers
            Folder for what concerns the entry.
        known
            Called with the process id and the time of its begin; it sets out when this returns.

        Raises
        ------
        ControlError
            No process can be started, or the working directory is gone.
        OSError
            The disk took no note of it; no process is left.
        """
        papers.mkdir(exist_ok=True)
        config = papers / "config.toml"
        config.write_text(entry.config, encoding="utf-8")
        folder = Path(entry.folder)
        arguments = ["run", str(config.absolute()), "--out", str(folder), "--json"]
        arguments += ["--resume"] * (folder / "journal").exists()
        for override in entry.overrides:
            arguments += ["--set", override]
        command = [sys.executable, "-P", "-c", _START, *arguments]
        with (papers / "result.json").open("wb") as result, (papers / "output.txt").open("ab") as output:
            said_before = output.tell()
            process = _launch(command, entry.cwd, result, output)
        try:
            known(process.pid, process.create_time())
            process.stdin.write(b"g")
            process.stdin.close()
        except BaseException:
            process.kill()
            process.wait()
            process.stdin.close()
            raise
        return cls(process, folder, papers, said_before)

    @classmethod
    def adopt(cls, entry: Entry, papers: Path) -> Child:
        """Watch over a run that an earlier daemon started, if it lives."""
        process = None
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(entry.pid) if entry.pid else None
            # Process ids are used again; the time of its begin tells.
            if found is not None and abs(found.create_time() - entry.created_s) < 0.01:
                process = found
        return cls(process, Path(entry.folder), papers)

    @property
    def is_alive(self) -> bool:
        """Whether the process goes on."""
        if self._process is None:
            return False
        if isinstance(self._process, psutil.Popen):
            return self._process.poll() is None
        with contextlib.suppress(psutil.NoSuchProcess):
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        return False

    @property
    def exit_code(self) -> int | None:
        """How the process ended; None when it was not a child of this one."""
        return self._process.poll() if isinstance(self._process, psutil.Popen) else None

    def stop(self, *, now: bool) -> None:
        """End the run in order; with `now` not waiting for the scan in flight."""
        try:
            ask(self._folder, Stop(now=now), Done, timeout_s=1.0)
        except ControlError:
            # It has not got so far yet, or hangs: a signal does the same.
            self._signal()
            if now:
                self._signal()

    def kill(self) -> None:
        """End the process, whatever it does; the microscope stays as it is."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.kill()

    def result(self) -> dict[str, Any]:
        """Return what the run printed at its end; empty if it came to none."""
        try:
            text = (self._papers / "result.json").read_bytes()[:MAX_RESULT_BYTES]
            found = json.loads(text)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def last_words(self) -> str:
        """Return the last line that the process wrote on the way, shortened; empty if there is none."""
        try:
            with (self._papers / "output.txt").open("rb") as output:
                output.seek(0, os.SEEK_END)
                output.seek(max(self._said_before, output.tell() - MAX_WORDS_BYTES))
                lines = output.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip()[:MAX_WORDS] for line in reversed(lines) if line.strip()), "")

    def _signal(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            if sys.platform == "win32":
                self._process.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                self._process.send_signal(signal.SIGTERM)


def _launch(command: list[str], cwd: str, stdout: IO[bytes], stderr: IO[bytes]) -> psutil.Popen:
    # What the submitter's environment says is among the overrides.
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    # Ctrl-C in the terminal is for the daemon alone, which then ends its run in order.
    options: dict[str, Any] = {"cwd": cwd, "env": environment, **own_group()}
    try:
        return psutil.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, **options)
    except OSError as error:
        raise ControlError(f"could not be started: {error}") from None
