"""Where a survey stands: a fold of facts, the same while it runs and when it is resumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

from sparse_actors.contracts.microscope import MicroscopeState
from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import (
    ImagesLost,
    Message,
    MicroscopePrepared,
    MicroscopeReset,
    PartitionScanned,
    Recorded,
    RegionScanned,
    RegionsPlanned,
    RunStarted,
    Scan,
    ScanId,
    ScanMissed,
    StorageReserved,
    TileFinished,
)
from sparse_actors.planning.survey_plan import SurveyPlan


@dataclass
class SurveyState:
    """What is scanned, recorded, planned and missed.

    A scan is *exposed* once its pixels are in memory, *recorded* once they are on disk, *missed*
    once it was given up in this session; a new session tries missed scans again.
    """

    plan: SurveyPlan
    reserved: set[ScanId] = field(default_factory=set)
    exposed: set[ScanId] = field(default_factory=set)
    recorded: set[ScanId] = field(default_factory=set)
    missed: set[ScanId] = field(default_factory=set)
    regions: dict[PartitionId, tuple[Scan, ...]] = field(default_factory=dict)
    finished: set[TileIndex] = field(default_factory=set)
    pixel_type: str | None = None
    """Of the scans reserved so far."""
    to_restore: MicroscopeState | None = None
    """How the microscope was found, as long as it has not been given back."""
    _open: dict[TileIndex, dict[ScanId, Scan]] = field(default_factory=dict)
    """Regions still to be exposed, in the order in which they were planned."""

    def learn(self, fact: Message) -> None:
        """Take in one fact; a fact learnt twice changes nothing."""
        match fact:
            case RunStarted():
                # What was missed before is tried again, so its tiles are not finished.
                self.finished -= {scan_id.partition.tile for scan_id in self.missed}
                again = self.missed
                self.missed = set()
                for scan_id in sorted(again, key=str):
                    self.forget(scan_id)
            case MicroscopePrepared(initial=initial):
                self.to_restore = initial
            case MicroscopeReset():
                self.to_restore = None
            case StorageReserved(scans=scans, pixel_type=pixel_type):
                self.pixel_type = pixel_type
                self.reserved |= {scan.id for scan in scans}
                if scans and not scans[0].id.is_fast:
                    self._plan_regions(scans[0].id.partition, scans)
            case PartitionScanned(scan=scan) | RegionScanned(scan=scan):
                self.exposed.add(scan.id)
                self._close(scan.id)
            case Recorded(scan_id=scan_id):
                self.exposed.add(scan_id)
                self.recorded.add(scan_id)
                self.missed.discard(scan_id)
                self._close(scan_id)
            case ScanMissed(scan_id=scan_id):
                self.missed.add(scan_id)
                self._close(scan_id)
            case RegionsPlanned(partition=partition, scans=scans):
                self._plan_regions(partition, scans)
            case ImagesLost(scan_ids=scan_ids):
                self.recorded.difference_update(scan_ids)
                self.reserved.difference_update(scan_ids)
                for scan_id in scan_ids:
                    self.forget(scan_id)
                    self.finished.discard(scan_id.partition.tile)
            case TileFinished(tile=tile):
                self.finished.add(tile)
            case _:
                pass

    def _plan_regions(self, partition: PartitionId, scans: tuple[Scan, ...]) -> None:
        # The first plan stands: its storage may be reserved and part of it scanned.
        if partition not in self.regions:
            self.regions[partition] = scans
            left = {scan.id: scan for scan in scans if not self.is_settled(scan.id)}
            self._open.setdefault(partition.tile, {}).update(left)

    def forget(self, scan_id: ScanId) -> None:
        """Take back that a scan was exposed or missed: it is to be exposed again."""
        self.exposed.discard(scan_id)
        for region in self.regions.get(scan_id.partition, ()):
            if region.id == scan_id:
                self._open.setdefault(scan_id.partition.tile, {})[scan_id] = region

    def _close(self, scan_id: ScanId) -> None:
        self._open.get(scan_id.partition.tile, {}).pop(scan_id, None)

    def is_settled(self, scan_id: ScanId) -> bool:
        """Whether a scan needs no exposure any more."""
        return scan_id in self.exposed or scan_id in self.missed

    def is_stored(self, scan_id: ScanId) -> bool:
        """Whether a scan is on disk or given up."""
        return scan_id in self.recorded or scan_id in self.missed

    def fast_left(self, tile: TileIndex) -> list[Scan]:
        """Fast scans of a tile still to be exposed, in order."""
        return [scan for scan in self.plan.fast_scans(tile) if not self.is_settled(scan.id)]

    def undetected(self, tile: TileIndex) -> list[PartitionId]:
        """Partitions and seams of a tile whose regions are not planned, although they can be.

        A partition is detected when it is exposed, a seam when there is nothing more to expose.
        """
        exposed = {scan.id.partition for scan in self.plan.fast_scans(tile) if scan.id in self.exposed}
        has_seams = bool(exposed) and not self.fast_left(tile)
        return [
            part
            for part in self.plan.parts(tile)
            if part not in self.regions and (part in exposed if self.plan.seam(part) is None else has_seams)
        ]

    def images_of(self, part: PartitionId) -> tuple[Scan, ...] | None:
        """Return the fast scans that bring a partition or seam back from disk; None if one is missed."""
        fast = self.plan.fast_scans(part.tile)
        if self.plan.seam(part) is None:
            return (fast[part.index],)
        if any(scan.id in self.missed for scan in fast):
            return None
        return tuple(scan for scan in fast if scan.id in self.recorded)

    def regions_left(self, tile: TileIndex) -> dict[ScanId, Scan]:
        """Regions of a tile still to be exposed, in the order in which they were planned."""
        return self._open.get(tile, {})

    def is_scanned(self, tile: TileIndex) -> bool:
        """Whether the microscope has nothing more to do on a tile."""
        return tile in self.finished or not (
            self.fast_left(tile) or self.undetected(tile) or self.regions_left(tile)
        )

    def is_complete(self, tile: TileIndex) -> bool:
        """Whether everything of a tile is on disk or given up."""
        regions = (self.regions.get(part, ()) for part in self.plan.parts(tile))
        return self.is_scanned(tile) and all(
            self.is_stored(scan.id) for scan in chain(self.plan.fast_scans(tile), *regions)
        )

    def is_finished(self) -> bool:
        """Whether all tiles of the plan are finished."""
        return all(tile in self.finished for tile in self.plan.tiles)
