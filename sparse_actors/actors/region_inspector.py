"""Has the regions of each finished tile looked at again, at analysis quality, and says what was missed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_actors.messages import (
    ImagesLost,
    InspectionFailed,
    InspectionLost,
    InspectionReturned,
    InspectRegion,
    InspectTile,
    Message,
    RegionInspected,
    RegionReloaded,
    ReloadRegion,
    RunContinued,
    RunFinished,
    RunPaused,
    Scan,
    ScanId,
    TileInspected,
    TileSkipped,
)
from sparse_actors.planning.audit_count import counted, picture
from sparse_actors.planning.audit_watch import AuditWatch
from sparse_actors.planning.survey_plan import SurveyPlan

TRIES = 2
AT_ONCE = 4
"""So many images are with the recorder and the workers: fast images do not wait long behind them."""


@dataclass(slots=True)
class _Tile:
    """The tile that is being inspected."""

    order: InspectTile
    scans: dict[ScanId, Scan]
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
            case ImagesLost(scan_ids=scan_ids):
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
            case InspectTile():
                yield from self._begin(message)
            case RegionReloaded(scan=scan) if self._is_awaited(scan.id, message.attempt):
                image = picture(scan, message.image)
                yield InspectRegion(scan_id=scan.id, attempt=message.attempt, image=image)
            case InspectionReturned(scan_id=scan_id) if self._is_awaited(scan_id, message.attempt):
                yield from self._returned(message)
            case InspectionLost(scan_id=scan_id) if self._is_awaited(scan_id, message.attempt):
                yield from self._lost(scan_id, message.reason)
            case _:
                pass  # folded, or not asked for any more

    def _begin(self, order: InspectTile) -> Iterator[Message]:
        if self._at is None or self._at.order.tile != order.tile:
            self._failed.clear()
        scans = {scan.id: scan for scan in (*order.regions, *order.windows, *order.later)}
        done = {*order.missing, *self._sites, *self._failed}
        self._at = _Tile(order, scans, deque(scan_id for scan_id in scans if scan_id not in done))
        yield from self._go_on(self._at)

    def _is_awaited(self, scan_id: ScanId, attempt: int) -> bool:
        at = self._at
        return at is not None and scan_id in at.open and attempt == self._attempt(at, scan_id)

    def _attempt(self, at: _Tile, scan_id: ScanId) -> int:
        return at.order.attempt * 10 + at.open[scan_id]

    def _go_on(self, at: _Tile) -> Iterator[Message]:
        while at.left and len(at.open) < AT_ONCE:
            scan_id = at.left.popleft()
            at.open[scan_id] = 1
            yield ReloadRegion(scan_id=scan_id, attempt=self._attempt(at, scan_id))
        if not at.open:
            self._at = None
            yield from self._audited(at.order)
            yield TileInspected(tile=at.order.tile)

    def _returned(self, result: InspectionReturned) -> Iterator[Message]:
        if self._at is None:
            return
        box = self._at.scans[result.scan_id].box
        pois = result.pois.shifted(box.left, box.top)
        inspected = RegionInspected(scan_id=result.scan_id, pois=pois, worker=result.worker)
        self._learn(inspected)
        yield inspected
        yield from self._done(result.scan_id)

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

    def _audited(self, order: InspectTile) -> Iterator[Message]:
        """Say what the windows tell, if any of them were scanned or none was left to be drawn."""
        plan = self._plan
        if self._audit is None or plan.audit is None:
            return
        judged = counted(
            plan.audit,
            order.tile,
            plan.seed,
            plan.analysis.size_px,
            order.regions,
            order.windows,
            self._sites,
        )
        if judged is not None:
            updated = self._audit.updated(order.tile, judged)
            self._learn(updated)
            yield updated
