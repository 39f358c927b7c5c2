"""Judging many configurations on the same pairs, and keeping what is done.

`results.jsonl` gets a line for each finished configuration, in the order of the grid, and is never rewritten:
a sweep that was killed goes on after the last whole line. Lines of other grids stay, so that a grid can grow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_actors.errors import ConfigError, PluginError
from sparse_actors.version import VERSION

from .engines import computed
from .grid import Configuration
from .judging import checked_config, judged
from .measures import Measures, TileScore, measures
from .pairs import Pairs, open_pairs
from .result_lines import ResultLines

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
        path = str(folder.absolute())
        # In the order of the grid, so that the table is the same whoever is done first.
        scores = computed(engine_name, jobs, judged, [(path, configuration) for configuration in left])
        try:
            for number, configuration in enumerate(left, start=1):
                table.add(configuration, next(scores))
                on_progress(len(wanted) - len(left) + number, len(wanted))
        except BrokenExecutor as error:
            raise PluginError(
                f"a process of the sweep died: {error}; what is done is kept in {table.path}"
            ) from error
        finally:
            scores.close()
    return [Judged(configuration, table.scores[configuration.name]) for configuration in wanted]


def _identity(pairs: Pairs) -> dict[str, Any]:
    """Return what results must have in common."""
    return {
        "version": VERSION,
        "pairs_sha256": hashlib.sha256(pairs.manifest.read_bytes()).hexdigest(),
        "tiles": list(pairs.tiles),
    }


class Results:
    """The table of finished configurations; see `ResultLines`."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self._lines = ResultLines(path, identity)
        try:
            self.scores = {
                name: tuple(TileScore.from_json(entry) for entry in row["tiles"])
                for name, row in self._lines.rows.items()
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: is no table of results: {error}") from None

    def add(self, configuration: Configuration, scores: Sequence[TileScore]) -> None:
        """Write one result; it survives the death of this process."""
        self._lines.add(configuration.name, {"tiles": [entry.to_json() for entry in scores]})
        self.scores[configuration.name] = tuple(scores)
