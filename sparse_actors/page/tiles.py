"""What the page shows of one tile: a fold of facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import PoisFound, Recorded, RegionsPlanned, Scan, ScanId
from sparse_actors.planning.audit import AUDIT

STATES = ("waiting", "scanning", "detecting", "rescanning", "mapping", "done", "missing", "skipped")
"""What a tile can be, in the order of the numbers that the browser gets."""
POIS_SHOWN = 1000
"""Of each partition; a picture of more shows nothing."""
PLANNED, DONE, MISSED = b"p", b"d", b"m"
ORIGINS = ("detector", "proposed", "audit")


@dataclass(slots=True)
class TileView:
    """One tile; `parts` is how many partitions and seams are planned in a tile that is surveyed."""

    index: TileIndex
    partitions: int
    parts: int
    fast: set[ScanId] = field(default_factory=set)
    """Fast scans that are recorded."""
    regions: dict[ScanId, Scan] = field(default_factory=dict)
    origin: dict[PartitionId, int] = field(default_factory=dict)
    """By whom the regions of a part were proposed, as a number of `ORIGINS`."""
    recorded: dict[ScanId, Recorded] = field(default_factory=dict)
    missed: set[ScanId] = field(default_factory=set)
    undetected: set[PartitionId] = field(default_factory=set)
    pois: dict[PartitionId, NDArray[np.float64]] = field(default_factory=dict)
    """(n, 2): x, y in analysis pixels of the field of view, at most `POIS_SHOWN`."""
    pois_found: int = 0
    reached_s: float = 0.0
    finished_s: float = 0.0
    """When the last scan of it ended."""
    detection_s: float = 0.0
    """What workers took, all together."""
    is_under_beam: bool = False
    is_mapping: bool = False
    is_finished: bool = False
    skipped: str = ""
    """Why it was skipped; empty if it was not."""
    _places: dict[ScanId, int] = field(default_factory=dict)
    _became: bytearray = field(default_factory=bytearray)
    """Of each region in its place: planned, done or missed, a letter."""

    @property
    def state(self) -> int:
        """What it is, as a number of `STATES`."""
        return STATES.index(self._state())

    def _state(self) -> str:
        if self.skipped:
            return "skipped"
        if self.is_mapping:
            return "mapping"
        if self.is_finished:
            return "missing" if self.missed or self.undetected else "done"
        if len(self.fast) < self.partitions:
            return "scanning" if self.is_under_beam or self.fast else "waiting"
        return "detecting" if self.undetected_parts else "rescanning"

    @property
    def undetected_parts(self) -> int:
        """How many partitions and seams that are scanned have no plan yet."""
        if len(self.fast) == self.partitions:
            return max(0, self.parts - len(self.origin))
        return len({scan_id.partition for scan_id in self.fast} - set(self.origin))

    def take_plan(self, planned: RegionsPlanned) -> None:
        """Take in what is to be rescanned of a part."""
        by_whom = "detector" if not planned.source else "audit" if planned.source == AUDIT else "proposed"
        self.origin[planned.partition] = ORIGINS.index(by_whom)
        for scan in planned.scans:
            if scan.id not in self.regions:
                self.regions[scan.id] = scan
                self._places[scan.id] = len(self._became)
                self._became += PLANNED

    def take_pois(self, found: PoisFound) -> None:
        """Take in what a worker found."""
        self.pois[found.partition] = found.pois.xy_px[:POIS_SHOWN]
        self.pois_found += len(found.pois)
        self.detection_s += found.elapsed_s

    def take_recorded(self, recorded: Recorded) -> None:
        """Take in that an image is on disk."""
        scan_id = recorded.scan_id
        self.recorded[scan_id] = recorded
        self.missed.discard(scan_id)
        self._mark(scan_id, DONE)
        if scan_id.is_fast:
            self.fast.add(scan_id)
        self.finished_s = max(self.finished_s, recorded.finished_s)

    def miss(self, scan_id: ScanId) -> None:
        """Take in that a scan was given up."""
        self.missed.add(scan_id)
        self._mark(scan_id, MISSED)

    def begin_session(self) -> None:
        """Take in that the run was taken up again: what was missed is tried again."""
        if self.missed:
            self.is_finished = False
            for scan_id in self.missed:
                self._mark(scan_id, PLANNED)
            self.missed.clear()

    def lose(self, scan_ids: Iterable[ScanId]) -> None:
        """Forget images that are gone."""
        for scan_id in scan_ids:
            self.recorded.pop(scan_id, None)
            self.fast.discard(scan_id)
            self._mark(scan_id, PLANNED)
        self.is_finished = False

    def _mark(self, scan_id: ScanId, letter: bytes) -> None:
        place = self._places.get(scan_id)
        if place is not None:
            self._became[place : place + 1] = letter

    def progress(self) -> dict[str, Any]:
        """Return what changes often, in short: see docs/page.md."""
        return {
            "s": self.state,
            "c": self._became.decode(),
            "n": self.pois_found,
            "f": len(self.fast),
            "v": len(self.recorded),
        }

    def findings(self) -> dict[str, list[int]]:
        """Return the regions, five numbers each, and the points of interest, two each."""
        regions: list[int] = []
        for scan_id, scan in self.regions.items():
            box = scan.box
            regions += (box.left, box.top, box.width, box.height, self.origin.get(scan_id.partition, 0))
        points = [np.rint(xy).astype(np.int64).ravel().tolist() for xy in self.pois.values()]
        return {"r": regions, "p": [number for one in points for number in one]}

    def details(self) -> dict[str, Any]:
        """Return what is known of the tile, for whoever looks closer; times in s."""
        scans = list(self.recorded.values())
        fast_s = sum(one.finished_s - one.started_s for one in scans if one.scan_id.is_fast)
        scan_s = sum(one.finished_s - one.started_s for one in scans)
        begun_s = min((one.started_s for one in scans), default=0.0)
        return {
            "tile": str(self.index),
            "state": STATES[self.state],
            "skipped": self.skipped,
            "reached": self.reached_s or None,
            "fastTime": fast_s,
            "rescanTime": scan_s - fast_s,
            "detectionTime": self.detection_s,
            "elapsed": self.finished_s - begun_s if scans else 0.0,
            "found": self.pois_found,
            "undetected": [str(part) for part in sorted(self.undetected)],
            "regions": [
                {
                    "id": str(scan_id),
                    "box": [scan.box.left, scan.box.top, scan.box.width, scan.box.height],
                    "origin": ORIGINS[self.origin.get(scan_id.partition, 0)],
                    "status": self._status(scan_id),
                    "time": self._time_s(scan_id),
                }
                for scan_id, scan in self.regions.items()
            ],
        }

    def _status(self, scan_id: ScanId) -> str:
        if scan_id in self.recorded:
            return "rescanned"
        return "missing" if scan_id in self.missed else "planned"

    def _time_s(self, scan_id: ScanId) -> float | None:
        recorded = self.recorded.get(scan_id)
        return None if recorded is None else recorded.finished_s - recorded.started_s
