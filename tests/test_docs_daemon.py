"""What docs/daemon.md shows works as it stands there."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_actors.cli.queue_commands import COMMANDS
from sparse_actors.run_control import RunControl
from sparse_actors.stop_signals import StopSignals

PAGE = (Path(__file__).parents[1] / "docs" / "daemon.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[-1]


def test_every_command_is_described() -> None:
    for command in COMMANDS:
        assert f"`{command.__name__}" in PAGE or f"sparse-actors {command.__name__}" in PAGE, command.__name__


def test_the_program_of_the_page_talks_to_a_run(tmp_path: Path) -> None:
    with RunControl("steel", tmp_path, StopSignals()):
        result = subprocess.run(
            [sys.executable, "-c", block("python"), str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    assert "'reply': 'run'" in result.stdout
    assert "'name': 'steel'" in result.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = block("ini")
    here = {
        "User": getpass.getuser(),
        "WorkingDirectory": str(tmp_path),
        "ExecStart": f"{sys.executable} serve",
    }
    for key, value in here.items():
        unit = re.sub(rf"^{key}=.*", f"{key}={value}", unit, flags=re.MULTILINE)
    file = tmp_path / "sparse-actors.service"
    file.write_text(unit)
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
