"""What `submit` says before the daemon has the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_cli_map_readme import example
from typer.testing import CliRunner

from sparse_actors.cli import queue_client
from sparse_actors.cli.commands import app
from sparse_actors.daemon.requests import Submitted


def test_a_library_that_is_still_to_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def take(queue: Path | None, request: Any, reply: type) -> Submitted:
        asked.append(request)
        return Submitted(run=1, before=0)

    monkeypatch.setattr(queue_client, "_ask_daemon", take)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.toml").write_text(example()[0], encoding="utf-8")
    result = CliRunner().invoke(app, ["submit", "map.toml", "--json"])
    assert result.exit_code == 0, result.output
    assert "warning: eds.options.library = 'phases.npz': there is no such file yet" in result.stderr
    assert json.loads(result.stdout)["run"] == 1
    (tmp_path / "phases.npz").touch()
    assert "warning" not in CliRunner().invoke(app, ["submit", "map.toml"]).stderr
    assert len(asked) == 2
