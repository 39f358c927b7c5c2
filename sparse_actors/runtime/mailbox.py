"""A pykka inbox that is bounded for messages and always open for pykka's own stop."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from sparse_actors.messages import Message

CAPACITY = 10_000


class MailboxFull(Exception):  # noqa: N818 - a condition to handle, not an error to report
    """The mailbox refuses a message; its sender is not blocked."""


class Mailbox:
    """First in, first out. A `put` never blocks: a blocked `tell` would block `stop` too."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._envelopes: deque[Any] = deque()
        self._arrived = threading.Condition()

    def put(self, envelope: Any) -> None:
        """Add an envelope of pykka's; raises MailboxFull for a message beyond the capacity."""
        with self._arrived:
            if isinstance(envelope.message, Message) and len(self._envelopes) >= self._capacity:
                raise MailboxFull
            self._envelopes.append(envelope)
            self._arrived.notify()

    def get(self) -> Any:
        """Take the oldest envelope, waiting for one."""
        with self._arrived:
            while not self._envelopes:
                self._arrived.wait()
            return self._envelopes.popleft()

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._envelopes
