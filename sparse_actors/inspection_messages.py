"""The vocabulary of inspections: what is seen in rescanned regions at analysis quality, and the audit.

Imported from `messages`, where the rules that hold for all are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from .contracts.detector import Pois
from .geometry import TileIndex
from .message import Message, Order
from .scan import Scan, ScanId


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectTile(Order):
    """Say what is seen in the rescanned regions of a finished tile."""

    tile: TileIndex
    attempt: int
    regions: tuple[Scan, ...]
    """As they stood when the windows of the audit were drawn, in order."""
    windows: tuple[Scan, ...]
    """Those of the audit."""
    later: tuple[Scan, ...]
    """Regions that were proposed after."""
    missing: tuple[ScanId, ...]
    """Of all these, what is not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadRegion(Order):
    """Read a recorded region back from disk, to inspect it."""

    scan_id: ScanId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionReloaded(Message):
    """A recorded region, checked against its checksum."""

    scan: Scan
    attempt: int
    image: NDArray[Any]
    """`scan.shape` of uint8 or uint16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectRegion(Order):
    """Find the sites in a region at analysis quality; addressed to the worker pool."""

    scan_id: ScanId
    attempt: int
    image: NDArray[Any]
    """(rows, columns) of uint8 or uint16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionReturned(Message):
    """A worker finished; points in pixels from the image's corner, checked."""

    scan_id: ScanId
    attempt: int
    pois: Pois
    worker: str
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionLost(Message):
    """A region was not inspected: its image cannot be read, or a worker did not deliver."""

    scan_id: ScanId
    attempt: int
    reason: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionInspected(Message):
    """What is seen in a region, in analysis pixels of the field of view; nothing: it is an artefact."""

    scan_id: ScanId
    pois: Pois
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionFailed(Message):
    """The inspection of a region was given up."""

    scan_id: ScanId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TileInspected(Message):
    """All recorded regions of a tile were inspected, or given up."""

    tile: TileIndex
    problem: str = ""
    """Why the tile was given up as a whole, if so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditUpdated(Message):
    """What the random windows tell, with one tile more; see docs/audit.md.

    First this tile, then all tiles audited so far, then those since the evidence for the limit began.
    """

    tile: TileIndex
    found: int
    """Sites in the regions of this tile, as seen at analysis quality."""
    windows: int
    """In how many windows of this tile the regions leave something over."""
    missed: tuple[int, ...]
    """Sites outside the regions in each of those drawn."""

    tiles: int
    all_found: int
    all_missed: float
    """Estimated without bias, seen ones included."""
    missed_low: float
    missed_high: float
    """Between the two the number lies with `confidence`, if looked at once: at the end, say."""
    recall: float
    """Found of all sites, 0..1."""
    recall_low: float
    recall_high: float
    confidence: float

    tiles_of_limit: int
    """Tiles since the evidence began: at the start of the run, and anew when a pause of the audit ended."""
    recall_at_most: float
    """Of these: holds with `confidence` however often it is looked at, and the run paused by it."""
    least_recall: float | None = None
    """The limit; None: there is none."""

    @property
    def is_below_limit(self) -> bool:
        """Whether the recall is below the limit, as far as `confidence` goes."""
        return self.least_recall is not None and self.recall_at_most < self.least_recall
