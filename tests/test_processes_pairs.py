"""Pairs by the whole program, as processes: told beforehand, interrupted, taken up again, and swept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from evaluation_pairs import config_text, recorded_pairs

from sparse_actors.evaluation.pairs import open_pairs
from sparse_actors.imaging import Imaging
from sparse_actors.recording.verify import verify

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as a POSIX signal")
COMMAND = [sys.executable, "-m", "sparse_actors"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=cwd, timeout=110)


@posix_only
def test_interrupted_pairs_go_on_and_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    wanted = open_pairs(recorded_pairs(tmp_path / "whole"))
    config, folder = tmp_path / "c.toml", tmp_path / "pairs"
    config.write_text(config_text(tmp_path, time_scale=20.0), encoding="utf-8")
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "pairs", str(config), "--out", str(folder)], stdout=output, stderr=output
        )
        turn, journal = threading.Event(), folder / "journal"
        while process.poll() is None and not (journal.exists() and journal.stat().st_size > 6_000):
            turn.wait(0.005)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, (tmp_path / "output").read_text()
    state = json.loads((tmp_path / "state.json").read_text())["state"]
    assert (state["x_mm"], state["y_mm"], state["beam_on"]) == (0.0, 0.0, False)

    as_survey = run("run", str(config), "--out", str(folder), "--resume", cwd=tmp_path)
    assert as_survey.returncode == 3
    assert "go on with `pairs`" in as_survey.stderr
    otherwise = run("pairs", str(config), "--tiles", "4", "--out", str(folder), "--resume", cwd=tmp_path)
    assert otherwise.returncode == 3
    assert "pairs: the run to resume was begun with" in otherwise.stderr

    resumed = run("pairs", str(config), "--out", str(folder), "--resume", "--json", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["outcome"] == "completed"
    assert not verify(folder).problems
    pairs = open_pairs(folder)
    assert pairs.tiles == wanted.tiles
    assert pairs.settings == (Imaging((128, 128), 32_000.0), Imaging((256, 256), 8_000.0))
    for tile in pairs.tiles:
        np.testing.assert_array_equal(pairs.analysis(tile), wanted.analysis(tile))
        for setting in pairs.settings:
            np.testing.assert_array_equal(pairs.fast(tile, setting), wanted.fast(tile, setting))
    exposures = [line for line in (tmp_path / "log.jsonl").read_text().splitlines() if '"pixels"' in line]
    assert 15 <= len(exposures) <= 16  # at most the scan in flight twice


def test_what_pairs_cost_is_told_without_touching_the_microscope(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(config_text(tmp_path), encoding="utf-8")
    given = ["--tiles", "r000c001,r002c002", "--fast", "64x64@128000", "--check", "--json"]
    told = run("pairs", str(config), *given, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    prediction = json.loads(told.stdout)["prediction"]
    assert prediction["tiles"] == 2
    assert prediction["fast"] == [[[64, 64], 128000.0]]
    fast_s = 64 * 64 * 128e-6 + 64 * 20e-6 + 5e-3
    analysis_s = 512 * 512 * 32e-6 + 512 * 20e-6 + 5e-3
    assert prediction["scan_s"] == pytest.approx(2 * (fast_s + analysis_s))
    electrons = 3000e-12 / 1.602176634e-19
    per_nm2 = 128e-6 / (20_000 / 64) ** 2 + 32e-6 / (20_000 / 512) ** 2
    assert prediction["dose_e_per_nm2"] == pytest.approx(electrons * per_nm2)
    assert "r000c001, r002c002" in told.stderr
    assert not (tmp_path / "log.jsonl").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--fast", "100x100@32000"], "pairs.fast: number 1"),
        (["--fast", "64x64"], "--fast 64x64: expected WIDTHxHEIGHT@DWELL"),
        (["--tiles", "99"], "pairs.tiles = 99: the panorama has 9"),
        (["--tiles", "r009c001"], "there is no tile 'r009c001'"),
    ],
)
def test_what_cannot_be_done_is_said(given: list[str], says: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sparse_actors.cli.commands import app

    config = tmp_path / "c.toml"
    config.write_text(config_text(tmp_path).replace("tiles = 5\n", ""), encoding="utf-8")
    result = CliRunner().invoke(app, ["pairs", str(config), *given, "--check"])
    assert result.exit_code == 3
    assert says in result.stderr


def test_a_sweep_writes_tables_figures_and_a_configuration_that_runs(tmp_path: Path) -> None:
    folder = recorded_pairs(tmp_path)
    swept = run(
        "sweep",
        str(folder),
        "--grid",
        "detect.options.threshold=50:80:15",
        "--reference",
        "threshold=55,60",
        "--jobs",
        "1",
        "--pick",
        "recall>=0.6",
        "--json",
        cwd=tmp_path,
    )
    assert swept.returncode == 0, swept.stderr
    found = json.loads(swept.stdout)
    assert len(found["rows"]) == 12
    out = folder / "sweep"
    for name in ("front.svg", "sizes.svg", "references.svg", "regions.svg"):
        import xml.etree.ElementTree as ElementTree

        ElementTree.parse(out / name)
    assert (out / "table.md").read_text().count("\n| ") == 13
    picked = (out / "picked.toml").read_text()
    assert picked.startswith("# Steel, the night of the 12th.\n")
    threshold = found["picked"]["configuration"]["options"]["detect.options.threshold"]
    assert f"threshold = {threshold} # dark" in picked
    assert found["picked"]["recall"] >= 0.6
    checked = run("check", str(out / "picked.toml"), cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr

    refused = run("sweep", str(folder), "--jobs", "1", "--pick", "efficiency>=1.5", cwd=tmp_path)
    assert refused.returncode == 3
    assert "the best of 2 configurations has 0." in refused.stderr
