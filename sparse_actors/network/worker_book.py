"""Who works on what: the decisions of the worker pool, without socket, process or clock."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from sparse_actors.errors import ClassifierError, DetectorError
from sparse_actors.messages import (
    ClassificationLost,
    ClassificationReturned,
    DetectImage,
    DetectionLost,
    DetectionReturned,
    Heartbeat,
    Message,
    WorkerDismissed,
    WorkerHello,
    WorkerJoined,
    WorkerLost,
    WorkerReady,
    WorkerWelcome,
)
from sparse_actors.version import VERSION

from . import jobs
from .jobs import Job, JobKey, Lost, Returned

MAX_REASON_CHARACTERS = 2000
"""A reason longer than this (a traceback in an exception's text) is cut."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to the peer with this routing id."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the rest of the system."""

    message: Message


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process of a local worker."""

    worker: str
    reason: str
    is_overdue: bool
    """A job took too long; every other reason counts against the worker's restart budget."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Count a message that is not acted on."""

    reason: str


Effect = Send | Publish | Kill | Refuse


@dataclass(slots=True)
class _Worker:
    name: str
    is_local: bool
    since_s: float
    heard_s: float
    state: Literal["starting", "joining", "ready", "busy"]
    peer: bytes = b""
    host: str = ""
    pid: int = 0
    job: Job | None = None
    """Without its arrays."""
    due_s: float = 0.0
    """When the job is overdue."""


class WorkerBook:
    """The workers, the queue, and who has which job.

    A worker has at most one job. Every order ends in exactly one answer, that it is done or
    that it is lost; whoever gave it decides whether to try again. States of a worker::

        expect()        hello            ready          job
        ---------> starting ----> joining ----> ready <-----> busy
                        external ----^                 result

    From every state it can be lost (dead, silent, late, vanished), and is then forgotten: what
    it still says is refused.

    Parameters
    ----------
    welcome
        What a worker is told when it joins; its times (s) hold for this side too.
    token
        Secret that an external worker must show. Local ones get one each, with `expect`.
    join_s
        Longest time from start to ready, and longest wait of a job for any ready worker.
    """

    def __init__(self, *, welcome: WorkerWelcome, token: str, join_s: float) -> None:
        self._welcome = welcome
        self._token = token
        self._join_s = join_s
        self._workers: dict[str, _Worker] = {}
        self._peers: dict[bytes, _Worker] = {}
        self._local_names_by_token: dict[str, str] = {}
        self._queue: deque[Job] = deque()
        self._seen: set[JobKey] = set()
        self._answered = 0
        self._unmanned_since_s: float | None = None
        self._next_heartbeat_s = 0.0

    @property
    def open_jobs(self) -> int:
        """Number of jobs queued or at a worker; may be read from any thread."""
        return len(self._seen) - self._answered

    def submit(self, order: Job, now_s: float) -> list[Effect]:
        """Take a job; the same job and attempt a second time is ignored."""
        key = jobs.key(order)
        if key in self._seen:
            return []
        self._seen.add(key)
        if reason := jobs.problem(order):
            return [self._lost(order, reason)]
        self._queue.append(order)
        return list(self._assign(now_s))

    def expect(self, name: str, token: str, now_s: float) -> None:
        """Note a local worker that was just started, with the token it will show."""
        self._workers[name] = _Worker(name, True, now_s, now_s, "starting")
        self._local_names_by_token[token] = name

    def receive(self, peer: bytes, message: Message, now_s: float) -> list[Effect]:
        """Act on a message from a socket."""
        worker = self._peers.get(peer)
        if worker is None:
            if isinstance(message, WorkerHello):
                return list(self._admit(peer, message, now_s))
            return [Refuse(f"{type(message).__name__} from a peer that is no worker")]
        worker.heard_s = now_s
        match message:
            case Heartbeat():
                return []
            case WorkerReady(phases=phases) if worker.state == "joining":
                worker.state = "ready"
                joined = WorkerJoined(worker=worker.name, host=worker.host, pid=worker.pid, phases=phases)
                return [Publish(joined), *self._assign(now_s)]
            case WorkerLost(reason=reason):
                return list(self._lose(worker, reason[:MAX_REASON_CHARACTERS]))
            case DetectionReturned() | DetectionLost() | ClassificationReturned() | ClassificationLost():
                job = worker.job
                if job and jobs.key(message) == jobs.key(job):
                    return list(self._finish(worker, job, message, now_s))
        return [Refuse(f"{type(message).__name__} from {worker.name}, which was not expected")]

    def worker_died(self, name: str, reason: str) -> list[Effect]:
        """Note that the process of a local worker ended."""
        worker = self._workers.get(name)
        return list(self._lose(worker, f"worker died: {reason}")) if worker else []

    def unreachable(self, peer: bytes) -> list[Effect]:
        """Note that nothing can be sent to a peer.

        Of local workers the process is watched, which tells more.
        """
        worker = self._peers.get(peer)
        return list(self._lose(worker, "connection lost")) if worker and not worker.is_local else []

    def tick(self, now_s: float, no_help: str = "") -> list[Effect]:
        """Look at the clock: deadlines, silence, heartbeats.

        Parameters
        ----------
        no_help
            Why no local worker will be started for now, or empty.
        """
        effects: list[Effect] = []
        for worker in tuple(self._workers.values()):
            if worker.job and now_s >= worker.due_s:
                text = f"exceeded its deadline of {self._welcome.deadline_s:g} s"
                effects += self._lose(worker, f"{self._plugin(worker.job)} {text}", is_overdue=True)
            elif reason := self._overstepped(worker, now_s):
                effects += self._lose(worker, reason)
        if now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + self._welcome.heartbeat_s
            effects += [Send(peer, Heartbeat()) for peer in self._peers]
        return [*effects, *self._assign(now_s), *self._release_queue(now_s, no_help)]

    def dismiss_all(self, reason: str) -> list[Effect]:
        """Let every worker go. Open jobs end without an answer: nobody is there to hear it."""
        return [Send(peer, WorkerDismissed(reason=reason)) for peer in self._peers]

    def abandon(self, reason: str) -> list[Publish]:
        """End every open job as lost."""
        effects = [self._lost(order, reason) for order in self._queue]
        self._queue.clear()
        for worker in self._workers.values():
            if worker.job:
                effects.append(self._lost(worker.job, reason, worker.name))
                worker.job = None
        return effects

    def _admit(self, peer: bytes, hello: WorkerHello, now_s: float) -> Iterator[Effect]:
        local_name = self._local_names_by_token.get(hello.token)
        is_known = secrets.compare_digest(hello.token.encode(), self._token.encode())
        if hello.version != VERSION:
            reason = (
                f"the worker is sparse-actors {hello.version[:40]}, the daemon {VERSION}: install the same"
            )
        elif local_name is None and not is_known:
            reason = "wrong token: set SPARSE_ACTORS_WORKER_TOKEN to the run's token"
        else:
            reason = ""
        if reason:
            yield Send(peer, WorkerDismissed(reason=reason))
            yield Refuse(f"WorkerHello from {hello.host[:80]!r}: {reason}")
            return
        if local_name is not None:
            # Each start has a token of its own, good for one hello: nobody can pose as a local worker twice.
            del self._local_names_by_token[hello.token]
            worker = self._workers[local_name]
        else:
            name = base = f"{hello.host[:80]}-{hello.pid}"
            number = 1
            while name in self._workers:
                number += 1
                name = f"{base}-{number}"
            worker = self._workers[name] = _Worker(name, False, now_s, now_s, "joining")
        worker.state, worker.peer, worker.heard_s = "joining", peer, now_s
        worker.host, worker.pid = hello.host[:80], hello.pid
        self._peers[peer] = worker
        yield Send(peer, self._welcome)

    def _assign(self, now_s: float) -> Iterator[Effect]:
        for worker in self._workers.values():
            if not self._queue:
                return
            if worker.state == "ready":
                order = self._queue.popleft()
                worker.job, worker.due_s = jobs.without_arrays(order), now_s + self._welcome.deadline_s
                worker.state = "busy"
                yield Send(worker.peer, order)

    def _finish(self, worker: _Worker, job: Job, result: Returned | Lost, now_s: float) -> Iterator[Effect]:
        worker.job, worker.state = None, "ready"
        if isinstance(result, DetectionLost | ClassificationLost):
            yield self._lost(job, result.reason, worker.name)
        else:
            try:
                yield self._ended(replace(jobs.checked(job, result), worker=worker.name))
            except (DetectorError, ClassifierError) as error:
                yield self._lost(job, f"{self._plugin(job)}: {error}", worker.name)
        yield from self._assign(now_s)

    def _lose(self, worker: _Worker, reason: str, *, is_overdue: bool = False) -> Iterator[Effect]:
        del self._workers[worker.name]
        self._peers.pop(worker.peer, None)
        for token, name in tuple(self._local_names_by_token.items()):
            if name == worker.name:
                del self._local_names_by_token[token]
        if worker.peer:
            yield Send(worker.peer, WorkerDismissed(reason=reason))
        if worker.is_local:
            yield Kill(worker.name, reason, is_overdue)
        yield Publish(WorkerLost(worker=worker.name, reason=reason))
        if worker.job:
            yield self._lost(worker.job, reason, worker.name)

    def _overstepped(self, worker: _Worker, now_s: float) -> str:
        """Return which limit of time, other than a job's, a worker has passed, or nothing."""
        if worker.state in ("starting", "joining") and now_s - worker.since_s >= self._join_s:
            return f"not ready {self._join_s:g} s after its start"
        # Compiled code may hold a worker's interpreter, and with it the heartbeat. A local worker
        # is therefore held for dead in silence only when it has nothing to do.
        if worker.state == "ready" or not worker.is_local:
            if now_s - worker.heard_s >= self._welcome.silence_s:
                return f"silent for {self._welcome.silence_s:g} s"
        return ""

    def _release_queue(self, now_s: float, no_help: str) -> Iterator[Effect]:
        """Give queued jobs up when no worker is there to take them, now or soon."""
        if not self._queue or any(worker.state in ("ready", "busy") for worker in self._workers.values()):
            self._unmanned_since_s = None
            return
        if self._unmanned_since_s is None:
            self._unmanned_since_s = now_s
        if no_help and not self._workers:
            reason = no_help
        elif now_s - self._unmanned_since_s >= self._join_s:
            reason = f"no worker became ready within {self._join_s:g} s"
        else:
            return
        while self._queue:
            yield self._lost(self._queue.popleft(), reason)

    def _plugin(self, job: Job) -> str:
        welcome = self._welcome
        is_image = isinstance(job, DetectImage)
        return f"detector {welcome.detector!r}" if is_image else f"classifier {welcome.classifier!r}"

    def _lost(self, job: Job, reason: str, worker: str = "") -> Publish:
        return self._ended(jobs.lost(job, reason[:MAX_REASON_CHARACTERS], worker))

    def _ended(self, answer: Returned | Lost) -> Publish:
        self._answered += 1
        return Publish(answer)
