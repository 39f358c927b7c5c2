"""What a run says about times: a fold of its facts into the models of scans and of moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sparse_actors.contracts.microscope import MicroscopeState
from sparse_actors.imaging import ScanTiming
from sparse_actors.messages import (
    Message,
    MicroscopePrepared,
    Recorded,
    RunStarted,
    Scan,
    ScanId,
    StorageReserved,
    TileReached,
)

from .time_model import StageModel, TimeModel


class LearntTimes:
    """Learns from every scan that was recorded and every tile that was reached, once each.

    Parameters
    ----------
    configured
        The prior of a microscope that is not known yet; None takes what it declares.
    known
        What earlier runs learnt of this microscope: `to_json` of the last.

    Raises
    ------
    ValueError
        `known` is damaged.
    """

    def __init__(self, configured: ScanTiming | None, known: Mapping[str, Any] | None = None) -> None:
        self._is_declared = configured is not None or known is not None
        self.scans = TimeModel.declared(configured or ScanTiming())
        self.stage = StageModel.unknown()
        if known is not None:
            self.scans = TimeModel.from_json(known.get("scans", {}))
            self.stage = StageModel.from_json(known.get("stage", {}))
        self._geometry: dict[ScanId, Scan] = {}
        self._seen: set[tuple[ScanId, float]] = set()
        self._moves: set[float] = set()
        self._at: MicroscopeState | None = None
        self._is_resumed = False

    def learn(self, fact: Message) -> Scan | None:
        """Take in one fact; returns the scan if its time was learnt."""
        match fact:
            case RunStarted(session=session):
                # Between two sessions the stage may have been moved by hand.
                self._at, self._is_resumed = None, session > 0
            case MicroscopePrepared(initial=initial, capabilities=capabilities):
                if not self._is_declared:
                    self._is_declared = True
                    self.scans = TimeModel.declared(capabilities.limits.timing)
                if self._at is None and not self._is_resumed:
                    self._at = initial
            case TileReached(state=state, started_s=started_s, finished_s=finished_s):
                if self._at is not None and started_s not in self._moves:
                    distance_mm = math.hypot(state.x_mm - self._at.x_mm, state.y_mm - self._at.y_mm)
                    self.stage.learn(distance_mm, finished_s - started_s)
                self._moves.add(started_s)
                self._at = state
            case StorageReserved(scans=scans):
                self._geometry.update((scan.id, scan) for scan in scans)
            case Recorded(scan_id=scan_id, started_s=started_s, finished_s=finished_s, dwell_ns=dwell_ns):
                scan = self._geometry.get(scan_id)
                if scan is not None and (scan_id, started_s) not in self._seen:
                    self._seen.add((scan_id, started_s))
                    self.scans.learn(scan.pixels, scan.rows, dwell_ns, finished_s - started_s)
                    return scan
            case _:
                pass
        return None

    def to_json(self) -> dict[str, Any]:
        """Return what the next run with this microscope begins with."""
        return {"scans": self.scans.to_json(), "stage": self.stage.to_json()}
