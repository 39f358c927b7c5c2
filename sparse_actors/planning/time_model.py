"""How long scans and moves of the stage take, learnt from those that were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse_actors.imaging import ScanTiming

from .robust_fit import Matrix, RobustFit, Vector

COMMON_ERROR = 1.0
"""Standard deviation, as a share, of a factor by which a declaration is wrong as a whole."""
ROW_ERROR, ROW_ERROR_US = 0.3, 20.0
SCAN_ERROR, SCAN_ERROR_MS = 0.3, 20.0
DWELL_ERROR = 0.05
"""How much each declared cost may be wrong by itself, as a share and at least."""
CARRIED_OVER_ERROR = 0.3
"""How wrong what was learnt in another run may be in this one, as a share."""


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


def _carried_over(data: Mapping[str, Any], size: int) -> tuple[Vector, Matrix, int]:
    """Check what `to_json` returned and widen its uncertainty; raises ValueError."""
    costs = np.asarray(data.get("costs"), dtype=np.float64)
    covariance = np.asarray(data.get("covariance"), dtype=np.float64)
    count = data.get("count")
    is_sound = (
        costs.shape == (size,)
        and covariance.shape == (size, size)
        and np.isfinite(costs).all()
        and np.isfinite(covariance).all()
        and (costs >= 0).all()
        and np.allclose(covariance, covariance.T)
        and (np.diag(covariance) > 0).all()
        and (np.linalg.eigvalsh(_scaled(covariance)) > -1e-6).all()
        and isinstance(count, int)
        and count >= 0
    )
    if not is_sound:
        raise ValueError("not what was learnt of a time")
    # All together as a factor, and each by itself; the last term keeps a cost of 0 free to grow.
    wrong = CARRIED_OVER_ERROR * costs
    own = (CARRIED_OVER_ERROR * wrong) ** 2 + 0.01 * np.diag(covariance)
    return costs, covariance + np.outer(wrong, wrong) + np.diag(own), int(count)


def _scaled(covariance: Matrix) -> Matrix:
    unit = np.sqrt(np.diag(covariance))
    scaled: Matrix = covariance / np.outer(unit, unit)
    return scaled


class TimeModel(_Times):
    """Eq. 1 of the SPARSE paper, t = a t_dwell n_px + t_row n_rows + t_overhead, with an error.

    As long as all scans have the same shape, their time tells the sum of the three terms only; it
    is then divided as declared. A declaration that is wrong is overruled by the first few scans.

    Parameters
    ----------
    prior
        What the configuration or the driver declares.
    """

    def __init__(self, prior: ScanTiming) -> None:
        costs = np.array([prior.dwell_factor, prior.row_overhead_us, prior.scan_overhead_ms])
        common = COMMON_ERROR * costs
        own = np.maximum(
            costs * [DWELL_ERROR, ROW_ERROR, SCAN_ERROR], [DWELL_ERROR, ROW_ERROR_US, SCAN_ERROR_MS]
        )
        super().__init__(costs, np.outer(common, common) + np.diag(own**2))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TimeModel:
        """Return what an earlier run learnt, less certain; raises ValueError if it is not that."""
        costs, covariance, count = _carried_over(data, 3)
        model = cls(ScanTiming())
        _Times.__init__(model, costs, covariance, count)
        return model

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
    """Time of a move: settling + distance / speed."""

    def __init__(self) -> None:
        super().__init__(np.array([0.5, 1.0]), np.diag([0.5**2, 1.0**2]))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StageModel:
        """Return what an earlier run learnt, less certain; raises ValueError if it is not that."""
        model = cls()
        _Times.__init__(model, *_carried_over(data, 2))
        return model

    def learn(self, distance_mm: float, measured_s: float) -> None:
        """Take in the time of one move."""
        self._learn(np.array([1.0, distance_mm]), measured_s)

    def duration_s(self, distance_mm: float) -> Duration:
        """Return the time of one move."""
        return self.predicted(np.array([1.0, distance_mm]))
