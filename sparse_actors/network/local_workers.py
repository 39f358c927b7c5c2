"""Worker processes on this computer: started, watched, restarted within a budget, ended."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOKEN_VARIABLE = "SPARSE_ACTORS_WORKER_TOKEN"  # noqa: S105 - the name of a variable, not a secret
PARENT_VARIABLE = "SPARSE_ACTORS_WORKER_PARENT"
SLOT_VARIABLE = "SPARSE_ACTORS_WORKER_SLOT"
LEAVE = b"q"
"""What a worker reads when it shall end after the job that it is at."""
KILL_S = 2.0
"""Longest time that the system takes to end a killed process."""

# Several workers share the machine; libraries that start a thread per core would fight over it.
_THREADS_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


@dataclass(slots=True)
class _Slot:
    """One place for a worker; the processes in it follow one another."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    reason: str = ""
    """Why the process in it was killed, or the last one ended."""
    is_forgiven: bool = False
    deaths_s: deque[float] = field(default_factory=deque)


def spare_cores() -> int:
    """Return how many cores detection may use: one is for the daemon."""
    return max(1, (os.cpu_count() or 2) - 1)


class LocalWorkers:
    """The local worker processes; each may use its share of the spare cores.

    A slot whose process ended gets a new one at once. After more than `restart_budget` deaths
    within `restart_window_s` it rests until the oldest of them is that long ago.

    Parameters
    ----------
    log
        File that gets what the workers print; None discards it.
    options
        Further words of their command line. Workers that get some work for a daemon elsewhere: they
        wait for it without end, and print where their parent prints.
    token
        Secret that these show to it; others get a random one each.
    """

    def __init__(
        self,
        *,
        count: int,
        restart_budget: int,
        restart_window_s: float,
        log: Path | None,
        options: Sequence[str] | None = None,
        token: str = "",
    ) -> None:
        self._budget = restart_budget
        self._window_s = restart_window_s
        self._log = log
        self._options = options
        self._token = token
        self._threads_each = max(1, spare_cores() // max(1, count))
        self._slots = [_Slot(f"local-{number}") for number in range(1, count + 1)]

    def start_missing(self, endpoint: str, now_s: float) -> Iterator[tuple[str, str]]:
        """Start a process in every empty slot that is not resting; yield (name, token)."""
        for number, slot in enumerate(self._slots, 1):
            if slot.process is None and not self._is_resting(slot, now_s):
                token = self._token or secrets.token_urlsafe(32)
                try:
                    slot.process = self._launch(endpoint, token, number)
                except OSError as error:
                    slot.reason = f"could not be started: {error}"
                    slot.deaths_s.append(now_s)
                    continue
                slot.reason, slot.is_forgiven = "", False
                yield slot.name, token

    def ended(self, now_s: float) -> Iterator[tuple[str, str, int]]:
        """Collect the processes that ended since the last call; yield (name, reason, exit code)."""
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                slot.reason = slot.reason or _exit_text(slot.process.returncode)
                if not slot.is_forgiven:
                    slot.deaths_s.append(now_s)
                code = slot.process.returncode
                _close_pipe(slot.process)
                slot.process = None
                yield slot.name, slot.reason, code

    def kill(self, name: str, reason: str, *, is_forgiven: bool) -> None:
        """End a process that is of no more use; a forgiven death does not count."""
        for slot in self._slots:
            if slot.name == name and slot.process is not None and not slot.reason:
                slot.reason, slot.is_forgiven = reason, is_forgiven
                _kill(slot.process)

    def ask_to_leave(self) -> None:
        """Have each end after the job that it is at."""
        for slot in self._slots:
            if slot.process is not None and slot.process.stdin is not None:
                with contextlib.suppress(OSError):  # It ended meanwhile.
                    slot.process.stdin.write(LEAVE)

    def why_resting(self, now_s: float) -> str:
        """Return why no slot has or will get a process for now, or nothing."""
        if not self._slots or not all(
            slot.process is None and self._is_resting(slot, now_s) for slot in self._slots
        ):
            return ""
        reasons = sorted({slot.reason for slot in self._slots})
        return f"every local worker ended more than {self._budget} times, last: {'; '.join(reasons)}"

    def stop(self, timeout_s: float) -> None:
        """Wait until the processes end by themselves, then terminate, then kill them."""
        running = [slot.process for slot in self._slots if slot.process is not None]
        stages = (None, timeout_s / 2), (subprocess.Popen.terminate, timeout_s / 2), (_kill, KILL_S)
        for end, patience_s in stages:
            give_up_s = time.monotonic() + patience_s
            for process in running:
                if end is not None and process.poll() is None:
                    end(process)
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, give_up_s - time.monotonic()))
            running = [process for process in running if process.poll() is None]
        for slot in self._slots:
            if slot.process is not None and slot.process not in running:
                _close_pipe(slot.process)
                slot.process = None

    def _is_resting(self, slot: _Slot, now_s: float) -> bool:
        while slot.deaths_s and now_s - slot.deaths_s[0] >= self._window_s:
            slot.deaths_s.popleft()
        return len(slot.deaths_s) > self._budget

    def _launch(self, endpoint: str, token: str, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "sparse_actors", "worker", endpoint, *(self._options or ())]
        environment = {
            **os.environ,
            **dict.fromkeys(_THREADS_VARIABLES, str(self._threads_each)),
            "PYTHONFAULTHANDLER": "1",
            TOKEN_VARIABLE: token,
            PARENT_VARIABLE: "1",
            SLOT_VARIABLE: "0" if self._options is None else str(number),
        }
        with contextlib.ExitStack() as stack:
            output: Any = subprocess.DEVNULL if self._options is None else None
            if self._log is not None:
                output = stack.enter_context(self._log.open("ab"))
            # Ctrl-C in the terminal is for this process alone, which then ends its workers in order.
            # They see by the end of their standard input that it is gone.
            if sys.platform == "win32":
                return subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    bufsize=0,
                    creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
                )
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
            )


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker; on POSIX with what its detector may have started in its session."""
    if sys.platform == "win32" or process.poll() is not None:
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _exit_text(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code if code < 2**16 else hex(code)}"
