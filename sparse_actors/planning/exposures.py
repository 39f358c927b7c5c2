"""The exposures of a survey: which comes next, what stands in its way, and what became of those before."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from sparse_actors.dose import DoseMap
from sparse_actors.geometry import TileIndex
from sparse_actors.imaging import ScanTiming
from sparse_actors.messages import (
    MapField,
    Message,
    MicroscopePrepared,
    Scan,
    ScanArea,
    ScanId,
    TimingLearned,
)
from sparse_actors.planning.dose import DoseBook
from sparse_actors.planning.scan_order import next_step
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState

Obstacle = Literal["", "storage", "budget", "dose"]


class Exposures:
    """What was exposed in this session, and what may be.

    Parameters
    ----------
    plan, state
        The survey and where it stands.
    """

    def __init__(self, plan: SurveyPlan, state: SurveyState) -> None:
        self._plan = plan
        self._state = state
        self._doses = DoseBook(plan)
        self._timing: ScanTiming | None = None
        self._in_flight: dict[ScanId, int] = {}  # bytes
        self._failures: Counter[ScanId] = Counter()
        self._ordered: Counter[ScanId] = Counter()

    def learn(self, fact: Message) -> None:
        """Take in one fact; one that comes twice changes nothing."""
        self._doses.learn(fact)

    def time_by(self, fact: MicroscopePrepared | TimingLearned) -> None:
        """Go by what scans cost in this session."""
        if isinstance(fact, TimingLearned):
            self._timing = fact.timing
        else:
            self._timing = self._timing or self._plan.timing or fact.capabilities.limits.timing

    def duration_s(self, scan: Scan) -> float:
        """Return the predicted beam time of a scan."""
        return (self._timing or ScanTiming()).duration_s(scan.pixels, scan.rows, scan.imaging.dwell_ns)

    def next(self, tile: TileIndex, detection_s: float) -> Scan | None:
        """Return the scan that is to be made now at a tile, None while there is nothing to scan."""
        fast = self._state.fast_left(tile)
        regions = self._state.regions_left(tile).values()
        step = next_step(
            fast_left=len(fast),
            ready_s=(self.duration_s(scan) for scan in regions if self._has_room(scan)),
            pending=len(self._state.undetected(tile)),
            detection_s=detection_s,
            policy=self._plan.scan_order,
        )
        if step == "rescan":
            return next(scan for scan in regions if self._has_room(scan))
        return fast[0] if step == "fast" else None

    def obstacle(self, scan: Scan) -> Obstacle:
        """Return what stands in the way of a scan: it has no place on disk, memory is full, or the dose."""
        if not self._has_room(scan):
            return "storage"
        if sum(self._in_flight.values()) > self._plan.in_flight_bytes:
            return "budget"
        return "" if self.is_allowed(scan) else "dose"

    def _has_room(self, scan: Scan) -> bool:
        return scan.id in self._state.reserved

    def is_allowed(self, scan: Scan) -> bool:
        """Whether the limit of the dose allows one more exposure."""
        return self._doses.allows(scan)

    def on_field(self, field: MapField) -> DoseMap | None:
        """Return what scans left on each point of a field; None: no limit asks for it."""
        return self._doses.on_field(field)

    def order(self, scan: Scan) -> ScanArea:
        """Return the order to make a scan."""
        # Counted over all orders for this scan: no two are mistaken for one delivered twice.
        self._ordered[scan.id] += 1
        area = ScanArea(scan=scan, attempt=self._ordered[scan.id])
        self._doses.learn(area)
        return area

    def are_ordered(self, scans: tuple[Scan, ...]) -> bool:
        """Whether all of these were ordered in this session."""
        return all(self._ordered[scan.id] for scan in scans)

    def came(self, scan_id: ScanId, size_bytes: int) -> None:
        """Count an image that is neither on disk nor detected yet."""
        self._in_flight[scan_id] = size_bytes

    def release(self, scan_id: ScanId) -> None:
        """Take an image off the budget once it is neither needed for the disk nor for detection."""
        if self._state.is_stored(scan_id) and not self._state.awaits_detection(scan_id):
            self.drop(scan_id)

    def drop(self, scan_id: ScanId) -> None:
        """Take an image off the budget."""
        self._in_flight.pop(scan_id, None)

    def release_all(self, tile: TileIndex) -> None:
        """Take the images of a tile off the budget that nothing is awaited from."""
        for scan_id in [scan_id for scan_id in self._in_flight if scan_id.partition.tile == tile]:
            self.release(scan_id)

    def failed(self, scan_id: ScanId) -> int:
        """Count a failure of a scan; returns how many it has had."""
        self._failures[scan_id] += 1
        return self._failures[scan_id]
