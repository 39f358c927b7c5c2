"""Orders whose answer has not come: each is given again, and in the end given up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sparse_actors.geometry import TileIndex
from sparse_actors.messages import After, Effect, Message, Overdue, Scan

ANSWER_S = 120.0
"""An answer other than a scan's is overdue after this long."""

MakeOrder = Callable[[int], Message]
"""Makes the same order for the n-th attempt."""


@dataclass(slots=True)
class Awaited:
    """One order and how often it was given."""

    order: MakeOrder
    within_s: float
    attempts: int
    scan: Scan | None
    """What is to be exposed, if the order is to do so."""
    attempt: int = 1


class Unanswered:
    """All that is waited for, by a name such as ``scan r000c001p2``; its first word is the kind.

    Parameters
    ----------
    attempts
        How often an order is given. Detections and inspections have one more: the last says that it failed.
        A map takes as long as it takes, and the sampler sees to it that its own orders are answered.
    """

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts
        self._awaited: dict[str, Awaited] = {}
        self.command: str | None = None
        """The one order that the microscope is busy with."""

    @property
    def scanning(self) -> TileIndex | None:
        """The tile of the scan that the microscope is busy with."""
        awaited = self._awaited.get(self.command or "")
        return awaited.scan.id.partition.tile if awaited and awaited.scan else None

    def __len__(self) -> int:
        return len(self._awaited)

    def __contains__(self, what: str) -> bool:
        return what in self._awaited

    def __getitem__(self, what: str) -> Awaited:
        return self._awaited[what]

    def count(self, kind: str) -> int:
        """Return how many answers of a kind are waited for."""
        return sum(_kind(what) == kind for what in self._awaited)

    def wait(
        self,
        what: str,
        order: MakeOrder,
        within_s: float = ANSWER_S,
        scan: Scan | None = None,
        *,
        order_now: bool = True,
    ) -> Iterator[Effect]:
        """Give an order and wait for its answer, unless it is waited for already."""
        if what not in self._awaited:
            more = {"detect": self._attempts + 1, "inspect": self._attempts + 1, "map": sys.maxsize}
            attempts = more.get(_kind(what), self._attempts)
            self._awaited[what] = Awaited(order, within_s, attempts, scan)
            if order_now:
                yield order(1)
            yield After(within_s, Overdue(what=what, attempt=1))

    def answered(self, *orders: str) -> None:
        """Take off orders that were answered."""
        for what in orders:
            self._awaited.pop(what, None)
            if self.command == what:
                self.command = None

    def drop(self, *kinds: str) -> None:
        """Stop waiting for some kinds."""
        for what in [what for what in self._awaited if _kind(what) in kinds]:
            del self._awaited[what]

    def is_due(self, overdue: Overdue) -> bool:
        """Whether what a reminder is about is still waited for."""
        awaited = self._awaited.get(overdue.what)
        return awaited is not None and awaited.attempt == overdue.attempt

    def again(self, what: str) -> tuple[Effect, ...] | None:
        """Return the order once more, or None when it has been given as often as it may."""
        awaited = self._awaited[what]
        if awaited.attempt >= awaited.attempts:
            return None
        awaited.attempt += 1
        reminder = After(awaited.within_s, Overdue(what=what, attempt=awaited.attempt))
        return awaited.order(awaited.attempt), reminder


def _kind(what: str) -> str:
    return what.partition(" ")[0]
