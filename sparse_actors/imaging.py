"""The two sets of imaging parameters, and what a scan costs in time and dose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Times = TypeVar("_Times", float, NDArray[np.float64])

ELECTRONS_PER_PICOAMPERE_SECOND = 1e-12 / 1.602176634e-19


@dataclass(frozen=True, slots=True)
class Imaging:
    """How a field of view is scanned (theta_fast or theta_analysis)."""

    size_px: tuple[int, int]
    """(width, height) of the whole field of view; a scanned box lies on this grid."""
    dwell_ns: float
    """Time on each pixel."""

    def __post_init__(self) -> None:
        if min(self.size_px) < 1:
            raise ValueError(f"size_px {self.size_px} must be at least 1 x 1")
        if not 0 < self.dwell_ns < 1e12:
            raise ValueError(f"dwell_ns {self.dwell_ns} must be above 0")


@dataclass(frozen=True, slots=True)
class ScanTiming:
    """What a scan costs beside the dwell time."""

    row_overhead_us: float = 0.0
    """Flyback at the end of every line, t_row."""
    scan_overhead_ms: float = 0.0
    """Fixed cost of a scan, t_overhead."""
    dwell_factor: float = 1.0
    """How much longer than its dwell time a pixel takes; 1 by declaration, learnt where it is not so."""

    def duration_s(self, pixels: int, rows: int, dwell_ns: float) -> float:
        """Time of one scan by eq. 1 of the SPARSE paper: t_dwell n_px + t_row n_rows + t_overhead."""
        dwell_s = self.dwell_factor * dwell_ns * 1e-9
        return pixels * dwell_s + rows * self.row_overhead_us * 1e-6 + self.scan_overhead_ms * 1e-3


def dose_e_per_nm2(current_pa: float, dwell_ns: float, pixel_nm: float) -> float:
    """Electrons per square nanometre that one exposure of a pixel deposits: I t / (e p^2)."""
    return current_pa * dwell_ns * 1e-9 * ELECTRONS_PER_PICOAMPERE_SECOND / pixel_nm**2


def spot_s(live_time_s: _Times, *, dead_share: float = 0.0, settling_s: float = 0.0) -> _Times:
    """Return how long the beam is at a point for one spectrum: the one sum of time and dose.

    Parameters
    ----------
    live_time_s
        For which the detector counts.
    dead_share
        Share of the real time, live and dead together, in which it does not count, at least 0 and below 1.
    settling_s
        In which the beam gets there and settles; it exposes the specimen too.
    """
    return live_time_s / (1 - dead_share) + settling_s
