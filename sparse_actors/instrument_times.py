"""What is known of an instrument's times between runs: a small JSON file for each, in the user's data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from .config import MicroscopeTable
from .planning.learnt_times import LearntTimes

PATH_VARIABLE = "SPARSE_ACTORS_TIMES"
OFF = "off"
FORMAT = 1


def times_folder(environ: Mapping[str, str]) -> Path | None:
    """Return where the files are: $SPARSE_ACTORS_TIMES, by default the user's data; None for "off"."""
    named = environ.get(PATH_VARIABLE)
    if named == OFF:
        return None
    return Path(named) if named else platformdirs.user_data_path("sparse-actors", appauthor=False) / "times"


def times_file(folder: Path, microscope: MicroscopeTable) -> Path:
    """Return the file of an instrument: its driver with its options, which name one instrument."""
    identity = json.dumps([microscope.driver, microscope.options], sort_keys=True, default=str)
    name = re.sub(r"[^A-Za-z0-9_]+", "_", microscope.driver)
    return folder / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"


def read_times(folder: Path | None, microscope: MicroscopeTable) -> dict[str, Any] | None:
    """Return what is known of an instrument, or None; a file that is damaged counts as none."""
    if folder is None:
        return None
    try:
        data = json.loads(times_file(folder, microscope).read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            return None
        known: dict[str, Any] = data["times"]
        LearntTimes(None, known)  # raises when it is not what a run wrote
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return known


def write_times(folder: Path, microscope: MicroscopeTable, times: LearntTimes) -> None:
    """Keep what was learnt: the file is replaced as a whole. Raises OSError."""
    path = times_file(folder, microscope)
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "format": FORMAT,
        "driver": microscope.driver,
        "times": times.to_json(),
    }
    fd, temporary = tempfile.mkstemp(dir=folder, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
