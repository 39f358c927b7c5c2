"""The daemon itself: takes one run after another from the queue, and answers about it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from sparse_actors.errors import ControlError, JournalError
from sparse_actors.messages import Recorded, SpectraRecorded
from sparse_actors.network.control import Control, Done, read_address
from sparse_actors.recording import disk
from sparse_actors.recording.journal import read_journal
from sparse_actors.recording.run_folder import RunFolder, dated_folder
from sparse_actors.run_requests import Request, Status, Stop
from sparse_actors.stop_signals import StopSignals
from sparse_actors.version import VERSION

from .child import Child
from .requests import REQUESTS, DaemonStatus, Hold, QueuedRun, ResumeQueue, SkipRun, Submit, Submitted
from .run_queue import Entry, RunQueue
from .verdict import verdict

POLL_S = 0.1
DISK_S = 5.0
"""After so long a disk that refused is tried again."""
KILL_AT = 3
"""This signal ends the process of the run, whatever it does."""


class Daemon:
    """Serves one queue until a signal comes.

    The first signal ends the run that goes on in order, the second ends it at once, the third kills its
    process. In each case the run goes on when a daemon serves the queue again.

    Parameters
    ----------
    folder
        Of the queue.
    say
        Called with a sentence for whoever started the daemon.
    on_given_up
        Called with a run that is not tried any more.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        on_given_up: Callable[[Entry], None] = lambda entry: None,
    ) -> None:
        self._folder = folder
        self._say = say
        self._on_given_up = on_given_up
        self._started_s = time.time()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._signals = StopSignals()
        self._queue = RunQueue(folder, time.time)
        self._child: Child | None = None
        self._running: Entry | None = None
        self._is_skipped = False
        self._wanted = self._told = 0
        """To how many signals the stop that the run was to be, and was, told amounts."""
        self._control: Control | None = None

    def serve(self) -> StopSignals:
        """Make runs until a signal comes and the run that goes on has ended; returns the signals.

        Raises
        ------
        ControlError
            Another daemon serves this queue, or the queue is damaged.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.ExitStack() as stack:
            stack.callback(disk.unlock, self._alone())
            stack.enter_context(self._signals)
            self._queue = RunQueue.open(self._folder, time.time)
            self._signals.listen(lambda name, count: self._wake.set())
            self._control = stack.enter_context(Control(self._folder, REQUESTS, self._answer))
            stack.callback(self._signals.listen, None)
            self._say(f"serving {self._folder} (process {os.getpid()})")
            while self._tried_turn():
                self._wake.wait(POLL_S)
                self._wake.clear()
            return self._signals

    def _alone(self) -> int:
        try:
            return disk.lock(self._folder / "queue.lock")
        except BlockingIOError:
            address = read_address(self._folder)
            who = f", process {address.pid}" if address else ""
            raise ControlError(f"a daemon serves {self._folder} already{who}") from None

    def _adopt(self, entry: Entry) -> None:
        """Take up a run that an earlier daemon left, or of which the disk took no note."""
        self._running, self._child = entry, Child.adopt(entry, self._papers(entry))
        self._is_skipped, self._wanted, self._told = False, self._signals.count, 0
        self._tell(
            entry, f"{'goes on' if self._child.is_alive else 'broke off'} since an earlier daemon died"
        )

    def _tried_turn(self) -> bool:
        """Do a turn; a disk that refuses ends neither the daemon nor a run."""
        try:
            return self._turn()
        except OSError as error:
            self._say(f"the queue cannot be written, trying again: {error}")
            self._wake.wait(DISK_S)
            return True

    def _turn(self) -> bool:
        """Do what there is to do; False when the daemon is over."""
        with self._lock:
            self._wanted = max(self._wanted, self._signals.count)
            if self._child is not None and self._running is not None:
                if self._child.is_alive:
                    self._pass_on_stop(self._child, self._running)
                else:
                    self._ended(self._child, self._running)
                return True
            if (left := next((e for e in self._queue.entries if e.state == "running"), None)) is not None:
                self._adopt(left)
                return True
            if self._signals.count:
                return False
            if (entry := self._queue.next()) is not None:
                self._begin(entry)
            return True

    def _pass_on_stop(self, child: Child, entry: Entry) -> None:
        if self._wanted <= self._told:
            return
        self._told = self._wanted
        if self._told >= KILL_AT:
            self._tell(entry, "its process is killed")
            child.kill()
        else:
            self._tell(entry, "ends now" if self._told > 1 else "ends after the scan in flight")
            child.stop(now=self._told > 1)

    def _begin(self, entry: Entry) -> None:
        folder = entry.folder or entry.out or str(dated_folder(Path(entry.cwd) / entry.out_dir, entry.name))
        is_new = not entry.folder
        entry = self._queue.change(
            entry,
            state="running",
            reason="",
            folder=folder,
            pid=0,
            begun_s=entry.begun_s or time.time(),
        )
        self._is_skipped, self._wanted, self._told = False, self._signals.count, 0

        def known(pid: int, created_s: float) -> None:
            self._running = self._queue.change(entry, pid=pid, created_s=created_s)

        try:
            self._child = Child.start(entry, self._papers(entry), known)
        except ControlError as error:
            entry = self._queue.end(entry, "failed", str(error))
            self._tell(entry, f"failed: {error}")
            self._on_given_up(entry)
            return
        self._tell(entry, f"{'begins' if is_new else 'goes on'} in {folder}")

    def _ended(self, child: Child, entry: Entry) -> None:
        found = verdict(
            child.exit_code,
            child.result(),
            was_stopped=self._told > 0,
            last_words=child.last_words(),
        )
        match found.end:
            case "stopped" if self._is_skipped:
                entry = self._queue.end(entry, "skipped", found.reason)
            case "stopped" if self._signals.count:
                entry = self._queue.change(entry, state="waiting", reason="the daemon ended", pid=0)
            case "stopped":
                # Whoever stops a run wants the microscope to stand still.
                entry = self._queue.end(entry, "stopped", found.reason)
                self._queue.hold(True)
            case "in use":
                entry = self._queue.put_off(entry, found.reason)
            case "broke off":
                entry = self._queue.broke_off(entry, found.reason, _recorded(Path(entry.folder)))
            case end:
                entry = self._queue.end(entry, end, found.reason)
        self._child = self._running = None
        self._wanted = self._told = 0
        self._tell(entry, f"{entry.state}: {entry.reason}".rstrip(": "))
        if entry.state == "failed":
            self._on_given_up(entry)

    def _papers(self, entry: Entry) -> Path:
        return self._folder / f"{entry.number:04d}"

    def _tell(self, entry: Entry, what: str) -> None:
        structlog.get_logger().info(what, run=entry.number, name=entry.name, folder=entry.folder)
        self._say(f"run {entry.number} ({entry.name}) {what}")

    # -- in the thread of the control ---------------------------------------------------------

    def _answer(self, request: Request) -> msgspec.Struct:
        with self._lock:
            reply = self._decided(request)
        self._wake.set()
        return reply

    def _decided(self, request: Request) -> msgspec.Struct:
        match request:
            case Status():
                return self._status()
            case Submit():
                return self._submitted(request)
            case Stop(now=now):
                self._queue.hold(True)
                if self._running is None:
                    return Done("no run is going on; none begins until `resume`")
                self._wanted = max(self._wanted, 2 if now else 1)
                when = "now" if now else "after the scan in flight"
                return Done(f"run {self._running.number} ends {when}; none begins until `resume`")
            case Hold():
                self._queue.hold(True)
                return Done("no further run begins until `resume`")
            case ResumeQueue(run=run):
                return self._resumed(run)
            case SkipRun(run=run):
                return self._skipped(self._queue.of(run))
            case _:
                raise ControlError(f"the daemon does not know {type(request).__name__}")

    def _submitted(self, request: Submit) -> Submitted:
        if self._signals.count:
            raise ControlError("the daemon is ending; submit again when it serves")
        if not all(Path(path).is_absolute() for path in (request.cwd, request.out or request.cwd)):
            raise ControlError(f"cwd = {request.cwd!r}, out = {request.out!r}: expected absolute paths")
        entry = self._queue.add(
            Entry(
                number=0,
                name=request.name,
                config=request.config,
                overrides=request.overrides,
                cwd=request.cwd,
                out=request.out,
                out_dir=request.out_dir,
                submitted_s=time.time(),
            ),
            at_front=request.at_front,
        )
        self._tell(entry, "submitted")
        place = self._queue.entries.index(entry)
        return Submitted(
            run=entry.number,
            before=sum(other.state in ("waiting", "running") for other in self._queue.entries[:place]),
        )

    def _resumed(self, run: int | None) -> Done:
        if run is not None:
            entry = self._queue.resume(self._queue.of(run))
            return Done(f"run {entry.number} is to go on")
        stopped = [entry for entry in self._queue.entries if entry.state == "stopped"]
        if not stopped and not self._queue.is_held:
            raise ControlError("nothing to resume: no run was stopped, and the queue is not held")
        for entry in stopped:
            self._queue.resume(entry)
        self._queue.hold(False)
        return Done("".join(f"run {entry.number} goes on; " for entry in stopped) + "the queue goes on")

    def _skipped(self, entry: Entry) -> Done:
        if entry.is_over:
            raise ControlError(f"run {entry.number} is {entry.state}")
        if self._running is not None and self._running.number == entry.number:
            self._is_skipped = True
            self._wanted = max(self._wanted, 1)
            return Done(f"run {entry.number} ends after the scan in flight and is not taken up again")
        self._queue.end(entry, "skipped", "before it had begun" if not entry.folder else "")
        return Done(f"run {entry.number} is skipped")

    def _status(self) -> DaemonStatus:
        runs = tuple(
            QueuedRun(
                run=entry.number,
                name=entry.name,
                state=entry.state,
                reason=entry.reason,
                folder=entry.folder,
                submitted_s=entry.submitted_s,
                begun_s=entry.begun_s,
                ended_s=entry.ended_s,
            )
            for entry in self._queue.entries
        )
        return DaemonStatus(
            version=VERSION,
            pid=os.getpid(),
            started_s=self._started_s,
            queue=str(self._folder),
            is_held=self._queue.is_held,
            is_ending=self._signals.count > 0,
            runs=runs,
            refused=self._control.refused if self._control else 0,
        )


def _recorded(folder: Path) -> int:
    """Count what a run has recorded; 0 if its journal cannot be read."""
    try:
        facts = read_journal(RunFolder(folder).journal)
    except (JournalError, OSError):
        return 0
    return sum(isinstance(fact, Recorded | SpectraRecorded) for fact in facts)
