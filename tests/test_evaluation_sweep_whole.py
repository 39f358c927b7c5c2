"""A sweep of full size: 56 configurations over 25 tiles, by whatever engine and interruption."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from dask_cluster import cluster
from evaluation_pairs import recorded_pairs

from sparse_actors.evaluation.grid import Configuration, configurations
from sparse_actors.evaluation.pairs import open_pairs
from sparse_actors.evaluation.sweep import RESULTS, sweep
from sparse_actors.evaluation.table import rows, to_csv

GRID = [
    "detect.options.threshold=45:75:5",
    "detect.options.eps_px,detect.options.min_points=1/4,1/5,2/10,2/13",
]
KILLS = 3


def table(folder: Path, wanted: list[Configuration], out: Path, **how: object) -> str:
    """Sweep, and return the table."""
    began_s = time.monotonic()
    results = sweep(folder, wanted, out, **how)  # type: ignore[arg-type]
    print(f"{out.name}: {time.monotonic() - began_s:.0f} s")
    return to_csv(rows(results))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_one_process_several_a_cluster_and_a_killed_sweep_make_the_identical_table(tmp_path: Path) -> None:
    pairs = recorded_pairs(tmp_path, tiles=25)
    opened = open_pairs(pairs)
    wanted = configurations(opened.settings, GRID)
    assert (len(opened.tiles), len(wanted)) == (25, 56)
    expected = table(pairs, wanted, tmp_path / "one", jobs=1)
    results = (tmp_path / "one" / RESULTS).read_bytes()
    assert expected.count("\n") == 57

    assert table(pairs, wanted, tmp_path / "local", jobs=2) == expected
    assert (tmp_path / "local" / RESULTS).read_bytes() == results

    with cluster(tmp_path) as url:
        assert table(pairs, wanted, tmp_path / "dask", engine_name=url) == expected
    assert (tmp_path / "dask" / RESULTS).read_bytes() == results

    out = tmp_path / "killed"
    for number in range(1, KILLS + 1):
        _sweep_until(pairs, out, lines=1 + 56 * number // (KILLS + 1))
        assert results.startswith((out / RESULTS).read_bytes().rpartition(b"\n")[0])
    assert len((out / RESULTS).read_bytes()) < len(results)
    assert table(pairs, wanted, out, jobs=1) == expected
    assert (out / RESULTS).read_bytes() == results


def _sweep_until(pairs: Path, out: Path, lines: int) -> None:
    """Sweep in a process that is killed once its table has so many lines."""
    grid = [part for text in GRID for part in ("--grid", text)]
    command = [sys.executable, "-m", "sparse_actors", "sweep", str(pairs), *grid, "--jobs", "1"]
    table, turn = out / RESULTS, threading.Event()
    with (pairs / "output").open("ab") as output:
        process = subprocess.Popen([*command, "--out", str(out)], stdout=output, stderr=output)
        while process.poll() is None and not (table.exists() and table.read_bytes().count(b"\n") >= lines):
            turn.wait(0.005)
        assert process.poll() is None, (pairs / "output").read_text()
        process.kill()
        process.wait(30)
