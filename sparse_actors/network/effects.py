"""What the decisions of the worker pool have the pool do."""

from __future__ import annotations

from dataclasses import dataclass

from sparse_actors.messages import Message

from .link_rate import LinkRate


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to the peer with this routing id."""

    peer: bytes
    message: Message
    link: LinkRate | None = None
    """Of a job: what it crosses."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the rest of the system."""

    message: Message


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process of a local worker."""

    worker: str
    reason: str
    is_overdue: bool
    """A job took too long; every other reason counts against the worker's restart budget."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Count a message that is not acted on."""

    reason: str


Effect = Send | Publish | Kill | Refuse
