"""Learns how long scans take, and says so when those who plan should know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from sparse_actors.imaging import ScanTiming
from sparse_actors.messages import (
    Message,
    MicroscopePrepared,
    Recorded,
    Scan,
    StorageReserved,
    TileReached,
    TimingLearned,
)
from sparse_actors.planning.learnt_times import LearntTimes

WORTH_SAYING = 0.02
"""A prediction that has changed by less than this share is not news."""


class TimeKeeper:
    """Publishes what scans cost whenever its prediction for the last one has moved.

    The facts it learns from and what it says are all in the journal, so that a run can be replayed.

    Parameters
    ----------
    times
        What is known before the run.
    history
        Facts in the journal.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (
        MicroscopePrepared,
        StorageReserved,
        TileReached,
        Recorded,
    )

    def __init__(self, times: LearntTimes, history: Iterable[Message]) -> None:
        self._times = times
        self._said: ScanTiming | None = None
        self._next_look = 0
        for fact in history:
            self._times.learn(fact)
            if isinstance(fact, TimingLearned):
                self._said = fact.timing

    def handle(self, message: Message) -> Iterator[Message]:
        """Learn one fact."""
        scan = self._times.learn(message)
        if self._said is None and isinstance(message, MicroscopePrepared):
            yield self._say()
        elif scan is not None and self._times.scans.count >= self._next_look:
            # Early on every scan may be news, later it takes many to change anything.
            self._next_look = self._times.scans.count * 5 // 4 + 1
            if self._is_news(scan):
                yield self._say()

    def _is_news(self, scan: Scan) -> bool:
        if self._said is None:
            return True
        shape = (scan.pixels, scan.rows, scan.imaging.dwell_ns)
        now, said_s = self._times.scans.duration_s(*shape), self._said.duration_s(*shape)
        return abs(now.seconds - said_s) > max(2 * now.error_s, WORTH_SAYING * said_s)

    def _say(self) -> TimingLearned:
        scans = self._times.scans
        self._said = scans.timing
        return TimingLearned(timing=scans.timing, error=scans.timing_error, scans=scans.count)
