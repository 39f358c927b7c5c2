"""Electrons that spectra leave on the points of the map grid.

At a point the beam rests for the live and the dead time and settles there before; all of it exposes. An
exposure counts as soon as it is ordered. What a batch took is known once it is recorded, and a batch
never counts as shorter than its live times and what the instrument declares for settling.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_actors.dose import DoseMap
from sparse_actors.geometry import TileIndex
from sparse_actors.imaging import dose_e_per_nm2, spot_s
from sparse_actors.messages import (
    FieldId,
    MapField,
    MeasureSpots,
    Message,
    MicroscopePrepared,
    RunStarted,
    SpectraRecorded,
    SpotsStarted,
)
from sparse_actors.planning.survey_plan import SurveyPlan

ROUNDING = 1 + 1e-5
"""Maps are float32."""


@dataclass(slots=True)
class _Exposure:
    points_px: NDArray[np.int64]
    least_s: NDArray[np.float64]
    """(n,): live times and settling."""
    stretch: float
    """How many times longer the beam was there: with the dead time expected, until it is recorded."""
    is_recorded: bool = False


class SpotDoses:
    """The spectra of a run, begun or ordered, and the limit of `plan.max_dose_e_per_nm2`.

    Parameters
    ----------
    plan
        The run; without a limit, or without maps, everything is allowed.
    """

    def __init__(self, plan: SurveyPlan) -> None:
        self._limit = plan.max_dose_e_per_nm2 if plan.fields is not None else None
        self._grid_px = (1, 1) if plan.fields is None else plan.fields.grid_px
        pitch_nm = plan.panorama.tile_fov_mm[0] * 1e6 / self._grid_px[0]
        self._per_s = dose_e_per_nm2(plan.beam_current_pa or 0.0, 1e9, pitch_nm)
        self._exposures: defaultdict[TileIndex, list[_Exposure]] = defaultdict(list)
        self._last: dict[tuple[FieldId, int], tuple[int, _Exposure]] = {}
        """Attempt at each batch since the microscope was prepared: it does none of them twice."""
        self._dead_share = 0.0 if plan.fields is None else plan.fields.dead_share
        self._settling_s = 0.0
        self._took_s = self._least_s = 0.0
        self._on_map: tuple[TileIndex, DoseMap] | None = None

    def learn(self, message: Message) -> None:
        """Take in one message; one that comes twice counts once."""
        if self._limit is None:
            return
        match message:
            case RunStarted():
                self._last.clear()
            case MicroscopePrepared(capabilities=can):
                self._settling_s = can.limits.spectrum_overhead_s
                self._last.clear()
            case SpotsStarted() | MeasureSpots():
                self._begin(message)
            case SpectraRecorded(field=field, batch=batch):
                self._begin(message)  # whoever hears of nothing else
                attempt, exposure = self._last[field, batch]
                if message.attempt != attempt or exposure.is_recorded:
                    return
                exposure.is_recorded = True
                least_s = float(exposure.least_s.sum())
                exposure.stretch = max(1.0, (message.finished_s - message.started_s) / least_s)
                self._took_s += least_s * exposure.stretch
                self._least_s += least_s
                self._on_map = None
            case _:
                pass

    def _begin(self, message: SpotsStarted | MeasureSpots | SpectraRecorded) -> None:
        key = message.field, message.batch
        if message.attempt > self._last.get(key, (0, None))[0]:
            least_s = spot_s(message.live_time_s, settling_s=self._settling_s)
            stretch = float(self._expected_s(message.live_time_s).sum() / least_s.sum())
            exposure = _Exposure(message.points_px, least_s, stretch)
            self._exposures[message.field.tile].append(exposure)
            self._last[key] = message.attempt, exposure
            self._on_map = None

    def _expected_s(self, live_time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return spot_s(live_time_s, dead_share=self._dead_share, settling_s=self._settling_s)

    def allowed(
        self,
        field: MapField,
        points_px: NDArray[np.int64],
        live_time_s: NDArray[np.float64],
        scanned: DoseMap | None,
    ) -> NDArray[np.bool_]:
        """Return at which points one more spectrum leaves the dose within the limit.

        Parameters
        ----------
        field, points_px, live_time_s
            Points (n, 2) of x, y on the map grid, in the field, and their times (n,).
        scanned
            (rows, columns): what scans left on each point of the field; None: nothing.
        """
        if self._limit is None:
            return np.ones(len(points_px), np.bool_)
        columns, rows = points_px.T
        dose = self.on_map(field.id.tile)[rows, columns].astype(np.float64)
        if scanned is not None:
            dose += scanned[rows - field.box.top, columns - field.box.left]
        usual_s = self._expected_s(live_time_s)
        if self._least_s:
            usual_s = spot_s(live_time_s, settling_s=self._settling_s) * (self._took_s / self._least_s)
        dose += self._per_s * usual_s
        within: NDArray[np.bool_] = dose <= self._limit * ROUNDING
        return within

    def is_exhausted(self, field: MapField, live_time_s: float, scanned: DoseMap | None) -> bool:
        """Whether no point of a field may be measured any more."""
        rows, columns = np.indices(field.shape).reshape(2, -1)
        points_px = np.column_stack([columns + field.box.left, rows + field.box.top])
        return not self.allowed(field, points_px, np.full(len(points_px), live_time_s), scanned).any()

    def has_any(self, tile: TileIndex) -> bool:
        """Whether spectra of a tile were begun."""
        return bool(self._exposures.get(tile))

    def on_map(self, tile: TileIndex) -> DoseMap:
        """Return the dose of all spectra of a tile on the map grid, (rows, columns)."""
        if self._on_map is None or self._on_map[0] != tile:
            columns, rows = self._grid_px
            dose = np.zeros((rows, columns), np.float32)
            for one in self._exposures.get(tile, ()):
                x, y = one.points_px.T
                np.add.at(dose, (y, x), self._per_s * one.least_s * one.stretch)
            self._on_map = tile, dose
        return self._on_map[1]


def highest(values: DoseMap, shape: tuple[int, int]) -> DoseMap:
    """Return values on another grid (rows, columns) over the same area: each the highest of those it touches.

    The grids need not divide each other.
    """
    for axis, cells in enumerate(shape):
        number = np.arange(cells)
        first = number * values.shape[axis] // cells
        end = -(-(number + 1) * values.shape[axis] // cells)
        bounds = np.column_stack([first, end]).ravel()
        # One more line that is never the highest, since a range may end where the values do.
        line = np.full_like(values.take([0], axis=axis), -np.inf)
        padded = np.concatenate([values, line], axis=axis)
        values = np.maximum.reduceat(padded, bounds, axis=axis).take(range(0, 2 * cells, 2), axis=axis)
    return values
