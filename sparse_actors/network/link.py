"""A worker's connection to the daemon: hands on jobs, returns answers, and comes back after a cut."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import socket
import sys
import threading
import time
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from sparse_actors import wire
from sparse_actors.errors import WireError
from sparse_actors.messages import (
    ClassifySpectra,
    DetectImage,
    Heartbeat,
    InspectRegion,
    JobArrived,
    Message,
    WorkerDismissed,
    WorkerHello,
    WorkerLeaving,
    WorkerReady,
    WorkerWelcome,
)

from .gate import present
from .jobs import Job, Lost, Returned
from .keys import KeyPair
from .local_workers import LEAVE

HELLO_TIMEOUT_S = 20.0
"""A daemon that has not answered by then is not there."""
HELLO_S = 2.0
"""How often a worker that waits for its daemon says hello, or tries a key again."""
HEARTBEAT_MS = 1000
POLL_S = 0.1
CONNECTING_POLL_S = 0.01
LEAVE_S = 0.5
"""Time for a detector to finish once there is nobody to tell; then the process ends under it."""
KEPT_ANSWERS = 4
"""As many as can have been under way when a connection broke."""
REFUSED = 78
"""Exit code of a worker that may not join as it is: starting it again is of no use."""

_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


@dataclass(frozen=True, slots=True)
class Leave:
    """The end of a worker: why, and the exit code of its process."""

    reason: str
    exit_code: int


class Link(threading.Thread):
    """Owns the socket; hands the main thread what the daemon says, and says what it is told.

    Parameters
    ----------
    endpoint
        "ipc://..." or "tcp://host:port".
    hello
        What the worker says of itself.
    pair
        Key to show; None connects without.
    is_patient
        Wait for a daemon without end, and come back when the connection was lost.
    has_parent
        End when standard input ends, which the parent holds open.
    """

    def __init__(
        self, endpoint: str, hello: WorkerHello, pair: KeyPair | None, *, is_patient: bool, has_parent: bool
    ) -> None:
        super().__init__(name="link", daemon=True)
        self.welcome: queue.SimpleQueue[WorkerWelcome | Leave] = queue.SimpleQueue()
        self.jobs: queue.SimpleQueue[Job | Leave] = queue.SimpleQueue()
        self._endpoint = endpoint
        self._hello = hello
        self._is_patient = is_patient
        self._outbox: collections.deque[Message] = collections.deque()
        self._answers: collections.deque[Message] = collections.deque(maxlen=KEPT_ANSWERS)
        self._ready: WorkerReady | None = None
        self._welcomed: WorkerWelcome | None = None
        self._is_joined = False
        self._heard_s = self._beat_s = time.monotonic()
        self._hello_s = self._connect_s = -1e9
        self._is_done = threading.Event()
        self._parent_said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.linger = 1000
        self._dealer.setsockopt(zmq.MAXMSGSIZE, wire.MAX_FRAME_BYTES)
        self._dealer.setsockopt(zmq.IPV6, 1)
        # Nothing waits in the socket for a connection that may be another daemon's.
        self._dealer.setsockopt(zmq.IMMEDIATE, 1)
        if is_patient:
            # A thread of the system gives signs of life while a detector holds the interpreter.
            self._dealer.heartbeat_ivl = HEARTBEAT_MS
            self._dealer.heartbeat_timeout = 5 * HEARTBEAT_MS
            self._dealer.reconnect_ivl_max = int(1000 * HELLO_S)
        self._monitor = self._dealer.get_monitor_socket(_FAILURES)
        try:
            if pair is not None:
                present(self._dealer, pair)
            self._dealer.connect(endpoint)
        except zmq.ZMQError:
            self._context.destroy(linger=0)
            raise
        self._wake_sender, self._wake_receiver = socket.socketpair()
        if has_parent:
            threading.Thread(target=self._watch_parent, name="parent", daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message, from any thread; it waits until the daemon is there."""
        if isinstance(message, WorkerReady):
            self._ready = message
        elif isinstance(message, Returned | Lost):
            self._answers.append(message)
        self._outbox.append(message)
        self._wake_sender.send(b"\0")

    def finish(self) -> None:
        """Send what is still to be sent, then close."""
        self._is_done.set()
        self._wake_sender.send(b"\0")
        self.join()
        self._dealer.disable_monitor()
        self._monitor.close()
        self._context.destroy()
        self._wake_sender.close()
        self._wake_receiver.close()

    def run(self) -> None:
        """Talk until the daemon or the main thread has had enough."""
        leave = self._talk()
        if leave is not None:
            self.welcome.put(leave)
            self.jobs.put(leave)
            if not self._is_done.wait(LEAVE_S):
                say(f"{leave.reason}, in the middle of a detection")
                os._exit(leave.exit_code)

    def _talk(self) -> Leave | None:
        poller = zmq.Poller()
        for source in self._dealer, self._monitor, self._wake_receiver:
            poller.register(source, zmq.POLLIN)
        while True:
            is_waiting = not self._is_joined and self._hello_s < 0
            ready = dict(poller.poll(int(1000 * (CONNECTING_POLL_S if is_waiting else POLL_S))))
            if self._wake_receiver.fileno() in ready:
                self._wake_receiver.recv(4096)
            if self._monitor in ready:
                self._note_refusal(int(recv_monitor_message(self._monitor)["event"]))
            # Asked before the outbox is emptied: what was sent before `finish` still goes out.
            is_done = self._is_done.is_set()
            self._empty_outbox()
            if is_done:
                return None
            while self._dealer.poll(0):
                if leave := self._take(self._receive()):
                    return leave
            if leave := self._look_at_parent() or self._look_at_clock(time.monotonic()):
                return leave

    def _take(self, message: Message | None) -> Leave | None:
        self._heard_s = time.monotonic()
        match message:
            case WorkerDismissed(reason=reason, may_return=True) if self._is_patient:
                say(f"held for lost ({reason}), joining again")
                self._rejoin()
            case WorkerDismissed(reason=reason):
                refused = REFUSED if self._is_patient else 1
                return Leave(f"dismissed: {reason}", 0 if self._welcomed else refused)
            case WorkerWelcome(session=session):
                if self._welcomed is None:
                    self._welcomed = message
                    self.welcome.put(message)
                elif self._welcomed.session != session:
                    return Leave("another run has begun", 0)
                else:
                    # What was under way when the connection broke may have been lost with it.
                    again = [*([self._ready] if self._ready else []), *tuple(self._answers)]
                    waiting = {id(kept) for kept in tuple(self._outbox)}
                    self._outbox.extend(kept for kept in again if id(kept) not in waiting)
                self._is_joined = True
            case DetectImage() | InspectRegion() | ClassifySpectra() if self._is_joined:
                self._send_now(JobArrived())
                self.jobs.put(message)
            case _:
                pass
        return None

    def _look_at_clock(self, now_s: float) -> Leave | None:
        welcome = self._welcomed
        # A process that was stopped, or an interpreter that was locked, wakes up late with the
        # daemon's messages waiting: silence is only what an empty socket says.
        silent_s = 0.0 if self._dealer.poll(0) else now_s - self._heard_s
        limit_s = welcome.silence_s if welcome else HELLO_TIMEOUT_S
        if silent_s >= limit_s and not self._is_patient:
            return Leave(f"heard nothing from {self._endpoint} for {limit_s:g} s", 1)
        if self._is_joined and silent_s >= limit_s:
            say(f"heard nothing from {self._endpoint} for {limit_s:g} s, joining again")
            self._rejoin()
        if not self._is_joined:
            self._say_hello(now_s)
        elif welcome and now_s - self._beat_s >= welcome.heartbeat_s:
            self._beat_s = now_s
            self._send_now(Heartbeat())
        if self._connect_s > 0 and now_s >= self._connect_s:
            self._connect_s = -1e9
            with contextlib.suppress(zmq.ZMQError):
                self._dealer.disconnect(self._endpoint)
            self._dealer.connect(self._endpoint)
        return None

    def _say_hello(self, now_s: float) -> None:
        is_first = self._hello_s < 0
        if (is_first or self._is_patient) and now_s - self._hello_s >= HELLO_S:
            if self._send_now(self._hello):
                self._hello_s = now_s

    def _rejoin(self) -> None:
        """Begin anew; the jobs that wait are given to others meanwhile."""
        self._is_joined, self._hello_s = False, -1e9
        with contextlib.suppress(queue.Empty):
            while True:
                self.jobs.get_nowait()

    def _look_at_parent(self) -> Leave | None:
        if self._parent_said.empty():
            return None
        if self._parent_said.get() != LEAVE:
            return Leave("the daemon is gone", 1)
        if not self._is_joined:
            return Leave("left", 0)
        self._outbox.append(WorkerLeaving())
        return None

    def _watch_parent(self) -> None:
        word = LEAVE
        while word == LEAVE:
            # Not by way of sys.stdin, whose lock would be held when the interpreter ends.
            word = os.read(0, 1)
            self._parent_said.put(word)
            with contextlib.suppress(OSError):
                self._wake_sender.send(b"\0")

    def _note_refusal(self, event: int) -> None:
        """Try again later: the system gives up on a daemon that refused a key once."""
        if self._connect_s < 0:
            self._connect_s = time.monotonic() + HELLO_S
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                say(f"{self._endpoint} does not let this key in: `sparse-actors keys allow` it there")
            else:
                say(f"{self._endpoint} does not understand this key: does it want one, is it that daemon?")

    def _empty_outbox(self) -> None:
        while self._is_joined and self._outbox and self._send_now(self._outbox[0]):
            self._outbox.popleft()

    def _send_now(self, message: Message) -> bool:
        try:
            self._dealer.send_multipart(wire.encode(message), flags=zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def _receive(self) -> Message | None:
        frames = self._dealer.recv_multipart(copy=False)
        try:
            return wire.decode([frame.buffer for frame in frames], may_be_packed=True)
        except WireError as error:
            say(f"ignored from the daemon: {error}")
            return None


def say(line: str) -> None:
    """Tell whoever started the worker."""
    print(f"worker {os.getpid()}: {line}", file=sys.stderr, flush=True)
