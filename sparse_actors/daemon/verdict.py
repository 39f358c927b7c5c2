"""What becomes of a run whose process has ended: a pure decision."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

USELESS = ("ConfigError", "PluginError", "CapabilityError", "UsageError")
"""Errors that a further try would meet again."""
IN_USE = "InstrumentInUseError"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended, and why, in words."""

    end: Literal["done", "incomplete", "stopped", "failed", "broke off", "in use"]
    reason: str


def verdict(
    exit_code: int | None, result: Mapping[str, Any], *, was_stopped: bool, last_words: str = ""
) -> Verdict:
    """Judge a run by what it left.

    Parameters
    ----------
    exit_code
        Of the process; None if it was not a child of the daemon.
    result
        What it printed at its end; empty if it came to none.
    was_stopped
        Whether it had been told to stop: then it did not break off.
    last_words
        The last that it said on the way.
    """
    problems = [str(problem) for problem in result.get("problems") or ()]
    reason = "; ".join([str(result.get("reason") or ""), *problems]).strip("; ")
    match result.get("outcome"):
        case "completed" if not problems:
            return Verdict("incomplete" if _is_incomplete(result) else "done", reason)
        case "stopped":
            return Verdict("stopped", reason)
        case _ if was_stopped:
            return Verdict("stopped", reason or "stopped before it had begun")
        case "completed" | "failed":
            return Verdict("broke off", reason)
        case _:
            pass
    error = result.get("error")
    if error == IN_USE:
        return Verdict("in use", reason)
    if error in USELESS:
        return Verdict("failed", f"{error}: {reason}")
    if error:
        return Verdict("broke off", f"{error}: {reason}")
    return Verdict("broke off", f"{_exit_text(exit_code)}: {last_words}".removesuffix(": "))


def _is_incomplete(result: Mapping[str, Any]) -> bool:
    figures = result.get("figures") or {}
    maps = figures.get("maps") or {}
    return bool(figures.get("scans_missed") or maps.get("fields_missing"))


def _exit_text(exit_code: int | None) -> str:
    if exit_code is None:
        return "the process ended without a word"
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"the process ended by signal {signal.Signals(-exit_code).name}"
    return f"the process ended with exit code {exit_code if 0 <= exit_code < 2**16 else hex(exit_code)}"
