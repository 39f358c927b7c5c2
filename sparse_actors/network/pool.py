"""The worker pool: detection and classification in processes of their own, behind one socket."""

from __future__ import annotations

import queue
import secrets
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from sparse_actors.errors import WireError
from sparse_actors.messages import (
    ActorFailed,
    ClassifySpectra,
    DetectImage,
    DetectionReturned,
    InspectRegion,
    Message,
    WorkerWelcome,
)

from .effects import Effect, Kill, Publish, Refuse, Send
from .endpoints import check_listen
from .jobs import Job
from .keys import Keys
from .local_workers import KILL_S, LocalWorkers
from .refusals import Refusals
from .router import Router
from .worker_book import WorkerBook

POLL_S = 0.05
"""How long the death of a local worker may go unseen."""
PING_S = 0.2
"""A connection that ended is asked after for so long, in case the system is not done with it."""
MAX_OPEN_JOBS = 512


class WorkerPool:
    """Hands images and spectra to workers over ZeroMQ and publishes what they return; see `Pool`.

    One thread owns the socket and the local processes; the decisions are in `WorkerBook`.

    Parameters
    ----------
    publish
        Called with every message, from the pool's thread.
    now
        Unix time (s) on a clock that never steps.
    welcome
        What workers are told; its times hold for this side too.
    local_workers
        Number of worker processes on this machine.
    listen
        A further endpoint for workers started by hand, such as "tcp://127.0.0.1:5555", or "".
    token
        Secret that those must show; empty makes a random one.
    keys
        Instead of a token those must show a key that is allowed; `listen` is encrypted.
    needs
        Tags that a worker must have to be given images.
    tags
        Those of the local workers.
    join_s
        Longest time in which a worker must load its detector.
    restart_budget, restart_window_s
        So many deaths of a local worker in so long a time are each followed by a restart at once.
    log
        File that gets what local workers print; None discards it.

    Raises
    ------
    ConfigError
        `listen` may not be listened on.
    """

    name = "workers"
    accepts: tuple[type[Message], ...] = (DetectImage, InspectRegion, ClassifySpectra)

    def __init__(
        self,
        *,
        publish: Callable[[Message], None],
        now: Callable[[], float],
        welcome: WorkerWelcome,
        local_workers: int,
        listen: str = "",
        token: str = "",
        keys: Keys | None = None,
        needs: Collection[str] = (),
        tags: Collection[str] = (),
        join_s: float = 120.0,
        restart_budget: int = 5,
        restart_window_s: float = 60.0,
        log: Path | None = None,
    ) -> None:
        check_listen(listen, keys)
        self.token = token or secrets.token_urlsafe(32)
        self._publish = publish
        self._refusals = Refusals(publish)
        self._now = now
        self._open_router = partial(Router, listen, keys, welcome.heartbeat_s, welcome.silence_s)
        self._book = WorkerBook(
            welcome=welcome, token=self.token, join_s=join_s, needs=needs, local_tags=tags
        )
        self._local = LocalWorkers(
            count=local_workers, restart_budget=restart_budget, restart_window_s=restart_window_s, log=log
        )
        self._inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._router: Router | None = None
        self._thread: threading.Thread | None = None
        self._stop_timeout_s = 2.0
        self._ping_until_s = 0.0

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where workers connect: the private endpoint, then `listen`; empty unless open."""
        router = self._router
        return tuple(router.endpoints) if router else ()

    def start(self) -> None:
        """Open the socket and start the workers; they join as they become ready."""
        router = self._router = self._open_router()
        self._thread = threading.Thread(target=self._run, args=(router,), name="workers", daemon=True)
        self._thread.start()

    def offer(self, message: Message) -> bool:
        """Take an order; False when the pool is full or closed. Never blocks."""
        with self._lock:
            is_full = self._inbox.qsize() + self._book.open_jobs >= MAX_OPEN_JOBS
            if self._router is None or is_full or not isinstance(message, Job):
                return False
            self._inbox.put(message)
            self._router.wake()
        return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Dismiss the workers and wait for their end; open jobs are not answered any more.

        Parameters
        ----------
        timeout_s
            Workers that have not gone by then are killed.
        """
        with self._lock:
            router, self._router = self._router, None
            self._stop_timeout_s = timeout_s
            if router is not None:
                router.wake()
        if self._thread is not None:
            # The thread is never waited for without end: workers notice by themselves that it is gone.
            self._thread.join(timeout_s + 2 * KILL_S)

    def _run(self, router: Router) -> None:
        structlog.contextvars.bind_contextvars(actor=self.name)
        try:
            while self._router is not None:
                self._turn(router)
            self._apply(router, self._book.dismiss_all("the run ended"))
        except Exception as error:
            with self._lock:
                self._router = None
            self._publish(ActorFailed(actor=self.name, error=repr(error), is_final=True))
            while not self._inbox.empty():
                self._book.submit(self._inbox.get(), self._now())
            for effect in self._book.abandon(f"the worker pool failed: {error!r}"):
                self._publish(effect.message)
        finally:
            self._local.stop(self._stop_timeout_s)
            router.close()

    def _turn(self, router: Router) -> None:
        """Do what there is to do, then return within POLL_S."""
        for name, token in self._local.start_missing(router.endpoints[0], self._now()):
            self._book.expect(name, token, self._now())
        router.wait(POLL_S)
        while not self._inbox.empty():
            self._apply(router, self._book.submit(self._inbox.get(), self._now()))
        for peer, message, user in router.received():
            self._apply(router, self._decide(peer, message, user))
        now_s = self._now()
        if router.someone_left():
            self._ping_until_s = now_s + PING_S
        if now_s < self._ping_until_s:
            self._apply(router, self._book.ping())
        for name, reason, _ in self._local.ended(now_s):
            self._apply(router, self._book.worker_died(name, reason, now_s))
        self._apply(router, self._book.keep_only(router.users().values(), now_s))
        self._apply(router, self._book.tick(now_s, self._local.why_resting(now_s)))

    def _decide(self, peer: bytes, message: Message | WireError, user: str) -> list[Effect]:
        """Let the book judge a message; whatever a peer makes go wrong costs it the message only."""
        if isinstance(message, WireError):
            return [Refuse(str(message))]
        try:
            return self._book.receive(peer, message, self._now(), user)
        except Exception as error:
            return [Refuse(f"{type(message).__name__}: {error!r}")]

    def _apply(self, router: Router, effects: Iterable[Effect]) -> None:
        todo = deque(effects)
        while todo:
            match todo.popleft():
                case Publish(DetectionReturned() as returned):
                    self._publish(replace(returned, finished_s=self._now()))
                case Publish(message):
                    self._publish(message)
                case Send(peer, message, link):
                    if not router.send(peer, message, link):
                        todo.extend(self._book.unreachable(peer, self._now()))
                case Kill(worker, reason, is_overdue):
                    self._local.kill(worker, reason, is_forgiven=is_overdue)
                case Refuse(reason):
                    self._refusals.add(reason)
