"""The worker process: one thread talks to the daemon, the main thread detects and classifies.

The socket has a thread of its own so that heartbeats go on while a detector works; the detector
has the main thread, where compiled libraries behave best.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import zmq

from sparse_actors.errors import ConfigError
from sparse_actors.messages import WorkerHello, WorkerLost, WorkerReady
from sparse_actors.version import VERSION

from .keys import KeyPair, read_secret
from .link import REFUSED, Leave, Link, say
from .local_workers import PARENT_VARIABLE, SLOT_VARIABLE, TOKEN_VARIABLE
from .skills import LoadError, Skills


def run_worker(endpoint: str, keyfile: Path | None = None, tags: Sequence[str] = ()) -> int:
    """Detect what the daemon at `endpoint` sends until it ends; owns the process and its main thread.

    Parameters
    ----------
    endpoint
        "ipc://..." or "tcp://host:port", as the daemon names it.
    keyfile
        Secret key to show; None shows the token in SPARSE_ACTORS_WORKER_TOKEN.
    tags
        What this computer has.

    Returns
    -------
    int
        Exit code: 0 when dismissed at the end of a run, REFUSED when it may not join, else 1.

    Raises
    ------
    ConfigError
        The key cannot be used.
    """
    has_parent = bool(os.environ.pop(PARENT_VARIABLE, ""))
    slot = int(os.environ.pop(SLOT_VARIABLE, "0"))
    hello = WorkerHello(
        token=os.environ.pop(TOKEN_VARIABLE, ""),
        version=VERSION,
        host=socket.gethostname(),
        pid=os.getpid(),
        slot=slot,
        tags=tuple(tags),
    )
    if has_parent:
        # Ctrl-C belongs to the parent, which then dismisses its workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    pair = None if keyfile is None else worker_key(keyfile)
    try:
        link = Link(endpoint, hello, pair, is_patient=slot > 0, has_parent=has_parent)
    except zmq.ZMQError as error:
        say(f"{endpoint!r} is not an endpoint: {error.strerror}")
        return REFUSED
    link.start()
    try:
        leave = _serve(link, REFUSED if slot else 1)
    finally:
        link.finish()
    say(leave.reason)
    return leave.exit_code


def worker_key(keyfile: Path) -> KeyPair:
    """Read the key of a worker; raises ConfigError."""
    pair = read_secret(keyfile)
    if not pair.daemon:
        raise ConfigError(f"{keyfile} is the daemon's: expected one of `keys new NAME --daemon KEY`")
    return pair


def _serve(link: Link, refused: int) -> Leave:
    welcome = link.welcome.get()
    if isinstance(welcome, Leave):
        return welcome
    try:
        skills = Skills(welcome)
    except LoadError as error:
        link.send(WorkerLost(worker="", reason=str(error)))
        return Leave(str(error), refused)
    link.send(WorkerReady(phases=skills.phases, models=skills.models))
    while not isinstance(job := link.jobs.get(), Leave):
        # Native code that never lets go of the interpreter also stops the other thread, which would
        # see that the daemon is gone. This timer needs no interpreter; it prints where the code hangs.
        faulthandler.dump_traceback_later(welcome.deadline_s + welcome.silence_s, exit=True)
        answer = skills.do(job)
        faulthandler.cancel_dump_traceback_later()
        link.send(answer)
    return job
