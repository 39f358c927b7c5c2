"""The worker process: one thread talks to the daemon, the main thread detects and classifies.

The socket has a thread of its own so that heartbeats go on while a detector works; the detector
has the main thread, where compiled libraries behave best.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import os
import queue
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq

from sparse_actors import plugins, wire
from sparse_actors.contracts.classifier import SpectrumClassifier
from sparse_actors.contracts.detector import Detector, Pois, checked_pois
from sparse_actors.errors import ClassifierError, DetectorError, WireError
from sparse_actors.map_files import OPTIONS, changed, option_files
from sparse_actors.messages import (
    ClassificationReturned,
    ClassifySpectra,
    DetectImage,
    DetectionReturned,
    Heartbeat,
    Message,
    WorkerDismissed,
    WorkerHello,
    WorkerLost,
    WorkerReady,
    WorkerWelcome,
)
from sparse_actors.version import VERSION

from . import jobs
from .jobs import Job, Lost, Returned
from .local_workers import PARENT_VARIABLE, TOKEN_VARIABLE

HELLO_TIMEOUT_S = 20.0
"""A daemon that has not answered by then is not there."""
POLL_S = 0.1
LEAVE_S = 0.5
"""Time for a detector to finish once there is nobody to tell; then the process ends under it."""


@dataclass(frozen=True, slots=True)
class _Leave:
    """The end of a worker: why, and the exit code of its process."""

    reason: str
    exit_code: int


def run_worker(endpoint: str, token: str | None = None) -> int:
    """Detect what the daemon at `endpoint` sends until it ends; owns the process and its main thread.

    Parameters
    ----------
    endpoint
        "ipc://..." or "tcp://host:port", as the daemon names it.
    token
        The run's secret; None takes it from SPARSE_ACTORS_WORKER_TOKEN.

    Returns
    -------
    int
        Exit code: 0 when dismissed at the end of a run, else 1.
    """
    parent_pid = int(os.environ.pop(PARENT_VARIABLE, "0"))
    token_found = os.environ.pop(TOKEN_VARIABLE, "")
    if parent_pid:
        # Ctrl-C belongs to the daemon, which then dismisses its workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        link = _Link(endpoint, token_found if token is None else token, parent_pid)
    except zmq.ZMQError as error:
        _say(f"{endpoint!r} is not an endpoint: {error.strerror}")
        return 1
    link.start()
    try:
        leave = _serve(link)
    finally:
        link.finish()
    _say(leave.reason)
    return leave.exit_code


def _serve(link: _Link) -> _Leave:
    welcome = link.welcome.get()
    if isinstance(welcome, _Leave):
        return welcome
    try:
        skills = _Skills(welcome)
    except _LoadError as error:
        link.send(WorkerLost(worker="", reason=str(error)))
        return _Leave(str(error), 1)
    link.send(WorkerReady(phases=skills.phases))
    while not isinstance(job := link.jobs.get(), _Leave):
        # Native code that never lets go of the interpreter also stops the other thread, which would
        # see that the daemon is gone. This timer needs no interpreter; it prints where the code hangs.
        faulthandler.dump_traceback_later(welcome.deadline_s + welcome.silence_s, exit=True)
        answer = skills.do(job)
        faulthandler.cancel_dump_traceback_later()
        link.send(answer)
    return job


class _LoadError(Exception):
    """A detector or classifier could not be made."""


class _Skills:
    """The detector and the classifier of a run, as far as it has them."""

    def __init__(self, welcome: WorkerWelcome) -> None:
        self._welcome = welcome
        self._detector: Detector | None = None
        self._classifier: SpectrumClassifier | None = None
        self.phases: tuple[str, ...] = ()
        if welcome.detector:
            self._detector = _built("detector", welcome.detector, welcome.options)
            _warm_up(self._detector)
        if welcome.classifier:
            before = {k: v for k, v in welcome.classifier_files.items() if k.startswith(OPTIONS)}
            if problems := changed(before, option_files(welcome.classifier_options, OPTIONS)):
                raise _LoadError("; ".join(problems))
            self._classifier = _built("classifier", welcome.classifier, welcome.classifier_options)
            self.phases = tuple(self._classifier.phases)

    def do(self, job: Job) -> Returned | Lost:
        """Do a job; whatever goes wrong is its answer."""
        kind = "detector" if isinstance(job, DetectImage) else "classifier"
        name = self._welcome.detector if isinstance(job, DetectImage) else self._welcome.classifier
        try:
            return self._detect(job) if isinstance(job, DetectImage) else self._classify(job)
        except (DetectorError, ClassifierError) as error:
            reason = f"{kind} {name!r}: {error}"
        except BaseException as error:
            reason = f"{kind} {name!r} raised {type(error).__name__}: {error}"
        return jobs.lost(job, reason, worker="")

    def _detect(self, job: DetectImage) -> DetectionReturned:
        if self._detector is None:
            raise DetectorError("the run has no detector")
        started_s = time.perf_counter()
        result = self._detector.detect(job.image, job.scale)
        elapsed_s = time.perf_counter() - started_s
        rows, columns = job.image.shape
        pois = checked_pois(result, (rows, columns), job.scale)
        return DetectionReturned(
            partition=job.partition,
            attempt=job.attempt,
            pois=Pois.at(pois.xy_px, pois.score, pois.boxes_px),  # of the exact types that are sent
            worker="",
            elapsed_s=elapsed_s,
        )

    def _classify(self, job: ClassifySpectra) -> ClassificationReturned:
        if self._classifier is None:
            raise ClassifierError("the run has no classifier")
        started_s = time.perf_counter()
        result = self._classifier.classify(job.counts, job.live_time_s, job.axis)
        elapsed_s = time.perf_counter() - started_s
        classes = jobs.checked_classes(result, len(job.counts))
        if self.phases and classes.labels.max(initial=0) > len(self.phases):
            raise ClassifierError(f"label {classes.labels.max()} of {len(self.phases)} phases")
        return ClassificationReturned(
            field=job.field,
            batch=job.batch,
            attempt=job.attempt,
            classes=classes,
            worker="",
            elapsed_s=elapsed_s,
        )


def _built(kind: plugins.Kind, name: str, options: dict[str, Any]) -> Any:
    try:
        return plugins.build(kind, name, options)
    except BaseException as error:
        reason = f"{kind} {name!r} could not be loaded: {type(error).__name__}: {error}"
        raise _LoadError(reason) from None


def _warm_up(detector: Detector) -> None:
    """Let the detector compile itself on a tiny image, before an image has to wait for it."""
    image = np.zeros((32, 32), dtype=np.uint8)
    image[12:20, 12:20] = 255
    image.flags.writeable = False
    # A detector need not work on so small an image.
    with contextlib.suppress(Exception):
        detector.detect(image, 1)


class _Link(threading.Thread):
    """Owns the socket; hands the main thread what the daemon says, and says what it is told."""

    def __init__(self, endpoint: str, token: str, parent_pid: int) -> None:
        super().__init__(name="link", daemon=True)
        self.welcome: queue.SimpleQueue[WorkerWelcome | _Leave] = queue.SimpleQueue()
        self.jobs: queue.SimpleQueue[Job | _Leave] = queue.SimpleQueue()
        self._outbox: collections.deque[Message] = collections.deque()
        self._endpoint = endpoint
        self._parent_pid = parent_pid
        self._is_done = threading.Event()
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.linger = 1000
        self._dealer.setsockopt(zmq.MAXMSGSIZE, wire.MAX_FRAME_BYTES)
        self._dealer.setsockopt(zmq.IPV6, 1)
        try:
            self._dealer.connect(endpoint)
        except zmq.ZMQError:
            self._context.destroy(linger=0)
            raise
        self._wake_sender, self._wake_receiver = socket.socketpair()
        self.send(
            WorkerHello(token=token, version=VERSION, host=socket.gethostname(), pid=os.getpid()),
        )

    def send(self, message: Message) -> None:
        """Send a message, from any thread."""
        self._outbox.append(message)
        self._wake_sender.send(b"\0")

    def finish(self) -> None:
        """Send what is still to be sent, then close."""
        self._is_done.set()
        self._wake_sender.send(b"\0")
        self.join()
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
                _say(f"{leave.reason}, in the middle of a detection")
                os._exit(leave.exit_code)

    def _talk(self) -> _Leave | None:
        poller = zmq.Poller()
        poller.register(self._dealer, zmq.POLLIN)
        poller.register(self._wake_receiver, zmq.POLLIN)
        welcome: WorkerWelcome | None = None
        heard_s = beat_s = time.monotonic()
        while True:
            ready = dict(poller.poll(int(POLL_S * 1000)))
            if self._wake_receiver.fileno() in ready:
                self._wake_receiver.recv(4096)
            # Asked before the outbox is emptied: what was sent before `finish` still goes out.
            is_done = self._is_done.is_set()
            while self._outbox:
                self._dealer.send_multipart(wire.encode(self._outbox.popleft()), copy=False)
            if is_done:
                return None
            while self._dealer.poll(0):
                heard_s = time.monotonic()
                match self._receive():
                    case WorkerDismissed(reason=reason):
                        return _Leave(f"dismissed: {reason}", 0 if welcome else 1)
                    case WorkerWelcome() as welcome:
                        self.welcome.put(welcome)
                    case DetectImage() | ClassifySpectra() as job:
                        self.jobs.put(job)
            now_s = time.monotonic()
            limit_s = welcome.silence_s if welcome else HELLO_TIMEOUT_S
            # A process that was stopped, or an interpreter that was locked, wakes up late with the
            # daemon's messages waiting: silence is only what an empty socket says.
            if now_s - heard_s >= limit_s and not self._dealer.poll(0):
                return _Leave(f"heard nothing from {self._endpoint} for {limit_s:g} s", 1)
            if self._parent_pid and os.name == "posix" and os.getppid() != self._parent_pid:
                return _Leave("the daemon is gone", 1)
            if welcome and now_s - beat_s >= welcome.heartbeat_s:
                beat_s = now_s
                self._dealer.send_multipart(wire.encode(Heartbeat()))

    def _receive(self) -> Message | None:
        frames = self._dealer.recv_multipart(copy=False)
        try:
            return wire.decode([frame.buffer for frame in frames])
        except WireError as error:
            _say(f"ignored from the daemon: {error}")
            return None


def _say(line: str) -> None:
    print(f"worker {os.getpid()}: {line}", file=sys.stderr, flush=True)
