"""The guide to a new material runs as it stands there: from the first pairs to the audit of the survey."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sparse_actors.cli.commands import app
from sparse_actors.config import parse_config
from sparse_actors.recording.run_record import RunRecord

PAGE = (Path(__file__).parents[1] / "docs" / "new-material.md").read_text(encoding="utf-8")
STEPS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
FIRST, AUDIT = re.findall(r"```toml\n# .*?material\.toml\n(.*?)```", PAGE, re.DOTALL)


def commands(step: str) -> list[list[str]]:
    found = re.findall(r"^    sparse-actors (.*)$", step, re.MULTILINE)
    return [shlex.split(command) for command in found]


def test_the_guide_goes_from_pairs_to_an_audited_run() -> None:
    names = [command[0] for step in STEPS for command in commands(step)]
    path = ["pairs", "pairs", "codesign", "pairs", "promise", "sweep", "check", "run", "audit", "verify"]
    assert names == path


def test_its_configuration_is_one() -> None:
    assert parse_config(FIRST).audit is None
    audit = parse_config(FIRST + AUDIT).audit
    assert audit is not None
    assert audit.options == {"threshold": parse_config(FIRST).detect.options["threshold"]}


@pytest.mark.parametrize("command", [command for step in STEPS for command in commands(step)], ids=" ".join)
def test_its_commands_are_understood(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("first", "second", "survey"):
        Path(folder).mkdir()
    Path("material.toml").write_text(FIRST, encoding="utf-8")
    name, *arguments = command
    described = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    described.make_context(name, arguments)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_guide_runs_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "material.toml"
    file.write_text(FIRST, encoding="utf-8")
    states = ("XDG_STATE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA")
    environ = {**os.environ, **dict.fromkeys(states, str(tmp_path / "state")), "HOME": str(tmp_path)}
    for step in STEPS:
        if AUDIT in step:
            file.write_text(file.read_text(encoding="utf-8") + AUDIT, encoding="utf-8")
        for command in commands(step):
            result = subprocess.run(
                [sys.executable, "-m", "sparse_actors", *command, *["--json"] * (command[0] != "verify")],
                cwd=tmp_path,
                env=environ,
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, f"{command}: {result.stderr}"
            assert "Traceback" not in result.stderr
            told = json.loads(result.stdout) if result.stdout else {}
            if command[0] == "promise":
                assert "at least 95 % of the sites are found, with 95 % confidence" in told["statement"]
                options = parse_config(file.read_text(encoding="utf-8")).detect.options
                assert options["threshold"] == told["parameter"] > 60
    record = RunRecord.open(tmp_path / "survey")
    assert len(record.audits) == len(record.finished_tiles) == 25
    last = list(record.audits.values())[-1]
    assert last.recall_high > 0.95
    assert last.recall_at_most > 0.8
