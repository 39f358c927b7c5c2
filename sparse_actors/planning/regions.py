"""From points of interest to the regions that are to be rescanned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois


def regions_around(pois: Pois, region_px: tuple[int, int], field_px: tuple[int, int]) -> NDArray[np.int64]:
    """Return one region around each point of interest (section 2.4.3 of the SPARSE paper).

    A region has the size asked for and the point at its centre. It is moved, by as little as
    possible, where it would leave the field of view or cut what was found; it is larger only
    where what was found is larger, and smaller only where the field of view is.

    Parameters
    ----------
    pois
        Points and the boxes of what was found, in pixels of the field of view.
    region_px
        (width, height) of a region.
    field_px
        (width, height) of the field of view, on the same grid.

    Returns
    -------
    NDArray[np.int64]
        (n, 4): left, top, width, height, without duplicates, ordered by top, left, height, width.
    """
    if min(*region_px, *field_px) < 1:
        raise ValueError(f"regions of {region_px} in a field of {field_px} px: both need at least one pixel")
    regions = np.empty((len(pois), 4), dtype=np.int64)
    for axis in (0, 1):
        field = field_px[axis]
        centre = np.clip(pois.xy_px[:, axis], 0, field)
        pixel = np.minimum(centre.astype(np.int64), field - 1)
        found = pois.boxes_px[:, axis]
        first = np.minimum(np.clip(found, 0, field - 1), pixel)
        end = np.maximum(np.clip(found + pois.boxes_px[:, axis + 2], 1, field), pixel + 1)
        size = np.minimum(np.maximum(region_px[axis], end - first), field)
        start = np.floor(centre - size / 2 + 0.5).astype(np.int64)
        start = np.clip(start, end - size, first)
        regions[:, axis] = np.clip(start, 0, field - size)
        regions[:, axis + 2] = size
    # np.unique sorts by the first column first, hence the detour over (top, left, height, width).
    swap = [1, 0, 3, 2]
    return np.ascontiguousarray(np.unique(regions[:, swap], axis=0)[:, swap])
