"""The only sender: every message gets a number and reaches whoever accepts its kind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from sparse_actors.messages import Message, MessageDropped

Tap = Callable[[Message, int], None]


class Port(Protocol):
    """An address on the bus."""

    name: str
    accepts: tuple[type[Message], ...]

    def offer(self, message: Message) -> bool:
        """Take a message without blocking; False refuses it."""
        ...


class Bus:
    """One total order of all messages, the same for every actor and tap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._ports: list[Port] = []
        self._taps: list[Tap] = []

    def attach(self, port: Port) -> None:
        """Let a port receive the kinds it accepts, from now on."""
        with self._lock:
            self._ports.append(port)

    def tap(self, tap: Tap) -> None:
        """Show every message to `tap`, in order.

        It is called by the sender's thread: it must return at once and must not publish. One
        that raises is taken off.
        """
        with self._lock:
            self._taps.append(tap)

    def publish(self, message: Message) -> None:
        """Give a message its number and offer it to every port that accepts it."""
        with self._lock:
            self._number += 1
            for tap in tuple(self._taps):
                try:
                    tap(message, self._number)
                except Exception:
                    self._taps.remove(tap)
                    structlog.get_logger().exception("tap removed", kind=type(message).__name__)
            takers = [port for port in self._ports if isinstance(message, port.accepts)]
            dropped = [port.name for port in takers if not port.offer(message)]
        for name in dropped:
            if not isinstance(message, MessageDropped):
                self.publish(MessageDropped(actor=name, kind=type(message).__name__))
