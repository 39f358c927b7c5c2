"""Which files the labels of maps hang on: another one under the same name would mean other phases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

OPTIONS = "eds.options."
"""Before the keys of a classifier's options."""
SHOWN_DIGITS = 8


def option_files(options: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Return the SHA-256 of every file or folder that options name, by their keys.

    Parameters
    ----------
    options
        Of a classifier; of a folder count the names and the content of the files in it.
    above
        Put before each key.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    found = {}
    for key, value in options.items():
        if isinstance(value, str | Path) and str(value) and Path(value).exists():
            digest = hashlib.sha256()
            for name, path in _files(Path(value)):
                digest.update(f"{name}\n{path.stat().st_size}\n".encode())
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
            found[above + key] = digest.hexdigest()
    return found


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield "", path
    elif path.is_dir():
        for one in sorted(path.iterdir()):
            if one.is_file() and not one.name.startswith("."):
                yield one.name, one


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a sentence for every file that is not the one a run was begun with; unknown ones pass."""
    problems = []
    for key, digest in before.items():
        if key not in now:
            problems.append(f"{key}: the file that the run was begun with is not there")
        elif now[key] != digest:
            was, is_now = digest[:SHOWN_DIGITS], now[key][:SHOWN_DIGITS]
            problems.append(
                f"{key}: its content is not what the run was begun with (SHA-256 {was}..., now {is_now}...); "
                "put the file back, or begin a new run: labels of two libraries must not meet in one map"
            )
    return problems
