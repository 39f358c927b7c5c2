"""The same behaviours in one thread on virtual time: a whole run in milliseconds, with faults.

Every delivery of a message to an actor can be made to go wrong, so that a test can try each.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Literal

from sparse_actors.messages import ActorFailed, After, Effect, Message

from .shell import Behaviour

Fault = Literal["lost", "late", "doubled", "crash"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message reaching one actor; `number` counts deliveries from 0."""

    number: int
    actor: str
    message: Message


class _Seat:
    def __init__(
        self, name: str, accepts: tuple[type[Message], ...], factory: Callable[[], Behaviour]
    ) -> None:
        self.name, self.accepts, self.factory = name, accepts, factory
        self.behaviour = factory()
        self.free_s = 0.0


class VirtualBus:
    """Deliver messages in the order of virtual time.

    Parameters
    ----------
    fault
        Called for each delivery; what it returns happens to it.
    late_s
        How much a late delivery comes after its time.
    """

    def __init__(
        self, fault: Callable[[Delivery], Fault | None] = lambda delivery: None, late_s: float = 500.0
    ) -> None:
        self.now_s = 0.0
        self.published: list[tuple[float, Message]] = []
        self.deliveries: list[Delivery] = []
        self._fault = fault
        self._late_s = late_s
        self._seats: list[_Seat] = []
        self._queue: list[tuple[float, int, _Seat, Message, bool]] = []
        self._order = count()
        self._spent_s = 0.0

    def attach(self, name: str, accepts: tuple[type[Message], ...], factory: Callable[[], Behaviour]) -> None:
        """Seat a behaviour; its `begin` runs when `run` starts."""
        self._seats.append(_Seat(name, accepts, factory))

    def now(self) -> float:
        """Virtual seconds, counting what the behaviour that is running has spent."""
        return self.now_s + self._spent_s

    def spend(self, seconds: float) -> None:
        """Let the behaviour that is running take time: its effects come that much later."""
        self._spent_s += seconds

    def publish(self, message: Message) -> None:
        """Send a message from outside."""
        self._send(message, self.now_s)

    def run(self, until: type[Message], limit: int = 1_000_000) -> None:
        """Deliver until a message of a kind is published or nothing is due.

        Raises RuntimeError beyond `limit` deliveries.
        """
        for seat in self._seats:
            self._begin(seat)
        while self._queue and not isinstance(self.published[-1][1], until):
            due_s, _, seat, message, is_exempt = heapq.heappop(self._queue)
            if seat.free_s > due_s:
                self._put(seat.free_s, seat, message, is_exempt)
                continue
            self.now_s = max(self.now_s, due_s)
            self._deliver(seat, message, is_exempt)
            if len(self.deliveries) > limit:
                raise RuntimeError(f"no end after {limit} deliveries")

    def _deliver(self, seat: _Seat, message: Message, is_exempt: bool) -> None:
        delivery = Delivery(len(self.deliveries), seat.name, message)
        fault = None if is_exempt else self._fault(delivery)
        if not is_exempt:
            self.deliveries.append(delivery)
        if fault == "lost":
            return
        if fault == "late":
            self._put(self.now_s + self._late_s, seat, message, True)
            return
        if fault == "doubled":
            self._put(self.now_s, seat, message, True)
        try:
            if fault == "crash":
                raise RuntimeError("injected crash")
            effects = list(seat.behaviour.handle(message))
        except Exception as error:
            self._spent_s = 0.0
            if fault != "crash":
                raise
            seat.behaviour = seat.factory()
            failed = ActorFailed(actor=seat.name, error=f"{type(error).__name__}: {error}", is_final=False)
            self._send(failed, self.now_s)
            self._begin(seat)
        else:
            self._emit(seat, effects)

    def _begin(self, seat: _Seat) -> None:
        begin = getattr(seat.behaviour, "begin", None)
        if begin:
            self._emit(seat, list(begin()))

    def _emit(self, seat: _Seat, effects: Iterable[Effect]) -> None:
        done_s = self.now_s + self._spent_s
        self._spent_s = 0.0
        seat.free_s = done_s
        for effect in effects:
            if isinstance(effect, After):
                self._put(done_s + effect.seconds, seat, effect.message, False)
            else:
                self._send(effect, done_s)

    def _send(self, message: Message, at_s: float) -> None:
        self.published.append((at_s, message))
        for seat in self._seats:
            if isinstance(message, seat.accepts):
                self._put(at_s, seat, message, False)

    def _put(self, due_s: float, seat: _Seat, message: Message, is_exempt: bool) -> None:
        heapq.heappush(self._queue, (due_s, next(self._order), seat, message, is_exempt))
