"""The vocabulary of orders that people and live analyses give to a running survey, and of their answers.

Each order is answered by its fact or by `OrderRefused`, with the same `request`. An order that is
given again with the same `request`, because its answer stayed out, is carried out once. Imported
from `messages`, where the rules that hold for all are.
"""

from __future__ import annotations

from dataclasses import dataclass

from .geometry import PartitionId, PixelBox, TileIndex
from .message import Message, Order


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRun(Order):
    """Expose nothing more after the scan in flight, until `ContinueRun`; detections go on."""

    reason: str
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPaused(Message):
    """Nothing more is exposed. Only `RunContinued` ends this, or `RunFinished`; a crash does not."""

    reason: str
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinueRun(Order):
    """Go on with a run that is paused."""

    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContinued(Message):
    """The run goes on after a pause."""

    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipTile(Order):
    """Leave out what is not yet scanned or mapped of a tile."""

    tile: TileIndex
    reason: str
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSkipped(Message):
    """What was not yet scanned or mapped of a tile is left out, in later sessions too."""

    tile: TileIndex
    reason: str
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeRegions(Order):
    """Rescan these regions of a tile as well, though the detector did not find them."""

    tile: TileIndex
    boxes: tuple[PixelBox, ...]
    """Analysis pixels of the field of view; they may overlap each other and what is planned."""
    source: str
    """Who or what proposes them."""
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionsProposed(Message):
    """Proposed regions were accepted; they are planned once all of the tile is detected."""

    partition: PartitionId
    """Numbered after the partitions and seams of the tile."""
    boxes: tuple[PixelBox, ...]
    source: str
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRegions(Order):
    """Plan proposed regions: everything else of the tile is planned."""

    partition: PartitionId
    boxes: tuple[PixelBox, ...]
    source: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRefused(Message):
    """An order to the run was not carried out."""

    order: str
    """Its kind, e.g. "SkipTile"."""
    reason: str
    request: str = ""
