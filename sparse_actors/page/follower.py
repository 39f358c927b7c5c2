"""Follows the runs that the page shows: their journals as they grow, and the maps that their taps show."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sparse_actors.cli.run import survey_progress
from sparse_actors.config import parse_config
from sparse_actors.errors import ConfigError, ControlError, PluginError, TapError
from sparse_actors.messages import Message, PhaseMapUpdated, RunStarted
from sparse_actors.network.control import ask
from sparse_actors.network.listener import listen
from sparse_actors.recording.journal import read_new
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.run_requests import RunStatus, Status

from .pictures import Pictures
from .view import RunView

POLL_S = 0.015
STATUS_S = 1.0
"""Between two questions to the run, or the daemon, where it stands."""
PORTION = 200
"""Facts that are taken in before others may look."""


class Follower:
    """Keeps a view up to date in a thread of its own; a context manager.

    It only reads what the run writes for itself, so that the run cannot tell whether anybody looks.

    Parameters
    ----------
    view
        To be kept up to date.
    find
        Returns the folder of the run to show, None for none; asked every second.
    """

    def __init__(self, view: RunView, find: Callable[[], Path | None]) -> None:
        self._view = view
        self._find = find
        self._is_over = threading.Event()
        self._offset = self._number = 0
        self._listening: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="page follower", daemon=True)
        self.status: RunStatus | None = None
        """What the run says of itself; None when it does not answer."""
        self.pictures: Pictures | None = None
        """Of the run that is shown."""
        self.problem = ""
        """Why the run cannot be shown; empty if it can."""

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def state(self) -> str:
        """What the run does: what its journal says, and what it says itself."""
        said = self._view.state
        if said not in ("running", "paused"):
            return said
        if self.status is None:
            return "broken off"
        return self.status.state if self.status.state in ("starting", "stopping") else said

    def _run(self) -> None:
        asked_s = -STATUS_S
        while not self._is_over.wait(POLL_S):
            try:
                if time.monotonic() - asked_s >= STATUS_S:
                    asked_s = time.monotonic()
                    self._ask()
                if self._view.folder is not None and not self.problem:
                    self._read(self._view.folder)
            except Exception as error:  # the page stays, and says why it shows nothing
                self.problem = f"{self._view.folder} cannot be shown: {type(error).__name__}: {error}"

    def _ask(self) -> None:
        """Find out which run to show and whether it goes on."""
        folder = self._find()
        if folder is not None and folder != self._view.folder and (folder / "journal").exists():
            self._offset = self._number = 0
            self.problem, self.pictures = "", None
            with self._view.lock:
                self._view.begin(folder, None, None)
        if self._view.folder is None:
            return
        try:
            self.status = ask(self._view.folder, Status(), RunStatus, timeout_s=STATUS_S)
        except ControlError:
            self.status = None
        if self.status is not None and self.status.taps and self._listening is None:
            self._listening = threading.Thread(
                target=self._listen, args=(self.status.taps,), name="page taps", daemon=True
            )
            self._listening.start()

    def _read(self, folder: Path) -> None:
        journal = RunFolder(folder).journal
        if journal.stat().st_size <= self._offset:
            return
        messages, self._offset = read_new(journal, self._offset)
        for first in range(0, len(messages), PORTION):
            with self._view.lock:
                for message in messages[first : first + PORTION]:
                    self._take(folder, message)

    def _take(self, folder: Path, message: Message) -> None:
        self._number += 1
        if isinstance(message, RunStarted):
            # A session may have its corners set anew; its tiles are the same.
            config = parse_config(message.config_toml)
            if self._view.config is None:
                progress = None
                with contextlib.suppress(ConfigError, PluginError):
                    progress = survey_progress(config)
                self._view.begin(folder, config, progress)
                self.pictures = Pictures(folder, config)
        self._view.observe(message, self._number)

    def _listen(self, endpoint: str) -> None:
        """Take in maps as they grow; a run without taps for images has only measured points to show."""
        try:
            with listen(endpoint, PhaseMapUpdated, state=False) as listener:
                for message in listener:
                    with self._view.lock:
                        self._view.observe_map(message)
                    if self._is_over.is_set():
                        break
        except TapError:
            pass  # the run has ended, or the next try finds it
        finally:
            self._listening = None
