"""The audit of a recorded run: what its regions and its random windows show at analysis quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Detector, checked_pois
from sparse_actors.errors import SparseActorsError
from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import RegionsPlanned, Scan
from sparse_actors.planning.audit import AUDIT, AuditPlan, covered_by, is_missed
from sparse_actors.recording.run_record import RunRecord

from .audit import AuditedTile, AuditEstimate, estimate


class AuditError(SparseActorsError):
    """A run cannot be audited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAudit:
    """What the audit of a run tells."""

    estimate: AuditEstimate
    not_audited: int
    """Finished tiles without a window: none was recorded."""
    beam_s: float
    """Time of the windows' scans."""
    beam_share: float
    """Of the time of all recorded scans."""


def audit_run(
    record: RunRecord, plan: AuditPlan, seed: int, detector: Detector, field_px: tuple[int, int]
) -> RunAudit:
    """Return what a run has missed in the tiles finished so far.

    Parameters
    ----------
    record
        The run, which may be going on.
    plan, seed
        Of the audit, as the run was configured.
    detector
        Finds the sites in images at analysis quality; every one of them counts.
    field_px
        (width, height) of the field of view, analysis pixels.

    Raises
    ------
    AuditError
        No finished tile has a window.
    """
    windows = {part.tile: planned for part, planned in record.regions.items() if planned.source == AUDIT}
    tiles = sorted(record.finished_tiles - set(record.skipped_tiles))
    audited = [_Tile(record, windows[tile], tile, field_px) for tile in tiles if tile in windows]
    judged = [one for tile in audited if (one := tile.judged(plan, seed, detector)) is not None]
    if not judged:
        raise AuditError(
            f"{record.folder.path}: none of {len(tiles)} finished tiles has a window of an audit"
        )
    scans = [scan.id for planned in windows.values() for scan in planned.scans if scan.id in record.recorded]
    spent_s = {i: one.finished_s - one.started_s for i, one in record.recorded.items()}
    beam_s = sum(spent_s[scan_id] for scan_id in scans)
    return RunAudit(
        estimate=estimate(judged),
        not_audited=len(tiles) - len(judged),
        beam_s=beam_s,
        beam_share=beam_s / max(sum(spent_s.values()), 1e-9),
    )


class _Tile:
    """A finished tile: its regions, as they stood when the windows were drawn, and its windows."""

    def __init__(
        self, record: RunRecord, windows: RegionsPlanned, tile: TileIndex, field_px: tuple[int, int]
    ) -> None:
        self._record = record
        self._windows = windows
        self._tile = tile
        self._field_px = field_px
        self._regions = [
            scan
            for part, planned in sorted(record.regions.items())
            if part.tile == tile and part < windows.partition
            for scan in planned.scans
        ]

    def judged(self, plan: AuditPlan, seed: int, detector: Detector) -> AuditedTile | None:
        """Return what was found and missed; None where windows are left and not one was recorded."""
        covered = covered_by((box for scan in self._regions for box in _boxes(scan)), self._field_px)
        drawn, of = plan.drawn(covered, self._tile, seed)
        # A window that the dose limit cut, or that was given up, is as good as not drawn.
        scans = {scan.box: scan for scan in self._windows.scans if scan.id in self._record.recorded}
        seen = [
            int(is_missed(self._sites(scans[box], detector), window, covered).sum())
            for window, box in zip(drawn, plan.exposures(drawn, self._field_px), strict=True)
            if box in scans
        ]
        if of and not seen:
            return None
        return AuditedTile(found=sum(self._found(detector)), windows=of, missed=tuple(seen))

    def _found(self, detector: Detector) -> Iterator[int]:
        """Yield for each region how many sites have their centre in it and in none before it."""
        before = np.zeros(self._field_px[::-1], np.bool_)
        for scan in self._regions:
            if scan.id in self._record.recorded:
                own = covered_by(_boxes(scan), self._field_px)
                x, y = np.floor(self._sites(scan, detector)).astype(np.int64).T
                x, y = np.minimum(x, self._field_px[0] - 1), np.minimum(y, self._field_px[1] - 1)
                yield int((own & ~before)[y, x].sum())
                before |= own

    def _sites(self, scan: Scan, detector: Detector) -> NDArray[np.float64]:
        """Return the centres of the sites in an image, (n, 2) x, y in the field of view."""
        image = _picture(scan, self._record.image(scan.id))
        pois = checked_pois(detector.detect(image, 1), (image.shape[0], image.shape[1]), 1)
        return pois.shifted(scan.box.left, scan.box.top).xy_px


def _boxes(scan: Scan) -> tuple[PixelBox, ...]:
    return scan.mask_boxes or (scan.box,)


def _picture(scan: Scan, values: NDArray[Any]) -> NDArray[Any]:
    """Return the image of a scan; what a mask leaves out is as grey as half of the rest."""
    if not scan.mask_boxes:
        return values
    mask = scan.mask()
    picture = np.full(mask.shape, np.median(values), values.dtype)
    picture[mask] = values
    return picture
