"""The instrument's own log, one JSON line for each move and exposure, and what can be read from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class InstrumentLog:
    """Appends lines to a file and closes it each time, so that a killed process loses none.

    Parameters
    ----------
    path
        None: nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, entry: dict[str, Any]) -> None:
        """Append one line."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


def log_entries(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log in the order of writing."""
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def idle_share(path: str | Path) -> float:
    """Return the share of time in which the instrument neither moved, nor scanned, nor counted.

    1 - busy / (end of the last - start of the first), busy being the sum of (end - start).

    Raises
    ------
    ValueError
        The log has no finished line, or is of an instrument that does not wait (time_scale 0).
    """
    entries = [entry for entry in log_entries(path) if entry["finished_s"] is not None]
    if not entries:
        raise ValueError(f"{path} holds no finished move or scan")
    if any(entry["time_scale"] == 0 for entry in entries):
        raise ValueError(f"{path}: with time_scale 0 the instrument takes no time, so none is idle")
    busy_s = sum(entry["finished_s"] - entry["started_s"] for entry in entries)
    first_s = min(entry["started_s"] for entry in entries)
    return float(1 - busy_s / (max(entry["finished_s"] for entry in entries) - first_s))
