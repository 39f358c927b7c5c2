"""How far a run is: a fold of its messages into figures, without clock or output."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.messages import (
    AuditUpdated,
    DetectionFailed,
    FieldId,
    ImagesLost,
    Message,
    PartitionScanned,
    Recorded,
    RegionInspected,
    RegionScanned,
    RegionsPlanned,
    RegionsProposed,
    RunStarted,
    Scan,
    ScanId,
    ScanMissed,
    SpectraMeasured,
    SpectraRecorded,
    StorageReserved,
    TileFinished,
    TileReached,
    TileSkipped,
    WorkerJoined,
    WorkerLost,
)
from sparse_actors.planning.audit import AUDIT
from sparse_actors.planning.eta import Remaining, TimeToGo
from sparse_actors.planning.learnt_times import LearntTimes
from sparse_actors.recording.wait_cause import WaitCause

from .audit_display import AuditFigures
from .map_progress import MapFigures, MapProgress

HANDLING = "handling"
"""Cause of a gap for which the scheduler gave none: orders, transfers, answers on their way."""
CHOOSING = "choosing points"
"""Cause of a gap between two batches of points of one map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One look at a run."""

    tiles_done: int
    tiles_total: int
    fast_scans_done: int
    fast_scans_total: int
    regions_done: int
    regions_planned: int
    left_out_pixels: int
    """Not rescanned because of the limit of the dose."""
    tiles_skipped: int
    """Of the tiles that are done, those that somebody had skipped."""
    paused: str
    """Why the run is paused; empty if it is not."""
    scans_missed: int
    detections_failed: int
    last_failure: str
    """Why the last of these scans or detections was given up; empty when none was."""
    workers: int
    exposed_pixels: int
    """Of fast and analysis scans together, repetitions included."""
    scan_s: float
    stage_s: float
    idle_s: dict[str, float]
    """Time the microscope neither scanned nor moved, by cause."""
    saved_s: float
    """Conventional scan of the finished tiles, less what they took; skipped tiles do not count."""
    saved_share: float | None
    eta_s: float | None
    """From the end of the last scan; None before the first partition is scanned and planned."""
    eta_low_s: float | None
    eta_high_s: float | None
    """Between these two the time left lies with some 95 % probability."""
    maps: MapFigures | None = None
    """None in a run without maps."""
    audit: AuditFigures | None = None
    """None before a tile is audited."""
    regions_inspected: int = 0
    """Looked at again at analysis quality, windows of the audit left out."""
    artefacts: int = 0
    """Of these, where no site was seen."""

    @property
    def idle_share(self) -> float:
        """Part of the time since the first scan in which the microscope waited."""
        idle_s = sum(self.idle_s.values())
        total_s = self.scan_s + self.stage_s + idle_s + (self.maps.spectra_s if self.maps else 0.0)
        return idle_s / total_s if total_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {**asdict(self), "idle_share": self.idle_share}


@dataclass(slots=True, kw_only=True)
class Progress:
    """Folds the messages of a run, live or from its journal, in their order on the bus.

    The conventional time is eq. 1 of the SPARSE paper over whole tiles at analysis quality, with the
    costs that the scans of this run taught: a simulated microscope may run faster than life, a real
    one has overheads nobody told us, and a whole tile has fewer of them than as many small scans.

    Parameters
    ----------
    tiles, partitions, seams
        Number of tiles of the run, and of partitions and of seams detected in each.
    analysis
        The imaging parameters of the rescans.
    timing
        The overheads until scans teach them; None takes what the microscope declares.
    tile_distance_mm
        From one tile to the next.
    known_times
        What earlier runs learnt of this microscope; see `LearntTimes`.
    maps
        Those of the run, if it makes any.
    """

    tiles: int
    partitions: int
    analysis: Imaging
    timing: ScanTiming | None = None
    tile_distance_mm: float = 0.0
    known_times: Mapping[str, Any] | None = None
    seams: int = 0
    maps: MapProgress | None = None

    _to_go: TimeToGo = field(init=False)
    _last_number: float = -math.inf
    _geometry: dict[ScanId, Scan] = field(default_factory=dict)
    _exposures: set[tuple[ScanId, int]] = field(default_factory=set)
    _recorded: set[ScanId] = field(default_factory=set)
    _missed: set[ScanId] = field(default_factory=set)
    _undetected: set[PartitionId] = field(default_factory=set)
    _last_failure: str = ""
    _regions: dict[PartitionId, int] = field(default_factory=dict)
    _left_out_pixels: dict[PartitionId, int] = field(default_factory=dict)
    _done: set[TileIndex] = field(default_factory=set)
    _skipped: set[TileIndex] = field(default_factory=set)
    _workers: set[str] = field(default_factory=set)
    _exposed_pixels: int = 0
    _scan_s: float = 0.0
    _stage_s: float = 0.0
    _idle_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _spent_s: defaultdict[TileIndex, float] = field(default_factory=lambda: defaultdict(float))
    # What belongs to the gap since the last scan, and to this session of the run.
    _gap_begins_s: float | None = None
    _gap_moves_s: dict[tuple[TileIndex, int], float] = field(default_factory=dict)
    _waits: WaitCause = field(default_factory=WaitCause)
    _last_field: FieldId | None = None
    _audit: AuditFigures | None = None
    _of_audit: set[PartitionId] = field(default_factory=set)
    _has_sites: dict[ScanId, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._to_go = TimeToGo(
            tiles=self.tiles,
            partitions=self.partitions,
            seams=self.seams,
            tile_distance_mm=self.tile_distance_mm,
            times=LearntTimes(self.timing, self.known_times),
        )

    def observe(self, message: Message, number: int) -> None:
        """Take one message in; one seen before, by its number, counts once."""
        if number <= self._last_number:
            return
        self._last_number = number
        self._to_go.learn(message)
        self._waits.learn(message)
        if self.maps is not None:
            self.maps.observe(message)
        match message:
            case RunStarted():
                # The pause between two sessions is not idle time.
                self._gap_begins_s = self._last_field = None
                self._workers.clear()
            case TileReached(tile=tile, attempt=attempt):
                self._gap_moves_s[tile, attempt] = message.finished_s - message.started_s
            case StorageReserved(scans=scans):
                self._geometry.update((scan.id, scan) for scan in scans)
            case PartitionScanned(scan=scan) | RegionScanned(scan=scan):
                self._geometry[scan.id] = scan
                self._exposed(scan.id, message)
            case Recorded(scan_id=scan_id):
                self._exposed(scan_id, message)
                self._recorded.add(scan_id)
                self._missed.discard(scan_id)
                self._geometry.pop(scan_id, None)
            case ImagesLost(scan_ids=scan_ids):
                self._recorded.difference_update(scan_ids)
                self._done -= {scan_id.partition.tile for scan_id in scan_ids}
                # Attempts are counted anew, so the next exposure must not be taken for the one that was lost.
                self._exposures = {key for key in self._exposures if key[0] not in scan_ids}
            case RegionsPlanned(partition=partition, scans=scans, left_out=left_out):
                self._regions[partition] = len(scans)
                if message.source == AUDIT:
                    self._of_audit.add(partition)
                self._left_out_pixels[partition] = sum(box.area for box in left_out)
            case ScanMissed(scan_id=scan_id, reason=reason):
                self._missed.add(scan_id)
                self._last_failure = reason
            case DetectionFailed(partition=partition, reason=reason):
                self._undetected.add(partition)
                self._last_failure = reason
            case SpectraMeasured() | SpectraRecorded():
                self._measured(message)
            case TileFinished(tile=tile):
                self._done.add(tile)
            case TileSkipped(tile=tile):
                self._skipped.add(tile)
            case RegionsProposed(partition=partition) if partition not in self._regions:
                self._done.discard(partition.tile)
            case AuditUpdated():
                self._audit = AuditFigures.of(message)
            case RegionInspected(scan_id=scan_id, pois=pois) if scan_id.partition not in self._of_audit:
                self._has_sites[scan_id] = len(pois) > 0
            case WorkerJoined(worker=worker):
                self._workers.add(worker)
            case WorkerLost(worker=worker):
                self._workers.discard(worker)
            case _:
                pass  # The rest says nothing about progress.

    def _exposed(self, scan_id: ScanId, message: PartitionScanned | RegionScanned | Recorded) -> None:
        """Count an exposure, the first time it is heard of: when scanned, or from a journal when recorded."""
        if (scan_id, message.attempt) in self._exposures:
            return
        self._exposures.add((scan_id, message.attempt))
        took_s = message.finished_s - message.started_s
        tile = scan_id.partition.tile
        is_pause = self._waits.is_pause
        waited_s = self._close_gap(message, HANDLING)
        self._last_field = None
        self._spent_s[tile] += waited_s + took_s
        if not is_pause:  # which says nothing about the tiles to come
            self._to_go.waited(tile, waited_s)
        self._scan_s += took_s
        if scan := self._geometry.get(scan_id):
            self._exposed_pixels += scan.pixels

    def _measured(self, message: SpectraMeasured | SpectraRecorded) -> None:
        """Count a batch of spectra, the first time it is heard of."""
        if self.maps is None or not self.maps.measured(message):
            return
        is_same_map = self._last_field == message.field
        is_pause = self._waits.is_pause
        waited_s = self._close_gap(message, CHOOSING if is_same_map else HANDLING)
        if is_same_map and not is_pause:
            self.maps.waited(message.field, waited_s)
        self._last_field = message.field

    def _close_gap(
        self,
        message: PartitionScanned | RegionScanned | Recorded | SpectraMeasured | SpectraRecorded,
        otherwise: str,
    ) -> float:
        """End the gap before something the beam did; return how long the microscope waited in it, in s."""
        waited_s = 0.0
        cause = self._waits.take() or otherwise
        if self._gap_begins_s is not None:
            gap_s = max(0.0, message.started_s - self._gap_begins_s)
            stage_s = min(gap_s, sum(self._gap_moves_s.values()))
            waited_s = gap_s - stage_s
            self._stage_s += stage_s
            self._idle_s[cause] += waited_s
        self._gap_begins_s = message.finished_s
        self._gap_moves_s.clear()
        return waited_s

    def figures(self) -> Figures:
        """Return where the run stands."""
        to_go = self._to_go.remaining(self._done)
        maps = self.maps.figures() if self.maps else None
        eta_s, eta_low_s, eta_high_s = self._with_maps(to_go, maps)
        whole = self._done - self._skipped
        conventional_s = len(whole) * self._conventional_tile_s()
        saved_s = conventional_s - sum(self._spent_s[tile] for tile in whole)
        fast_done = sum(scan_id.is_fast for scan_id in self._recorded)
        return Figures(
            tiles_done=len(self._done),
            tiles_total=self.tiles,
            fast_scans_done=fast_done,
            fast_scans_total=self.tiles * self.partitions,
            regions_done=len(self._recorded) - fast_done,
            regions_planned=sum(self._regions.values()),
            left_out_pixels=sum(self._left_out_pixels.values()),
            tiles_skipped=len(self._skipped),
            paused=self._waits.paused,
            scans_missed=len(self._missed),
            detections_failed=len(self._undetected),
            last_failure=self._last_failure,
            workers=len(self._workers),
            exposed_pixels=self._exposed_pixels,
            scan_s=self._scan_s,
            stage_s=self._stage_s,
            idle_s=dict(self._idle_s),
            saved_s=saved_s,
            saved_share=saved_s / conventional_s if conventional_s else None,
            eta_s=eta_s,
            eta_low_s=eta_low_s,
            eta_high_s=eta_high_s,
            maps=maps,
            audit=self._audit,
            regions_inspected=len(self._has_sites),
            artefacts=len(self._has_sites) - sum(self._has_sites.values()),
        )

    def _with_maps(
        self, survey: Remaining | None, maps: MapFigures | None
    ) -> tuple[float, float, float] | tuple[None, None, None]:
        """Return the time left with its range; what maps take less than planned is not foreseen."""
        if survey is None and self.tiles == 0:
            survey = Remaining(0.0, 0.0, 0.0)
        if survey is None or (maps is not None and maps.eta_s is None):
            return None, None, None
        maps_s = 0.0
        if maps is not None and maps.eta_s is not None:
            maps_s = (
                maps.eta_s + maps.moves * self._to_go.times.stage.duration_s(self.tile_distance_mm).seconds
            )
        return survey.seconds + maps_s, survey.low_s + maps_s, survey.high_s + maps_s

    def _conventional_tile_s(self) -> float:
        width, height = self.analysis.size_px
        scans = self._to_go.times.scans
        return scans.duration_s(width * height, height, self.analysis.dwell_ns).seconds
