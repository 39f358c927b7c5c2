"""Keeps the dose of every pixel below the limit: what was exposed, and what may be exposed still."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sparse_actors.dose import DoseMap, dose_map, scan_dose_e_per_nm2
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex, bounding_box, full_frame
from sparse_actors.messages import (
    ExposureStarted,
    MapField,
    Message,
    RegionsPlanned,
    RunStarted,
    Scan,
    ScanArea,
    ScanId,
    StorageReserved,
)

from . import mask_cover
from .spot_dose import ROUNDING, SpotDoses, highest
from .survey_plan import SurveyPlan


class DoseBook:
    """The exposures of a run, begun and planned, and the limit of `plan.max_dose_e_per_nm2`.

    An order to expose counts as an exposure, because nobody can tell afterwards whether the beam ran.

    Parameters
    ----------
    plan
        The survey; without a limit everything fits.
    history
        Facts in the journal.
    """

    def __init__(self, plan: SurveyPlan, history: Iterable[Message] = ()) -> None:
        self._plan = plan
        self._limit = plan.max_dose_e_per_nm2
        self._current_pa = plan.beam_current_pa or 0.0
        self._field_nm = plan.panorama.tile_fov_mm[0] * 1e6
        self._session = 0
        self._exposures: defaultdict[ScanId, set[tuple[int, int]]] = defaultdict(set)
        self._planned: defaultdict[TileIndex, dict[PartitionId, tuple[Scan, ...]]] = defaultdict(dict)
        self._spots = SpotDoses(plan)
        for fact in history:
            self.learn(fact)

    def learn(self, message: Message) -> None:
        """Take in one message; one that comes twice counts once."""
        if self._limit is None:
            return
        self._spots.learn(message)
        match message:
            case RunStarted(session=session):
                self._session = session
            case ExposureStarted(scan_id=scan_id, attempt=attempt):
                self._exposures[scan_id].add((self._session, attempt))
            case ScanArea(scan=scan, attempt=attempt):
                self._exposures[scan.id].add((self._session, attempt))
            case RegionsPlanned(partition=partition, scans=scans):
                self._planned[partition.tile].setdefault(partition, scans)
            case StorageReserved(scans=scans) if scans and not scans[0].id.is_fast:
                self._planned[scans[0].id.partition.tile].setdefault(scans[0].id.partition, scans)
            case _:
                pass

    def allows(self, scan: Scan) -> bool:
        """Whether one more exposure, after those that were begun, leaves every pixel within the limit."""
        if self._limit is None:
            return True
        box = scan.box.scaled(self._plan.analysis.size_px[0] // scan.imaging.size_px[0])
        begun = self._map(box, scan.id.partition.tile, at_least=0)
        return self._fits(box, begun, (scan,))

    def allows_all(self, partition: PartitionId, scans: tuple[Scan, ...]) -> bool:
        """Whether all these scans fit, each exposed once, beside all that is planned of the tile."""
        if self._limit is None or not scans:
            return True
        box = bounding_box(scan.box for scan in scans)
        return self._fits(box, self._map(box, partition.tile, 1, without=partition), scans)

    def divided(
        self, partition: PartitionId, wanted: Sequence[PixelBox]
    ) -> tuple[tuple[PixelBox, ...], tuple[PixelBox, ...]]:
        """Divide what is wanted of a partition by what the limit allows.

        Parameters
        ----------
        partition
            Whose regions these are.
        wanted
            One or more boxes on the analysis grid; they may overlap.

        Returns
        -------
        allowed, left_out
            Disjoint boxes: every wanted pixel is in one of either.
        """
        box = bounding_box(wanted)
        is_wanted = np.zeros((box.height, box.width), dtype=np.bool_)
        for part in wanted:
            is_wanted[part.shifted(-box.left, -box.top).slices] = True
        planned = self._map(box, partition.tile, 1, without=partition)
        one = Scan(ScanId(partition, 0), box, self._plan.analysis)
        is_full = planned + self._dose(one) > (self._limit or np.inf) * ROUNDING
        allowed, left_out = is_wanted & ~is_full, is_wanted & is_full
        return disjoint_boxes(allowed, box), disjoint_boxes(left_out, box)

    def on_field(self, field: MapField) -> DoseMap | None:
        """Return what scans left on each point of a field, the highest of its pixels; None: no limit."""
        if self._limit is None:
            return None
        columns, rows = field.grid_px
        frame = full_frame(self._plan.analysis.size_px)
        scanned = self._scanned(frame, field.id.tile, at_least=0)
        return highest(scanned, (rows, columns))[field.box.slices]

    def _fits(self, box: PixelBox, dose: DoseMap, scans: Iterable[Scan]) -> bool:
        more = dose_map(
            box,
            self._plan.analysis.size_px,
            self._field_nm,
            self._current_pa,
            [(scan, 1) for scan in scans],
        )
        return bool((dose + more)[more > 0].max() <= (self._limit or np.inf) * ROUNDING)

    def _map(
        self, box: PixelBox, tile: TileIndex, at_least: int, without: PartitionId | None = None
    ) -> DoseMap:
        """Return the dose of a box, spectra and every scan of the tile, each scan `at_least` so often."""
        dose = self._scanned(box, tile, at_least, without)
        if self._spots.has_any(tile):
            width, height = self._plan.analysis.size_px
            dose += highest(self._spots.on_map(tile), (height, width))[box.slices]
        return dose

    def _scanned(
        self, box: PixelBox, tile: TileIndex, at_least: int, without: PartitionId | None = None
    ) -> DoseMap:
        exposures = [
            (scan, max(at_least, len(self._exposures.get(scan.id, ()))))
            for scan in self._scans(tile)
            if scan.id.is_fast or scan.id.partition != without
        ]
        return dose_map(box, self._plan.analysis.size_px, self._field_nm, self._current_pa, exposures)

    def _scans(self, tile: TileIndex) -> Iterator[Scan]:
        yield from self._plan.fast_scans(tile)
        for scans in self._planned[tile].values():
            yield from scans

    def _dose(self, scan: Scan) -> float:
        return scan_dose_e_per_nm2(scan, self._field_nm, self._current_pa)


def disjoint_boxes(is_in: NDArray[np.bool_], box: PixelBox) -> tuple[PixelBox, ...]:
    """Return disjoint boxes of exactly the True pixels; `box` says where the array lies."""
    edges = np.diff(is_in.astype(np.int8), prepend=0, append=0, axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    runs = np.stack([starts + box.left, rows + box.top, ends - starts, np.ones_like(rows)], axis=1)
    return tuple(PixelBox(*part) for part in mask_cover.rectangles(runs).tolist())
