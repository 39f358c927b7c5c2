"""What a run holds, folded from its journal: the view of everything that reads runs."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sparse_actors.errors import JournalError
from sparse_actors.geometry import Panorama, PartitionId, TileIndex
from sparse_actors.messages import (
    ActorFailed,
    AuditUpdated,
    DetectionFailed,
    ExposureStarted,
    ImagesLost,
    Message,
    MicroscopeFailed,
    MicroscopePrepared,
    PoisFound,
    Recorded,
    RecordingFailed,
    RegionInspected,
    RegionsPlanned,
    RegionsProposed,
    RunFinished,
    RunStarted,
    Scan,
    ScanId,
    ScanMissed,
    StorageReserved,
    TileFinished,
    TileReached,
    TileSkipped,
)

from .journal import inspect_journal
from .map_record import MapRecord
from .run_folder import RunFolder
from .store import RunStore
from .wait_cause import WaitCause

Failure = MicroscopeFailed | RecordingFailed | DetectionFailed | ActorFailed


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a run."""

    fast_pixels: int
    """Recorded in fast scans."""
    analysis_pixels: int
    """Recorded in rescans."""
    exposed_pixels: int
    """Of every exposure begun, recorded or not."""
    fast_s: float
    """Time of the recorded fast scans."""
    analysis_s: float
    """Time of the recorded rescans."""


