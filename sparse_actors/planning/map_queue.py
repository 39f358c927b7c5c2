"""Which fields are mapped, and in what order: a fold of facts, as the survey's state is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PartitionId, PixelBox, TileIndex, full_frame
from sparse_actors.messages import (
    FieldId,
    FieldMapped,
    MapField,
    MapTheField,
    Message,
    RegionsPlanned,
    RunStarted,
    SpectraRecorded,
)
from sparse_actors.planning.audit import AUDIT
from sparse_actors.planning.survey_plan import FieldsPlan, SurveyPlan
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.planning.unanswered import MakeOrder

TRIES = 2
"""So often a field is taken up in a session, if faults cut its map short."""


class MapQueue:
    """The fields of a run, once it is known where they are.

    Parameters
    ----------
    plan
        The run.
    state
        Where its survey stands; the regions are known when it is finished.
    """

    def __init__(self, plan: SurveyPlan, state: SurveyState) -> None:
        self._plan = plan
        self._state = state
        self._mapped: set[FieldId] = set()
        self._unclassified: dict[FieldId, int] = {}
        self._failures: Counter[FieldId] = Counter()
        self._spent_s: dict[tuple[FieldId, int], float] = {}
        self._fields: tuple[MapField, ...] | None = None

    def learn(self, fact: Message) -> None:
        """Take in one fact; a fact learnt twice changes nothing."""
        match fact:
            case FieldMapped(field=field, is_complete=True, unclassified=unclassified):
                self._mapped.add(field.id)
                self._unclassified[field.id] = unclassified
            case FieldMapped(field=field):
                self._failures[field.id] += 1
            case SpectraRecorded(field=field_id, batch=batch):
                self._spent_s[field_id, batch] = fact.finished_s - fact.started_s
            case RunStarted():
                # Tried again in a new session.
                self._failures.clear()
                self._mapped -= {field_id for field_id, points in self._unclassified.items() if points}
                self._unclassified.clear()
            case RegionsPlanned():
                self._fields = None
            case _:
                pass

    @property
    def _given_up(self) -> set[FieldId]:
        failed = {field for field, failures in self._failures.items() if failures >= TRIES} - self._mapped
        return {field for field in failed if field.tile not in self._state.skipped}

    @property
    def given_up(self) -> int:
        """Number of fields whose map was cut short in this session and not taken up again."""
        return len(self._given_up)

    @property
    def unclassified(self) -> int:
        """Number of measured points of finished maps that no classifier took."""
        return sum(self._unclassified.values())

    def next(self) -> MapField | None:
        """Return the field to be mapped, None if there is no more; the survey must be finished."""
        return next((field for field in self.fields() if not self._is_done(field)), None)

    def has_left(self, tile: TileIndex) -> bool:
        """Whether something of a tile is still to be mapped, or may be once the survey is finished."""
        if self._plan.fields is None:
            return False
        if not self._state.is_finished():
            parts = (*self._plan.parts(tile), *self._proposed(tile))
            return any(self._state.regions.get(part) for part in parts)
        return any(field.id.tile == tile and not self._is_done(field) for field in self.fields())

    def _is_done(self, field: MapField) -> bool:
        is_skipped = field.id.tile in self._state.skipped
        return is_skipped or field.id in self._mapped or field.id in self._given_up

    def time_for_s(self, field: MapField) -> float | None:
        """Return the beam time of a field: its share, by area, of what is left; None for no limit."""
        fields = self._plan.fields
        if fields is None or fields.time_s is None:
            return None
        spent_s = sum(s for (other, _), s in self._spent_s.items() if other != field.id)
        left = (one for one in self.fields() if one.id == field.id or not self._is_done(one))
        open_px = sum(one.box.area for one in left)
        return max(0.0, fields.time_s - spent_s) * field.box.area / open_px

    def order(
        self, field: MapField, scanned: NDArray[np.float32] | None, is_paused: Callable[[], bool]
    ) -> MakeOrder:
        """Return what orders the map of a field.

        Parameters
        ----------
        scanned
            What scans left on its points, electrons per nm^2 (rows, columns); None where no limit asks.
        is_paused
            Whether the run is paused when the order is given.
        """
        within_s = self.time_for_s(field)
        return lambda attempt: MapTheField(
            field=field,
            attempt=attempt,
            within_s=within_s,
            scanned_e_per_nm2=scanned,
            is_paused=is_paused(),
        )

    def fields(self) -> tuple[MapField, ...]:
        """Return all fields in order; the survey must be finished."""
        if self._fields is None:
            fields = self._plan.fields
            if fields is None:
                self._fields = ()
            elif fields.where == "field":
                box = full_frame(fields.grid_px)
                self._fields = tuple(
                    MapField(FieldId(tile, 0), box, fields.grid_px) for tile in self._plan.all_tiles
                )
            else:
                self._fields = self._regions(fields)
        return self._fields

    def _regions(self, plan: FieldsPlan) -> tuple[MapField, ...]:
        found = [
            MapField(FieldId(tile, index), box, plan.grid_px)
            for tile in self._plan.tiles
            for index, box in enumerate(self._boxes(tile, plan.grid_px))
        ]
        if plan.largest is not None:
            by_area = sorted(found, key=lambda field: -field.box.area)  # stable: the first of equals
            chosen = {field.id for field in by_area[: plan.largest]}
            found = [field for field in found if field.id in chosen]
        return tuple(found)

    def _boxes(self, tile: TileIndex, grid_px: tuple[int, int]) -> list[PixelBox]:
        """Return the regions of a tile on the map grid; what one covers is not mapped in another too.

        What was proposed comes last, so that the fields before it keep their numbers.
        """
        found = self._on_grid(self._plan.parts(tile), grid_px)
        kept = [box for box in found if not any(o.contains(box) for o in found if o != box)]
        for box in self._on_grid(self._proposed(tile), grid_px):
            if not any(other.contains(box) for other in kept):
                kept.append(box)
        return kept

    def _proposed(self, tile: TileIndex) -> tuple[PartitionId, ...]:
        """Return what was proposed of a tile because something is there: not the windows of the audit."""
        proposals = self._state.proposals.get(tile, {})
        return tuple(part for part, proposed in proposals.items() if proposed.source != AUDIT)

    def _on_grid(self, parts: tuple[PartitionId, ...], grid_px: tuple[int, int]) -> list[PixelBox]:
        """Return the different regions of some parts of a tile on the map grid."""
        scans = (scan for part in parts for scan in self._state.regions.get(part, ()))
        size_px = self._plan.analysis.size_px
        return list(dict.fromkeys(_on_grid(scan.box, size_px, grid_px) for scan in scans))


def _on_grid(box: PixelBox, size_px: tuple[int, int], grid_px: tuple[int, int]) -> PixelBox:
    """Return the points of the map grid that lie in a box of the analysis grid, at least one."""
    (width, height), (columns, rows) = size_px, grid_px
    left, top = box.left * columns // width, box.top * rows // height
    right, bottom = -(-box.right * columns // width), -(-box.bottom * rows // height)
    return PixelBox(left, top, right - left, bottom - top)
