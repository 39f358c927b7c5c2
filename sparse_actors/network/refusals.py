"""Telling of messages that are not acted on, without flooding the journal."""

from __future__ import annotations

from collections.abc import Callable

from sparse_actors.messages import Message, MessageRefused

MAX_REASON_CHARACTERS = 200


class Refusals:
    """Counts what the workers' side refuses, and tells at 1, 2, 4, 8 ..."""

    def __init__(self, publish: Callable[[Message], None]) -> None:
        self._publish = publish
        self._count = 0

    def add(self, reason: str) -> None:
        """Count one more."""
        self._count += 1
        if self._count & (self._count - 1) == 0:
            reason = reason[:MAX_REASON_CHARACTERS]
            self._publish(MessageRefused(origin="workers", reason=reason, count=self._count))
