"""Somebody who gives orders to a survey on the virtual bus, and repeats them until they are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from story import MemoryDisk, Story
from story_map import MapStory

from sparse_actors.messages import (
    After,
    ContinueRun,
    Effect,
    Message,
    OrderRefused,
    Overdue,
    PauseRun,
    ProposeRegions,
    RegionsProposed,
    RunContinued,
    RunPaused,
    SkipTile,
    TileSkipped,
)
from sparse_actors.runtime.virtual import Delivery, VirtualBus

ANSWERS = (RunPaused, RunContinued, TileSkipped, RegionsProposed, OrderRefused)
AGAIN_S = 100.0
COFFEE_S = 3000.0

RunOrder = PauseRun | ContinueRun | SkipTile | ProposeRegions


class Person:
    """Gives an order and repeats it until it is answered; lets a run that it paused go on after a while."""

    accepts: tuple[type[Message], ...] = (PauseRun, ContinueRun, SkipTile, ProposeRegions, *ANSWERS)

    def __init__(self) -> None:
        self._open: dict[str, RunOrder] = {}

    def handle(self, message: Any) -> Iterator[Effect]:
        if isinstance(message, ANSWERS):
            order = self._open.pop(message.request, None)
            if isinstance(message, RunPaused) and isinstance(order, PauseRun):
                yield After(COFFEE_S, Overdue(what=f"{message.request} is over", attempt=1))
        elif isinstance(message, RunOrder):
            self._open[message.request] = message
            yield After(AGAIN_S, Overdue(what=message.request, attempt=1))
        elif message.what in self._open:
            yield self._open[message.what]
        elif message.what.endswith("over"):
            yield ContinueRun(request=message.what)


class Killed(BaseException):
    """The daemon is gone."""


def at(number: int, act: Callable[[], None]) -> Callable[[Delivery], None]:
    """Do something at a delivery."""

    def fault(delivery: Delivery) -> None:
        if delivery.number == number:
            act()

    return fault


class OrderStory(Story):
    """A survey to which somebody gives one order."""

    def attach_more(self, bus: VirtualBus) -> None:
        bus.attach("person", Person.accepts, Person)


class OrderMapStory(MapStory):
    """A map to which somebody gives one order."""

    def attach_more(self, bus: VirtualBus) -> None:
        super().attach_more(bus)
        bus.attach("person", Person.accepts, Person)


def told(story: Story, order: Message, number: int) -> list[Message]:
    """Run a story to its end, with an order at a delivery."""
    return story.tell(at(number, lambda: story.bus.publish(order)))


def killed(story: Story, order: Message, number: int, later: int) -> MemoryDisk:
    """Run a story in which an order comes at a delivery, and the daemon is killed some deliveries later."""

    def fault(delivery: Delivery) -> None:
        if delivery.number == number:
            story.bus.publish(order)
        if delivery.number == number + later:
            raise Killed

    try:
        story.tell(fault)
    except Killed:
        pass
    return story.disk
