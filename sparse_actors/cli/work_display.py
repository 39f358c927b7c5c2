"""How far long work over recorded images has come."""

from __future__ import annotations

import time

from rich.console import Console

from .display import duration

LINE_PERIOD_S = 10.0


class WorkDisplay:
    """How many are done of what `things` names: a line that changes on a terminal, else one now and then."""

    def __init__(self, console: Console, things: str) -> None:
        self._console = console
        self._things = things
        self._status = console.status("opening what was recorded")
        self._began_s = self._said_s = time.monotonic()
        self._before: int | None = None

    def __enter__(self) -> WorkDisplay:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def show(self, done: int, total: int) -> None:
        """Say how many are done, and how long the others will take."""
        if self._before is None:
            self._before = done
        now_s = time.monotonic()
        text = f"{done} of {total} {self._things}"
        if done > self._before:
            left_s = (now_s - self._began_s) / (done - self._before) * (total - done)
            text += f", {duration(left_s)} left"
        if self._console.is_terminal:
            self._status.update(text)
        elif done == total or now_s - self._said_s > LINE_PERIOD_S:
            self._said_s = now_s
            self._console.print(text, markup=False, highlight=False)
