"""Where a survey stands: a fold of facts, the same while it runs and when it is resumed."""

from __future__ import annotations

from collections.abc import Iterator
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
    RegionsProposed,
    RunStarted,
    Scan,
    ScanId,
    ScanMissed,
    StorageReserved,
    TileFinished,
    TileInspected,
    TileSkipped,
)
from sparse_actors.planning.audit import AUDIT, covered_by
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
    skipped: dict[TileIndex, str] = field(default_factory=dict)
    """Tiles of which nothing more is scanned, and why."""
    proposals: dict[TileIndex, dict[PartitionId, RegionsProposed]] = field(default_factory=dict)
    """What was proposed to be rescanned as well."""
    uninspected: set[TileIndex] = field(default_factory=set)
    """Finished tiles whose regions are still to be inspected, if the survey inspects them."""
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
                if self.plan.inspects and tile not in self.skipped:
                    self.uninspected.add(tile)
            case TileInspected(tile=tile):
                self.uninspected.discard(tile)
            case TileSkipped(tile=tile, reason=reason):
                self.skipped.setdefault(tile, reason)
                self.uninspected.discard(tile)
            case RegionsProposed(partition=part) if part not in self.proposals.get(part.tile, {}):
                self.proposals.setdefault(part.tile, {})[part] = fact
                self.finished.discard(part.tile)
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
        is_skipped = scan_id.partition.tile in self.skipped
        return is_skipped or scan_id in self.exposed or scan_id in self.missed

    def is_stored(self, scan_id: ScanId) -> bool:
        """Whether a scan is on disk or given up."""
        return scan_id in self.recorded or scan_id in self.missed

    def fast_left(self, tile: TileIndex) -> list[Scan]:
        """Fast scans of a tile still to be exposed, in order."""
        return [scan for scan in self.plan.fast_scans(tile) if not self.is_settled(scan.id)]

    def awaits_detection(self, scan_id: ScanId) -> bool:
        """Whether a scan is one that regions are still to be found in."""
        is_skipped = scan_id.partition.tile in self.skipped
        return scan_id.is_fast and scan_id.partition not in self.regions and not is_skipped

    def undetected(self, tile: TileIndex) -> list[PartitionId]:
        """Partitions and seams of a tile whose regions are not planned, although they can be.

        A partition is detected when it is exposed, a seam when there is nothing more to expose.
        """
        if tile in self.skipped:
            return []
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
        return {} if tile in self.skipped else self._open.get(tile, {})

    def parts(self, tile: TileIndex) -> tuple[PartitionId, ...]:
        """Return all parts of a tile that have regions: what is detected, and what was proposed."""
        return (*self.plan.parts(tile), *self.proposals.get(tile, ()))

    def unplanned(self, tile: TileIndex) -> list[RegionsProposed]:
        """Return what was proposed of a tile and has no plan yet."""
        if tile in self.skipped:
            return []
        return [one for part, one in self.proposals.get(tile, {}).items() if part not in self.regions]

    def is_surveyed(self, tile: TileIndex) -> bool:
        """Whether all that is left to do on a tile, if anything, was proposed."""
        proposals = self.proposals.get(tile, {})
        is_own_left = any(scan_id.partition not in proposals for scan_id in self.regions_left(tile))
        return not (is_own_left or self.fast_left(tile) or self.undetected(tile))

    def is_scanned(self, tile: TileIndex) -> bool:
        """Whether the microscope has nothing more to do on a tile."""
        return tile in self.finished or not (
            self.fast_left(tile)
            or self.undetected(tile)
            or self.regions_left(tile)
            or self.unplanned(tile)
            or self._awaits_audit(tile)
        )

    def _awaits_audit(self, tile: TileIndex) -> bool:
        if self.plan.audit is None or tile in self.skipped:
            return False
        return all(proposed.source != AUDIT for proposed in self.proposals.get(tile, {}).values())

    def audit_due(self, tile: TileIndex) -> RegionsProposed | None:
        """Return the windows of a tile's audit once all else of it is planned; None before, and after."""
        audit, field_px = self.plan.audit, self.plan.analysis.size_px
        if audit is None or not self._awaits_audit(tile):
            return None
        if self.fast_left(tile) or self.undetected(tile) or self.unplanned(tile):
            return None
        parts = self.parts(tile)
        regions = [scan for part in parts for scan in self.regions.get(part, ())]
        covered = covered_by((box for scan in regions for box in scan.mask_boxes or (scan.box,)), field_px)
        windows, _ = audit.drawn(covered, tile, self.plan.seed)
        boxes = audit.exposures(windows, field_px)
        return RegionsProposed(partition=PartitionId(tile, len(parts)), boxes=boxes, source=AUDIT)

    def tiles_left(self) -> Iterator[TileIndex]:
        """Yield the tiles to go to, in order; at last back to those of which only proposals are left."""
        for is_back in (False, True):
            for tile in self.plan.tiles:
                if not self.is_scanned(tile) and self.is_surveyed(tile) == is_back:
                    yield tile

    def is_complete(self, tile: TileIndex) -> bool:
        """Whether everything of a tile is on disk or given up."""
        regions = (self.regions.get(part, ()) for part in self.parts(tile))
        return self.is_scanned(tile) and all(
            self.is_stored(scan.id) or self._is_left_out(scan.id)
            for scan in chain(self.plan.fast_scans(tile), *regions)
        )

    def _is_left_out(self, scan_id: ScanId) -> bool:
        return scan_id.partition.tile in self.skipped and scan_id not in self.exposed

    def is_finished(self) -> bool:
        """Whether all tiles of the plan are finished."""
        return all(tile in self.finished for tile in self.plan.tiles)
