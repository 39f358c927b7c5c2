"""A survey on the virtual bus: real behaviours, a model microscope, disk and worker pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sparse_actors.actors.detector_actor import DetectorActor
from sparse_actors.actors.microscope_actor import Instrument, MicroscopeActor
from sparse_actors.actors.partition_scheduler import PartitionScheduler
from sparse_actors.actors.recorder import Recorder
from sparse_actors.actors.region_inspector import RegionInspector
from sparse_actors.actors.region_planner import RegionPlanner
from sparse_actors.actors.time_keeper import TimeKeeper
from sparse_actors.contracts.detector import Pois
from sparse_actors.contracts.microscope import Microscope, MicroscopeState, ScanLimits
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import JournalError, MicroscopeError
from sparse_actors.geometry import Panorama, PixelBox
from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.messages import (
    After,
    DetectImage,
    DetectionReturned,
    Effect,
    InspectionReturned,
    InspectRegion,
    Message,
    RunFinished,
    RunStarted,
    Scan,
    ScanId,
    SpectraMeasured,
    SpectraRecorded,
)
from sparse_actors.planning.learnt_times import LearntTimes
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.runtime.virtual import Delivery, Fault, VirtualBus

START = MicroscopeState(x_mm=5.0, y_mm=5.0)
DETECTION_S = 0.05


class ModelMicroscope(Microscope):
    """Its pixels tell where they are from; its time is the virtual bus's."""

    name = "model"

    def __init__(self, spend: Callable[[float], None]) -> None:
        self._spend = spend
        self.state = START
        self.is_connected = False
        self.scans: list[tuple[PixelBox, tuple[int, int]]] = []
        self.fail_next = 0
        self.resets = 0

    limits = ScanLimits(timing=ScanTiming(row_overhead_us=1, scan_overhead_ms=1), timing_source="declared")

    def connect(self) -> None:
        self.is_connected = True

    def disconnect(self) -> None:
        self.is_connected = False

    def get_state(self) -> MicroscopeState:
        return self.state

    def prepare(self) -> None:
        self._spend(1.0)

    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Any:
        if self.fail_next:
            self.fail_next -= 1
            raise MicroscopeError("scan generator tripped")
        self.scans.append((box, window_px))
        self._spend(self.limits.timing.duration_s(box.area, box.height, dwell_ns))
        return picture(self.state, box)

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        self._spend(0.5)
        self.state = MicroscopeState(x_mm=x_mm, y_mm=y_mm)

    def reset_microscope(self, state: MicroscopeState) -> None:
        self.resets += 1
        self.state = state

    def save_metadata(self, path: Any) -> None:
        raise NotImplementedError


def picture(state: MicroscopeState, box: PixelBox) -> Any:
    rows, columns = np.mgrid[box.top : box.bottom, box.left : box.right]
    return ((rows * 7 + columns * 3 + round(state.x_mm * 1e4) + round(state.y_mm * 1e4)) % 251).astype(
        np.uint8
    )


class MemorySpectra:
    """The spectra of a run, which outlive the actors."""

    def __init__(self) -> None:
        self.batches: list[SpectraMeasured] = []

    def write(self, measured: SpectraMeasured) -> SpectraRecorded:
        self.batches.append(measured)
        return SpectraRecorded(
            field=measured.field,
            batch=measured.batch,
            attempt=measured.attempt,
            slab="memory",
            first=len(self.batches) - 1,
            points_px=measured.points_px,
            live_time_s=measured.live_time_s,
            crc32=0,
            started_s=measured.started_s,
            finished_s=measured.finished_s,
        )

    def read(self, recorded: SpectraRecorded) -> tuple[Any, EnergyAxis]:
        measured = self.batches[recorded.first]
        return measured.counts, measured.axis

    def learn(self, recorded: SpectraRecorded) -> None:
        pass


class MemoryDisk:
    """Store and journal of a run that outlive the actors, as a disk does."""

    def __init__(self) -> None:
        self.slabs: dict[str, dict[ScanId, Any]] = {}
        self.journal: list[Message] = []
        self.spectra = MemorySpectra()

    def reserve(self, slab: str, scans: tuple[Scan, ...], pixel_type: str) -> None:
        self.slabs.setdefault(slab, {})

    def write(self, slab: str, scan: Scan, image: Any) -> int:
        assert scan.id not in self.slabs[slab], f"{scan.id} written twice"
        self.slabs[slab][scan.id] = image
        return int(image.sum())

    def read(self, slab: str, scan: Scan, crc32: int) -> Any:
        image = self.slabs[slab][scan.id]
        if int(image.sum()) != crc32:
            raise JournalError("checksum")
        return image

    def append(self, message: Message) -> None:
        self.journal.append(message)

    def sync(self) -> None:
        pass


