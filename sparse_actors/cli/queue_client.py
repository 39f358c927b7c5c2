"""What the commands ask the daemon, or one run."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sparse_actors.config import load_config
from sparse_actors.config_sources import PREFIX, find, read
from sparse_actors.daemon.child import Child
from sparse_actors.daemon.requests import (
    DaemonStatus,
    Hold,
    QueuedRun,
    ResumeQueue,
    SkipRun,
    Submit,
    Submitted,
    this_users_queue,
)
from sparse_actors.daemon.run_queue import RunQueue
from sparse_actors.errors import ConfigError, ControlError, NobodyAnswersError
from sparse_actors.network.control import ANSWER_S, Done, ask
from sparse_actors.run_requests import (
    TILE,
    Answer,
    Answered,
    Continue,
    Pause,
    RunOrder,
    RunStatus,
    Skip,
    Status,
    Stop,
)

from .check_maps import missing_library
from .display import one_line
from .progress import Figures
from .watch import figures_of

ANSWER_POLL_S = 0.02

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the daemon, at the run that goes on, or at both."""

    daemon: DaemonStatus | None
    run: RunStatus | None
    figures: Figures | None

    def to_json(self) -> dict[str, Any]:
        """Return everything by name; null where there is nothing."""
        return {
            "daemon": None if self.daemon is None else msgspec.to_builtins(self.daemon),
            "run": None if self.run is None else msgspec.to_builtins(self.run),
            "figures": None if self.figures is None else self.figures.to_json(),
        }


def submitted(
    config_file: Path | None,
    overrides: Sequence[str],
    out: Path | None,
    at_front: bool,
    queue: Path | None,
    say: Callable[[str], None],
) -> Submitted:
    """Check a configuration here and now, and put its run into the queue; `say` gets what may go wrong.

    Raises
    ------
    ConfigError
        The configuration is wrong, or there is a run in `out`.
    ControlError
        There is no daemon, or its queue is full.
    """
    file = find(config_file, os.environ)
    config = load_config(file, overrides)
    if out is not None and (out / "journal").exists():
        raise ConfigError(
            f"{out} holds a run already: `run --resume --out` goes on with it, --out names another"
        )
    for warning in missing_library(config.eds) if config.eds else ():
        say(f"warning: {warning}")
    return _ask_daemon(
        queue,
        Submit(
            name=config.run.name,
            config=read(file),
            overrides=(*_from_environment(), *overrides),
            cwd=str(Path.cwd()),
            out=str(out.absolute()) if out else "",
            out_dir=str(config.run.out_dir),
            at_front=at_front,
        ),
        Submitted,
    )


def _from_environment() -> Iterator[str]:
    """Yield what the environment sets, as `--set` would: the run is made in that of the daemon."""
    for variable, value in sorted(os.environ.items()):
        if variable.upper().startswith(PREFIX):
            yield f"{variable[len(PREFIX) :].lower().replace('__', '.')}={value}"


def look(queue: Path | None, folder: Path | None) -> Look:
    """See where the daemon stands and the run that goes on; or one run, by its folder.

    Raises
    ------
    NobodyAnswersError
        There is no daemon, or the run in `folder` does not go on.
    """
    if folder is not None:
        return Look(None, run_status(folder), figures_of(folder))
    daemon = _ask_daemon(queue, Status(), DaemonStatus)
    running = _running(daemon)
    if running is None:
        return Look(daemon, None, None)
    try:
        run = run_status(Path(running.folder))
    except NobodyAnswersError:
        run = None  # It has not got so far.
    return Look(daemon, run, figures_of(Path(running.folder)))


def sentences(seen: Look) -> Iterator[str]:
    """Say what was seen, one line for each run."""
    if seen.daemon is not None:
        ending = ", ending" * seen.daemon.is_ending
        held = ", held: no further run begins until `resume`" * seen.daemon.is_held
        yield f"daemon {seen.daemon.version}, process {seen.daemon.pid}{ending}{held}"
        for run in seen.daemon.runs:
            since_s = run.ended_s or run.begun_s or run.submitted_s
            since = datetime.fromtimestamp(since_s).astimezone().strftime("%Y-%m-%d %H:%M")
            words = "  ".join(filter(None, [run.reason, run.folder]))
            yield f"{run.run:5}  {run.state:10}  {since}  {run.name}  {words}".rstrip()
        if not seen.daemon.runs:
            yield "the queue is empty"
    if seen.run is not None:
        tile = f", tile {seen.run.tile}" if seen.run.tile else ""
        yield f"{seen.run.name}: {seen.run.state}{tile}, waiting for {seen.run.waits_for}"
    if seen.figures is not None:
        yield one_line(seen.figures)


