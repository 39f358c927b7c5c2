"""The map of one field while it grows: which points next, what is known, when it is enough.

What is chosen depends on nothing but the plan and the labels, batch by batch in order, however late
and in whatever order they come: a run that was interrupted goes on exactly as it would have.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.classifier import FITS_NONE
from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.scan import NOT_KNOWN, FieldId, MapField

from .beam_path import beam_path
from .field_sampler import FieldSampler
from .map_plan import MapPlan
from .reconstruction import reconstruct
from .stopping import Distortion, Evidence, estimate, evidence, is_audit, least_points

SURE = 0.99
"""A point whose label is less certain than this asks for more time at the next."""
UNSURE_SHARE = 0.02
"""So many points may be less certain; more, and the live time grows, far fewer, and it shrinks."""
LIVE_TIME_STEP = 1.25
LOOKED_AT = 0.005
"""How good the map is, is looked at after so many more points, as a share of the field."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Points to be measured together, in the order of beam travel."""

    number: int
    points_px: NDArray[np.int64]
    """(n, 2): x, y on the map grid of the whole field of view."""
    live_time_s: NDArray[np.float64]
    """(n,)"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapResult:
    """The map of a field, and how good it is."""

    points_px: NDArray[np.int64]
    """(n, 2): the points of known phase; x, y on the map grid of the field of view."""
    labels: NDArray[np.int64]
    """(n,): 1..L, 0 fits none."""
    phase_map: NDArray[np.uint8]
    """(rows, columns): 1..L, 0 where nothing is known."""
    confidence: NDArray[np.float32]
    """(rows, columns): 0..1."""
    erd: NDArray[np.float32]
    """(rows, columns): expected reduction in distortion, px; 0 where measured."""
    distortion: float
    """Estimated share of wrong pixels; -1 where it cannot be told."""
    distortion_range: tuple[float, float]
    """95 % interval of it."""


class FieldMap:
    """One field: batches out, labels in.

    Parameters
    ----------
    field
        What is mapped.
    plan
        How.
    within_s
        Beam time for it, as counted by `learn`; None for no limit.
    """

    def __init__(self, field: MapField, plan: MapPlan, within_s: float | None = None) -> None:
        self.field = field
        self._plan = plan
        self._within_s = within_s
        # Fields differ in what is drawn at random, and each is the same in every session.
        tile, index = field.id.tile, field.id.index
        seed = int(np.random.SeedSequence([plan.seed, tile.row, tile.column, index]).generate_state(1)[0])
        self._sampler = FieldSampler(
            field.shape,
            plan.model,
            seed=seed,
            start=plan.start,
            start_fraction=plan.start_fraction,
            budget_fraction=plan.fraction,
        )
        self._start_points = max(1, round(min(plan.start_fraction, plan.fraction) * field.box.area))
        self._most_points = max(1, round(plan.fraction * field.box.area))
        self._live_time_s = plan.live_time_s
        self._chosen: dict[int, Batch] = {}
        self._new: deque[Batch] = deque()
        self._answers: dict[int, tuple[NDArray[np.int64], NDArray[np.float64], float, bool]] = {}
        self._told_points: list[NDArray[np.int64]] = []
        self._told_labels: list[NDArray[np.int64]] = []
        self._drawn: list[NDArray[np.uint8]] = []
        self._wrong: list[NDArray[np.bool_]] = []
        self._judged_points = 0
        self._last_px = np.zeros(2, np.int64)
        self.told = self._points = 0
        """Batches whose labels are taken in."""
        self._spent_s = 0.0
        self._unsure_share = UNSURE_SHARE
        self.ended = ""
        """Why no more points are chosen; empty as long as there are."""
        for _ in range(plan.ahead):
            self._choose()

    @property
    def points(self) -> int:
        """Points whose label is known."""
        return self._points

    @property
    def is_finished(self) -> bool:
        """Whether every point that was chosen has its label."""
        return bool(self.ended) and not self._chosen

    def new_batches(self) -> list[Batch]:
        """Return the batches chosen since the last call, to be measured in this order."""
        batches = list(self._new)
        self._new.clear()
        return batches

    def learn(
        self,
        number: int,
        labels: NDArray[np.int64],
        confidence: NDArray[np.float64],
        beam_s: float,
        *,
        is_classified: bool = True,
    ) -> None:
        """Take the labels of a batch; what follows from them waits until all earlier ones are known.

        Parameters
        ----------
        number
            Of the batch.
        labels, confidence
            (n,): 0 fits no phase; NOT_KNOWN where the beam did not go, and will not. The confidence of a
            point that was measured elsewhere is not a number.
        beam_s
            What the batch cost.
        is_classified
            Whether a classifier saw it; else its labels tell nothing of how good the map is.
        """
        if number in self._chosen:
            self._answers[number] = labels, confidence, beam_s, is_classified
        while self.told in self._answers:
            self._tell(self._chosen.pop(self.told), *self._answers.pop(self.told))
            self.told += 1
            self._choose()

    def end(self, reason: str) -> None:
        """Choose no more points."""
        self.ended = self.ended or reason

    def relabel(self, numbers: NDArray[np.int64], label: int) -> None:
        """Give points a new label: they turned out to be of a phase that was not known.

        Parameters
        ----------
        numbers
            (n,), counted from 0 in the order in which points were told, batch by batch.
        label
            From here on.
        """
        ends = np.cumsum([len(labels) for labels in self._told_labels])
        for number in numbers.tolist():
            part = int(np.searchsorted(ends, number, side="right"))
            row = number - (int(ends[part - 1]) if part else 0)
            self._told_labels[part] = self._told_labels[part].copy()
            self._told_labels[part][row] = label
            self._sampler.tell(self._local(self._told_points[part][row : row + 1]), [label])

    def _tell(
        self,
        batch: Batch,
        labels: NDArray[np.int64],
        confidence: NDArray[np.float64],
        beam_s: float,
        is_classified: bool,
    ) -> None:
        local = self._local(batch.points_px)
        known = labels != NOT_KNOWN
        # A point of no known phase is one more where the map is wrong.
        self._wrong.append((labels != self._sampler.predicted(local))[known])
        self._drawn.append(self._sampler.drawn(local)[known] * np.uint8(is_classified))
        self._sampler.tell(local, np.where(known, labels, FITS_NONE).astype(np.int32))
        self._told_points.append(batch.points_px[known])
        self._told_labels.append(labels[known])
        self._points += int(known.sum())
        self._spent_s += beam_s
        self._adapt_live_time(labels, confidence)
        self._judge()

    def _choose(self) -> None:
        """Choose one batch more, unless the map is to end."""
        if self.ended:
            return
        under_way_s = sum(float(batch.live_time_s.sum()) for batch in self._chosen.values())
        if self._within_s is not None and self._spent_s + under_way_s >= self._within_s:
            self.ended = "time"
            return
        chosen = self._points + sum(len(batch.points_px) for batch in self._chosen.values())
        wanted = min(self._plan.batch_points, self._most_points - chosen)
        if wanted <= 0:
            self.ended = "points"
            return
        audits = sum(is_audit(chosen + k, self._start_points) for k in range(wanted))
        anywhere = self._sampler.pick_anywhere(audits)
        points = np.concatenate([self._sampler.pick(wanted - audits), anywhere])
        if not len(points):
            self.ended = "points"
            return
        points = points[beam_path(points, self._last_px)]
        self._last_px = points[-1]
        number = self.told + len(self._chosen)
        live_time_s = np.full(len(points), self._live_time_s)
        batch = Batch(number, points + self._corner, live_time_s)
        self._chosen[number] = batch
        self._new.append(batch)

    def _judge(self) -> None:
        """End the map when it is as good as was asked for; looked at now and then."""
        wanted = self._plan.distortion
        if (
            wanted is None
            or self.ended
            or self._points < least_points(wanted)
            or self._points - self._judged_points < LOOKED_AT * self.field.box.area
        ):
            return
        self._judged_points = self._points
        if self.distortion().high <= wanted:
            self.ended = "distortion"

    def distortion(self) -> Distortion:
        """Estimate how much of the map is wrong; -1, and anything between 0 and 1, while nothing is known."""
        if not any((labels > 0).any() for labels in self._told_labels):
            return Distortion(-1.0, 0.0, 1.0)
        return estimate(self.evidence())

    def evidence(self) -> Evidence:
        """Return what the map tells about its errors."""
        drawn, wrong = _joined(self._drawn, (0,)).astype(np.uint8), _joined(self._wrong, (0,)).astype(bool)
        return evidence(self._sampler.phase_map(), self.vote_share(), drawn, wrong)

    def _adapt_live_time(self, labels: NDArray[np.int64], confidence: NDArray[np.float64]) -> None:
        shortest_s, longest_s = self._plan.live_time_range_s
        known = (labels > 0) & ~np.isnan(confidence)
        if shortest_s == longest_s or not known.any():
            return
        weight = min(1.0, known.sum() / 50)  # the share among the last hundred points or so
        self._unsure_share += weight * ((confidence[known] < SURE).mean() - self._unsure_share)
        if self._unsure_share > UNSURE_SHARE:
            self._live_time_s = min(longest_s, self._live_time_s * LIVE_TIME_STEP)
        elif self._unsure_share < UNSURE_SHARE / 4:
            self._live_time_s = max(shortest_s, self._live_time_s / LIVE_TIME_STEP)

    @property
    def _corner(self) -> NDArray[np.int64]:
        return np.array([self.field.box.left, self.field.box.top])

    def _local(self, points_px: NDArray[np.int64]) -> NDArray[np.int64]:
        return points_px - self._corner

    def result(self) -> MapResult:
        """Return the map as it is now."""
        points, labels = _joined(self._told_points, (0, 2)), _joined(self._told_labels, (0,))
        best = reconstruct(self.field.shape, self._local(points), labels)
        judged = self.distortion()
        return MapResult(
            points_px=points,
            labels=labels,
            phase_map=best.labels.astype(np.uint8),
            confidence=best.confidence,
            erd=self.erd(),
            distortion=judged.expected,
            distortion_range=(judged.low, judged.high),
        )

    # -- what is known ------------------------------------------------------------------------

    def phase_map(self) -> NDArray[np.uint8]:
        """Return the map so far, (rows, columns): 1..L, 0 where nothing is known."""
        return self._sampler.phase_map().astype(np.uint8)

    def vote_share(self) -> NDArray[np.float32]:
        """Return how much the points near a pixel agree, (rows, columns): 0..1."""
        return self._sampler.vote_share()

    def erd(self) -> NDArray[np.float32]:
        """Return the expected reduction in distortion, (rows, columns) in px; 0 where measured."""
        return self._sampler.erd_map().astype(np.float32)


def _joined(parts: list[NDArray[Any]], empty: tuple[int, ...]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(empty, np.int64), *parts])


def compile_sampling(plan: MapPlan) -> None:
    """Have the routines of a map compiled: up to a minute the first time on a computer, then nothing."""
    field = MapField(FieldId(TileIndex(0, 0), 0), PixelBox(0, 0, 12, 12), (12, 12))
    small = FieldMap(field, replace(plan, fraction=0.5, start_fraction=0.1, distortion=0.5))
    while not small.is_finished:
        for batch in small.new_batches():
            labels = 1 + batch.points_px[:, 0] // 6
            small.learn(batch.number, labels, np.ones(len(labels)), 0.0)
    small.result()
