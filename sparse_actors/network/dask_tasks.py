"""What a run has the workers of a Dask cluster do: messages in their wire form go in and come out."""

from __future__ import annotations

import faulthandler
import os
import socket
import threading

from sparse_actors import wire
from sparse_actors.messages import (
    ClassifySpectra,
    DetectImage,
    InspectRegion,
    Message,
    WorkerHello,
    WorkerLost,
    WorkerReady,
    WorkerWelcome,
)
from sparse_actors.version import VERSION

from .skills import LoadError, Skills

Frames = list[bytes]
GRACE_S = 1.0
"""A job that hangs ends its process so long after the pool gave it up."""

_lock = threading.Lock()
_loaded: dict[str, tuple[WorkerWelcome, Skills]] = {}
"""What was loaded last, by the session of its run."""


def packed(message: Message) -> Frames:
    """Return the wire form as what Dask sends without a question."""
    return [bytes(frame) for frame in wire.encode(message)]


def introduce() -> Frames:
    """Return a `WorkerHello` that says who this is."""
    return packed(WorkerHello(token="", version=VERSION, host=socket.gethostname(), pid=os.getpid()))


def load(frames: Frames) -> Frames:
    """Load what a `WorkerWelcome` names; return `WorkerReady`, or `WorkerLost` with the reason."""
    welcome = wire.decode(frames)
    if not isinstance(welcome, WorkerWelcome):
        raise TypeError(f"expected WorkerWelcome, got {type(welcome).__name__}")
    with _lock:
        try:
            skills = Skills(welcome)
        except LoadError as error:
            return packed(WorkerLost(worker="", reason=str(error)))
        _loaded.clear()
        _loaded[welcome.session] = welcome, skills
    return packed(WorkerReady(phases=skills.phases, models=skills.models))


def do(session: str, frames: Frames) -> Frames:
    """Do a job; whatever goes wrong in it is its answer.

    One job at a time: Dask cannot end one that hangs, so that a timer ends the process, as does a crash.
    The timer needs no interpreter, which compiled code may hold.
    """
    job = wire.decode(frames, may_be_packed=True)
    if not isinstance(job, DetectImage | InspectRegion | ClassifySpectra):
        raise TypeError(f"expected a job, got {type(job).__name__}")
    with _lock:
        if session not in _loaded:
            raise LookupError("another run uses this worker")
        welcome, skills = _loaded[session]
        faulthandler.dump_traceback_later(welcome.deadline_s + GRACE_S, exit=True)
        try:
            return packed(skills.do(job))
        finally:
            faulthandler.cancel_dump_traceback_later()
