"""Time for the real runtime: one thread serves all timers."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count


class Clock:
    """Unix time that never steps, and calls after a delay."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="clock")
        self._thread.start()

    def now(self) -> float:
        """Unix seconds, anchored when the clock was made."""
        return time.monotonic() + self._offset_s

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call from the clock's thread after a delay; the call must be quick."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), call))
            self._changed.notify()

    def close(self) -> None:
        """Forget what is due and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._is_closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._is_closed:
                    return
                _, _, call = heapq.heappop(self._due)
            call()
