"""Electrons on every pixel of a tile, over all its exposures.

Convention: a scan deposits I t / (e p^2) on what it covers, with the dwell time t and the pixel pitch p
of that scan. The beam stands on one point of a pixel; its dose is counted as spread over the pixel's
whole footprint, so that a pixel of a fast scan covers `scale` x `scale` pixels of the analysis grid. An
exposure that was begun counts in full, also where it failed half way: nobody can tell how far it got.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .geometry import PixelBox
from .imaging import dose_e_per_nm2
from .scan import Scan

DoseMap = NDArray[np.float32]
"""(rows, columns) of electrons per nm^2."""


def scan_dose_e_per_nm2(scan: Scan, field_nm: float, current_pa: float) -> float:
    """Return what one exposure deposits on each of its pixels, for a field of view `field_nm` wide."""
    return dose_e_per_nm2(current_pa, scan.imaging.dwell_ns, field_nm / scan.imaging.size_px[0])


def dose_map(
    box: PixelBox,
    grid_px: tuple[int, int],
    field_nm: float,
    current_pa: float,
    exposures: Iterable[tuple[Scan, int]],
) -> DoseMap:
    """Add up the doses of some exposures of one tile.

    Parameters
    ----------
    box
        The part of the tile that is asked for, on the analysis grid.
    grid_px
        (width, height) of the analysis grid.
    field_nm
        Width of the field of view.
    current_pa
        Beam current.
    exposures
        Each scan with how often it was exposed.

    Returns
    -------
    DoseMap
        (box.height, box.width).
    """
    dose = np.zeros((box.height, box.width), dtype=np.float32)
    for scan, times in exposures:
        if times == 0:
            continue
        scale = grid_px[0] // scan.imaging.size_px[0]
        parts = [part.scaled(scale).intersection(box) for part in scan.mask_boxes or (scan.box,)]
        hit = [part.shifted(-box.left, -box.top).slices for part in parts if part]
        deposited = times * scan_dose_e_per_nm2(scan, field_nm, current_pa)
        if len(hit) == 1:
            dose[hit[0]] += deposited
        elif hit:
            # The boxes of a mask may overlap, and its pixels are exposed once.
            is_hit = np.zeros(dose.shape, dtype=np.bool_)
            for place in hit:
                is_hit[place] = True
            dose[is_hit] += deposited
    return dose
