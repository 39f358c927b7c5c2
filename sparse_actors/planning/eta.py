"""How long a survey still takes: the scans and moves to come, by what was learnt of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import (
    ImagesLost,
    Message,
    PartitionScanned,
    Recorded,
    RegionScanned,
    RegionsPlanned,
    RunStarted,
    Scan,
    ScanId,
    ScanMissed,
    StorageReserved,
    TileReached,
    TileSkipped,
    TimingLearned,
)

from .learnt_times import LearntTimes
from .robust_fit import Vector
from .time_model import TimeModel

LEAST_DIFFERENCE = 0.2
"""How much one tile may take longer than another, as a share, before any were seen to."""
RANGE_ERRORS = 2.0
"""Half of the range, in standard errors: 95 % for normal errors."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """A time still to go, and the range in which it lies with some 95 % probability."""

    seconds: float
    low_s: float
    high_s: float


@dataclass(slots=True, kw_only=True)
class TimeToGo:
    """Folds the facts of a survey into the time it still takes.

    What is known is counted: fast scans to be made and regions that are planned. What is not known
    is expected to be as it was: the regions of a partition, and the waiting in a tile.

    Parameters
    ----------
    tiles, partitions
        Number of tiles of the run, and of partitions in each.
    tile_distance_mm
        From one tile to the next.
    times
        What is known of the microscope before the run.
    """

    tiles: int
    partitions: int
    tile_distance_mm: float
    times: LearntTimes
    seams: int = 0
    """Number of seams in each tile, which have regions and no fast scan of their own."""

    _scans: dict[ScanId, Scan] = field(default_factory=dict)
    _fast: dict[PartitionId, Vector | None] = field(default_factory=dict)
    """What the fast scan of a partition costs, by the columns of the time model; None: given up."""
    _regions: dict[PartitionId, Vector] = field(default_factory=dict)
    """What all regions of a partition cost."""
    _planned_before: int = 0
    """How many of these were planned before the timing was learnt that is used now."""
    _open: dict[ScanId, Vector] = field(default_factory=dict)
    """What each region costs that is planned and not exposed."""
    _missed: dict[ScanId, Vector] = field(default_factory=dict)
    """Of these, what was given up."""
    _settled: set[ScanId] = field(default_factory=set)
    _reached: set[TileIndex] = field(default_factory=set)
    _skipped: set[TileIndex] = field(default_factory=set)
    _idle_s: defaultdict[TileIndex, float] = field(default_factory=lambda: defaultdict(float))
    _exposed: Vector = field(default_factory=lambda: np.zeros(3))
    _measured_s: float = 0.0

    def learn(self, message: Message) -> None:
        """Take in one message, live or from a journal; one that comes twice changes nothing."""
        self.times.learn(message)
        match message:
            case RunStarted():
                # What was given up is tried again.
                self._open |= self._missed
                self._missed.clear()
                self._fast = {p: columns for p, columns in self._fast.items() if columns is not None}
            case TileReached(tile=tile):
                self._reached.add(tile)
            case StorageReserved(scans=scans):
                self._scans.update((scan.id, scan) for scan in scans)
            case PartitionScanned(scan=scan) | RegionScanned(scan=scan):
                self._scans[scan.id] = scan
                self._expose(scan.id, message)
            case Recorded(scan_id=scan_id):
                self._expose(scan_id, message)
            case TileSkipped(tile=tile):
                self._skipped.add(tile)
            case RegionsPlanned(partition=partition, scans=scans) if partition not in self._regions:
                costs = {scan.id: _columns(scan, scan.imaging.dwell_ns) for scan in scans}
                if not message.source:  # what was proposed tells nothing about the tiles to come
                    self._regions[partition] = sum(costs.values(), np.zeros(3))
                self._open |= {i: cost for i, cost in costs.items() if i not in self._settled}
            case ImagesLost(scan_ids=scan_ids):
                self._reopen(scan_ids)
            case TimingLearned():
                self._planned_before = len(self._regions)
            case ScanMissed(scan_id=scan_id):
                if scan_id in self._open:
                    self._missed[scan_id] = self._open.pop(scan_id)
                if scan_id.is_fast:
                    self._fast.setdefault(scan_id.partition, None)
            case _:
                pass

    def _reopen(self, scan_ids: Iterable[ScanId]) -> None:
        """Count scans whose pixels were lost as still to be made."""
        for scan_id in scan_ids:
            scan = self._scans.get(scan_id)
            if scan is None or scan_id not in self._settled:
                continue
            self._settled.discard(scan_id)
            self._reached.discard(scan_id.partition.tile)
            if scan_id.is_fast:
                self._fast.pop(scan_id.partition, None)
            else:
                self._open[scan_id] = _columns(scan, scan.imaging.dwell_ns)

    def waited(self, tile: TileIndex, seconds: float) -> None:
        """Count time of a tile in which the microscope neither scanned nor moved."""
        self._idle_s[tile] += seconds

    def _expose(self, scan_id: ScanId, message: PartitionScanned | RegionScanned | Recorded) -> None:
        scan = self._scans.get(scan_id)
        if scan is None or scan_id in self._settled:
            return
        self._settled.add(scan_id)
        self._open.pop(scan_id, None)
        columns = _columns(scan, message.dwell_ns)
        self._exposed = self._exposed + columns
        self._measured_s += message.finished_s - message.started_s
        if scan_id.is_fast:
            self._fast[scan_id.partition] = columns

    def remaining(self, done: set[TileIndex]) -> Remaining | None:
        """Return the time from the end of the last scan to the end of the run.

        None as long as no fast scan was made or no partition planned.
        """
        fast = [columns for columns in self._fast.values() if columns is not None]
        if not fast or not self._regions:
            return None
        count = self.tiles * self.partitions
        unscanned = max(0, count - len(self._fast) - self._skipped_of(self.partitions, self._fast))
        given_up = sum(columns is None for columns in self._fast.values())
        given_up += self._skipped_of(self._parts, self._regions)
        unplanned = max(0, self.tiles * self._parts - len(self._regions) - given_up)
        left = (cost for i, cost in self._open.items() if i.partition.tile not in self._skipped)
        known = unscanned * np.mean(fast, axis=0) + sum(left, np.zeros(3))
        columns = known + unplanned * np.mean(list(self._typical().values()), axis=0)
        scans = self.times.scans.predicted(columns)
        # The model leaves hiccups out; on the whole scans take as much longer as they did so far.
        predicted_s = self.times.scans.predicted(self._exposed).seconds
        pace = self._measured_s / predicted_s if predicted_s else 1.0
        moves = max(0, self.tiles - len(self._reached | self._skipped))
        move = self.times.stage.duration_s(self.tile_distance_mm)
        seconds = pace * scans.seconds + moves * move.seconds + self._idle_left_s(done)
        errors_s = (pace * scans.error_s, pace * self._regions_error_s(unplanned), moves * move.error_s)
        half_s = RANGE_ERRORS * math.hypot(*errors_s)
        return Remaining(seconds, max(0.0, seconds - half_s), seconds + half_s)

    def _typical(self) -> dict[PartitionId, Vector]:
        """Return what regions cost in the partitions that tell about the others.

        These are the ones planned with the present timing, once they are as many as a tile has:
        regions are merged the more, the more a scan costs.
        """
        latest = dict(list(self._regions.items())[self._planned_before :])
        return latest if len(latest) >= self._parts else self._regions

    def _skipped_of(self, each: int, seen: Iterable[PartitionId]) -> int:
        """Return how many parts of skipped tiles will not come, where each tile has so many."""
        return each * len(self._skipped) - sum(part.tile in self._skipped for part in seen)

    @property
    def _parts(self) -> int:
        """How many parts of a tile have regions."""
        return self.partitions + self.seams

    def _idle_left_s(self, done: set[TileIndex]) -> float:
        """Return the waiting to come: in each tile as much as in those that are done."""
        if not done:
            return 0.0
        mean_s = sum(self._idle_s[tile] for tile in done) / len(done)
        begun = self._reached - done
        untouched = max(0, self.tiles - len(done) - len(begun))
        return untouched * mean_s + sum(max(0.0, mean_s - self._idle_s[tile]) for tile in begun)

    def _regions_error_s(self, unplanned: int) -> float:
        """Return the standard error of the time of all regions not planned yet, in s.

        Partitions of one tile are alike, so the scatter between tiles counts. As a few tiles tell
        little about it, one more is added that differs as partitions do, and by no less than a fifth.
        """
        seen: defaultdict[TileIndex, list[float]] = defaultdict(list)
        for partition, columns in self._typical().items():
            seen[partition.tile].append(self.times.scans.predicted(columns).seconds)
        per_tile = np.array([np.mean(seconds) for seconds in seen.values()])
        mean_s = per_tile.mean()
        assumed = np.var(np.concatenate(list(seen.values()))) + (LEAST_DIFFERENCE * mean_s) ** 2
        variance = (np.sum((per_tile - mean_s) ** 2) + assumed) / len(seen)
        unseen = unplanned / self._parts
        return float(unplanned * math.sqrt(variance * (1 / len(seen) + 1 / max(unseen, 1.0))))


def _columns(scan: Scan, dwell_ns: float) -> Vector:
    return TimeModel.columns(scan.pixels, scan.rows, dwell_ns)
