"""Has the regions of each finished tile looked at again, at analysis quality, and says what was missed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import (
    ImagesLost,
    InspectionFailed,
    InspectionLost,
    InspectionReturned,
    InspectRegion,
    InspectTile,
    Message,
    Recorded,
    RegionInspected,
    RegionReloaded,
    RegionsPlanned,
    ReloadRegion,
    RunContinued,
    RunFinished,
    RunPaused,
    Scan,
    ScanId,
    TileInspected,
    TileSkipped,
)
from sparse_actors.planning.audit import AUDIT
from sparse_actors.planning.audit_count import counted, picture
from sparse_actors.planning.audit_watch import AuditWatch
from sparse_actors.planning.survey_plan import SurveyPlan

TRIES = 2
AT_ONCE = 4
"""So many images are with the recorder and the workers: fast images do not wait long behind them."""


@dataclass(slots=True)
class _Tile:
    """The tile that is being inspected."""

    tile: TileIndex
    attempt: int
    left: deque[ScanId]
    open: dict[ScanId, int] = field(default_factory=dict)
    """Ordered, and how often."""


class RegionInspector:
    """Which regions of a tile are with the workers, and what was seen in all.

    One tile at a time is inspected: the scheduler orders it when all of it is on disk, and again when no
    answer comes. What the journal holds is not inspected again.

    Parameters
    ----------
    plan
        The survey.
    history
        Facts in the journal.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (
        RegionsPlanned,
        Recorded,
        ImagesLost,
        TileSkipped,
        RunPaused,
        RunContinued,
        RunFinished,
        InspectTile,
        RegionReloaded,
        InspectionReturned,
        InspectionLost,
    )

    def __init__(self, plan: SurveyPlan, history: Iterable[Message]) -> None:
        self._plan = plan
        self._planned: defaultdict[TileIndex, dict[PartitionId, RegionsPlanned]] = defaultdict(dict)
        self._scans: dict[ScanId, Scan] = {}
        self._recorded: set[ScanId] = set()
        self._sites: dict[ScanId, NDArray[np.float64]] = {}
        self._failed: set[ScanId] = set()
        self._audit = None if plan.audit is None else AuditWatch(plan.audit, plan.analysis.size_px)
        self._at: _Tile | None = None
        for fact in history:
            self._learn(fact)

    def _learn(self, fact: Message) -> None:
        if self._audit is not None:
            self._audit.learn(fact)
        match fact:
            case RegionsPlanned(partition=part) if part not in self._planned[part.tile]:
                self._planned[part.tile][part] = fact
                self._scans |= {scan.id: scan for scan in fact.scans}
            case Recorded(scan_id=scan_id):
                self._recorded.add(scan_id)
            case ImagesLost(scan_ids=scan_ids):
                self._recorded.difference_update(scan_ids)
                for scan_id in scan_ids:
                    self._sites.pop(scan_id, None)
            case RegionInspected(scan_id=scan_id, pois=pois):
                self._sites[scan_id] = pois.xy_px
            case _:
                pass

    def handle(self, message: Message) -> Iterator[Message]:
        """Take in a fact, or go on with the inspection of a tile."""
        self._learn(message)
        match message:
            case InspectTile(tile=tile, attempt=attempt):
                if self._at is None or self._at.tile != tile:
                    self._failed.clear()
                self._at = _Tile(tile, attempt, deque(self._to_inspect(tile)))
                yield from self._go_on(self._at)
            case RegionReloaded(scan=scan) if self._is_awaited(scan.id, message.attempt):
                image = picture(scan, message.image)
                yield InspectRegion(scan_id=scan.id, attempt=message.attempt, image=image)
            case InspectionReturned(scan_id=scan_id) if self._is_awaited(scan_id, message.attempt):
                box = self._scans[scan_id].box
                pois = message.pois.shifted(box.left, box.top)
                inspected = RegionInspected(scan_id=scan_id, pois=pois, worker=message.worker)
                self._learn(inspected)
                yield inspected
                yield from self._done(scan_id)
            case InspectionLost(scan_id=scan_id) if self._is_awaited(scan_id, message.attempt):
                yield from self._lost(scan_id, message.reason)
            case _:
                pass

    def _to_inspect(self, tile: TileIndex) -> Iterator[ScanId]:
        for _, planned in sorted(self._planned[tile].items()):
            for scan in planned.scans:
                if scan.id in self._recorded and scan.id not in self._sites and scan.id not in self._failed:
                    yield scan.id

    def _is_awaited(self, scan_id: ScanId, attempt: int) -> bool:
        at = self._at
        return at is not None and scan_id in at.open and attempt == self._attempt(at, scan_id)

    def _attempt(self, at: _Tile, scan_id: ScanId) -> int:
        return at.attempt * 10 + at.open[scan_id]

    def _go_on(self, at: _Tile) -> Iterator[Message]:
        while at.left and len(at.open) < AT_ONCE:
            scan_id = at.left.popleft()
            at.open[scan_id] = 1
            yield ReloadRegion(scan_id=scan_id, attempt=self._attempt(at, scan_id))
        if not at.open:
            self._at = None
            yield from self._audited(at.tile)
            yield TileInspected(tile=at.tile)

    def _done(self, scan_id: ScanId) -> Iterator[Message]:
        if self._at is not None:
            del self._at.open[scan_id]
            yield from self._go_on(self._at)

    def _lost(self, scan_id: ScanId, reason: str) -> Iterator[Message]:
        if self._at is not None and self._at.open[scan_id] < TRIES:
            self._at.open[scan_id] += 1
            yield ReloadRegion(scan_id=scan_id, attempt=self._attempt(self._at, scan_id))
        else:
            self._failed.add(scan_id)
            yield InspectionFailed(scan_id=scan_id, reason=f"{TRIES} tries: {reason}")
            yield from self._done(scan_id)

    def _audited(self, tile: TileIndex) -> Iterator[Message]:
        """Say what the windows tell, if the tile has any that were scanned."""
        planned = self._planned[tile]
        windows = [one for one in planned.values() if one.source == AUDIT]
        if self._audit is None or self._plan.audit is None or not windows:
            return
        regions = [
            s for part, one in sorted(planned.items()) if part < windows[0].partition for s in one.scans
        ]
        judged = counted(
            self._plan.audit,
            tile,
            self._plan.seed,
            self._plan.analysis.size_px,
            regions,
            windows[0].scans,
            self._sites,
        )
        if judged is not None:
            updated = self._audit.updated(tile, judged)
            self._learn(updated)
            yield updated
