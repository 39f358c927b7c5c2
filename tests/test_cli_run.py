"""Whole runs through the command line: what is printed and returned is what happened."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
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


def test_a_folder_that_cannot_be_made_is_told_with_the_option_that_names_another(
    file: Path, tmp_path: Path
) -> None:
    result = invoke("run", file, "--out", file / "run")
    assert result.exit_code == ExitCode.WORKER_OR_STORAGE_LOST, result.output
    assert "cannot be made a folder of a run (Not a directory); --out or run.out_dir" in " ".join(
        result.stderr.split()
    )


CHATTY = """
import os, subprocess, sys
from sparse_actors.drivers.simulated import SimulatedMicroscope

print("imported")

class Chatty(SimulatedMicroscope):
    def __init__(self, **options):
        super().__init__(**options)
        print("made")
        os.write(1, b"as a library of C does\\n")
        subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)

    def connect(self):
        print("connected")
        super().connect()
"""


@pytest.mark.parametrize("command", ["check", "run", "config show"])
def test_what_a_driver_prints_is_kept_out_of_the_data(file: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "chatty.py").write_text(CHATTY, encoding="utf-8")
    options = ["--out", str(tmp_path / "run")] if command == "run" else []
    driver = ["--set", 'microscope.driver="chatty:Chatty"']
    result = subprocess.run(
        [sys.executable, "-m", "sparse_actors", *command.split(), str(file), "--json", *driver, *options],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["schema"] == 1
    assert "imported" in result.stderr
    if command != "config show":
        assert {"made", "as a library of C does", "from a process"} <= set(result.stderr.splitlines())
    if command == "run":
        assert "connected" in result.stderr


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("tcp://192.168.1.5:5555", "other computers reach this address, so that it needs a key"),
        ("tcp://127.0.0.1:65536", "expected"),
        ("tcp://127.0.0.1:99999", "expected"),
    ],
)
def test_check_refuses_where_a_run_could_not_listen(
    file: Path, tmp_path: Path, listen: str, why: str
) -> None:
    for command in (["check"], ["run", "--out", tmp_path / "run"]):
        result = invoke(command[0], file, "--json", "--set", f"workers.listen={listen}", *command[1:])
        assert result.exit_code == ExitCode.BAD_CONFIG, result.stderr
        (problem,) = json.loads(result.stdout)["problems"]
        assert problem.startswith(f'workers.listen = "{listen}": {why}')
    assert not (tmp_path / "run").exists()


def test_the_readme_has_every_exit_code() -> None:
    table = re.findall(r"^\| (\d+) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert list(map(int, table)) == [code.value for code in ExitCode]