def current_run(queue: Path | None) -> Path:
    """Return the folder of the run that the daemon makes; raises ControlError if there is none."""
    running = _running(_ask_daemon(queue, Status(), DaemonStatus))
    if running is None:
        raise ControlError("no run is going on; `status` lists the queue")
    return Path(running.folder)


def is_current(queue: Path | None, folder: Path) -> bool:
    """Whether a run is the one that the daemon makes, though it may not answer yet."""
    try:
        return current_run(queue) == folder
    except ControlError:
        return False


def run_status(folder: Path) -> RunStatus:
    """Ask a run where it stands; raises NobodyAnswersError if it does not go on."""
    return ask(folder, Status(), RunStatus)


def stopped(queue: Path | None, folder: Path | None, *, now: bool) -> str:
    """Stop a run, or the one that the daemon makes; returns what happens, in words."""
    order = Stop(now=now)
    if folder is not None:
        return ask(folder, order, Done).said
    try:
        return _ask_daemon(queue, order, Done).said
    except NobodyAnswersError as error:
        # The daemon died or hangs: its run is stopped all the same.
        papers = queue or this_users_queue()
        for entry in RunQueue.open(papers, time.time).entries:
            child = Child.adopt(entry, papers)
            if entry.state == "running" and child.is_alive:
                child.stop(now=now)
                return f"no daemon answers; run {entry.number} in {entry.folder} was told to end"
        raise error


def paused(queue: Path | None, folder: Path | None, reason: str) -> str:
    """Pause a run, or the one that the daemon makes."""
    return ordered(folder or current_run(queue), Pause(reason=reason, request=_name()))


def resumed(queue: Path | None, folder: Path | None, number: int | None) -> str:
    """Let a paused run go on; or, when none is paused, the queue or one run of it."""
    if folder is not None:
        return ordered(folder, Continue(request=_name()))
    if number is None:
        seen = look(queue, None).run
        if seen is not None and seen.state == "paused":
            return ordered(Path(seen.folder), Continue(request=_name()))
    return _ask_daemon(queue, ResumeQueue(run=number), Done).said


def held(queue: Path | None) -> str:
    """Let no further run begin."""
    return _ask_daemon(queue, Hold(), Done).said


def skipped(queue: Path | None, folder: Path | None, what: str, reason: str) -> str:
    """Skip a tile of a run, or a run of the queue; raises ConfigError where `what` is neither."""
    if re.fullmatch(TILE, what):
        order = Skip(tile=what, reason=reason, request=_name())
        return ordered(folder or current_run(queue), order)
    if not what.isdecimal() or not 1 <= int(what) < 2**53:
        raise ConfigError(f"{what}: expected a tile such as r000c001, or the number of a run of the queue")
    return _ask_daemon(queue, SkipRun(run=int(what)), Done).said


def _name() -> str:
    return uuid.uuid4().hex


def ordered(folder: Path, order: RunOrder) -> str:
    """Give a run an order and wait for what becomes of it; raises ControlError if it is refused."""
    ask(folder, order, Answered)
    end_s = time.monotonic() + ANSWER_S
    while time.monotonic() < end_s:
        answer = ask(folder, Answer(request=order.request), Answered)
        if answer.is_refused:
            raise ControlError(answer.said)
        if answer.said:
            return answer.said
        time.sleep(ANSWER_POLL_S)
    return f"ordered, but not confirmed within {ANSWER_S:g} s; `status` says where the run stands"


def _ask_daemon(queue: Path | None, request: msgspec.Struct, reply: type[T]) -> T:
    folder = queue or this_users_queue()
    try:
        return ask(folder, request, reply)
    except NobodyAnswersError as error:
        hint = f" --queue {queue}" if queue else ""
        raise NobodyAnswersError(f"{error}: no daemon; start one with `sparse-actors serve{hint}`") from None


def _running(daemon: DaemonStatus) -> QueuedRun | None:
    return next((run for run in daemon.runs if run.state == "running"), None)
