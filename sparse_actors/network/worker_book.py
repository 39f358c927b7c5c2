"""Who works on what: the decisions of the worker pool, without socket, process or clock."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import replace

from sparse_actors.errors import ClassifierError, DetectorError
from sparse_actors.messages import (
    ClassifySpectra,
    Heartbeat,
    JobArrived,
    Message,
    ResultCameLate,
    WorkerDismissed,
    WorkerHello,
    WorkerJoined,
    WorkerLeaving,
    WorkerLost,
    WorkerReady,
    WorkerWelcome,
)
from sparse_actors.version import VERSION

from . import jobs
from .effects import Effect, Kill, Publish, Refuse, Send
from .jobs import Job, JobKey, Lost, Returned
from .link_rate import LinkRate
from .worker_record import Given, WorkerRecord

MAX_REASON_CHARACTERS = 2000
"""A reason longer than this (a traceback in an exception's text) is cut."""
MAX_SILENCES = 2
"""A job with which so many workers fell silent is given up: it may be what stops them."""
MAX_STRAYS = 1024
MAX_TAGS, MAX_TAG_CHARACTERS = 16, 40
STOPPED_S = 0.15
"""A local worker that cannot be reached for so long and has not ended was stopped."""
CUT_AFTER = 0.8
"""A connection that ends after this part of the longest silence was cut; else its process ended."""


class WorkerBook:
    """The workers, the queue, and who has which job.

    Every order ends in exactly one answer, that it is done or that it is lost; whoever gave it decides
    whether to try again. A job whose worker vanished through no fault of the job is queued again, in
    front: whichever worker answers first, answers it. States of a worker::

        expect()        hello            ready             leaving
        ---------> starting ----> joining ----> ready ----------------> leaving
        external ---------------------^

    From every state it can be lost (dead, silent, late, vanished), and is then forgotten. If it was
    only silent it may come back, and what it did meanwhile counts if nobody else did it.

    Parameters
    ----------
    welcome
        What a worker is told when it joins; its times (s) hold for this side too.
    token
        Secret that an external worker without a key must show. Local ones get one each, with `expect`.
    join_s
        Longest time from start to ready, and longest wait of a job for any worker that can do it.
    needs
        Tags that a worker must have to be given images.
    local_tags
        Those of the local workers.
    """

    def __init__(
        self,
        *,
        welcome: WorkerWelcome,
        token: str,
        join_s: float,
        needs: Collection[str] = (),
        local_tags: Collection[str] = (),
    ) -> None:
        self._welcome = welcome
        self._token = token
        self._join_s = join_s
        self._needs = frozenset(needs)
        self._local_tags = frozenset(local_tags)
        self._workers: dict[str, WorkerRecord] = {}
        self._peers: dict[bytes, WorkerRecord] = {}
        self._local_names_by_token: dict[str, str] = {}
        self._queue: deque[Job] = deque()
        self._seen: set[JobKey] = set()
        self._open: dict[JobKey, int] = {}
        """Jobs without an answer, and how many workers fell silent with each."""
        self._strays: dict[tuple[JobKey, str], Job] = {}
        """Jobs that silent workers may still answer, without their arrays."""
        self._late = 0
        self._unmanned_since_s: float | None = None
        self._next_heartbeat_s = 0.0

    @property
    def open_jobs(self) -> int:
        """Number of jobs queued or at a worker; may be read from any thread."""
        return len(self._open)

    def submit(self, order: Job, now_s: float) -> list[Effect]:
        """Take a job; the same job and attempt a second time is ignored."""
        key = jobs.key(order)
        if key in self._seen:
            return []
        self._seen.add(key)
        self._open[key] = 0
        if reason := jobs.problem(order):
            return [self._lost(order, reason)]
        self._queue.append(order)
        return list(self._assign(now_s))

    def expect(self, name: str, token: str, now_s: float) -> None:
        """Note a local worker that was just started, with the token it will show."""
        self._workers[name] = WorkerRecord(name, True, now_s, now_s, "starting", tags=self._local_tags)
        self._local_names_by_token[token] = name

    def receive(self, peer: bytes, message: Message, now_s: float, user: str = "") -> list[Effect]:
        """Act on a message from a socket; `user` is the name of the key that its sender showed, if any."""
        worker = self._peers.get(peer)
        if isinstance(message, WorkerHello) and (worker is None or not worker.is_local):
            return list(self._admit(peer, message, now_s, user))
        if worker is None:
            refused = Refuse(f"{type(message).__name__} from a peer that is no worker")
            if isinstance(message, Heartbeat):  # one that was held for lost, or knew another daemon
                return [Send(peer, WorkerDismissed(reason="not known here", may_return=True)), refused]
            return [refused]
        worker.heard_s = now_s
        match message:
            case Heartbeat():
                return []
            case WorkerReady(phases=phases, models=models) if worker.state == "joining":
                worker.state = "ready"
                joined = WorkerJoined(
                    worker=worker.name,
                    host=worker.host,
                    pid=worker.pid,
                    phases=phases,
                    tags=tuple(sorted(worker.tags)),
                    models=tuple(model[:80] for model in models[:3]),
                )
                return [Publish(joined), *self._assign(now_s)]
            case WorkerLost(reason=reason):
                return list(self._lose(worker, reason[:MAX_REASON_CHARACTERS], now_s))
            case WorkerLeaving() if worker.state == "ready":
                worker.state = "leaving"
                self._requeue([worker.given.pop() for _ in range(len(worker.given) - 1)][::-1])
                return [*self._let_go(worker, now_s), *self._assign(now_s)]
            case JobArrived() if worker.arrived(now_s, self._welcome.deadline_s):
                return []
            case _ if isinstance(message, Returned | Lost):
                key = jobs.key(message)
                for given in worker.given:
                    if given.key == key:
                        return list(self._finish(worker, given, message, now_s))
                if key in self._seen and not worker.is_local:
                    return list(self._take_late(worker, key, message, now_s))
        return [Refuse(f"{type(message).__name__} from {worker.name}, which was not expected")]

    def worker_died(self, name: str, reason: str, now_s: float) -> list[Effect]:
        """Note that the process of a local worker ended."""
        worker = self._workers.get(name)
        return list(self._lose(worker, f"worker died: {reason}", now_s)) if worker else []

    def unreachable(self, peer: bytes, now_s: float, *, is_cut: bool = False) -> list[Effect]:
        """Note that nothing can be sent to a peer; `is_cut` if it is known that its process did not end."""
        worker = self._peers.get(peer)
        if worker is None:
            return []
        if worker.is_local:
            # Its process is watched, which tells more, but may take a moment.
            worker.unreachable_s = min(worker.unreachable_s, now_s)
            return []
        silent_s = now_s - worker.heard_s
        if is_cut or silent_s >= CUT_AFTER * self._welcome.silence_s:
            return list(self._lose(worker, f"silent for {silent_s:.1f} s", now_s, is_faultless=True))
        return list(self._lose(worker, "connection lost", now_s))

    def ping(self) -> list[Effect]:
        """Send something to everybody: who is gone cannot be reached."""
        return [Send(peer, Heartbeat()) for peer in self._peers]

    def keep_only(self, users: Collection[str], now_s: float) -> list[Effect]:
        """Send workers away whose key is not allowed any more."""
        effects: list[Effect] = []
        for worker in tuple(self._workers.values()):
            if worker.user and worker.user not in users:
                effects += self._lose(worker, "its key was revoked", now_s, is_faultless=True, is_final=True)
        return effects

    def tick(self, now_s: float, no_help: str = "") -> list[Effect]:
        """Look at the clock: deadlines, silence, heartbeats.

        Parameters
        ----------
        no_help
            Why no local worker will be started for now, or empty.
        """
        effects: list[Effect] = []
        for worker in tuple(self._workers.values()):
            if worker.given and now_s >= worker.given[0].due_s:
                text = f"exceeded its deadline of {self._welcome.deadline_s:g} s"
                reason = f"{self._plugin(worker.given[0].job)} {text}"
                effects += self._lose(worker, reason, now_s, is_overdue=True)
            elif reason := self._overstepped(worker, now_s):
                effects += self._lose(worker, reason, now_s, is_faultless=True)
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
            effects += [
                self._lost(given.job, reason, worker.name)
                for given in worker.given
                if given.key in self._open
            ]
            worker.given.clear()
        return effects

    def _admit(self, peer: bytes, hello: WorkerHello, now_s: float, user: str) -> Iterator[Effect]:
        local_name = self._local_names_by_token.get(hello.token)
        is_known = bool(user) or secrets.compare_digest(hello.token.encode(), self._token.encode())
        if hello.version != VERSION:
            reason = (
                f"the worker is sparse-actors {hello.version[:40]}, the daemon {VERSION}: install the same"
            )
        elif local_name is None and not is_known:
            reason = "wrong token: set SPARSE_ACTORS_WORKER_TOKEN to the run's token"
        elif len(hello.tags) > MAX_TAGS or any(len(tag) > MAX_TAG_CHARACTERS for tag in hello.tags):
            reason = f"expected at most {MAX_TAGS} tags of {MAX_TAG_CHARACTERS} characters"
        else:
            reason = ""
        if reason:
            yield Send(peer, WorkerDismissed(reason=reason))
            yield Refuse(f"WorkerHello from {user or hello.host[:80]!r}: {reason}")
            return
        if local_name is not None:
            # Each start has a token of its own, good for one hello: nobody can pose as a local worker twice.
            del self._local_names_by_token[hello.token]
            worker = self._workers[local_name]
            welcome = replace(self._welcome, code={})
        else:
            yield from self._replace(peer, hello, user, now_s)
            worker = WorkerRecord(self._free_name(hello, user), False, now_s, now_s, "joining")
            worker.user, worker.tags, worker.link = user, frozenset(hello.tags), LinkRate()
            self._workers[worker.name] = worker
            welcome = self._welcome
        worker.state, worker.peer, worker.heard_s = "joining", peer, now_s
        worker.host, worker.pid = hello.host[:80], hello.pid
        self._peers[peer] = worker
        yield Send(peer, welcome)

    def _replace(self, peer: bytes, hello: WorkerHello, user: str, now_s: float) -> Iterator[Effect]:
        """Lose the same process on an older connection, and whoever it was on this one."""
        who = (hello.host[:80], hello.pid, user)
        for worker in tuple(self._workers.values()):
            if not worker.is_local and (
                worker.peer == peer or ((worker.host, worker.pid, worker.user) == who and user)
            ):
                # Not told: it is on its way back.
                self._peers.pop(worker.peer, None)
                worker.peer = b""
                yield from self._lose(worker, "joins again", now_s, is_faultless=True)

    def _free_name(self, hello: WorkerHello, user: str) -> str:
        name = base = f"{user}/{hello.slot}" if user else f"{hello.host[:80]}-{hello.pid}"
        number = 1
        while name in self._workers:
            number += 1
            name = f"{base}-{number}"
        return name

    def _assign(self, now_s: float) -> Iterator[Effect]:
        waiting: list[Job] = []
        while self._queue and any(worker.has_room for worker in self._workers.values()):
            order = self._queue.popleft()
            able = [w for w in self._workers.values() if w.has_room and self._can_do(w, order)]
            if not able:
                waiting.append(order)
                continue
            worker = min(able, key=WorkerRecord.expected_s)
            worker.give(order, now_s, self._welcome.deadline_s)
            yield Send(worker.peer, order, worker.link)
        self._queue.extendleft(reversed(waiting))

    def _can_do(self, worker: WorkerRecord, order: Job) -> bool:
        return isinstance(order, ClassifySpectra) or self._needs <= worker.tags

    def _finish(
        self, worker: WorkerRecord, given: Given, result: Returned | Lost, now_s: float
    ) -> Iterator[Effect]:
        worker.finished(given, now_s, self._welcome.deadline_s)
        if given.key in self._open:
            yield self._answer(worker, given.job, result)
        else:
            yield self._count_late(worker, is_used=False)
        yield from self._let_go(worker, now_s)
        yield from self._assign(now_s)

    def _answer(self, worker: WorkerRecord, job: Job, result: Returned | Lost) -> Publish:
        if isinstance(result, Lost):
            return self._lost(job, result.reason, worker.name)
        try:
            return self._ended(replace(jobs.checked(job, result), worker=worker.name))
        except (DetectorError, ClassifierError) as error:
            return self._lost(job, f"{self._plugin(job)}: {error}", worker.name)

    def _take_late(
        self, worker: WorkerRecord, key: JobKey, result: Returned | Lost, now_s: float
    ) -> Iterator[Effect]:
        """Use a result of a worker that was held for lost, if the job is still open."""
        job = self._strays.pop((key, worker.name), None)
        is_used = job is not None and key in self._open
        yield self._count_late(worker, is_used=is_used)
        if job is not None and is_used:
            self._queue = deque(order for order in self._queue if jobs.key(order) != key)
            yield self._answer(worker, job, result)

    def _count_late(self, worker: WorkerRecord, *, is_used: bool) -> Publish:
        self._late += 1
        return Publish(ResultCameLate(worker=worker.name, is_used=is_used, count=self._late))

    def _let_go(self, worker: WorkerRecord, now_s: float) -> Iterator[Effect]:
        if worker.state == "leaving" and not worker.given:
            yield from self._lose(worker, "left", now_s, is_final=True)

    def _lose(
        self,
        worker: WorkerRecord,
        reason: str,
        now_s: float,
        *,
        is_overdue: bool = False,
        is_faultless: bool = False,
        is_final: bool = False,
    ) -> Iterator[Effect]:
        """Forget a worker.

        Parameters
        ----------
        is_faultless
            Not the fault of the job that it is at: that is queued again.
        is_final
            It shall not come back by itself.
        """
        del self._workers[worker.name]
        self._peers.pop(worker.peer, None)
        for token, name in tuple(self._local_names_by_token.items()):
            if name == worker.name:
                del self._local_names_by_token[token]
        if worker.peer:
            may_return = is_faultless and not is_final and not worker.is_local
            yield Send(worker.peer, WorkerDismissed(reason=reason, may_return=may_return))
        if worker.is_local:
            yield Kill(worker.name, reason, is_overdue)
        yield Publish(WorkerLost(worker=worker.name, reason=reason))
        given = [entry for entry in worker.given if entry.key in self._open]
        if is_faultless:
            for entry in given:
                self._strays[entry.key, worker.name] = jobs.without_arrays(entry.job)
            while len(self._strays) > MAX_STRAYS:
                del self._strays[next(iter(self._strays))]
        if given and given[0] is worker.given[0]:
            first = given[0]
            self._open[first.key] += first.has_arrived
            if not is_faultless or self._open[first.key] >= MAX_SILENCES:
                yield self._lost(given.pop(0).job, reason, worker.name)
        self._requeue(given)
        yield from self._assign(now_s)

    def _requeue(self, given: list[Given]) -> None:
        """Put jobs back in front of the queue, the first given first."""
        self._queue.extendleft(entry.job for entry in reversed(given))

    def _overstepped(self, worker: WorkerRecord, now_s: float) -> str:
        """Return which limit of time, other than a job's, a worker has passed, or nothing."""
        if worker.state in ("starting", "joining") and now_s - worker.since_s >= self._join_s:
            return f"not ready {self._join_s:g} s after its start"
        if now_s - worker.unreachable_s >= STOPPED_S:
            return "its process gives no sign of life"
        # Compiled code may hold a worker's interpreter, and with it the heartbeat. A worker is therefore
        # held for dead in silence only when it has nothing to do. While it works, its connection tells,
        # which lives in a thread of the system.
        if worker.state == "ready" and not worker.given:
            if now_s - worker.heard_s >= self._welcome.silence_s:
                return f"silent for {self._welcome.silence_s:g} s"
        return ""

    def _release_queue(self, now_s: float, no_help: str) -> Iterator[Effect]:
        """Give queued jobs up when no worker is there that can do them, now or soon."""
        ready = [worker for worker in self._workers.values() if worker.state == "ready"]
        hopeless = [order for order in self._queue if not any(self._can_do(w, order) for w in ready)]
        if not hopeless:
            self._unmanned_since_s = None
            return
        if self._unmanned_since_s is None:
            self._unmanned_since_s = now_s
        with_tags = f" with {sorted(self._needs)}" if self._needs else ""
        if no_help and not self._workers:
            reason = no_help
        elif now_s - self._unmanned_since_s >= self._join_s:
            reason = f"no worker{with_tags} became ready within {self._join_s:g} s"
        else:
            return
        gone = {jobs.key(order) for order in hopeless}
        self._queue = deque(order for order in self._queue if jobs.key(order) not in gone)
        for order in hopeless:
            yield self._lost(order, reason)

    def _plugin(self, job: Job) -> str:
        kind, name = jobs.plugin(job, self._welcome)
        return f"{kind} {name!r}"

    def _lost(self, job: Job, reason: str, worker: str = "") -> Publish:
        return self._ended(jobs.lost(job, reason[:MAX_REASON_CHARACTERS], worker))

    def _ended(self, answer: Returned | Lost) -> Publish:
        del self._open[jobs.key(answer)]
        return Publish(answer)
