"""How far the maps of a run are: a fold of its messages into figures, without clock or output."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.classifier import FITS_NONE
from sparse_actors.geometry import TileIndex
from sparse_actors.imaging import spot_s
from sparse_actors.messages import (
    NOT_KNOWN,
    FieldId,
    FieldMapped,
    MapField,
    MapTheField,
    Message,
    MicroscopePrepared,
    PhaseMapUpdated,
    PhaseNamed,
    PhaseProposed,
    RunStarted,
    SpectraClassified,
    SpectraMeasured,
    SpectraRecorded,
    SpotsSpared,
    TileReached,
    WorkerJoined,
)
from sparse_actors.planning.map_queue import MapQueue
from sparse_actors.planning.survey_plan import FieldsPlan, SurveyPlan
from sparse_actors.planning.survey_state import SurveyState


@dataclass(frozen=True, slots=True, kw_only=True)
class MapEnd:
    """How the map of a field ended."""

    field: str
    points: int
    is_complete: bool
    """Whether it ended by one of its own rules."""
    reason: str
    distortion: float | None
    """Estimated share of wrong pixels; None where it cannot be told."""
    distortion_range: tuple[float, float] | None
    """95 % interval of it."""
    unclassified: int
    """How many of its points no classifier took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPhase:
    """A phase that no library knew."""

    name: str
    elements: tuple[str, ...]
    spectra: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFigures:
    """One look at the maps of a run."""

    fields_done: int
    fields_total: int | None
    """None until the survey that finds the regions is finished."""
    field: str
    """The field under the beam; empty when there is none."""
    points_done: int
    points_most: int | None
    """So many points are measured if no map ends earlier."""
    grid_points: int
    """Points of the fields begun, measured or not."""
    points_without_phase: int
    """Spectra that fit no known phase."""
    points_unclassified: int
    """Spectra that no classifier took; a resumed run tries again."""
    points_left_out: int
    """Points that were chosen and not measured: one more spectrum there would exceed the limit of dose."""
    phases: dict[str, float]
    """Share of each phase in the maps as they stand, 0..1."""
    new_phases: tuple[NewPhase, ...]
    ended: tuple[MapEnd, ...]
    spectra_s: float
    """Beam time on spectra, dead time and settling included."""
    waited_s: float
    """Time between batches of points in which the beam waited."""
    full_s: float
    """What every point of the finished fields would take, each as long as those measured."""
    saved_s: float
    """Of it, what the finished maps did not take."""
    saved_share: float | None
    eta_s: float | None
    """Time for what is left, moves not counted; None when nothing is known of the fields yet."""
    moves: int
    """Moves to other tiles that this needs."""

    @property
    def fields_missing(self) -> int:
        """Number of fields without a map that ended by one of its own rules, all its points classified."""
        return (
            (self.fields_total or 0)
            - self.fields_done
            + sum(ended.is_complete and ended.unclassified > 0 for ended in self.ended)
        )