@dataclass(slots=True)
class RunRecord:
    """A run as it stands on disk. Made by `open`; nothing on disk is changed."""

    folder: RunFolder
    warning: str | None = None
    """Set when the last record of the journal is not whole."""
    sessions: list[RunStarted] = field(default_factory=list)
    microscope: MicroscopePrepared | None = None
    tiles: dict[TileIndex, TileReached] = field(default_factory=dict)
    """The last arrival at each tile, with the state read back."""
    finished_tiles: set[TileIndex] = field(default_factory=set)
    skipped_tiles: dict[TileIndex, TileSkipped] = field(default_factory=dict)
    """Tiles of which nothing more was scanned, and why."""
    scans: dict[ScanId, Scan] = field(default_factory=dict)
    """Every scan that was planned or given room, in that order."""
    slabs: dict[str, StorageReserved] = field(default_factory=dict)
    recorded: dict[ScanId, Recorded] = field(default_factory=dict)
    """The scans whose pixels are safe, in the order of recording."""
    missed: dict[ScanId, ScanMissed] = field(default_factory=dict)
    """The scans given up in the last session."""
    lost: dict[ScanId, str] = field(default_factory=dict)
    """The scans that were recorded, or had room, and have neither on disk any more, with the reason."""
    waited_for: dict[ScanId, str] = field(default_factory=dict)
    """Of each recorded scan, what the microscope waited for before it, as far as somebody said."""
    exposures: Counter[ScanId] = field(default_factory=Counter)
    """How often the beam set out on a scan; more than 1 means more than one dose."""
    regions: dict[PartitionId, RegionsPlanned] = field(default_factory=dict)
    pois: dict[PartitionId, PoisFound] = field(default_factory=dict)
    sites: dict[ScanId, int] = field(default_factory=dict)
    """How many sites are seen in each region that was inspected at analysis quality."""
    audits: dict[TileIndex, AuditUpdated] = field(default_factory=dict)
    """What the audit told with each tile, in the order of telling."""
    failures: list[Failure] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    """Records that cannot both be true; empty unless something is broken."""
    outcome: RunFinished | None = None
    """None while it runs, and after a crash until it is resumed."""
    _slab_of: dict[ScanId, str] = field(default_factory=dict)
    _waits: WaitCause = field(default_factory=WaitCause)
    _store: RunStore = field(init=False)
    maps: MapRecord = field(init=False)

    def __post_init__(self) -> None:
        self._store = RunStore(self.folder.path)
        self.maps = MapRecord(self.folder.path)

    @classmethod
    def open(cls, path: Path) -> RunRecord:
        """Read the run in a folder; raises JournalError as `read_journal`."""
        folder = RunFolder(path)
        if not folder.journal.exists():
            raise JournalError(f"{path} is not a run: it has no journal")
        messages, warning = inspect_journal(folder.journal)
        record = cls(folder, warning)
        for message in messages:
            record._take(message)
        return record

    def _take(self, message: Message) -> None:
        self.maps.take(message)
        self._waits.learn(message)
        match message:
            case RunStarted():
                # A new session tries again what an earlier one gave up.
                self.sessions.append(message)
                self.finished_tiles -= {scan_id.partition.tile for scan_id in self.missed}
                self.missed.clear()
                self.outcome = None
            case RunFinished():
                self.outcome = message
            case MicroscopePrepared():
                self.microscope = message
            case TileReached(tile=tile):
                self.tiles[tile] = message
            case TileFinished(tile=tile):
                self.finished_tiles.add(tile)
            case TileSkipped(tile=tile):
                self.skipped_tiles.setdefault(tile, message)
            case RegionsProposed(partition=partition) if partition not in self.regions:
                self.finished_tiles.discard(partition.tile)
            case PoisFound(partition=partition):
                self.pois[partition] = message
            case RegionInspected(scan_id=scan_id, pois=pois):
                self.sites[scan_id] = len(pois)
            case AuditUpdated(tile=tile):
                self.audits.pop(tile, None)
                self.audits[tile] = message
            case RegionsPlanned(partition=partition, scans=scans):
                self.regions[partition] = message
                for scan in scans:
                    self.scans.setdefault(scan.id, scan)
            case StorageReserved(slab=slab, scans=scans):
                self.slabs[slab] = message
                self.scans |= {scan.id: scan for scan in scans}
                self._slab_of |= {scan.id: slab for scan in scans}
                for scan in scans:
                    self.lost.pop(scan.id, None)
            case ExposureStarted(scan_id=scan_id):
                self.exposures[scan_id] += 1
            case Recorded(scan_id=scan_id, slab=slab):
                self._take_recorded(scan_id, slab, message)
            case ImagesLost(scan_ids=scan_ids, reason=reason):
                for scan_id in scan_ids:
                    self.lose(scan_id, reason)
            case ScanMissed(scan_id=scan_id):
                self.missed[scan_id] = message
            case MicroscopeFailed() | RecordingFailed() | DetectionFailed() | ActorFailed():
                self.failures.append(message)
            case _:
                pass

    def _take_recorded(self, scan_id: ScanId, slab: str, recorded: Recorded) -> None:
        if self._slab_of.get(scan_id) != slab:
            self.contradictions.append(f"scan {scan_id} is recorded in slab {slab}, which has no room for it")
        elif scan_id in self.recorded:
            self.contradictions.append(f"scan {scan_id} is recorded twice")
        else:
            self.recorded[scan_id] = recorded
            self.missed.pop(scan_id, None)
            self.waited_for[scan_id] = self._waits.take()

    def lose(self, scan_id: ScanId, reason: str) -> None:
        """Count a scan as not recorded: its pixels are gone."""
        self.lost[scan_id] = reason
        self.sites.pop(scan_id, None)
        self.finished_tiles.discard(scan_id.partition.tile)
        self.recorded.pop(scan_id, None)

    def status(self, scan_id: ScanId) -> str:
        """Return what became of a scan.

        "recorded", "lost", "missed", "exposed" (begun, without an image so far), "skipped" or "planned".
        """
        if scan_id in self.recorded:
            return "recorded"
        if scan_id in self.lost:
            return "lost"
        if scan_id in self.missed:
            return "missed"
        if self.exposures[scan_id]:
            return "exposed"
        return "skipped" if scan_id.partition.tile in self.skipped_tiles else "planned"

    @property
    def unrecorded_exposures(self) -> dict[ScanId, int]:
        """How many exposures of a scan ended without an image: dose to no end."""
        surplus = {i: n - (i in self.recorded) for i, n in self.exposures.items()}
        return {scan_id: count for scan_id, count in surplus.items() if count > 0}

    @property
    def totals(self) -> Totals:
        """Sums over the run."""
        fast = [i for i in self.recorded if i.is_fast]
        analysis = [i for i in self.recorded if not i.is_fast]
        return Totals(
            fast_pixels=sum(self.scans[i].pixels for i in fast),
            analysis_pixels=sum(self.scans[i].pixels for i in analysis),
            exposed_pixels=sum(
                self.scans[i].pixels * n for i, n in self.exposures.items() if i in self.scans
            ),
            fast_s=sum(self.recorded[i].finished_s - self.recorded[i].started_s for i in fast),
            analysis_s=sum(self.recorded[i].finished_s - self.recorded[i].started_s for i in analysis),
        )

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the last session, as resolved; not to be changed."""
        return _parsed(self.sessions[-1].config_toml) if self.sessions else {}

    @property
    def panorama(self) -> Panorama:
        """Where the tiles lie; raises JournalError when the configuration does not say."""
        try:
            table = self.config["panorama"]
            width_mm = table["tile_fov_um"] * 1e-3
            columns, rows = self.config["scan"]["analysis"]["size_px"]
            first, right, below = ((float(x), float(y)) for x, y in table["corners_mm"])
            return Panorama(
                corners_mm=(first, right, below),
                tile_fov_mm=(width_mm, width_mm * rows / columns),
                overlap=table["overlap_pct"] / 100,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(
                f"{self.folder.journal}: its configuration has no panorama: {error!r}"
            ) from None

    @property
    def analysis_px(self) -> tuple[int, int]:
        """(width, height) of a whole field of view on the grid of the rescans."""
        width, height = self.config["scan"]["analysis"]["size_px"]
        return width, height

    def image(self, scan_id: ScanId) -> NDArray[Any]:
        """Return a recorded image, `scan.shape`, read-only and checked.

        Raises
        ------
        KeyError
            No such scan was recorded.
        JournalError
            The pixels are not those that were recorded.
        """
        recorded = self.recorded[scan_id]
        return self._store.read(recorded.slab, self.scans[scan_id], recorded.crc32)


@lru_cache(maxsize=2)
def _parsed(text: str) -> dict[str, Any]:
    """Read a configuration once for the many who ask for a value of it."""
    return tomllib.loads(text)
