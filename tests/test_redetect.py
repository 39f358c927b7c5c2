"""Recorded runs detected again: the same as in the run, whoever computes, and what other options change."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import kills
import pytest
from dask_cluster import cluster
from typer.testing import CliRunner

from sparse_actors.app import run_survey
from sparse_actors.cli.commands import app
from sparse_actors.config import parse_config
from sparse_actors.errors import ConfigError, JournalError
from sparse_actors.redetect import RESULTS, PathMap, redetect
from sparse_actors.redetection import Work, redetected

HIGHER = ["detect.options.threshold=90"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey")
    text = kills.CONFIG.format(time_scale=0, log=str(folder / "log.jsonl"), state=str(folder / "state.json"))
    result = run_survey(
        parse_config(text, ["workers.local=1", "detect.options.threshold=80"]), out=folder / "run"
    )
    assert result.outcome == "completed"
    return folder / "run"


def test_the_same_options_find_the_same(run: Path, tmp_path: Path) -> None:
    rows = redetect([run], [], tmp_path, jobs=1)
    assert [row["tile"] for row in rows] == ["r000c000", "r000c001"]
    for row in rows:
        assert row["found_now"] == row["found_then"] == len(row["candidates"])
        assert (row["gained"], row["lost"], row["unscanned_px"], row["failed"], row["absent"]) == (0,) * 5
    assert sum(row["found_now"] for row in rows) > 10


def test_another_threshold_changes_what_would_be_rescanned(run: Path, tmp_path: Path) -> None:
    rows = redetect([run], HIGHER, tmp_path / "higher", jobs=1)
    assert sum(row["gained"] for row in rows) > 0
    assert sum(row["unscanned_px"] for row in rows) > 0
    nothing = redetect([run], ["detect.options.threshold=1"], tmp_path / "nothing", jobs=1)
    for row in nothing:
        assert (row["found_now"], row["wanted_px"]) == (0, 0)
        assert row["lost"] == row["found_then"]


def test_a_detector_that_raises_is_counted(run: Path, tmp_path: Path) -> None:
    raising = ['detect.detector="test_redetect:Raises"', "detect.options={}"]
    rows = redetect([run], raising, tmp_path, jobs=1)
    assert [row["failed"] for row in rows] == [4, 4]


class Raises:
    """A detector that does not work."""

    def detect(self, image: object, scale: int) -> object:
        """Never return."""
        raise ValueError("no idea")


def test_what_was_done_is_not_done_again_wherever_the_run_lies(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    redetect([run], HIGHER, out, jobs=1)
    whole = (out / RESULTS).read_bytes()
    lines = whole.splitlines(keepends=True)
    (out / RESULTS).write_bytes(b"".join(lines[:2]) + lines[2][:20])
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    told: list[tuple[int, int]] = []
    redetect([moved], HIGHER, out, jobs=1, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert (out / RESULTS).read_bytes() == whole
    with pytest.raises(ConfigError, match="holds results of other overrides"):
        redetect([run], [], out, jobs=1)


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="Dask is an optional extra")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed", "ignore::FutureWarning:distributed")
def test_a_dask_cluster_finds_the_same_where_it_is_told_to_look(run: Path, tmp_path: Path) -> None:
    redetect([run], HIGHER, tmp_path / "here", jobs=1)
    shutil.copytree(run, tmp_path / "cluster" / "night 1" / "run")
    path_map = PathMap.parse(f"{run.parent}={tmp_path / 'cluster' / 'night 1'}/")
    with cluster(tmp_path) as url:
        redetect([run], HIGHER, tmp_path / "there", engine_name=url, path_maps=[path_map])
        nowhere = [PathMap(str(run.parent), "/nowhere")]
        with pytest.raises(JournalError, match="nowhere/run is not a run"):
            redetect([run], [], tmp_path / "nothing", engine_name=url, path_maps=nowhere)
    assert (tmp_path / "there" / RESULTS).read_bytes() == (tmp_path / "here" / RESULTS).read_bytes()


def test_paths_are_mapped_for_other_systems_too() -> None:
    root = Path("/data").absolute()
    path_map = PathMap.parse(f"{root}=Z:\\data\\")
    assert path_map.mapped(root / "night" / "run 1") == "Z:\\data/night/run 1"
    assert path_map.mapped(root.with_name("database")) is None
    with pytest.raises(ConfigError, match="expected HERE=THERE"):
        PathMap.parse("/data")


def test_a_worker_with_other_code_or_another_version_refuses(run: Path) -> None:
    config = parse_config((run / "config.resolved.toml").read_text("utf-8"))
    work = Work.of(str(run), config)
    with pytest.raises(ConfigError, match="a worker has sparse-actors"):
        redetected(Work(work.folder, work.config_toml, "0.0.0", work.code), 0, 0)
    other = {**work.code, next(iter(work.code)): "0" * 16}
    with pytest.raises(ConfigError, match=r"detector is not the caller's: .* differs"):
        redetected(Work(work.folder, work.config_toml, work.version, other), 0, 0)


def test_only_what_can_be_tried_on_recorded_images_may_be_set(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set scan.fast.dwell_ns=1.0: only keys of detect and regions"):
        redetect([run], ["scan.fast.dwell_ns=1.0"], tmp_path)
    with pytest.raises(ConfigError, match="threshold"):
        redetect([run], ["detect.options.thresold=1"], tmp_path)
    with pytest.raises(ConfigError, match="local ones find the runs as given"):
        redetect([run], [], tmp_path, path_maps=[PathMap("/a", "/b")])


def test_the_command_writes_a_table(run: Path, tmp_path: Path) -> None:
    arguments = ["redetect", str(run), "--set", HIGHER[0], "--jobs", "1", "--out", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0].startswith("run,tile,found_then,found_now,gained,lost,wanted_px,unscanned_px")
    assert len(lines) == 1 + len(told["tiles"]) == 3
    assert lines[1].split(",")[3] == str(told["tiles"][0]["found_now"])
