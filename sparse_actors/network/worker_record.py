"""What the pool knows of one worker: its state, the jobs it has, and how fast it is."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from .jobs import Job, JobKey, key
from .link_rate import Average, LinkRate

MAX_AHEAD = 2
"""So many jobs may be on their way to a worker that is at another."""


@dataclass(slots=True)
class Given:
    """A job that a worker has."""

    job: Job
    sent_s: float
    due_s: float = math.inf
    """When it is overdue; known once it is the worker's first."""
    has_arrived: bool = False

    @property
    def key(self) -> JobKey:
        """Which job."""
        return key(self.job)


@dataclass(slots=True)
class WorkerRecord:
    """One worker, from when it is expected or said hello until it is lost."""

    name: str
    is_local: bool
    since_s: float
    heard_s: float
    state: Literal["starting", "joining", "ready", "leaving"]
    peer: bytes = b""
    host: str = ""
    pid: int = 0
    user: str = ""
    """Name of its key; empty for one that showed a token."""
    tags: frozenset[str] = frozenset()
    unreachable_s: float = math.inf
    """Since when its connection is gone though its process is there."""
    given: deque[Given] = field(default_factory=deque)
    """The first is the one it is at."""
    link: LinkRate | None = None
    """None on this computer, where nothing crosses a link."""
    _work_s: Average = field(default_factory=Average)
    _transfer_s: Average = field(default_factory=Average)
    _began_s: float = 0.0
    _arrived_s: float = 0.0
    _unheard: int = 0
    """Jobs that were sent and are not said to be there."""

    @property
    def has_room(self) -> bool:
        """Whether it may be given another job.

        Its credit is learnt: one job, and as many more as come over its link while it works on one. A
        slow worker is thus never ahead of its work, and one behind a slow link does not wait for it.
        """
        return self.state == "ready" and len(self.given) < self._credit()

    def expected_s(self) -> float:
        """Return how long another job would take from here, as far as is known."""
        return (self._transfer_s.value or 0.0) + (len(self.given) + 1) * (self._work_s.value or 0.0)

    def give(self, job: Job, now_s: float, deadline_s: float) -> None:
        """Note a job that is sent to it."""
        self.given.append(Given(job, now_s, has_arrived=self.is_local))
        self._unheard += 1
        if len(self.given) == 1:
            self._begin(now_s, deadline_s)

    def arrived(self, now_s: float, deadline_s: float) -> bool:
        """Note that the oldest job on its way is there; False if none was sent.

        On this computer a job is there at once, and one that was taken back meanwhile tells nothing.
        """
        if self._unheard == 0:
            return False
        self._unheard -= 1
        for place, entry in enumerate(self.given):
            if not entry.has_arrived:
                entry.has_arrived = True
                elapsed_s = now_s - max(entry.sent_s, self._arrived_s)
                self._transfer_s.take(elapsed_s)
                if self.link is not None:
                    self.link.arrived(elapsed_s)
                self._arrived_s = now_s
                if place == 0:
                    self._begin(now_s, deadline_s)
                break
        return True

    def finished(self, entry: Given, now_s: float, deadline_s: float) -> None:
        """Note that a job was answered."""
        was_first = entry is self.given[0]
        self.given.remove(entry)
        if was_first:
            self._work_s.take(now_s - self._began_s)
        if self.given:
            self._begin(now_s, deadline_s)

    def _begin(self, now_s: float, deadline_s: float) -> None:
        self._began_s = now_s
        self.given[0].due_s = now_s + deadline_s

    def _credit(self) -> int:
        work_s, transfer_s = self._work_s.value, self._transfer_s.value
        if self.is_local or work_s is None or transfer_s is None:
            return 1
        # A tenth of the work is not worth having a job wait here that another could do.
        ahead = math.ceil(transfer_s / max(work_s, 1e-3) - 0.1)
        return 1 + min(MAX_AHEAD, max(0, ahead))
