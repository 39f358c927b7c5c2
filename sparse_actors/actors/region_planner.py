"""Turns points of interest into the scans that bring them back at analysis quality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PartitionId, PixelBox, TileIndex, bounding_box
from sparse_actors.imaging import ScanTiming
from sparse_actors.messages import (
    DetectionFailed,
    Message,
    MicroscopePrepared,
    PlanRegions,
    PoisFound,
    RegionsPlanned,
    Scan,
    ScanArea,
    ScanId,
    StorageReserved,
    TimingLearned,
)
from sparse_actors.planning.audit import AUDIT
from sparse_actors.planning.dose import DoseBook, disjoint_boxes
from sparse_actors.planning.merging import MaskForm, improve, mask_form_for, merge
from sparse_actors.planning.placement import regions_covering
from sparse_actors.planning.regions import regions_around
from sparse_actors.planning.seams import NONE, Boxes, undetected
from sparse_actors.planning.survey_plan import SurveyPlan

IMPROVE_S = 0.2
IMPROVE_SHARE = 0.01
"""A merging is improved for this share of the time it takes to scan, and no longer than IMPROVE_S."""


class RegionPlanner:
    """One plan for each partition; a partition whose detection failed is rescanned whole.

    Parameters
    ----------
    plan
        The survey.
    history
        Facts in the journal: what scans cost, and what was exposed.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (
        MicroscopePrepared,
        TimingLearned,
        ScanArea,
        PoisFound,
        DetectionFailed,
        PlanRegions,
    )

    def __init__(self, plan: SurveyPlan, history: Iterable[Message]) -> None:
        self._plan = plan
        self._timing: ScanTiming | None = None
        self._min_region_px = 1
        self._mask_form: MaskForm = "mask"
        self._standing: dict[PartitionId, RegionsPlanned] = {}
        self._planned: defaultdict[TileIndex, dict[PartitionId, list[PixelBox]]] = defaultdict(dict)
        self._withheld: defaultdict[TileIndex, dict[PartitionId, Boxes]] = defaultdict(dict)
        self._doses = DoseBook(plan)
        for fact in history:
            self._learn(fact)

    def handle(self, message: Message) -> Iterator[Message]:
        """Plan a partition, or learn what planning goes by."""
        self._learn(message)
        match message:
            case (
                PoisFound(partition=partition)
                | DetectionFailed(partition=partition)
                | PlanRegions(partition=partition)
            ) if partition in self._standing:
                # Exposed and detected again: the first plan stands, part of it may have been scanned.
                yield self._standing[partition]
                return
            case PoisFound(partition=partition):
                planned = self._within_limit(self._merged(message))
            case DetectionFailed(partition=partition):
                planned = self._within_limit(self._whole(partition))
            case PlanRegions():
                planned = self._within_limit(self._proposed(message))
            case _:
                return
        self._learn(planned)
        yield planned

    def _learn(self, fact: Message) -> None:
        self._doses.learn(fact)
        if isinstance(fact, RegionsPlanned):
            self._standing.setdefault(fact.partition, fact)
        match fact:
            case RegionsPlanned(partition=part, scans=scans):
                self._note(part, scans)
            case StorageReserved(scans=scans) if scans and not scans[0].id.is_fast:
                self._note(scans[0].id.partition, scans)  # if the plan itself got lost
            case PoisFound(partition=part, withheld_px=withheld_px) if withheld_px is not None:
                self._withheld[part.tile][part] = withheld_px
            case DetectionFailed(partition=part) if self._plan.seam(part) is None:
                self._withheld[part.tile][part] = NONE  # it is rescanned whole itself
            case MicroscopePrepared(capabilities=capabilities):
                self._min_region_px = capabilities.limits.min_region_px
                self._mask_form = mask_form_for(capabilities)
                self._timing = self._timing or self._plan.timing or capabilities.limits.timing
            case TimingLearned(timing=timing):
                self._timing = timing
            case _:
                pass

    def _note(self, part: PartitionId, scans: tuple[Scan, ...]) -> None:
        boxes = [box for scan in scans for box in scan.mask_boxes or (scan.box,)]
        self._planned[part.tile].setdefault(part, boxes)

    def _merged(self, found: PoisFound) -> RegionsPlanned:
        plan, partition = self._plan, found.partition
        field_px, margin_px = plan.analysis.size_px, plan.region_margin_px
        if margin_px is None:
            regions = regions_around(found.pois, plan.region_px, field_px)
        else:
            regions = regions_covering(found.pois, plan.region_px, field_px, margin_px)
        if plan.seam(partition):
            regions = regions[[not self._is_planned(partition, PixelBox(*box)) for box in regions.tolist()]]
        timing = self._timing or ScanTiming()
        merged = merge(regions, plan.merging, plan.analysis, timing, mask_form=self._mask_form)
        if plan.merging == "greedy":
            # The beam is busy with the next partition meanwhile; 10 million steps take some 15 ms.
            work = int(min(IMPROVE_S, IMPROVE_SHARE * merged.predicted_s) / 15e-3 * 1e7)
            merged = improve(merged, regions, plan.analysis, timing, seed=plan.seed, work=work)
        scans = tuple(
            Scan(ScanId(partition, number), scan.box, plan.analysis, scan.mask_boxes, scan.is_point_stream)
            for number, scan in enumerate(merged.scans)
        )
        return RegionsPlanned(
            partition=partition, scans=scans, strategy=merged.strategy, predicted_s=merged.predicted_s
        )

    def _proposed(self, order: PlanRegions) -> RegionsPlanned:
        """Plan exactly what was proposed and is not planned yet: no pixel is rescanned twice."""
        if order.source == AUDIT:
            return self._audited(order)
        box = bounding_box(order.boxes)
        is_wanted = np.zeros((box.height, box.width), np.bool_)
        for part in order.boxes:
            is_wanted[part.shifted(-box.left, -box.top).slices] = True
        new = disjoint_boxes(is_wanted & ~self._planned_pixels(order.partition, box), box)
        scans, slivers = self._as_scans(order.partition, new)
        return RegionsPlanned(
            partition=order.partition,
            scans=scans,
            strategy="as proposed" if scans else "nothing new",
            predicted_s=self._duration_s(scans),
            left_out=slivers,
            source=order.source,
        )

    def _audited(self, order: PlanRegions) -> RegionsPlanned:
        """Plan each window of an audit as one scan, whatever else is scanned there: all of it is judged."""
        scans = tuple(
            Scan(ScanId(order.partition, number), box, self._plan.analysis)
            for number, box in enumerate(order.boxes)
        )
        return RegionsPlanned(
            partition=order.partition,
            scans=scans,
            strategy="drawn at random",
            predicted_s=self._duration_s(scans),
            source=order.source,
        )

    def _is_planned(self, part: PartitionId, region: PixelBox) -> bool:
        """Whether the regions of other parts of the tile bring back all of a region."""
        return bool(self._planned_pixels(part, region).all())

    def _planned_pixels(self, part: PartitionId, box: PixelBox) -> NDArray[np.bool_]:
        """Return which pixels of a box the regions of other parts of the tile bring back."""
        is_there = np.zeros((box.height, box.width), np.bool_)
        for other, boxes in self._planned[part.tile].items():
            for planned in boxes:
                if other != part and (common := planned.intersection(box)):
                    is_there[common.shifted(-box.left, -box.top).slices] = True
        return is_there

    def _within_limit(self, planned: RegionsPlanned) -> RegionsPlanned:
        """Cut out of the regions the pixels that would get more dose than `plan.max_dose_e_per_nm2`."""
        partition = planned.partition
        if self._doses.allows_all(partition, planned.scans):
            return planned
        wanted = [box for scan in planned.scans for box in scan.mask_boxes or (scan.box,)]
        allowed, left_out = self._doses.divided(partition, wanted)
        scans, slivers = self._as_scans(partition, allowed)
        return replace(
            planned,
            scans=scans,
            strategy=f"{planned.strategy}, within the dose limit",
            predicted_s=self._duration_s(scans),
            left_out=(*planned.left_out, *left_out, *slivers),
        )

    def _as_scans(
        self, partition: PartitionId, boxes: tuple[PixelBox, ...]
    ) -> tuple[tuple[Scan, ...], tuple[PixelBox, ...]]:
        """Return disjoint boxes as scans, and those too narrow for the microscope to scan."""
        plan, least = self._plan, self._min_region_px
        if plan.merging == "mask" and self._mask_form != "mask as rectangles" and boxes:
            is_point_stream = self._mask_form == "mask as points"
            box = bounding_box(boxes)
            return (Scan(ScanId(partition, 0), box, plan.analysis, boxes, is_point_stream),), ()
        wide = [box for box in boxes if min(box.width, box.height) >= least]
        scans = tuple(Scan(ScanId(partition, number), box, plan.analysis) for number, box in enumerate(wide))
        return scans, tuple(box for box in boxes if min(box.width, box.height) < least)

    def _duration_s(self, scans: tuple[Scan, ...]) -> float:
        timing = self._timing or ScanTiming()
        return sum(timing.duration_s(scan.pixels, scan.rows, scan.imaging.dwell_ns) for scan in scans)

    def _whole(self, partition: PartitionId) -> RegionsPlanned:
        plan = self._plan
        whole = Scan(ScanId(partition, 0), self._undetected_box(partition), plan.analysis)
        kind = "seam" if plan.seam(partition) else "partition"
        # Around a seam both partitions may have been planned whole already.
        is_planned = kind == "seam" and self._is_planned(partition, whole.box)
        scans = (whole,) if plan.rescan_when_detection_fails and not is_planned else ()
        return RegionsPlanned(
            partition=partition,
            scans=scans,
            strategy=f"whole {kind}" if plan.rescan_when_detection_fails else "skipped",
            predicted_s=self._duration_s(scans),
            is_fallback=True,
        )

    def _undetected_box(self, part: PartitionId) -> PixelBox:
        """Return what of a tile is to be rescanned if a part of it could not be detected."""
        plan, seam = self._plan, self._plan.seam(part)
        if seam is None:
            return plan.analysis_box(part)
        withheld = self._withheld[part.tile]
        sides = [(plan.analysis_box(p), withheld.get(p)) for p in plan.parts(part.tile)[: plan.partitions]]
        return undetected(
            seam.scaled(plan.scale), plan.halo_px * plan.scale, sides, plan.reach_px * plan.scale
        )
