"""What a run answers on its control socket: where it stands, and what it is told to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from sparse_actors.messages import (
    Message,
    MicroscopePrepared,
    RunFinished,
    RunStarted,
    TileReached,
    WorkerJoined,
    WorkerLost,
)
from sparse_actors.network.control import Control, Done
from sparse_actors.stop_signals import StopSignals


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="ask"):
    """Base of what a run or the daemon can be asked."""


class Status(Request, frozen=True, tag="status"):
    """Say where you stand."""


class Stop(Request, frozen=True, tag="stop"):
    """End in order, the microscope restored."""

    now: bool = False
    """Do not wait for the scan in flight."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A process that detects for a run."""

    name: str
    host: str
    pid: int


class RunStatus(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="run"):
    """Where a run stands; what it has recorded is in its journal."""

    name: str
    folder: str
    pid: int
    state: str
    """starting, running, stopping or ending"""
    tile: str
    """Under the beam; empty before the first."""
    waits_for: str
    """What the microscope does, in words."""
    messages: int
    """How many this session has seen."""
    workers: tuple[Worker, ...]
    refused: int
    """Requests that were not valid."""


class RunControl:
    """The control of one session of a run; a context manager.

    Parameters
    ----------
    name, folder
        Of the run.
    signals
        What stops it.
    """

    def __init__(self, name: str, folder: Path, signals: StopSignals) -> None:
        self._name = name
        self._folder = folder
        self._signals = signals
        self._control = Control(folder, Status | Stop, self._answer)
        self._waits_for: Any = lambda: "the journal to be read"
        self._state, self._tile, self._messages = "starting", "", 0
        self._workers: dict[str, Worker] = {}

    def attach(self, waits_for: Any) -> None:
        """Tell of a survey, from when there is one; `waits_for()` says what it waits for."""
        self._waits_for = waits_for

    def watch(self, message: Message, number: int) -> None:
        """Tap of the bus."""
        self._messages = number
        match message:
            case MicroscopePrepared():
                self._state = "running"
            case TileReached(tile=tile):
                self._tile = str(tile)
            case WorkerJoined(worker=name, host=host, pid=pid):
                self._workers = {**self._workers, name: Worker(name=name, host=host, pid=pid)}
            case WorkerLost(worker=name):
                self._workers = {n: worker for n, worker in self._workers.items() if n != name}
            case RunStarted():
                self._workers = {}
            case RunFinished():
                self._state = "ending"
            case _:
                pass

    def __enter__(self) -> RunControl:
        self._control.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._control.__exit__(*error)

    def _answer(self, request: Request) -> msgspec.Struct:
        match request:
            case Stop(now=now):
                self._signals.ask("stop", 2 if now else 1)
                waits_for = self._waits_for()
                return Done("the run ends now" if now else f"the run ends after {waits_for}")
            case _:
                return self._status()

    def _status(self) -> RunStatus:
        is_stopping = self._signals.count > 0 and self._state != "ending"
        return RunStatus(
            name=self._name,
            folder=str(self._folder),
            pid=os.getpid(),
            state="stopping" if is_stopping else self._state,
            tile=self._tile,
            waits_for=self._waits_for(),
            messages=self._messages,
            workers=tuple(self._workers.values()),
            refused=self._control.refused,
        )
