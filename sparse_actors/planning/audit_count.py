"""What the images of a tile tell its audit: sites in its regions, and missed ones in its windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import Scan, ScanId

from .audit import AuditPlan, covered_by, is_missed
from .audit_estimate import AuditedTile

Sites = Mapping[ScanId, NDArray[np.float64]]
"""Of each image that was judged the centres of its sites, (n, 2) x, y in the field of view."""


def counted(
    plan: AuditPlan,
    tile: TileIndex,
    seed: int,
    field_px: tuple[int, int],
    regions: Sequence[Scan],
    windows: Sequence[Scan],
    sites: Sites,
) -> AuditedTile | None:
    """Return what was found and missed in a tile; None where windows are left and not one was judged.

    Parameters
    ----------
    plan, seed
        Of the audit, as the run was configured.
    field_px
        (width, height) of the field of view, analysis pixels.
    regions
        Of the tile, as they stood when the windows were drawn, in order.
    windows
        The scans of the windows.
    sites
        Of regions and windows, as far as there are images. A window without one, because the dose limit cut
        it or it was given up, is as good as not drawn.
    """
    covered = covered_by((box for scan in regions for box in boxes(scan)), field_px)
    drawn, of = plan.drawn(covered, tile, seed)
    scans = {scan.box: scan.id for scan in windows if scan.id in sites}
    missed = [
        int(is_missed(sites[scans[box]], window, covered).sum())
        for window, box in zip(drawn, plan.exposures(drawn, field_px), strict=True)
        if box in scans
    ]
    if of and not missed:
        return None
    return AuditedTile(found=_found(regions, sites, field_px), windows=of, missed=tuple(missed))


def _found(regions: Sequence[Scan], sites: Sites, field_px: tuple[int, int]) -> int:
    """Count the sites whose centre is in a region; once where regions overlap."""
    before = np.zeros(field_px[::-1], np.bool_)
    count = 0
    for scan in regions:
        if scan.id in sites:
            own = covered_by(boxes(scan), field_px)
            x, y = np.floor(sites[scan.id]).astype(np.int64).T
            x, y = np.minimum(x, field_px[0] - 1), np.minimum(y, field_px[1] - 1)
            count += int((own & ~before)[y, x].sum())
            before |= own
    return count


def boxes(scan: Scan) -> tuple[PixelBox, ...]:
    """Return what a scan exposes, in pixels of the field of view."""
    return scan.mask_boxes or (scan.box,)


def picture(scan: Scan, values: NDArray[Any]) -> NDArray[Any]:
    """Return the image of a scan, (rows, columns); what a mask leaves out is as grey as half of the rest."""
    if not scan.mask_boxes:
        return values
    mask = scan.mask()
    image = np.full(mask.shape, np.median(values), values.dtype)
    image[mask] = values
    return image
