"""The process of a host: started with its own Python, and ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_actors.errors import CapabilityError

from .vendor_side.microscope_host import TOKEN_VARIABLE

VENDOR_SIDE = Path(__file__).parent / "vendor_side"
KILL_S = 5.0
"""Longest time that the system takes to end a killed process."""
TAIL_BYTES = 8000
FOREIGN_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV")
"""Of this Python: another version would load what is not made for it."""


class HostProcess:
    """A host, as long as it lives. It sees by the end of its standard input that this process is gone.

    Parameters
    ----------
    command
        Program and arguments; the address to connect to is appended.
    address
        Where this side waits for it.
    token
        Secret that it shows.
    log_file
        File that what it prints is appended to.

    Raises
    ------
    CapabilityError
        The program cannot be started.
    """

    def __init__(self, command: Sequence[str], address: str, token: str, log_file: Path) -> None:
        self._log_file = log_file
        self._log_start = log_file.stat().st_size if log_file.exists() else 0
        environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
        environment |= {"PYTHONPATH": str(VENDOR_SIDE), TOKEN_VARIABLE: token, "PYTHONUNBUFFERED": "1"}
        # Ctrl-C in the terminal is for the run alone, which then ends its host in order.
        group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        program, *arguments = command
        try:
            with log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    [shutil.which(program) or program, *arguments, "--connect", address],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    **group,
                )
        except OSError as error:
            what = error.filename or program
            raise CapabilityError(f"the host cannot be started: {what}: {error.strerror}") from None

    def exit_text(self, within_s: float = 0.0) -> str:
        """Say how it ended, and of what; empty if it lives on for so long."""
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return ""
        text = f"exit code {code if code < 2**16 else hex(code)}"
        if code < 0:
            with contextlib.suppress(ValueError):
                text = f"signal {signal.Signals(-code).name}"
        return text + self.last_words()

    def last_words(self) -> str:
        """Return the last line that tells of an error, else the last that it printed, for a message."""
        with self._log_file.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
        telling = [line for line in lines if re.search("error|fatal|exception", line, re.IGNORECASE)]
        return f"; it printed: {(telling or lines)[-1].strip()[:300]}" if lines else ""

    def end(self, patience_s: float) -> None:
        """Let it end by itself, for so long; then kill it, on POSIX with what it started."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_S)
