"""A file that gets a line for each result and is never rewritten, so that work that was killed goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparse_actors.errors import ConfigError


class ResultLines:
    """Results by name, in the order in which they were added; the last line is cut off if it is not whole.

    Parameters
    ----------
    path
        A file, or where to make one.
    identity
        Its first line: what all results in it have in common.

    Raises
    ------
    ConfigError
        The file is of other work, or holds no results.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        lines = list(_whole_lines(path)) if path.exists() else []
        if not lines:
            self._append(identity, "wb")
            return
        try:
            found = json.loads(lines[0])
            for line in lines[1:]:
                row = json.loads(line)
                self.rows[row.pop("name")] = row
            differs = [key for key in identity if found.get(key) != identity[key]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: is no table of results: {error}") from None
        if differs:
            raise ConfigError(
                f"{path}: holds results of other {', '.join(differs)}; name another folder with --out"
            )

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Write one result; it survives the death of this process."""
        self._append({"name": name, **row}, "ab")
        self.rows[name] = row

    def _append(self, row: dict[str, Any], mode: str) -> None:
        with self.path.open(mode) as file:
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines, and cut off the last if it is not whole."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)
    yield from data[:end].splitlines()
