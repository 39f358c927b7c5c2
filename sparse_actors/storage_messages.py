"""The vocabulary of storage: room on disk, what is safe there, and what is read back.

Imported from `messages`, where the rules that hold for all are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from .geometry import PartitionId
from .message import Message, Order
from .scan import Scan, ScanId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStorage(Order):
    """Make room on disk for scans; their geometry is known before they are exposed."""

    slab: str
    scans: tuple[Scan, ...]
    pixel_type: Literal["uint8", "uint16"]
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReserved(Message):
    """The slab is on disk and the intent to expose these scans is in the journal, synced."""

    slab: str
    scans: tuple[Scan, ...]
    pixel_type: Literal["uint8", "uint16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Message):
    """The pixels of a scan are on disk, synced and journaled. From here on they cannot be lost."""

    scan_id: ScanId
    attempt: int
    slab: str
    crc32: int
    dwell_ns: float
    started_s: float
    finished_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFailed(Message):
    """The disk refused, or (not `is_disk_error`) the pixels never came."""

    reason: str
    is_disk_error: bool
    scan_id: ScanId | None = None
    slab: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesLost(Message):
    """Scans of a slab are not on disk as they were recorded or reserved: they are to be exposed (again)."""

    slab: str
    scan_ids: tuple[ScanId, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmRecorded(Order):
    """Say again whether a scan is recorded."""

    scan_id: ScanId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadPartition(Order):
    """Read recorded fast images back from disk, to detect a partition or a seam (again)."""

    partition: PartitionId
    scans: tuple[Scan, ...]
    """The fast scan of the partition; for a seam, those of its tile."""
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionReloaded(Message):
    """A recorded fast image, checked against its checksum, to detect `partition`."""

    partition: PartitionId
    scan: Scan
    attempt: int
    image: NDArray[Any]
