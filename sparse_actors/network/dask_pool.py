"""The worker pool on a Dask cluster: the same decisions, and Dask to reach the workers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import secrets
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from sparse_actors import wire
from sparse_actors.dask_client import CONNECT_S, find_scheduler
from sparse_actors.errors import WireError
from sparse_actors.messages import (
    ActorFailed,
    ClassifySpectra,
    DetectImage,
    DetectionReturned,
    Heartbeat,
    InspectRegion,
    JobArrived,
    Message,
    WorkerDismissed,
    WorkerHello,
    WorkerLost,
    WorkerReady,
    WorkerWelcome,
)

from . import dask_tasks
from .effects import Effect, Publish, Refuse, Send
from .jobs import Job
from .link_rate import LinkRate
from .pool import MAX_OPEN_JOBS
from .refusals import Refusals
from .worker_book import WorkerBook

TURN_S = 0.05
FOLLOW_S = 0.2
"""How long the death of a worker may go unseen."""
RECONNECT_S = 2.0
CLOSE_S = 2.0
LATE_STARTS, WITHIN_S = 5, 60.0
"""So many workers that die while they load, in so long a time, mean that no more are tried for now."""
PRIORITY = 10
"""Before what others have the cluster do: a microscope waits."""


@dataclass(slots=True)
class _Member:
    """A worker of the cluster."""

    seen: float
    """When the scheduler last heard of it, by the scheduler's clock; only whether it changes counts."""
    state: str = "new"
    """new -> ready <-> silent; from each of them out: not to be used any more."""
    link: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class DaskPool:
    """Hands images and spectra to the workers of a Dask cluster and publishes what they return; see `Pool`.

    `WorkerBook` decides, as for workers of our own: it gives each job to one worker, so that Dask does not by
    itself give a job that killed its worker to three others. All of Dask's client is in one thread with an
    event loop, so that a worker that does not answer holds nothing up.

    Parameters
    ----------
    url
        "dask://host:port", of the scheduler.
    publish
        Called with every message, from the pool's thread.
    now
        Unix time (s) on a clock that never steps.
    welcome
        What workers are told; the code that it names is compared with theirs.
    needs
        Tags that a worker must have to be given images. Its tags are the names of its resources.
    join_s
        Longest time in which a worker must load its detector.
    start_budget, start_window_s
        So many workers may die while they load, in so long a time.
    """

    name = "workers"
    accepts: tuple[type[Message], ...] = (DetectImage, InspectRegion, ClassifySpectra)

    def __init__(
        self,
        url: str,
        *,
        publish: Callable[[Message], None],
        now: Callable[[], float],
        welcome: WorkerWelcome,
        needs: Collection[str] = (),
        join_s: float = 120.0,
        start_budget: int = LATE_STARTS,
        start_window_s: float = WITHIN_S,
    ) -> None:
        self._url = url
        self._publish = publish
        self._refusals = Refusals(publish)
        self._now = now
        self._welcome = welcome
        self._token = secrets.token_hex(16)
        self._book = WorkerBook(welcome=welcome, token=self._token, join_s=join_s, needs=needs)
        self._budget, self._window_s = start_budget, start_window_s
        self._inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._wake = asyncio.Event()
        self._client: Any = None
        self._members: dict[str, _Member] = {}
        self._late_starts_s: deque[float] = deque()
        self._last_reason = ""

    def start(self) -> None:
        """Find the scheduler and begin to follow its workers; they join as they become ready."""
        client_class, address = find_scheduler(self._url, f"workers.pool = {self._url!r}")
        runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self._loop = runner.get_loop()
        self._thread = threading.Thread(
            target=self._run, args=(runner, client_class, address), name="workers", daemon=True
        )
        self._thread.start()

    def offer(self, message: Message) -> bool:
        """Take a job; False when the pool is full or closed. Never blocks."""
        with self._lock:
            is_full = self._inbox.qsize() + self._book.open_jobs >= MAX_OPEN_JOBS
            if self._loop is None or is_full or not isinstance(message, Job):
                return False
            self._inbox.put(message)
            self._loop.call_soon_threadsafe(self._wake.set)
        return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Leave the cluster; a detection under way there ends by itself, and nobody hears of it."""
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is not None:
                loop.call_soon_threadsafe(self._wake.set)
        if self._thread is not None:
            self._thread.join(timeout_s)

    # -- the pool's thread ------------------------------------------------------------------

    def _run(self, runner: asyncio.Runner, client_class: type[Any], address: str) -> None:
        structlog.contextvars.bind_contextvars(actor=self.name)
        with runner:
            try:
                runner.run(self._serve(client_class, address))
            except Exception as error:
                with self._lock:
                    self._loop = None
                self._publish(ActorFailed(actor=self.name, error=repr(error), is_final=True))
                while not self._inbox.empty():
                    self._book.submit(self._inbox.get(), self._now())
                for effect in self._book.abandon(f"the worker pool failed: {error!r}"):
                    self._publish(effect.message)

    async def _serve(self, client_class: type[Any], address: str) -> None:
        follower = asyncio.create_task(self._follow(client_class, address))
        try:
            while self._loop is not None:
                if follower.done():
                    await follower
                self._turn()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), TURN_S)
                self._wake.clear()
        finally:
            for member in self._members.values():
                self._put_out(member)
            follower.cancel()
            with suppress(asyncio.CancelledError):
                await follower

    def _turn(self) -> None:
        now_s = self._now()
        while not self._inbox.empty():
            self._apply(self._book.submit(self._inbox.get(), now_s))
        self._apply(self._book.tick(now_s, self._why_nobody(now_s)))

    def _why_nobody(self, now_s: float) -> str:
        """Return why no worker of the cluster will be tried for now, or nothing."""
        if self._is_resting(now_s):
            return f"{len(self._late_starts_s)} workers ended while they loaded, last: {self._last_reason}"
        if self._members and all(member.state == "out" for member in self._members.values()):
            return f"no worker of the cluster can be used, last: {self._last_reason}"
        return ""

    def _is_resting(self, now_s: float) -> bool:
        while self._late_starts_s and now_s - self._late_starts_s[0] >= self._window_s:
            self._late_starts_s.popleft()
        return len(self._late_starts_s) > self._budget

    # -- who is there -----------------------------------------------------------------------

    async def _follow(self, client_class: type[Any], address: str) -> None:
        """Keep a connection to the scheduler, and the book informed of its workers."""
        while True:
            try:
                client = client_class(address, asynchronous=True, set_as_default=False, timeout=CONNECT_S)
                try:
                    self._client = await client
                    while True:
                        found = await asyncio.wait_for(client.scheduler.identity(), self._welcome.silence_s)
                        self._compare(found["workers"])
                        await asyncio.sleep(FOLLOW_S)
                finally:
                    with suppress(OSError):  # TimeoutError is one
                        await asyncio.wait_for(client.close(), CLOSE_S)
            except OSError as error:  # TimeoutError and Dask's CommClosedError are
                structlog.get_logger().warning(f"the Dask scheduler at {address} is gone: {error!r}")
            self._compare({}, is_cut=True)
            await asyncio.sleep(RECONNECT_S)

    def _compare(self, found: dict[str, dict[str, Any]], *, is_cut: bool = False) -> None:
        """Act on who came, who is gone or `is_cut` off, and who gave a sign of life."""
        now_s = self._now()
        for peer in [peer for peer in self._members if peer not in found]:
            member = self._members.pop(peer)
            if member.state == "new" and not is_cut:
                self._late_starts_s.append(now_s)
                self._last_reason = f"{peer} is gone"
            self._put_out(member)
            self._apply(self._book.unreachable(peer.encode(), now_s, is_cut=is_cut))
        for peer, about in found.items():
            seen = float(about["last_seen"])
            known = self._members.get(peer)
            if known is None:
                if not self._is_resting(now_s):
                    self._members[peer] = _Member(seen)
                    self._begin(peer, self._introduce(peer, about))
            elif known.seen != seen:
                known.seen = seen
                if known.state == "silent":
                    known.state = "new"
                    self._begin(peer, self._introduce(peer, about))
                elif known.state == "ready":
                    self._apply(self._book.receive(peer.encode(), Heartbeat(), now_s))

    # -- what the book wants ----------------------------------------------------------------

    def _apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Publish(DetectionReturned() as returned):
                    self._publish(replace(returned, finished_s=self._now()))
                case Publish(message):
                    if isinstance(message, WorkerLost):
                        self._last_reason = message.reason
                    self._publish(message)
                case Send(peer, WorkerWelcome() as welcome):
                    self._begin(peer.decode(), self._load(peer.decode(), welcome))
                case Send(peer, DetectImage() | InspectRegion() | ClassifySpectra() as job, link):
                    self._begin(peer.decode(), self._do(peer.decode(), job, link))
                case Send(peer, WorkerDismissed(may_return=may_return)):
                    if member := self._members.get(peer.decode()):
                        member.state = "silent"
                        if not may_return:
                            self._put_out(member)
                case Refuse(reason):
                    self._refusals.add(reason)
                case _:
                    pass  # A heartbeat: Dask has its own.

    def _begin(self, peer: str, work: Any) -> None:
        if member := self._members.get(peer):
            task = asyncio.get_running_loop().create_task(self._watched(peer, work))
            member.tasks.add(task)
            task.add_done_callback(member.tasks.discard)
        else:
            work.close()

    def _put_out(self, member: _Member) -> None:
        """Have nothing more to do with a worker; what it still does is not waited for."""
        member.state = "out"
        for task in member.tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def _watched(self, peer: str, work: Any) -> None:
        try:
            await work
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            pass  # It was put out; or Dask forgot the task, which the worker's end or the deadline tells.
        except Exception as error:
            # The program is missing there, or differs so much that nothing can be exchanged.
            if isinstance(error, WireError):
                self._refusals.add(str(error))
            reason = f"the worker of the cluster failed: {type(error).__name__}: {error}"
            self._hear(peer, WorkerLost(worker="", reason=reason))
            if member := self._members.get(peer):
                self._last_reason = reason
                self._put_out(member)

    def _hear(self, peer: str, message: Message) -> None:
        self._apply(self._book.receive(peer.encode(), message, self._now()))

    async def _introduce(self, peer: str, about: dict[str, Any]) -> None:
        hello = await self._answer(peer, dask_tasks.introduce)
        if isinstance(hello, WorkerHello):
            tags = tuple(str(name).lower() for name in about.get("resources", {}))
            self._hear(peer, replace(hello, token=self._token, tags=tags))

    async def _load(self, peer: str, welcome: WorkerWelcome) -> None:
        answer = await self._answer(peer, dask_tasks.load, dask_tasks.packed(welcome))
        if isinstance(answer, WorkerReady):
            self._members[peer].state = "ready"
        self._hear(peer, answer)

    async def _do(self, peer: str, job: Job, link: LinkRate | None) -> None:
        """Bring a job to a worker, and what it answers to the book."""
        frames = [bytes(frame) for frame in wire.encode(job, link.pack if link else lambda array: None)]
        member = self._members[peer]
        async with member.link:
            if link:
                link.sent(sum(map(len, frames)))
            (there,) = await self._client.scatter([frames], workers=[peer], hash=False)
            self._hear(peer, JobArrived())
        answer = await self._answer(peer, dask_tasks.do, self._welcome.session, there)
        self._hear(peer, answer)

    async def _answer(self, peer: str, task: Callable[..., Any], *arguments: Any) -> Message:
        """Have one worker do something, and return the message that it answers with."""
        frames = await self._client.submit(
            task, *arguments, workers=[peer], pure=False, retries=0, priority=PRIORITY
        )
        if not isinstance(frames, list) or not all(isinstance(frame, bytes) for frame in frames):
            raise WireError(f"expected frames from {peer}, got {type(frames).__name__}")
        return wire.decode(frames)
