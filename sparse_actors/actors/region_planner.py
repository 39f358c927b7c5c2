"""Turns points of interest into the scans that bring them back at analysis quality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from sparse_actors.geometry import PartitionId
from sparse_actors.imaging import ScanTiming
from sparse_actors.messages import (
    DetectionFailed,
    Message,
    MicroscopePrepared,
    PoisFound,
    RegionsPlanned,
    Scan,
    ScanId,
)
from sparse_actors.planning.merging import merge
from sparse_actors.planning.regions import regions_around
from sparse_actors.planning.survey_plan import SurveyPlan


class RegionPlanner:
    """One plan for each partition; a partition whose detection failed is rescanned whole.

    Parameters
    ----------
    plan
        The survey.
    history
        Facts in the journal; the last `MicroscopePrepared` tells the time model.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (MicroscopePrepared, PoisFound, DetectionFailed)

    def __init__(self, plan: SurveyPlan, history: Iterable[Message]) -> None:
        self._plan = plan
        self._timing = plan.timing or ScanTiming()
        for fact in history:
            if isinstance(fact, MicroscopePrepared):
                self._learn(fact)

    def handle(self, message: MicroscopePrepared | PoisFound | DetectionFailed) -> Iterator[Message]:
        """Plan a partition."""
        match message:
            case MicroscopePrepared():
                self._learn(message)
            case PoisFound():
                yield self._merged(message)
            case DetectionFailed(partition=partition):
                yield self._whole(partition)

    def _learn(self, microscope: MicroscopePrepared) -> None:
        self._timing = self._plan.timing or microscope.capabilities.limits.timing

    def _merged(self, found: PoisFound) -> RegionsPlanned:
        plan, partition = self._plan, found.partition
        regions = regions_around(found.pois, plan.region_px, plan.analysis.size_px)
        merged = merge(regions, plan.merging, plan.analysis, self._timing)
        scans = tuple(
            Scan(ScanId(partition, number), scan.box, plan.analysis, scan.mask_boxes)
            for number, scan in enumerate(merged.scans)
        )
        return RegionsPlanned(
            partition=partition, scans=scans, strategy=merged.strategy, predicted_s=merged.predicted_s
        )

    def _whole(self, partition: PartitionId) -> RegionsPlanned:
        plan = self._plan
        whole = Scan(ScanId(partition, 0), plan.analysis_box(partition), plan.analysis)
        scans = (whole,) if plan.rescan_when_detection_fails else ()
        return RegionsPlanned(
            partition=partition,
            scans=scans,
            strategy="whole partition" if scans else "skipped",
            predicted_s=sum(
                self._timing.duration_s(scan.pixels, scan.rows, plan.analysis.dwell_ns) for scan in scans
            ),
            is_fallback=True,
        )
