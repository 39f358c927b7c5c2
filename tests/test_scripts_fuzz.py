"""Damaged input for whatever reads what others wrote: a short run of scripts/fuzz.py, and a long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "fuzz.py"
TARGETS = ["wire", "journal", "control", "door", "handshake", "keys", "sharksem", "config"]


def fuzzed(target: str, executions: int, *more: object) -> list[dict[str, Any]]:
    command = [
        sys.executable,
        "-B",
        SCRIPT,
        target,
        "--executions",
        str(executions),
        "--json",
        *map(str, more),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    for outcome in outcomes:
        assert outcome["failures"] == [], (outcome["target"], outcome["failures"][:2])
    assert done.returncode == 0
    return outcomes


def test_damaged_input_is_refused_in_order() -> None:
    outcomes = fuzzed("all", 3000, "--seconds", 0.5)
    assert [outcome["target"] for outcome in outcomes] == TARGETS
    assert all(outcome["executions"] > 3 for outcome in outcomes)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("target", ["wire", "journal", "sharksem"])
def test_damaged_input_is_refused_in_order_ten_million_times(target: str) -> None:
    fuzzed(target, 10_000_000, "--seed", 1)


def test_a_target_that_fails_is_told_and_its_input_kept(tmp_path: Path) -> None:
    """Break the decoder: an error that it does not promise comes out of it."""
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import sparse_actors.wire as wire\n"
        "def broken(block): raise KeyError('v')\n"
        "wire._unpacked = broken\n"
        "import fuzz; sys.exit(fuzz.main())\n"
    )
    command = [sys.executable, "-B", "-c", program, str(SCRIPT.parent), "wire", "--executions", "5", "--json"]
    done = subprocess.run(
        [*command, "--keep", tmp_path / "kept"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "KeyError" in json.loads(done.stdout)["failures"][0]
    assert len(list((tmp_path / "kept").iterdir())) == 5
