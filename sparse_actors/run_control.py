"""The control of a run: tells where it stands, and turns what it is asked into orders on the bus."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import msgspec

from sparse_actors.errors import ControlError
from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import (
    ContinueRun,
    Message,
    MicroscopePrepared,
    Order,
    OrderRefused,
    PauseRun,
    ProposeRegions,
    RegionsProposed,
    RunContinued,
    RunFinished,
    RunPaused,
    SkipTile,
    TileReached,
    TileSkipped,
    WorkerJoined,
    WorkerLost,
)
from sparse_actors.network.control import Control, Done
from sparse_actors.run_requests import (
    REQUESTS,
    Answer,
    Answered,
    Continue,
    Pause,
    Propose,
    Request,
    RunOrder,
    RunStatus,
    Skip,
    Status,
    Stop,
    Worker,
)
from sparse_actors.stop_signals import StopSignals

MAX_ANSWERS = 1000
"""Answers to so many orders are kept for whoever asks for them."""


class RunControl:
    """The control of one session of a run; a context manager.

    Nothing that is asked waits for the run: an order is published, and its answer asked for later.

    Parameters
    ----------
    name, folder
        Of the run.
    signals
        What stops it: a stop is one more of them, so that it works from the first moment to the last.
    """

    def __init__(self, name: str, folder: Path, signals: StopSignals) -> None:
        self._name = name
        self._folder = folder
        self._signals = signals
        self._control = Control(folder, REQUESTS, self._answer)
        self._publish: Callable[[Message], None] | None = None
        self._waits_for: Callable[[], str] = lambda: "its first order"
        self._taps: Callable[[], tuple[str, dict[str, int]]] = lambda: ("", {})
        self._state, self._tile, self._paused_for, self._messages = "starting", "", "", 0
        # Replaced, never changed: the thread of the control reads it meanwhile.
        self._workers: dict[str, Worker] = {}
        self._answers: dict[str, Answered] = {}

    def attach(
        self,
        publish: Callable[[Message], None],
        waits_for: Callable[[], str],
        taps: Callable[[], tuple[str, dict[str, int]]],
    ) -> None:
        """Give orders to a survey from now on.

        Parameters
        ----------
        publish
            To its bus.
        waits_for
            Says what it waits for, in words.
        taps
            Says where its taps are, and how many messages of each kind they missed.
        """
        self._publish, self._waits_for, self._taps = publish, waits_for, taps

    def detach(self, waits_for: str) -> None:
        """Give no more orders: the survey is over."""
        self._publish, self._waits_for = None, lambda: waits_for

    def watch(self, message: Message, number: int) -> None:
        """Tap of the bus."""
        self._messages = number
        match message:
            case MicroscopePrepared() if self._state == "starting":
                self._state = "running"
            case RunPaused(reason=reason):
                self._state, self._paused_for = "paused", reason
                self._keep(message.request, f"paused: {reason}")
            case RunContinued(request=request):
                self._state = "running"
                self._keep(request, "the run goes on")
            case TileSkipped(tile=tile, request=request):
                self._keep(request, f"what is left of tile {tile} is left out")
            case RegionsProposed(request=request, boxes=boxes):
                self._keep(request, f"{len(boxes)} regions are to be rescanned")
            case OrderRefused(request=request, reason=reason):
                self._keep(request, reason, is_refused=True)
            case TileReached(tile=tile):
                self._tile = str(tile)
            case WorkerJoined(worker=name):
                self._workers = {**self._workers, name: _worker(message)}
            case WorkerLost(worker=name):
                self._workers = {other: w for other, w in self._workers.items() if other != name}
            case RunFinished():
                self._state = "ending"
            case _:
                pass

    def _keep(self, request: str, said: str, *, is_refused: bool = False) -> None:
        if request:
            self._answers[request] = Answered(said, is_refused)
            if len(self._answers) > MAX_ANSWERS:
                del self._answers[next(iter(self._answers))]

    def __enter__(self) -> RunControl:
        self._control.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._control.__exit__(*error)

    # -- in the thread of the control ---------------------------------------------------------

    def _answer(self, request: Request) -> msgspec.Struct:
        match request:
            case Status():
                return self._status()
            case Stop(now=now):
                self._signals.ask("stop", 2 if now else 1)
                return Done("the run ends now" if now else "the run ends after the scan in flight")
            case Answer(request=name):
                return self._answers.get(name, Answered(""))
            case Pause() | Continue() | Skip() | Propose():
                if self._publish is None:
                    raise ControlError("the run takes no orders: it is not scanning yet, or not any more")
                self._publish(_order(request))
                return Answered("")
            case _:
                raise ControlError(f"a run does not know {type(request).__name__}")

    def _status(self) -> RunStatus:
        is_stopping = self._signals.count > 0 and self._state != "ending"
        state = "stopping" if is_stopping else self._state
        taps, dropped = self._taps()
        return RunStatus(
            name=self._name,
            folder=str(self._folder),
            pid=os.getpid(),
            state=state,
            tile=self._tile,
            waits_for=self._paused_for if state == "paused" else self._waits_for(),
            messages=self._messages,
            workers=tuple(self._workers.values()),
            taps=taps,
            taps_dropped=dropped,
            refused=self._control.refused,
        )


def _worker(joined: WorkerJoined) -> Worker:
    lists = {entry.name: getattr(joined, entry.name) for entry in fields(joined)}
    has = {name: value for name, value in lists.items() if isinstance(value, tuple) and value}
    return Worker(name=joined.worker, host=joined.host, pid=joined.pid, has=has)


def _order(request: RunOrder) -> Order:
    match request:
        case Pause(reason=reason):
            return PauseRun(reason=reason, request=request.request)
        case Continue():
            return ContinueRun(request=request.request)
        case Skip(tile=tile, reason=reason):
            return SkipTile(tile=_tile(tile), reason=reason, request=request.request)
        case Propose(tile=tile, boxes=boxes, source=source):
            return ProposeRegions(
                tile=_tile(tile),
                boxes=tuple(PixelBox(*box) for box in boxes),
                source=source,
                request=request.request,
            )


def _tile(text: str) -> TileIndex:
    row, column = re.findall("[0-9]+", text)
    return TileIndex(int(row), int(column))
