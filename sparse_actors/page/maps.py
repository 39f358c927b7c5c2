"""What the page shows of maps: a fold of facts, and of the maps that taps show as they grow."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparse_actors.messages import (
    FieldId,
    FieldMapped,
    MapField,
    Message,
    PhaseMapUpdated,
    PhaseNamed,
    PhaseProposed,
    SpectraClassified,
    SpectraRecorded,
    WorkerJoined,
)

SHOWN_PX = 256
"""Most points of a map on a side that go to the browser."""
KEPT = 16
"""So many fields are kept whole, the latest; of the others a thumbnail."""
THUMBNAIL_PX = 96
UNMEASURED = 0
"""In `FieldView.measured`; a label l stands as l + 1, so that 1 is a spectrum that fits no phase."""

Grid = NDArray[np.uint8]


@dataclass(slots=True)
class FieldView:
    """One field: what is measured, and the map so far."""

    field: MapField
    measured: Grid
    """(rows, columns): the label + 1 of each measured point, UNMEASURED elsewhere."""
    phases: Grid | None = None
    """(rows, columns): the map as the sampler or the end of it says; None: nobody said."""
    erd: NDArray[np.float32] | None = None
    points: int = 0
    end: str = ""
    """How it ended, in words; empty as long as it is being made."""
    is_complete: bool = False

    def phase_map(self) -> Grid:
        """Return the map: what the sampler says, else each point as the nearest measured one."""
        if self.phases is not None:
            return self.phases
        is_empty = (self.measured == UNMEASURED).astype(np.uint8)
        if is_empty.all():
            return np.zeros_like(self.measured)
        _, nearest = cv2.distanceTransformWithLabels(
            is_empty, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        of_label = np.zeros(int(nearest.max()) + 1, np.uint8)
        is_measured = is_empty == 0
        of_label[nearest[is_measured]] = self.measured[is_measured] - 1
        filled: Grid = of_label[nearest]
        return filled


@dataclass(slots=True)
class MapsView:
    """The maps of a run."""

    names: dict[int, str] = field(default_factory=dict)
    """Of the phases, by label."""
    current: FieldId | None = None
    last: SpectraRecorded | None = None
    """The last batch of which the phases are known."""
    last_labels: tuple[int, float] | None = None
    """Label and confidence of its last spectrum."""
    version: int = 0
    """Goes up with every change."""
    _fields: OrderedDict[FieldId, FieldView] = field(default_factory=OrderedDict)
    _small: dict[FieldId, tuple[MapField, Grid]] = field(default_factory=dict)
    _batches: dict[FieldId, SpectraRecorded] = field(default_factory=dict)
    """The last batch of each field that is not ended."""

    def take(self, message: Message, whole: MapField | None) -> FieldView | None:
        """Take in a fact; returns the field that it changes.

        Parameters
        ----------
        whole
            Where the field of this message lies, if somebody knows.
        """
        match message:
            case WorkerJoined(phases=phases):
                self.names.update(enumerate(phases, start=1))
            case PhaseProposed(label=label):
                self.names.setdefault(label, f"new phase {label}")
            case PhaseNamed(label=label, name=name):
                self.names[label] = name
            case SpectraRecorded(field=field_id):
                self._batches[field_id] = message
                self.current = field_id
                return None
            case SpectraClassified(field=field_id) if whole is not None:
                return self._classified(message, self._view(whole))
            case PhaseMapUpdated(phase_map=phase_map, erd=erd) if whole is not None:
                view = self._view(whole)
                if not view.end and phase_map.shape == view.measured.shape:
                    view.phases, view.erd = phase_map, erd
                    self.version += 1
                    return view
                return None
            case FieldMapped(field=ended):
                return self._ended(message, self._view(ended))
            case _:
                return None
        self.version += 1
        return None

    @property
    def shown(self) -> FieldView | None:
        """The field under the beam, or the last one."""
        if self.current is not None and self.current in self._fields:
            return self._fields[self.current]
        return next(reversed(self._fields.values()), None)

    def place_of(self, field_id: FieldId) -> MapField | None:
        """Return where a field lies, if it is one of those kept."""
        view = self._fields.get(field_id)
        return None if view is None else view.field

    def _view(self, whole: MapField) -> FieldView:
        view = self._fields.get(whole.id)
        if view is None:
            view = FieldView(whole, np.zeros(whole.shape, np.uint8))
            self._fields[whole.id] = view
        self._fields.move_to_end(whole.id)
        while len(self._fields) > KEPT:
            oldest, forgotten = self._fields.popitem(last=False)
            self._small[oldest] = forgotten.field, _nearest(forgotten.phase_map(), THUMBNAIL_PX)
        return view

    @property
    def fields(self) -> set[FieldId]:
        """All fields of which something is known."""
        return {*self._fields, *self._small}

    def small(self, field_id: FieldId) -> tuple[MapField, Grid]:
        """Return where a field lies and its map, small."""
        view = self._fields.get(field_id)
        if view is None:
            return self._small[field_id]
        return view.field, _nearest(view.phase_map(), THUMBNAIL_PX)

    def _classified(self, classified: SpectraClassified, view: FieldView) -> FieldView | None:
        batch = self._batches.get(classified.field)
        if batch is None or batch.batch != classified.batch or not len(classified.labels):
            return None
        _mark(view, batch.points_px, classified.labels)
        view.points += len(batch.points_px)
        self.last = batch
        self.last_labels = (int(classified.labels[-1]), float(classified.confidence[-1]))
        self.version += 1
        return view

    def _ended(self, ended: FieldMapped, view: FieldView) -> FieldView:
        view.measured[:] = UNMEASURED
        _mark(view, ended.points_px, ended.labels)
        view.points = len(ended.labels)
        view.phases, view.erd = ended.phase_map, ended.erd
        view.end, view.is_complete = ended.reason or "finished", ended.is_complete
        self._batches.pop(ended.field.id, None)
        self.version += 1
        return view

    def to_browser(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return the field shown, and three arrays of bytes: measured points, map, ERD (0..255)."""
        view = self.shown
        if view is None:
            return {}, []
        measured, phases = _reduced(view.measured, np.maximum), _nearest(view.phase_map())
        erd, largest = np.zeros_like(measured), 0.0
        if view.erd is not None and view.erd.size:
            largest = float(view.erd.max())
            erd = (_nearest(view.erd) * (255 / largest if largest else 0)).astype(np.uint8)
        counts = np.bincount(view.phase_map().ravel(), minlength=256)
        known = int(counts[1:].sum())
        return {
            "field": str(view.field.id),
            "tile": str(view.field.id.tile),
            "grid": view.field.box.width * view.field.box.height,
            "size": [measured.shape[1], measured.shape[0]],
            "points": view.points,
            "end": view.end,
            "isComplete": view.is_complete,
            "hasErd": view.erd is not None,
            "erdLargest": largest,
            "names": {str(label): name for label, name in self.names.items()},
            "shares": {str(n): int(counts[n]) / known for n in np.flatnonzero(counts) if n},
            "spectra": 0 if self.last is None else self.last.batch + 1,
        }, [measured.tobytes(), phases.tobytes(), erd.tobytes()]


def _mark(view: FieldView, points_px: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    box = view.field.box
    columns, rows = points_px[:, 0] - box.left, points_px[:, 1] - box.top
    is_inside = (columns >= 0) & (columns < box.width) & (rows >= 0) & (rows < box.height)
    view.measured[rows[is_inside], columns[is_inside]] = np.clip(labels[is_inside] + 1, 1, 255)


def _nearest(grid: NDArray[Any], most: int = SHOWN_PX) -> NDArray[Any]:
    factor = -(-max(grid.shape) // most)
    return np.ascontiguousarray(grid[factor // 2 :: factor, factor // 2 :: factor])


def _reduced(grid: Grid, ufunc: np.ufunc) -> Grid:
    """Return blocks of points as one each, of the size that `_nearest` gives."""
    factor = -(-max(grid.shape) // SHOWN_PX)
    if factor == 1:
        return grid
    rows, columns = _nearest(grid).shape
    padded = np.zeros((rows * factor, columns * factor), np.uint8)
    kept = grid[: rows * factor, : columns * factor]
    padded[: kept.shape[0], : kept.shape[1]] = kept
    reduced: Grid = ufunc.reduce(padded.reshape(rows, factor, columns, factor), axis=(1, 3))
    return reduced
