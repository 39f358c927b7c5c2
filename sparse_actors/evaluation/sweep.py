"""Judging many configurations on the same pairs, and keeping what is done.

`results.jsonl` gets a line for each finished configuration, in the order of the grid, and is never rewritten:
a sweep that was killed goes on after the last whole line. Lines of other grids stay, so that a grid can grow.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_actors.errors import ConfigError, PluginError
from sparse_actors.version import VERSION

from .engines import engine
from .grid import Configuration
from .judging import checked_config, judged
from .measures import Measures, TileScore, measures
from .pairs import Pairs, open_pairs

RESULTS = "results.jsonl"


@dataclass(frozen=True, slots=True)
class Judged:
    """A configuration with what it does on each tile."""

    configuration: Configuration
    scores: tuple[TileScore, ...]

    def measures(self, seed: int = 0) -> Measures:
        """Add up its tiles."""
        return measures(self.scores, seed)


def sweep(
    folder: Path,
    wanted: Sequence[Configuration],
    out: Path,
    *,
    engine_name: str = "local",
    jobs: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Judged]:
    """Judge configurations that are not judged yet, and return all that are wanted, in their order.

    Parameters
    ----------
    folder
        Of the pairs.
    wanted
        What to judge.
    out
        Folder of the results; may hold earlier ones of the same pairs.
    engine_name, jobs
        See `engine`.
    on_progress
        Called with how many are done and how many there are.

    Raises
    ------
    ConfigError
        A configuration is wrong, or `out` holds results of other pairs or of another version.
    """
    pairs = open_pairs(folder)
    for configuration in wanted:
        checked_config(pairs, configuration)
    out.mkdir(parents=True, exist_ok=True)
    table = Results(out / RESULTS, _identity(pairs))
    left = [configuration for configuration in wanted if configuration.name not in table.scores]
    on_progress(len(wanted) - len(left), len(wanted))
    if left:
        with engine(engine_name, jobs) as executor:
            path = str(folder.absolute())
            futures = [executor.submit(judged, path, configuration) for configuration in left]
            try:
                # In the order of the grid, so that the table is the same whoever is done first.
                for number, (configuration, future) in enumerate(zip(left, futures, strict=True), start=1):
                    table.add(configuration, future.result())
                    on_progress(len(wanted) - len(left) + number, len(wanted))
            except BrokenExecutor as error:
                raise PluginError(
                    f"a process of the sweep died: {error}; what is done is kept in {table.path}"
                ) from error
            finally:
                for future in futures:
                    future.cancel()
    return [Judged(configuration, table.scores[configuration.name]) for configuration in wanted]


def _identity(pairs: Pairs) -> dict[str, Any]:
    """Return what results must have in common."""
    return {
        "version": VERSION,
        "pairs_sha256": hashlib.sha256(pairs.manifest.read_bytes()).hexdigest(),
        "tiles": list(pairs.tiles),
    }


class Results:
    """The table of finished configurations.

    Parameters
    ----------
    path
        A file, or where to make one.
    identity
        Its first line: what all results in it have in common.

    Raises
    ------
    ConfigError
        The file is of other pairs, or none of results.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.scores: dict[str, tuple[TileScore, ...]] = {}
        lines = list(_whole_lines(path)) if path.exists() else []
        if not lines:
            self._append(identity, "wb")
            return
        try:
            found = json.loads(lines[0])
            for line in lines[1:]:
                row = json.loads(line)
                self.scores[row["name"]] = tuple(TileScore.from_json(entry) for entry in row["tiles"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: is no table of results: {error}") from None
        if found != identity:
            differs = [key for key in identity if found.get(key) != identity[key]]
            raise ConfigError(
                f"{path}: holds results of other {', '.join(differs)}; name another folder with --out"
            )

    def add(self, configuration: Configuration, scores: Sequence[TileScore]) -> None:
        """Write one result; it survives the death of this process."""
        row = {"name": configuration.name, "tiles": [entry.to_json() for entry in scores]}
        self._append(row, "ab")
        self.scores[configuration.name] = tuple(scores)

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
