"""Detecting whole campaigns of recorded runs again, tile by tile, and keeping what is done."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_actors.app import survey_plan
from sparse_actors.config import parse_config
from sparse_actors.errors import ConfigError, PluginError
from sparse_actors.evaluation.engines import computed
from sparse_actors.evaluation.result_lines import ResultLines
from sparse_actors.geometry import TileIndex
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.redetection import Work, redetected
from sparse_actors.version import VERSION

RESULTS = "results.jsonl"
TRIED = ("detect.", "regions.")
"""Keys that can be tried on what is recorded; the others were decided by the scan."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PathMap:
    """How the workers of a cluster find a folder: under another prefix."""

    here: str
    there: str

    @classmethod
    def parse(cls, text: str) -> PathMap:
        """Read "/data=Z:/data"; raises ConfigError."""
        here, equals, there = text.partition("=")
        if not (equals and here and there):
            raise ConfigError(f"--path-map {text}: expected HERE=THERE, such as /data=Z:/data")
        return cls(str(Path(here).absolute()), there.rstrip("/\\"))

    def mapped(self, folder: Path) -> str | None:
        """Return a folder as the workers call it; None if it is not under `here`."""
        if not folder.is_relative_to(self.here):
            return None
        return "/".join((self.there, *folder.relative_to(self.here).parts))


def redetect(
    runs: Sequence[Path],
    overrides: Sequence[str],
    out: Path,
    *,
    engine_name: str = "local",
    jobs: int = 0,
    path_maps: Sequence[PathMap] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Detect the tiles of runs that are not detected again yet, and return all, in the order of the runs.

    Parameters
    ----------
    runs
        Folders of surveys, which may be going on.
    overrides
        "key=value" for keys of [detect] and [regions], put into each run's own configuration.
    out
        Folder of the results; may hold earlier ones with the same `overrides`.
    engine_name, jobs
        See `engine`.
    path_maps
        Where other computers find the runs; the first that fits counts.
    on_progress
        Called with how many tiles are done and how many there are.

    Raises
    ------
    ConfigError
        An override is wrong, a folder holds no survey, or `out` holds results of other work.
    """
    for override in overrides:
        if not override.startswith(TRIED):
            raise ConfigError(
                f"--set {override}: only keys of detect and regions can be tried on recorded images"
            )
    if path_maps and engine_name == "local":
        raise ConfigError("--path-map: is for the workers of a cluster; local ones find the runs as given")
    campaign = [_opened(run, overrides, _there(run, path_maps)) for run in runs]
    tiles = [(run, tile) for run in campaign for tile in run.tiles]
    out.mkdir(parents=True, exist_ok=True)
    table = ResultLines(out / RESULTS, {"version": VERSION, "overrides": list(overrides)})
    left = [(run, tile) for run, tile in tiles if run.tiles[tile] not in table.rows]
    on_progress(len(tiles) - len(left), len(tiles))
    results = computed(
        engine_name, jobs, redetected, [(run.work, tile.row, tile.column) for run, tile in left]
    )
    try:
        for number, (run, tile) in enumerate(left, start=1):
            table.add(run.tiles[tile], next(results))
            on_progress(len(tiles) - len(left) + number, len(tiles))
    except BrokenExecutor as error:
        raise PluginError(f"a process died: {error}; what is done is kept in {table.path}") from error
    finally:
        results.close()
    return [{"run": str(run.folder), "tile": str(tile), **table.rows[run.tiles[tile]]} for run, tile in tiles]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of the campaign."""

    folder: Path
    work: Work
    tiles: dict[TileIndex, str]
    """Those with a fast image, and the name of each one's result."""


def _opened(folder: Path, overrides: Sequence[str], there: str) -> _Run:
    record = RunRecord.open(folder)
    if not record.sessions:
        raise ConfigError(f"{folder}: the run has not begun, so that nothing is recorded")
    config = parse_config(record.sessions[-1].config_toml, overrides)
    plan = survey_plan(config)
    if not plan.has_regions or not plan.tiles or config.pairs is not None:
        raise ConfigError(f"{folder}: is no survey: nothing was detected in it")
    begun = record.sessions[0]
    # What the run was when it began names it, wherever it lies now; the number of scans, how far it had come.
    identity = hashlib.sha256(f"{begun.name} {begun.started_s} {begun.config_toml}".encode()).hexdigest()[:16]
    scans = Counter(scan_id.partition.tile for scan_id in record.recorded)
    fast = {scan_id.partition.tile for scan_id in record.recorded if scan_id.is_fast}
    tiles = {tile: f"{identity} {tile} of {scans[tile]} scans" for tile in plan.tiles if tile in fast}
    return _Run(folder, Work.of(there, config), tiles)


def _there(folder: Path, path_maps: Sequence[PathMap]) -> str:
    mapped = (path_map.mapped(folder.absolute()) for path_map in path_maps)
    return next((path for path in mapped if path is not None), str(folder.absolute()))
