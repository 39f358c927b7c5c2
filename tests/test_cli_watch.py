"""Watching a run that has not begun yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from sparse_actors.cli import watch
from sparse_actors.errors import NobodyAnswersError


def test_a_run_that_the_daemon_is_about_to_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.001)
    answers = [True, True, False]
    asked = []

    def is_expected() -> bool:
        asked.append(True)
        return answers[len(asked) - 1]

    with pytest.raises(NobodyAnswersError, match="no run is going on there"):
        watch.watch_run(tmp_path, Console(quiet=True), is_expected)
    assert len(asked) == 3


def test_a_folder_without_a_run_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(NobodyAnswersError, match="no run is going on there"):
        watch.watch_run(tmp_path, Console(quiet=True))