@dataclass(slots=True)
class _Taken:
    """What a field took."""

    points: int = 0
    live_s: float = 0.0
    beam_s: float = 0.0
    waited_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class MapProgress:
    """Folds the messages of a run with maps, live or from its journal.

    Parameters
    ----------
    plan
        The run; its `fields` say where maps are made.
    fields
        The same.
    fraction
        Most points of a field that are measured, 0..1.
    live_time_s
        At a point, until one is measured.
    """

    plan: SurveyPlan
    fields: FieldsPlan
    fraction: float
    live_time_s: float

    _state: SurveyState = field(init=False)
    _all: tuple[MapField, ...] | None = None
    _seen: set[tuple[FieldId, int, float]] = field(default_factory=set)
    _taken: defaultdict[FieldId, _Taken] = field(default_factory=lambda: defaultdict(_Taken))
    _batches: dict[tuple[FieldId, int], int] = field(default_factory=dict)
    _without_phase: dict[tuple[FieldId, int], int] = field(default_factory=dict)
    _unclassified: dict[tuple[FieldId, int], int] = field(default_factory=dict)
    _left_out: set[tuple[FieldId, int, int]] = field(default_factory=set)
    _ended: dict[FieldId, FieldMapped] = field(default_factory=dict)
    _pixels: dict[FieldId, NDArray[Any]] = field(default_factory=dict)
    """Of each field, how many pixels of its map have each label."""
    _begun: dict[FieldId, MapField] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _found: dict[int, int] = field(default_factory=dict)
    """New phases, and how many spectra made each known."""
    _elements: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _current: FieldId | None = None
    _tile: TileIndex | None = None
    _overhead_s: float = 0.0
    """Of a point, as declared."""

    def __post_init__(self) -> None:
        self._state = SurveyState(self.plan)

    def observe(self, message: Message) -> None:
        """Take one message in; one that comes twice counts once."""
        self._state.learn(message)
        match message:
            case RunStarted():
                self._current = self._tile = None
            case MicroscopePrepared(capabilities=can):
                self._overhead_s = can.limits.spectrum_overhead_s
            case TileReached(tile=tile):
                self._tile = tile
            case WorkerJoined(phases=phases):
                self._names.update(enumerate(phases, start=1))
            case PhaseProposed(label=label, members=members):
                self._names.setdefault(label, f"found, {label}")
                self._found[label] = members
            case PhaseNamed(label=label, name=name, elements=elements):
                self._names[label] = name
                self._elements[label] = elements
            case MapTheField(field=map_field):
                self._current = map_field.id
                self._begun[map_field.id] = map_field
            case SpectraClassified(field=field_id, batch=batch, labels=labels):
                is_known = bool(message.worker)
                self._without_phase[field_id, batch] = int((labels == FITS_NONE).sum()) if is_known else 0
                self._unclassified[field_id, batch] = 0 if is_known else len(labels)
            case SpotsSpared(field=field_id, points_px=points_px, labels=labels):
                left_out = points_px[labels == NOT_KNOWN].tolist()
                self._left_out |= {(field_id, x, y) for x, y in left_out}
            case PhaseMapUpdated(field=field_id, phase_map=phase_map):
                self._pixels[field_id] = np.bincount(phase_map.ravel(), minlength=256)
            case FieldMapped(field=map_field, phase_map=phase_map):
                self._begun[map_field.id] = map_field
                self._ended[map_field.id] = message
                self._pixels[map_field.id] = np.bincount(phase_map.ravel(), minlength=256)
                if self._current == map_field.id:
                    self._current = None
            case _:
                pass
        if self.plan.tiles and not self._state.is_finished():
            self._all = None  # regions are still to come, or images were lost

    def measured(self, message: SpectraMeasured | SpectraRecorded) -> bool:
        """Count a batch, the first time it is heard of; return whether this was it."""
        key = (message.field, message.batch, message.started_s)
        if key in self._seen:
            return False
        self._seen.add(key)
        taken = self._taken[message.field]
        taken.points += len(message.points_px)
        taken.live_s += float(message.live_time_s.sum())
        taken.beam_s += message.finished_s - message.started_s
        self._batches[message.field, message.batch] = len(message.points_px)
        self.live_time_s = float(message.live_time_s[-1])
        return True

    def waited(self, field_id: FieldId, seconds: float) -> None:
        """Count time between two batches of a field in which the beam waited."""
        self._taken[field_id].waited_s += seconds

    def figures(self) -> MapFigures:
        """Return where the maps stand."""
        done = [i for i, ended in self._ended.items() if ended.is_complete]
        full_s = took_s = 0.0
        for field_id in done:
            taken, area = self._taken[field_id], self._begun[field_id].box.area
            if taken.points:
                full_s += area * taken.beam_s / taken.points
                took_s += taken.beam_s + taken.waited_s
        fields = self._known_fields()
        points_left, moves = self._left(fields)
        return MapFigures(
            fields_done=len(done),
            fields_total=None if fields is None else len(fields),
            field="" if self._current is None else str(self._current),
            points_done=sum(self._batches.values()),
            points_most=None if fields is None else sum(map(self._most_points, fields)),
            grid_points=sum(one.box.area for one in self._begun.values()),
            points_without_phase=sum(self._without_phase.values()),
            points_unclassified=sum(self._unclassified.values()),
            points_left_out=len(self._left_out),
            phases=self._shares(),
            new_phases=tuple(
                NewPhase(name=self._names[label], elements=self._elements.get(label, ()), spectra=spectra)
                for label, spectra in sorted(self._found.items())
            ),
            ended=tuple(map(_end, self._ended.values())),
            spectra_s=sum(taken.beam_s for taken in self._taken.values()),
            waited_s=sum(taken.waited_s for taken in self._taken.values()),
            full_s=full_s,
            saved_s=full_s - took_s,
            saved_share=1 - took_s / full_s if full_s else None,
            eta_s=None if points_left is None else self._time_s(points_left),
            moves=moves,
        )

    def field_of(self, field_id: FieldId) -> MapField | None:
        """Return where a field lies; None until the survey that finds the regions is finished."""
        return next((one for one in self._known_fields() or () if one.id == field_id), None)

    # -- what is left -------------------------------------------------------------------------

    def _known_fields(self) -> tuple[MapField, ...] | None:
        if self._all is None and self._state.is_finished():
            self._all = MapQueue(self.plan, self._state).fields()
        return None if self._all is None else tuple(one for one in self._all if self._is_wanted(one))

    def _is_wanted(self, one: MapField) -> bool:
        """Whether a field is or was to be mapped, and not skipped before that was done."""
        ended = self._ended.get(one.id)
        return one.id.tile not in self._state.skipped or (ended is not None and ended.is_complete)

    def _most_points(self, one: MapField) -> int:
        return max(1, round(self.fraction * one.box.area))

    def _left(self, fields: tuple[MapField, ...] | None) -> tuple[float | None, int]:
        """Return how many points are still to be measured, at most, and in how many other tiles."""
        if fields is None:
            return self._expected_points(), 0
        of_field: defaultdict[FieldId, int] = defaultdict(int)
        for (field_id, _), points in self._batches.items():
            of_field[field_id] += points
        open_fields = [f for f in fields if f.id not in self._ended or not self._ended[f.id].is_complete]
        points = sum(max(0, self._most_points(one) - of_field[one.id]) for one in open_fields)
        return points, len({one.id.tile for one in open_fields} - {self._tile})

    def _expected_points(self) -> float | None:
        """Return the points of all regions if those to come are as those found so far."""
        planned = len(self._state.regions)
        areas = sorted(
            (scan.box.area for scans in self._state.regions.values() for scan in scans), reverse=True
        )
        if not areas:
            return 0.0 if planned else None
        parts = len(self.plan.tiles) * len(self.plan.parts(self.plan.tiles[0]))
        regions = len(areas) * parts / planned
        if self.fields.largest is not None and self.fields.largest < regions:
            areas = areas[: max(1, round(len(areas) * self.fields.largest / regions))]
            regions = self.fields.largest
        (columns, rows), (width, height) = self.fields.grid_px, self.plan.analysis.size_px
        return self.fraction * regions * float(np.mean(areas)) * columns * rows / (width * height)

    def _time_s(self, points: float) -> float:
        """Return the time of some points: live time, and beside it what it took so far."""
        measured = list(self._taken.values())
        count = sum(taken.points for taken in measured)
        one_s = spot_s(self.live_time_s, dead_share=self.fields.dead_share, settling_s=self._overhead_s)
        if count:
            beside_s = sum(taken.beam_s + taken.waited_s - taken.live_s for taken in measured) / count
            one_s = max(0.0, self.live_time_s + beside_s)
        seconds = points * one_s
        if self.fields.time_s is None:
            return seconds
        return min(seconds, max(0.0, self.fields.time_s - sum(taken.beam_s for taken in measured)))

    def _shares(self) -> dict[str, float]:
        pixels = sum(self._pixels.values(), np.zeros(256, np.int64))
        known = int(pixels[1:].sum())
        return {
            self._names.get(label, f"phase {label}"): int(n) / known
            for label, n in enumerate(pixels)
            if label and n
        }


def _end(ended: FieldMapped) -> MapEnd:
    is_known = ended.distortion >= 0
    return MapEnd(
        field=str(ended.field.id),
        points=len(ended.labels),
        is_complete=ended.is_complete,
        reason=ended.reason,
        distortion=ended.distortion if is_known else None,
        distortion_range=ended.distortion_range if is_known else None,
        unclassified=ended.unclassified,
    )
