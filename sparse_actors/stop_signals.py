"""Ctrl-C and SIGTERM, from before a survey starts anything until its result is written."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

JOIN_S = 5.0
NAMES = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")


class StopSignals:
    """Counts the signals that ask for the end, instead of dying of them.

    A context manager. Elsewhere than in the main thread signals stay as they are.
    """

    def __init__(self) -> None:
        self.count = 0
        self.name = ""
        """The last signal, such as "SIGINT", or the name that was asked with."""
        self._listener: Callable[[str, int], None] | None = None
        # The one way out of a signal handler that needs no lock the interrupted thread may hold.
        self._news: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pass_on, name="signals", daemon=True)
        self._before: dict[str, Any] = {}

    @property
    def is_interrupt(self) -> bool:
        """Whether the last signal was Ctrl-C."""
        return self.name == "SIGINT"

    def listen(self, listener: Callable[[str, int], None] | None) -> None:
        """Call `listener` with the name and count of every signal, also of the last that came already.

        It is called in a thread of its own, one signal after another.
        """
        self._listener = listener
        if self.count:
            self._news.put((self.name, self.count))

    def ask(self, name: str, count: int) -> None:
        """Do as if `count` signals of that name had come, less those that did; from any thread."""
        while self.count < count:
            self.count += 1
            self.name = name
            self._news.put((name, self.count))

    def check(self) -> None:
        """Raise KeyboardInterrupt if the end was asked for more than once."""
        if self.count > 1:
            raise KeyboardInterrupt(self.name)

    def _handle(self, number: int, _: object) -> None:
        self.count += 1
        self.name = signal.Signals(number).name
        self._news.put((self.name, self.count))

    def _pass_on(self) -> None:
        while (news := self._news.get()) is not None:
            if (listener := self._listener) is not None:
                listener(*news)

    def __enter__(self) -> StopSignals:
        self._thread.start()
        if threading.current_thread() is threading.main_thread():
            for name in NAMES:
                # What is ignored stays so: nohup relies on it.
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[name] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, handler in self._before.items():
            signal.signal(getattr(signal, name), handler)
        self._news.put(None)
        self._thread.join(JOIN_S)
