"""The audit of a recorded run: what its regions and its random windows show at analysis quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Detector, checked_pois
from sparse_actors.errors import SparseActorsError
from sparse_actors.messages import RegionsPlanned, Scan
from sparse_actors.planning.audit import AUDIT, AuditPlan
from sparse_actors.planning.audit_count import counted, picture
from sparse_actors.planning.audit_estimate import AuditedTile, AuditEstimate, estimate
from sparse_actors.recording.run_record import RunRecord


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
    audited = [
        _judged(record, windows[tile], plan, seed, detector, field_px) for tile in tiles if tile in windows
    ]
    judged = [tile for tile in audited if tile is not None]
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


def _judged(
    record: RunRecord,
    windows: RegionsPlanned,
    plan: AuditPlan,
    seed: int,
    detector: Detector,
    field_px: tuple[int, int],
) -> AuditedTile | None:
    """Judge a finished tile: its regions, as they stood when the windows were drawn, and its windows."""
    tile = windows.partition.tile
    regions = [
        scan
        for part, planned in sorted(record.regions.items())
        if part.tile == tile and part < windows.partition
        for scan in planned.scans
    ]
    sites = {
        scan.id: _sites(record, scan, detector)
        for scan in (*regions, *windows.scans)
        if scan.id in record.recorded
    }
    return counted(plan, tile, seed, field_px, regions, windows.scans, sites)


def _sites(record: RunRecord, scan: Scan, detector: Detector) -> NDArray[np.float64]:
    """Return the centres of the sites in an image, (n, 2) x, y in the field of view."""
    image = picture(scan, record.image(scan.id))
    pois = checked_pois(detector.detect(image, 1), (image.shape[0], image.shape[1]), 1)
    return pois.shifted(scan.box.left, scan.box.top).xy_px
