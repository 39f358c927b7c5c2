"""Sweeps: the same table whoever computes it, and after whatever interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from dask_cluster import cluster
from evaluation_pairs import recorded_pairs

from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.grid import Configuration, configurations
from sparse_actors.evaluation.pairs import open_pairs
from sparse_actors.evaluation.pick import Goal, pick
from sparse_actors.evaluation.sweep import RESULTS, sweep
from sparse_actors.evaluation.table import rows, to_csv

GRID = [
    "detect.options.threshold=50:80:10",
    "detect.options.eps_px,detect.options.min_points=1/4,1/5,2/10",
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_pairs(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def wanted(pairs: Path) -> list[Configuration]:
    return configurations(open_pairs(pairs).settings, GRID)


@pytest.fixture(scope="module")
def in_one_process(
    pairs: Path, wanted: list[Configuration], tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    out = tmp_path_factory.mktemp("one")
    sweep(pairs, wanted, out, jobs=1)
    return (out / RESULTS).read_bytes()


def test_several_processes_find_the_same(
    pairs: Path, wanted: list[Configuration], in_one_process: bytes, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    sweep(pairs, wanted, tmp_path, jobs=2, on_progress=lambda done, total: told.append((done, total)))
    assert (tmp_path / RESULTS).read_bytes() == in_one_process
    assert told == [(n, 24) for n in range(25)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_dask_cluster_finds_the_same(
    pairs: Path, wanted: list[Configuration], in_one_process: bytes, tmp_path: Path
) -> None:
    with cluster(tmp_path) as url:
        sweep(pairs, wanted, tmp_path / "out", engine_name=url)
    assert (tmp_path / "out" / RESULTS).read_bytes() == in_one_process


def test_a_killed_sweep_goes_on_and_ends_with_the_identical_table(
    pairs: Path, wanted: list[Configuration], in_one_process: bytes, tmp_path: Path
) -> None:
    results = tmp_path / RESULTS
    grid = [part for text in GRID for part in ("--grid", text)]
    command = [sys.executable, "-m", "sparse_actors", "sweep", str(pairs), *grid, "--jobs", "1"]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen([*command, "--out", str(tmp_path)], stdout=output, stderr=output)
        turn = threading.Event()
        while process.poll() is None and not (results.exists() and results.read_bytes().count(b"\n") > 5):
            turn.wait(0.005)
        process.kill()
        assert process.wait(30) == (-signal.SIGKILL if os.name == "posix" else 1)
    before = results.read_bytes()
    assert in_one_process.startswith(before)
    assert len(before) < len(in_one_process)
    results.write_bytes(before + b'{"name": "half a li')
    sweep(pairs, wanted, tmp_path, jobs=1)
    assert results.read_bytes() == in_one_process


def test_results_of_other_pairs_are_refused(pairs: Path, wanted: list[Configuration], tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text('{"version": "0", "pairs_sha256": "", "tiles": []}\n')
    with pytest.raises(ConfigError, match="holds results of other version, pairs_sha256, tiles"):
        sweep(pairs, wanted[:1], tmp_path, jobs=1)


def test_a_wrong_option_is_found_before_anything_is_computed(pairs: Path, tmp_path: Path) -> None:
    wrong = configurations(open_pairs(pairs).settings, ["detect.options.thresold=1"])
    with pytest.raises(ConfigError, match="threshold"):
        sweep(pairs, wrong, tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["gpu", "dask://127.0.0.1:1"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_engine_that_is_not_there_is_refused(
    engine: str, pairs: Path, wanted: list[Configuration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparse_actors.dask_client.CONNECT_S", 0.5)
    with pytest.raises(ConfigError, match=f"--engine {engine}"):
        sweep(pairs, wanted[:1], tmp_path, engine_name=engine)


def test_the_fastest_that_reaches_the_recall_is_picked(
    pairs: Path, wanted: list[Configuration], tmp_path: Path
) -> None:
    results = sweep(pairs, wanted, tmp_path, jobs=1)
    chosen = pick(results, [Goal.parse("recall >= 80%")])
    enough = [m for m in (result.measures() for result in results) if m.recall >= 0.8]
    assert chosen.measures.full_time == min(m.full_time for m in enough)
    assert len(enough) < len(results)
    highest = max(result.measures().recall for result in results)
    with pytest.raises(ConfigError, match=f"the best of 24 configurations has {highest:.4g}"):
        pick(results, [Goal("recall", ">=", 1.01)])
    with pytest.raises(ConfigError, match="expected one of recall"):
        Goal.parse("speed>=3")


def test_the_table_has_a_row_for_each_configuration(
    pairs: Path, wanted: list[Configuration], tmp_path: Path
) -> None:
    table = rows(sweep(pairs, wanted[:3], tmp_path, jobs=1))
    lines = to_csv(table).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("fast,threshold,eps_px,min_points,tiles,sites,found,recall,")
    assert table[0]["tiles"] == 5
