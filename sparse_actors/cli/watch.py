"""Showing a run that somebody else started, from its journal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sparse_actors.config import parse_config
from sparse_actors.errors import ConfigError, ControlError, NobodyAnswersError, PluginError
from sparse_actors.messages import Message, RunFinished, RunStarted
from sparse_actors.network.control import ask
from sparse_actors.recording.journal import read_new
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.run_requests import RunStatus, Status

from .display import Display, summary
from .exit_codes import ExitCode, of_outcome
from .progress import Figures, Progress
from .run import survey_progress

POLL_S = 0.25
SILENCE_S = 3.0
"""After so long without news the run is asked whether it lives."""


@dataclass(slots=True)
class JournalWatch:
    """The progress of a run by its journal, read as it grows."""

    folder: RunFolder
    progress: Progress | None = None
    """None before the run has said that it started."""
    finished: RunFinished | None = None
    """How the last session ended."""
    _offset: int = 0
    _number: int = 0

    def read(self) -> list[tuple[Message, int]]:
        """Return what is new, with its number; raises JournalError."""
        if not self.folder.journal.exists():
            return []
        messages, self._offset = read_new(self.folder.journal, self._offset)
        news: list[tuple[Message, int]] = []
        for message in messages:
            self._number += 1
            news.append((message, self._number))
            match message:
                case RunStarted(config_toml=text):
                    self.finished = None
                    if self.progress is None:
                        self.progress = survey_progress(parse_config(text))
                case RunFinished():
                    self.finished = message
                case _:
                    pass
        return news


def figures_of(folder: Path) -> Figures | None:
    """Return where a run stands by its journal.

    None before it has begun, and where its driver or detector is not known here.
    """
    watched = JournalWatch(RunFolder(folder))
    try:
        news = watched.read()
    except (ConfigError, PluginError):
        return None
    if watched.progress is None:
        return None
    for message, number in news:
        watched.progress.observe(message, number)
    return watched.progress.figures()


def watch_run(
    folder: Path, console: Console, is_expected: Callable[[], bool] = lambda: False
) -> tuple[str, str, Figures, ExitCode]:
    """Show a run until it ends; returns how it ended, why, the figures and the exit code `run` has.

    Parameters
    ----------
    folder
        Of the run.
    console
        Where it is shown.
    is_expected
        Whether somebody is about to start it, or to go on with it, though it does not answer yet.

    Raises
    ------
    ControlError
        The run broke off, or never began.
    JournalError
        The journal is damaged.
    """
    watched = JournalWatch(RunFolder(folder))
    news = watched.read()
    turn = threading.Event()
    while watched.progress is None:
        if not (is_alive(folder) or is_expected()):
            raise NobodyAnswersError(f"{folder}: no run is going on there, and none was")
        turn.wait(POLL_S)
        news += watched.read()
    silent_s = 0.0
    with Display(watched.progress, console) as display:
        while True:
            for message, number in news:
                display.observe(message, number)
            if watched.finished is not None:
                break
            turn.wait(POLL_S)
            news = watched.read()
            silent_s = 0.0 if news else silent_s + POLL_S
            if silent_s >= SILENCE_S and not (is_alive(folder) or is_expected()):
                raise ControlError(f"{folder}: the run broke off; `run --resume --out` goes on with it")
        display.show()
        figures = display.figures()
    finished = watched.finished
    console.print(summary(figures, finished.outcome, finished.reason, folder))
    missing = figures.scans_missed + (figures.maps.fields_missing if figures.maps else 0)
    code = of_outcome(finished.outcome, finished.cause, missing=missing)
    return finished.outcome, finished.reason, figures, code


def is_alive(folder: Path) -> bool:
    """Whether a run answers."""
    try:
        ask(folder, Status(), RunStatus)
    except ControlError:
        return False
    return True
