"""Maps on the virtual bus: a microscope that knows the phase of every point, and a pool that tells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from story import MemoryDisk, ModelMicroscope, ModelPool, Story, survey

from sparse_actors.actors.slads_sampler import SladsSampler
from sparse_actors.contracts.classifier import Classes
from sparse_actors.contracts.spectra import EnergyAxis, Spectra
from sparse_actors.messages import (
    After,
    ClassificationReturned,
    ClassifySpectra,
    DetectImage,
    DetectionReturned,
    Effect,
    FieldMapped,
    SpectraClassified,
    SpectraRecorded,
)
from sparse_actors.planning.spot_dose import SpotDoses
from sparse_actors.planning.survey_plan import FieldsPlan, SurveyPlan
from sparse_actors.runtime.virtual import VirtualBus
from sparse_actors.sampling.erd_model import ErdModel
from sparse_actors.sampling.map_plan import MapPlan

CLASSIFICATION_S = 0.02
MODEL = ErdModel(coefficients=(0, 1, 0, 0.05) + 22 * (0,))
"""Where the nearest points disagree, and a little where they are far."""
AXIS = EnergyAxis(channels=3, offset_kev=0.0, scale_kev=0.01)


def phase_of(points_px: Any, tile: Any) -> Any:
    """Two phases, 1 and 2, in stripes that differ from tile to tile."""
    return 1 + (points_px[:, 0] + points_px[:, 1] // 3 + round(1000 * tile.x_mm)) // 9 % 2


class SpectralMicroscope(ModelMicroscope):
    """Gives spectra of which one channel tells the phase; counts what it is asked for."""

    def __init__(self, spend: Any) -> None:
        super().__init__(spend)
        self.spots: list[tuple[float, int, int]] = []
        self.fail_spots = 0

    def energy_axis(self) -> EnergyAxis:
        return AXIS

    def acquire_spectra(self, points_px: Any, live_time_s: Any, window_px: Any) -> Spectra:
        if self.fail_spots:
            self.fail_spots -= 1
            raise RuntimeError("detector warmed up")
        self._spend(float(live_time_s.sum()))
        self.spots += [(self.state.x_mm, int(x), int(y)) for x, y in points_px]
        counts = np.zeros((len(points_px), 3), np.uint16)
        counts[np.arange(len(points_px)), phase_of(points_px, self.state)] = 9
        return Spectra(counts=counts, live_time_s=live_time_s.copy())


class MapPool(ModelPool):
    """Tells phases after a while."""

    accepts = (DetectImage, ClassifySpectra)

    def handle(self, message: Any) -> Iterator[Effect]:
        if isinstance(message, DetectImage | DetectionReturned):
            yield from super().handle(message)
        elif isinstance(message, ClassificationReturned):
            yield message
        else:
            labels = message.counts.argmax(axis=1).astype(np.int32)
            classes = Classes(labels=labels, confidence=np.ones(len(labels)))
            done = ClassificationReturned(
                field=message.field,
                batch=message.batch,
                attempt=message.attempt,
                classes=classes,
                worker="model",
                elapsed_s=CLASSIFICATION_S,
            )
            yield After(CLASSIFICATION_S, done)


def map_plan(**changes: Any) -> MapPlan:
    settings: dict[str, Any] = {
        "live_time_s": 0.01,
        "live_time_range_s": (0.01, 0.01),
        "fraction": 0.25,
        "model": MODEL,
        "start_fraction": 0.05,
        "seed": 3,
    }
    return MapPlan(**(settings | changes))


def field_survey(columns: int = 1, **fields: Any) -> SurveyPlan:
    """Whole tiles, no survey."""
    return survey(columns, fields=FieldsPlan(**({"where": "field", "grid_px": (24, 24)} | fields)))


class MapStory(Story):
    """A run that makes maps."""

    pool = MapPool

    def __init__(self, plan: SurveyPlan, how: MapPlan | None = None, disk: MemoryDisk | None = None) -> None:
        super().__init__(plan, disk)
        self.how = how or map_plan()
        self.microscope = SpectralMicroscope(lambda seconds: self.bus.spend(seconds))

    def attach_more(self, bus: VirtualBus) -> None:
        def sampler() -> SladsSampler:
            return SladsSampler(self.how, tuple(self.disk.journal), SpotDoses(self.plan))

        bus.attach("sampler", SladsSampler.accepts, sampler)


def classes_of(disk: MemoryDisk) -> dict[tuple[str, int, int], int]:
    """The class of every recorded point; no point is recorded twice."""
    batches = {(f.field, f.batch): f for f in disk.journal if isinstance(f, SpectraRecorded)}
    assert len(batches) == sum(isinstance(f, SpectraRecorded) for f in disk.journal)
    found: dict[tuple[str, int, int], int] = {}
    for fact in disk.journal:
        if isinstance(fact, SpectraClassified | FieldMapped):
            is_batch = isinstance(fact, SpectraClassified)
            points = batches[fact.field, fact.batch].points_px if is_batch else fact.points_px
            name = str(fact.field if is_batch else fact.field.id)
            for (x, y), label in zip(points.tolist(), fact.labels.tolist(), strict=True):
                key = name, x, y
                assert found.get(key, label) == label
                found[key] = label
    assert len(found) == sum(len(f.points_px) for f in batches.values()), "a point was measured twice"
    return found
