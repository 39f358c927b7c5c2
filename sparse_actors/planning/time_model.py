"""How long scans and moves of the stage take, learnt from those that were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse_actors.imaging import ScanTiming

from .robust_fit import Matrix, RobustFit, Vector


@dataclass(frozen=True, slots=True)
class _Doubt:
    """How wrong costs known beforehand may be; standard deviations."""

    together: float
    """Of a factor common to all of them."""
    each: float
    """Of each by itself, as a share of it."""
    at_least: tuple[float, ...]
    """Of each by itself, in its own unit."""

    def covariance(self, costs: Vector) -> Matrix:
        common = self.together * costs
        own = np.maximum(self.each * costs, self.at_least)
        covariance: Matrix = np.outer(common, common) + np.diag(own**2)
        return covariance


DECLARED_SCAN = _Doubt(together=1.0, each=0.3, at_least=(0.05, 20.0, 10.0))
LEARNT_SCAN = _Doubt(together=0.3, each=0.1, at_least=(0.01, 2.0, 1.0))
UNKNOWN_MOVE = _Doubt(together=0.0, each=1.0, at_least=(0.5, 3.0))
LEARNT_MOVE = _Doubt(together=0.3, each=0.1, at_least=(0.05, 0.1))


@dataclass(frozen=True, slots=True)
class Duration:
    """A predicted time, and the standard error of its mean."""

    seconds: float
    error_s: float


class _Times:
    """What the time models share: a fit, the number of times behind it, and their JSON."""

    def __init__(self, costs: Vector, covariance: Matrix, count: int = 0) -> None:
        self._fit = RobustFit(costs, covariance)
        self.count = count
        """Number of times learnt, those of earlier runs included."""

    def _learn(self, x: Vector, measured_s: float) -> None:
        self._fit.learn(x, measured_s)
        self.count += 1

    def predicted(self, x: Vector) -> Duration:
        """Return the time of something, or of a sum of things, by its columns x."""
        seconds, variance = self._fit.costs @ x, x @ self._fit.covariance @ x
        return Duration(float(seconds), float(np.sqrt(variance)))

    def to_json(self) -> dict[str, Any]:
        """Return all that a later run can use."""
        return {
            "costs": self._fit.costs.tolist(),
            "covariance": self._fit.covariance.tolist(),
            "count": self.count,
        }


def _carried_over(data: Mapping[str, Any], doubt: _Doubt) -> tuple[Vector, Matrix, int]:
    """Check what `to_json` returned and add doubt: the instrument may have changed. Raises ValueError."""
    size = len(doubt.at_least)
    costs = np.asarray(data.get("costs"), dtype=np.float64)
    covariance = np.asarray(data.get("covariance"), dtype=np.float64)
    count = data.get("count")
    if (
        costs.shape != (size,)
        or covariance.shape != (size, size)
        or not (np.isfinite(costs).all() and np.isfinite(covariance).all())
        or (costs < 0).any()
        or (np.diag(covariance) < 0).any()
        or not isinstance(count, int)
        or count < 0
    ):
        raise ValueError("not what was learnt of times")
    doubted = covariance + doubt.covariance(costs)
    unit = np.sqrt(np.diag(doubted))
    if not np.allclose(doubted, doubted.T) or np.linalg.eigvalsh(doubted / np.outer(unit, unit))[0] < 1e-12:
        raise ValueError("not what was learnt of times")
    return costs, doubted, count


class TimeModel(_Times):
    """Eq. 1 of the SPARSE paper, t = a t_dwell n_px + t_row n_rows + t_overhead, with an error.

    As long as all scans have the same shape, their time tells the sum of the three terms only; it
    is then divided as declared. A declaration that is wrong is overruled by the first few scans.

    Made by `declared` or `from_json`.
    """

    @classmethod
    def declared(cls, timing: ScanTiming) -> TimeModel:
        """Begin with what the configuration or the driver declares."""
        costs = np.array([timing.dwell_factor, timing.row_overhead_us, timing.scan_overhead_ms])
        return cls(costs, DECLARED_SCAN.covariance(costs))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TimeModel:
        """Begin with what an earlier run learnt; raises ValueError if it is not that."""
        return cls(*_carried_over(data, LEARNT_SCAN))

    @staticmethod
    def columns(pixels: int, rows: int, dwell_ns: float) -> Vector:
        """Return what one scan costs: s of dwell time, us for each us of a row, ms for each ms of a scan.

        The columns of several scans may be added: `predicted` then tells the time of all.
        """
        return np.array([pixels * dwell_ns * 1e-9, rows * 1e-6, 1e-3])

    def learn(self, pixels: int, rows: int, dwell_ns: float, measured_s: float) -> None:
        """Take in the time of one scan."""
        self._learn(self.columns(pixels, rows, dwell_ns), measured_s)

    def duration_s(self, pixels: int, rows: int, dwell_ns: float) -> Duration:
        """Return the time of one scan."""
        return self.predicted(self.columns(pixels, rows, dwell_ns))

    @property
    def timing(self) -> ScanTiming:
        """The costs as everything that plans wants them."""
        factor, row_us, scan_ms = self._fit.costs.tolist()
        return ScanTiming(row_us, scan_ms, factor)

    @property
    def timing_error(self) -> ScanTiming:
        """The standard error of each of the costs."""
        factor, row_us, scan_ms = np.sqrt(np.diag(self._fit.covariance)).tolist()
        return ScanTiming(row_us, scan_ms, factor)


class StageModel(_Times):
    """Time of a move: settling + distance / speed. Made by `unknown` or `from_json`."""

    @classmethod
    def unknown(cls) -> StageModel:
        """Begin with half a second and a millimetre a second."""
        costs = np.array([0.5, 1.0])
        return cls(costs, UNKNOWN_MOVE.covariance(costs))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StageModel:
        """Begin with what an earlier run learnt; raises ValueError if it is not that."""
        return cls(*_carried_over(data, LEARNT_MOVE))

    def learn(self, distance_mm: float, measured_s: float) -> None:
        """Take in the time of one move."""
        self._learn(np.array([1.0, distance_mm]), measured_s)

    def duration_s(self, distance_mm: float) -> Duration:
        """Return the time of one move."""
        return self.predicted(np.array([1.0, distance_mm]))
