"""The dose in the record of a run; see `sparse_actors.dose` for what is counted, and how."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import lil_array

from sparse_actors.dose import DoseMap, dose_map, scan_dose_e_per_nm2
from sparse_actors.geometry import PixelBox, TileIndex, full_frame
from sparse_actors.imaging import dose_e_per_nm2
from sparse_actors.messages import Scan

from .mosaic import Mosaic, uncovered
from .run_record import RunRecord


def beam_current_pa(record: RunRecord) -> float | None:
    """Return the configured beam current; None where it is not known, and no dose either."""
    current = record.config.get("microscope", {}).get("beam_current_pa")
    return None if current is None else float(current)


def tile_dose(record: RunRecord, tile: TileIndex) -> DoseMap:
    """Return the dose of every exposure of a tile on the analysis grid, (rows, columns).

    What a spectrum leaves is spread over the footprint of its point on the map grid; where that is finer
    than the analysis grid, a pixel has the mean of its points. Exposures of neighbouring tiles where they
    overlap are not in it; they are in `dose_overview`.

    Raises
    ------
    ValueError
        The beam current is not known.
    """
    current_pa = beam_current_pa(record)
    if current_pa is None:
        raise ValueError("the dose is not known: the run has no microscope.beam_current_pa")
    grid_px = record.analysis_px
    exposures = [
        (scan, record.exposures[scan.id]) for scan in record.scans.values() if scan.id.partition.tile == tile
    ]
    dose = dose_map(full_frame(grid_px), grid_px, _field_nm(record), current_pa, exposures)
    if (spots := _spots(record, tile)) is not None:
        down = _spread(0, grid_px[1], len(spots), grid_px[1], 1)
        across = _spread(0, grid_px[0], spots.shape[1], grid_px[0], 1)
        dose += (down @ spots @ across.T).astype(np.float32)
    return dose


def dose_overview(record: RunRecord, factor: int) -> DoseMap:
    """Return the dose of the whole panorama, each pixel the mean of `factor` x `factor` analysis pixels.

    Raises
    ------
    ValueError
        The beam current is not known.
    """
    current_pa = beam_current_pa(record)
    if current_pa is None:
        raise ValueError("the dose is not known: the run has no microscope.beam_current_pa")
    grid_px, field_nm = record.analysis_px, _field_nm(record)
    mosaic = Mosaic(record.panorama, grid_px)
    rows, columns = (-(-n // factor) for n in mosaic.shape)
    overview = np.zeros((rows, columns), dtype=np.float32)
    for scan in record.scans.values():
        deposited = record.exposures[scan.id] * scan_dose_e_per_nm2(scan, field_nm, current_pa)
        if not deposited:
            continue
        scale = grid_px[0] // scan.imaging.size_px[0]
        for part in _disjoint(scan):
            placed = mosaic.place(scan.id.partition.tile, part.scaled(scale))
            top, in_rows = _shares(placed.top, placed.bottom, factor)
            left, in_columns = _shares(placed.left, placed.right, factor)
            place = slice(top, top + len(in_rows)), slice(left, left + len(in_columns))
            overview[place] += np.float32(deposited) * np.outer(in_rows, in_columns)
    for tile in dict.fromkeys(batch.field.tile for batch in record.maps.started):
        if (spots := _spots(record, tile)) is not None:
            placed = mosaic.place(tile, full_frame(grid_px))
            down = _spread(placed.top, placed.height, len(spots), rows, factor)
            across = _spread(placed.left, placed.width, spots.shape[1], columns, factor)
            overview += (down @ spots @ across.T).astype(np.float32)
    return overview


def _spots(record: RunRecord, tile: TileIndex) -> DoseMap | None:
    """Return what spectra left on the map grid of a tile, (rows, columns); None: there are none."""
    eds, current_pa = record.config.get("eds"), beam_current_pa(record)
    maps = record.maps
    of_tile = [(b, s) for b, s in zip(maps.started, maps.exposed_s, strict=True) if b.field.tile == tile]
    if eds is None or current_pa is None or not of_tile:
        return None
    columns, rows = eds["grid_px"]
    dose = np.zeros((rows, columns))
    for batch, exposed_s in of_tile:
        x, y = batch.points_px.T
        seconds = exposed_s * batch.live_time_s / batch.live_time_s.sum()
        np.add.at(dose, (y, x), dose_e_per_nm2(current_pa, 1e9, _field_nm(record) / columns) * seconds)
    return dose.astype(np.float32)


def _spread(first: float, width: float, points: int, cells: int, factor: int) -> Any:
    """Return which share of each cell of `factor` px each map point covers, (cells, points).

    Parameters
    ----------
    first, width
        Where the row of points begins, and how wide it is, px.
    """
    edges = first + width * np.arange(points + 1) / points
    share = lil_array((cells, points))
    for point, (begin, end) in enumerate(pairwise(edges)):
        for cell in range(int(begin // factor), min(cells, math.ceil(end / factor))):
            share[cell, point] = (min(end, (cell + 1) * factor) - max(begin, cell * factor)) / factor
    return share.tocsr()


def _shares(first: int, end: int, factor: int) -> tuple[int, NDArray[np.float32]]:
    """Return the first of the cells of `factor` pixels that first..end touches, and the share of each."""
    cells = np.arange(first // factor, (end - 1) // factor + 1)
    covered = np.minimum(end, (cells + 1) * factor) - np.maximum(first, cells * factor)
    return int(cells[0]), (covered / factor).astype(np.float32)


def _disjoint(scan: Scan) -> list[PixelBox]:
    """Return boxes that hold every exposed pixel of a scan once."""
    parts: list[PixelBox] = []
    for box in scan.mask_boxes or (scan.box,):
        parts += uncovered(box, parts)
    return parts


def _field_nm(record: RunRecord) -> float:
    return float(record.panorama.tile_fov_mm[0] * 1e6)
