"""What the exit code of the command tells a script."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from sparse_actors.errors import (
    ConfigError,
    InstrumentInUseError,
    JournalError,
    MicroscopeError,
    NobodyAnswersError,
    PluginError,
    StoppedError,
    WireError,
)


class ExitCode(IntEnum):
    """The codes of every command."""

    DONE = 0
    RUN_FAILED = 1
    USAGE = 2
    BAD_CONFIG = 3
    MICROSCOPE_UNREACHABLE = 4
    WORKER_OR_STORAGE_LOST = 5
    INCOMPLETE = 6
    """The run was completed, but some scans or maps were given up; a resumed run tries them again."""
    INSTRUMENT_IN_USE = 7
    """Another run has the microscope."""
    NOBODY_ANSWERS = 69
    """There is no daemon or run to talk to."""
    STOPPED = 75
    """The run can be resumed."""
    INTERRUPTED = 130


def of_error(error: Exception) -> ExitCode:
    """Return the code for an error that ended a command."""
    if isinstance(error, StoppedError):
        return ExitCode.INTERRUPTED if error.is_interrupt else ExitCode.STOPPED
    if isinstance(error, (ConfigError, PluginError)):
        return ExitCode.BAD_CONFIG
    if isinstance(error, InstrumentInUseError):
        return ExitCode.INSTRUMENT_IN_USE
    if isinstance(error, NobodyAnswersError):
        return ExitCode.NOBODY_ANSWERS
    if isinstance(error, MicroscopeError):
        return ExitCode.MICROSCOPE_UNREACHABLE
    if isinstance(error, (WireError, JournalError, OSError)):
        return ExitCode.WORKER_OR_STORAGE_LOST
    return ExitCode.RUN_FAILED


def of_outcome(outcome: str, cause: str, problems: Sequence[str] = (), missing: int = 0) -> ExitCode:
    """Return the code for the end of a run.

    Parameters
    ----------
    outcome
        "completed", "stopped" or "failed".
    cause
        What failed: "microscope", "storage", "worker" or something else; "interrupt": stopped by Ctrl-C.
    problems
        What went wrong after the last scan; a run with any has not gone well.
    missing
        How many scans and maps were given up.
    """
    if outcome == "stopped":
        return ExitCode.INTERRUPTED if cause == "interrupt" else ExitCode.STOPPED
    if outcome == "completed":
        whole = ExitCode.INCOMPLETE if missing else ExitCode.DONE
        return ExitCode.RUN_FAILED if problems else whole
    match cause:
        case "microscope":
            return ExitCode.MICROSCOPE_UNREACHABLE
        case "storage" | "worker":
            return ExitCode.WORKER_OR_STORAGE_LOST
        case _:
            return ExitCode.RUN_FAILED
