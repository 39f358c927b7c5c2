"""The idle share of real runs, from the instrument's own log, beside the simulation of the same tiles.

The embedded microscope runs in real time; the detector waits and names places at random. What is found is
taken from the run's journal and simulated, so that both have the same work to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provenance import load
from sparse_actors.drivers.instrument_log import idle_share as idle_share_of_log

from sparse_actors.geometry import TileIndex
from sparse_actors.messages import RegionsPlanned
from sparse_actors.planning.idle_simulation import REGIONS_OF_A_TILE, Tile, idle_share, least_idle_share
from sparse_actors.planning.scan_order import Policy
from sparse_actors.recording.journal import read_journal
from sparse_actors.recording.run_folder import RunFolder

Row = dict[str, Any]
PARTITION_S, TILES = 2.0, 4
"""Fast scan of a partition, and the number of tiles."""
QUICK_PARTITION_S, QUICK_TILES = 0.1, 2


@dataclass(frozen=True, slots=True)
class Point:
    """One run: detection over fast-scan time, scanning efficiency, workers, partitions, order of scans."""

    rho: float
    efficiency: float
    workers: int
    partitions: int
    order: Policy = "hold_back"


POINTS = (
    Point(0.8, 0.95, 1, 4),
    Point(0.8, 0.95, 1, 4, "paper"),
    Point(0.5, 0.99, 1, 4),
    Point(3.0, 0.95, 4, 4),
)

CONFIG = """
[run]
name = "idle"
[microscope]
driver = "simulated"
[microscope.options]
seed = {seed}
row_overhead_us = 0.0
scan_overhead_ms = 0.0
stage_speed_mm_per_s = 1e6
stage_settle_s = 0.0
log_file = '{log}'
[panorama]
corners_mm = [[0.0, 0.0], [{width_mm}, 0.0], [0.0, 0.1]]
tile_fov_um = 100.0
overlap_pct = 0.0
partitions = {partitions}
[scan]
order = "{order}"
[scan.fast]
size_px = [768, 768]
dwell_ns = {dwell_ns}
[scan.analysis]
size_px = [3072, 3072]
dwell_ns = {dwell_ns}
[detect]
halo_px = 0
detector = "slow_detector:SlowDetector"
options = {{ wait_s = {wait_s}, regions = {regions}, region_px = 100, seed = {seed} }}
[regions]
size_px = [100, 100]
[workers]
local = {workers}
[limits]
min_free_disk_gb = 0.0
"""

TEXT = """# How long the microscope waits in real runs

The daemon on the embedded microscope in real time, with a detector that takes rho times as long as the fast
scan of a partition ({partition_s:g} s) and names regions at random. The idle share is that of the
instrument's own log. The simulation of [idle.md](idle.md) is given the same tiles; it knows neither the time
that the daemon takes from one scan to the next nor that of sending and storing images. The seams between
partitions, which are detected in addition, are left out of both (`detect.halo_px = 0`).

| rho | E | W | P | order | tiles | scans | daemon | simulation | bound | difference |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def rows(quick: bool, seed: int) -> Iterator[Row]:
    """Run the daemon at every point."""
    for point in POINTS[:1] if quick else POINTS:
        with tempfile.TemporaryDirectory() as folder:
            yield _compared(point, Path(folder), quick, seed)


def line(row: Row) -> str:
    """Return one run for people."""
    point = "rho {rho:<4g} E {efficiency:<5g} W {workers} P {partitions} {order:9}".format(**row)
    return point + " daemon {daemon:6.2%}  simulation {simulation:6.2%}  bound {bound:6.2%}".format(**row)


def documents(runs: list[Row], made_by: str) -> dict[str, str]:
    """Return the table."""
    text = TEXT.format(partition_s=runs[0]["partition_s"])
    for run in runs:
        text += (
            "| {rho:g} | {efficiency:g} | {workers} | {partitions} | {order} | {tiles} | {scans} ".format(
                **run
            )
            + "| {daemon:.2%} | {simulation:.2%} | {bound:.2%} ".format(**run)
            + f"| {run['daemon'] - run['simulation']:+.2%} |\n"
        )
    loads = ", ".join(run["load"] for run in runs)
    return {"idle-daemon.md": f"{text}\n{made_by}\nLoad of the machine at the start of each run: {loads}.\n"}


def _compared(point: Point, folder: Path, quick: bool, seed: int) -> Row:
    partition_s = QUICK_PARTITION_S if quick else PARTITION_S
    tiles = QUICK_TILES if quick else TILES
    busy_before = load()
    config, log, run = folder / "config.toml", folder / "log.jsonl", folder / "run"
    text = CONFIG.format(
        seed=seed,
        log=log,
        width_mm=0.1 * tiles,
        partitions=point.partitions,
        order=point.order,
        dwell_ns=partition_s * point.partitions / 768**2 * 1e9,
        wait_s=point.rho * partition_s,
        regions=(1 - point.efficiency) * REGIONS_OF_A_TILE / point.partitions,
        workers=point.workers,
    )
    config.write_text(text, encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "sparse_actors", "run", str(config), "--out", str(run)]
    environment = {**os.environ, "PYTHONPATH": path, "SPARSE_ACTORS_TIMES": "off"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    if done.returncode != 0:
        raise RuntimeError(
            f"the run failed with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}"
        )
    survey = _recorded_tiles(run, point, partition_s)
    if len(survey) != tiles:
        raise RuntimeError(f"the run recorded {len(survey)} tiles, not {tiles}")
    return {
        "rho": point.rho,
        "efficiency": point.efficiency,
        "workers": point.workers,
        "partitions": point.partitions,
        "order": point.order,
        "partition_s": partition_s,
        "tiles": tiles,
        "scans": sum(len(tile.fast) + sum(map(len, tile.rescans)) for tile in survey),
        "daemon": idle_share_of_log(log),
        "simulation": max(0.0, idle_share(survey, point.workers, point.order)),
        "bound": max(0.0, least_idle_share(survey, point.workers)),
        "load": busy_before,
    }


def _recorded_tiles(run: Path, point: Point, partition_s: float) -> list[Tile]:
    """Return what the beam and the workers had to do for each tile."""
    rescans: defaultdict[TileIndex, dict[int, tuple[float, ...]]] = defaultdict(dict)
    for fact in read_journal(RunFolder(run).journal):
        if isinstance(fact, RegionsPlanned):
            seconds = tuple(scan.pixels * scan.imaging.dwell_ns * 1e-9 for scan in fact.scans)
            rescans[fact.partition.tile][fact.partition.index] = seconds
    return [
        Tile(
            fast=(partition_s,) * point.partitions,
            detection=(point.rho * partition_s,) * point.partitions,
            rescans=tuple(rescans[tile][index] for index in range(point.partitions)),
        )
        for tile in sorted(rescans)
    ]
