"""What a run can be asked on its control socket, and what it replies; see `network.control` for how."""

from __future__ import annotations

from typing import Annotated

import msgspec

TILE = r"^r[0-9]{3,6}c[0-9]{3,6}$"

Tile = Annotated[str, msgspec.Meta(pattern=TILE)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Edge = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Side = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="ask"):
    """Base of what a run or the daemon can be asked."""


class Status(Request, frozen=True, tag="status"):
    """Say where you stand."""


class Stop(Request, frozen=True, tag="stop"):
    """End in order, the microscope restored."""

    now: bool = False
    """Do not wait for the scan in flight."""


class Pause(Request, frozen=True, tag="pause"):
    """Expose nothing more after the scan in flight."""

    reason: Line
    request: Line
    """Names this order; given again with the same name it is carried out once."""


class Continue(Request, frozen=True, tag="continue"):
    """Go on after a pause."""

    request: Line


class Skip(Request, frozen=True, tag="skip"):
    """Leave out what is not yet scanned or mapped of a tile."""

    tile: Tile
    reason: Line
    request: Line


class Propose(Request, frozen=True, tag="propose"):
    """Rescan regions of a tile as well."""

    tile: Tile
    boxes: Annotated[tuple[tuple[Edge, Edge, Side, Side], ...], msgspec.Meta(min_length=1, max_length=1000)]
    """(left, top, width, height) of each in analysis pixels of the field of view."""
    source: Line
    """Who or what proposes them."""
    request: Line


class Answer(Request, frozen=True, tag="answer"):
    """Say what became of an order."""

    request: Line


RunOrder = Pause | Continue | Skip | Propose
REQUESTS = Status | Stop | Answer | RunOrder


class Answered(msgspec.Struct, frozen=True, tag_field="reply", tag="answered"):
    """What became of an order."""

    said: str
    """In words; empty as long as it is not known."""
    is_refused: bool = False


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A process that detects for a run."""

    name: str
    host: str
    pid: int
    has: dict[str, tuple[str, ...]] = {}
    """What else it said of itself when it joined, such as the phases that its classifier tells apart."""


class RunStatus(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="run"):
    """Where a run stands; what it has recorded is in its journal."""

    name: str
    folder: str
    pid: int
    state: str
    """starting, running, paused, stopping or ending"""
    tile: str
    """Under the beam; empty before the first."""
    waits_for: str
    """What the microscope does, or why the run is paused, in words."""
    messages: int
    """How many this session has seen."""
    workers: tuple[Worker, ...]
    taps: str
    """Where other programs can look on; empty for nowhere."""
    taps_dropped: dict[str, int]
    """How many messages of each kind came too fast to be shown to them."""
    refused: int
    """Requests that were not valid."""
