"""Simulated maps for `sampling.stopping`: what is seen at a check, and how much is wrong in truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from slads_images import Labels
from stopping_fields import MappedField

from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.sampling.erd_model import default
from sparse_actors.sampling.field_map import FieldMap
from sparse_actors.sampling.map_plan import MapPlan
from sparse_actors.sampling.stopping import Distortion, Evidence, FilteredError
from sparse_actors.scan import FieldId, MapField

FRACTIONS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2)
LIVE_TIME_S = 0.01


@dataclass(frozen=True, slots=True)
class Check:
    """A map at one moment."""

    kind: str
    field: str
    fraction: float
    seen: Evidence
    found: Distortion
    """As estimated."""
    distortion: float
    """The true one."""
    wrong_disputed: int
    """Wrong pixels among those that the near points do not agree on; the others are the rest."""
    filtered_error: float
    is_falling: bool
    """Whether the paper's rule would end the map but for its threshold."""


@dataclass(frozen=True, slots=True)
class End:
    """A map that ended by itself."""

    target: float
    is_met: bool
    """Whether it ended because of its distortion; else because 20 % were measured."""
    fraction: float
    distortion: float
    """The true one."""


def checks(field: MappedField, seed: int) -> Iterator[Check]:
    """Map a field and yield a check at each fraction."""
    truth = np.ascontiguousarray(field.labels)
    rule = FilteredError(truth.size, threshold=1.0)
    ahead = iter(FRACTIONS)
    fraction = next(ahead)
    for field_map in _grown(truth, seed, None, rule):
        if fraction is None or field_map.points < fraction * truth.size - 4:  # half a batch
            continue
        wrong = field_map.result().phase_map != truth
        yield Check(
            kind=field.kind,
            field=field.name,
            fraction=fraction,
            seen=field_map.evidence(),
            found=field_map.distortion(),
            distortion=float(wrong.mean()),
            wrong_disputed=int((wrong & (field_map.vote_share() < 1)).sum()),
            filtered_error=rule.error,
            is_falling=rule.is_met,
        )
        fraction = next(ahead, None)


def end(field: MappedField, seed: int, target: float) -> End:
    """Map a field until the map says that it is as good as wanted."""
    truth = np.ascontiguousarray(field.labels)
    for field_map in _grown(truth, seed, target):  # noqa: B007  the last counts
        pass
    wrong = float((field_map.result().phase_map != truth).mean())
    return End(target, field_map.ended == "distortion", field_map.points / truth.size, wrong)


def _grown(
    truth: Labels, seed: int, target: float | None, rule: FilteredError | None = None
) -> Iterator[FieldMap]:
    """Yield a map after each batch, as it grows in a run whose classifier makes no mistake."""
    rows, columns = truth.shape
    plan = MapPlan(
        live_time_s=LIVE_TIME_S,
        live_time_range_s=(LIVE_TIME_S, LIVE_TIME_S),
        fraction=FRACTIONS[-1],
        distortion=target,
        model=default(),
        seed=seed,
    )
    box = PixelBox(0, 0, columns, rows)
    field_map = FieldMap(MapField(FieldId(TileIndex(0, 0), 0), box, (columns, rows)), plan)
    while batches := field_map.new_batches():
        for batch in batches:
            at = batch.points_px[:, 1], batch.points_px[:, 0]
            labels = truth[at].astype(np.int64)
            if rule is not None:
                rule.tell((field_map.phase_map()[at] != labels).tolist())
            field_map.learn(batch.number, labels, np.ones(len(labels)), LIVE_TIME_S * len(labels))
            yield field_map
