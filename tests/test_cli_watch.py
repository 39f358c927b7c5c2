"""Watching a run that has not begun yet."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import kills
import pytest
import recorded_run
from rich.console import Console

from sparse_actors.cli import watch
from sparse_actors.errors import ControlError, NobodyAnswersError
from sparse_actors.recording.journal import Journal


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


def test_a_run_that_broke_off_is_waited_for_while_the_daemon_takes_it_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.001)
    monkeypatch.setattr(watch, "SILENCE_S", 0.002)
    config = kills.CONFIG.format(time_scale=0, log="log.jsonl", state="state.json")
    with contextlib.closing(Journal.create(tmp_path / "journal")) as journal:
        journal.append(replace(recorded_run.started(), config_toml=config))
    asked = []

    def is_expected() -> bool:
        asked.append(True)
        return len(asked) < 3

    with pytest.raises(ControlError, match="the run broke off"):
        watch.watch_run(tmp_path, Console(quiet=True), is_expected)
    assert len(asked) == 3
