"""Whole runs through the command line: what is printed and returned is what happened."""

from __future__ import annotations

import json
import re
from pathlib import Path

import kills
import pytest
from typer.testing import CliRunner, Result

from sparse_actors.cli.commands import app
from sparse_actors.cli.exit_codes import ExitCode
from sparse_actors.recording.run_record import RunRecord

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    text = kills.CONFIG.format(
        time_scale=0, log=str(tmp_path / "log.jsonl"), state=str(tmp_path / "state.json")
    )
    path = tmp_path / "c.toml"
    path.write_text(text + "[workers]\nlocal = 1\n", encoding="utf-8")
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_run_with_missing_scans_has_its_own_exit_code_and_counts_every_exposure(
    file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    # The first partition fails as often as it is tried.
    result = invoke("run", file, "--out", out, "--json", "--set", "microscope.options.fail_scans=[1, 2, 3]")
    assert result.exit_code == ExitCode.INCOMPLETE, result.stderr
    printed = json.loads(result.stdout)
    assert (printed["outcome"], printed["reason"]) == ("completed", "1 scans are missing")
    record = RunRecord.open(out)
    (lost,) = record.missed
    assert record.exposures[lost] == 3
    recorded = sum(record.scans[scan_id].pixels for scan_id in record.recorded)
    exposed = recorded + 3 * record.scans[lost].pixels
    assert printed["figures"]["exposed_pixels"] == exposed
    assert f"{exposed / 1e6:.2f} million" in result.stderr
    resumed = invoke("run", file, "--out", out, "--resume", "--json")
    assert resumed.exit_code == ExitCode.DONE, resumed.stderr
    assert json.loads(resumed.stdout)["figures"]["scans_missed"] == 0


def test_the_readme_has_every_exit_code() -> None:
    table = re.findall(r"^\| (\d+) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert list(map(int, table)) == [code.value for code in ExitCode]