class ModelPool:
    """Finds one point in the middle of every image, after a while."""

    accepts: tuple[type[Message], ...] = (DetectImage, InspectRegion)

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def handle(
        self, message: DetectImage | InspectRegion | DetectionReturned | InspectionReturned
    ) -> Iterator[Effect]:
        if isinstance(message, DetectionReturned | InspectionReturned):
            yield message
            return
        if isinstance(message, InspectRegion):
            seen = InspectionReturned(
                scan_id=message.scan_id,
                attempt=message.attempt,
                pois=self.inspect(message.image),
                worker="model",
                elapsed_s=DETECTION_S,
            )
            yield After(DETECTION_S, seen)
            return
        done = DetectionReturned(
            partition=message.partition,
            attempt=message.attempt,
            pois=self.find(message.image, message.scale),
            worker="model",
            elapsed_s=DETECTION_S,
            finished_s=self._now() + DETECTION_S,
        )
        yield After(DETECTION_S, done)

    def find(self, image: Any, scale: int) -> Pois:
        rows, columns = image.shape
        return Pois.at([(columns * scale / 2, rows * scale / 2), (3, 3)])

    def inspect(self, image: Any) -> Pois:
        """Every pixel of a few grey levels is a site."""
        y, x = np.nonzero(image < 4)
        return Pois.at(np.stack([x + 0.5, y + 0.5], axis=1))


def survey(columns: int = 2, **changes: Any) -> SurveyPlan:
    changes.setdefault("inspects", changes.get("audit") is not None)
    settings: dict[str, Any] = {
        "panorama": Panorama(((0, 0), (0.1 * columns, 0), (0, 0.1)), (0.1, 0.1)),
        "fast": Imaging((16, 16), 1000),
        "analysis": Imaging((64, 64), 1000),
        "partitions": 4,
        "region_px": (8, 8),
        "merging": "greedy",
        "timing": None,
    }
    return SurveyPlan(**(settings | changes))


class Story:
    """Everything of one run; `tell` lets it happen."""

    pool: type[ModelPool] = ModelPool

    def __init__(self, plan: SurveyPlan, disk: MemoryDisk | None = None) -> None:
        self.plan = plan
        self.disk = disk or MemoryDisk()
        self.exposures: list[Message] = []
        self.bus = VirtualBus()
        self.microscope = ModelMicroscope(lambda seconds: self.bus.spend(seconds))

    def attach_more(self, bus: VirtualBus) -> None:
        """Attach what only some stories have."""

    def tell(
        self,
        fault: Callable[[Delivery], Fault | None] = lambda delivery: None,
        between: Callable[[VirtualBus], None] = lambda bus: None,
    ) -> list[Message]:
        """Run to the end and return everything that was published."""
        self.bus = bus = VirtualBus(fault)
        disk, plan = self.disk, self.plan
        sessions = sum(isinstance(fact, RunStarted) for fact in disk.journal)
        disk.append(
            RunStarted(name="story", session=sessions, started_s=0, seed=1, version="0", config_toml="")
        )
        state = SurveyState(plan)
        for fact in disk.journal:
            state.learn(fact)
        instrument = Instrument(self.microscope, state.to_restore)
        bus.attach(
            "microscope",
            MicroscopeActor.accepts,
            lambda: MicroscopeActor(instrument, self.exposures.append, bus.now),
        )
        spectra = disk.spectra
        bus.attach("recorder", Recorder.accepts, lambda: Recorder(disk, spectra, disk, tuple(disk.journal)))
        bus.attach("detector", DetectorActor.accepts, lambda: DetectorActor(plan, tuple(disk.journal)))
        bus.attach("workers", self.pool.accepts, lambda: self.pool(bus.now))
        bus.attach(
            "time keeper",
            TimeKeeper.accepts,
            lambda: TimeKeeper(LearntTimes(plan.timing), tuple(disk.journal)),
        )
        bus.attach("planner", RegionPlanner.accepts, lambda: RegionPlanner(plan, tuple(disk.journal)))
        if plan.inspects:
            bus.attach(
                "inspector", RegionInspector.accepts, lambda: RegionInspector(plan, tuple(disk.journal))
            )
        bus.attach(
            "scheduler", PartitionScheduler.accepts, lambda: PartitionScheduler(plan, tuple(disk.journal))
        )
        self.attach_more(bus)
        between(bus)
        bus.run(RunFinished, limit=20_000)
        return [message for _, message in bus.published]
