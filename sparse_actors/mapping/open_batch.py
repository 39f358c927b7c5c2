"""A batch of points on its way: to be measured, recorded and classified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparse_actors.messages import (
    ClassificationReturned,
    FieldId,
    MapField,
    MeasureSpots,
    SpectraMeasured,
    SpectraReloaded,
    SpotsSpared,
)
from sparse_actors.sampling.field_map import Batch

Point = tuple[int, int]
"""x, y on the map grid of the field of view."""

TO_MEASURE = -2
"""In place of a label: the beam goes there."""


@dataclass(slots=True)
class OpenBatch:
    """What is known of a batch; its points are measured, or spared with a label from elsewhere or none."""

    batch: Batch
    attempt: int = 0
    """Of measuring it."""
    is_postponed: bool = False
    """To be measured when the run goes on."""
    spectra: SpectraMeasured | SpectraReloaded | None = None
    rows: NDArray[np.int64] | None = None
    """Which of these spectra are those of the points to measure."""
    attempts: int = 0
    """How often it was given to a classifier."""
    classifications: int = 0
    """The number of the last time."""
    classified: ClassificationReturned | None = None
    late: str = ""
    """What to say of spectra that did not come in time."""
    is_second: bool = False
    """Whether it is classified once more, since nobody could before."""
    spared: NDArray[np.int64] = field(init=False)
    """(n,): label of a point that is spared, else TO_MEASURE."""

    def __post_init__(self) -> None:
        self.spared = np.full(len(self.batch.points_px), TO_MEASURE)

    @property
    def left(self) -> NDArray[np.bool_]:
        """(n,): which points are measured."""
        is_left: NDArray[np.bool_] = self.spared == TO_MEASURE
        return is_left

    @property
    def points_px(self) -> NDArray[np.int64]:
        """(m, 2): those points."""
        return self.batch.points_px[self.left]

    @property
    def live_time_s(self) -> NDArray[np.float64]:
        """(m,): their live times."""
        return self.batch.live_time_s[self.left]

    def order(self, field: MapField) -> MeasureSpots:
        """Return the order to measure what is left."""
        return MeasureSpots(
            field=field.id,
            batch=self.batch.number,
            attempt=self.attempt,
            points_px=self.points_px,
            live_time_s=self.live_time_s,
            grid_px=field.grid_px,
        )

    def spare(self, field: FieldId, labels: Mapping[Point, int]) -> SpotsSpared | None:
        """Take points out, those of other batches passed over; return the news, None if there are none."""
        before = self.left
        for row, point in enumerate(_points(self.batch.points_px)):
            self.spared[row] = labels.get(point, self.spared[row])
        rows = before & ~self.left
        if not rows.any():
            return None
        points_px, spared = self.batch.points_px[rows], self.spared[rows]
        return SpotsSpared(field=field, batch=self.batch.number, points_px=points_px, labels=spared)

    def rows_of(self, points_px: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return where among some points (n, 2) those to measure are; None if one is not there."""
        place = {point: row for row, point in enumerate(_points(points_px))}
        wanted = _points(self.points_px)
        return np.array([place[one] for one in wanted], np.int64) if place.keys() >= set(wanted) else None

    def missing_from(self, points_px: NDArray[np.int64]) -> list[Point] | None:
        """Return which points of the batch are not among others (n, 2); None if those are not all its own."""
        held = set(_points(points_px))
        own = _points(self.batch.points_px)
        return [one for one in own if one not in held] if held <= set(own) else None


def _points(points_px: NDArray[np.int64]) -> list[Point]:
    return [(x, y) for x, y in points_px.tolist()]
