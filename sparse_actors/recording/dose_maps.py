"""The dose in the record of a run; see `sparse_actors.dose` for what is counted, and how."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

    Exposures of neighbouring tiles where they overlap are not in it; they are in `dose_overview`.

    Raises
    ------
    ValueError
        The beam current is not known.
    """
    current_pa = beam_current_pa(record)
    if current_pa is None:
        raise ValueError("the dose is not known: the run has no microscope.beam_current_pa")
    grid_px = _grid_px(record)
    exposures = [
        (scan, record.exposures[scan.id]) for scan in record.scans.values() if scan.id.partition.tile == tile
    ]
    return dose_map(full_frame(grid_px), grid_px, _field_nm(record), current_pa, exposures)


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
    grid_px, field_nm = _grid_px(record), _field_nm(record)
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
    eds = record.config.get("eds")
    if eds is not None:
        _add_spectra(overview, record, mosaic, factor, eds["grid_px"][0], current_pa)
    return overview


def _add_spectra(
    overview: DoseMap, record: RunRecord, mosaic: Mosaic, factor: int, columns: int, current_pa: float
) -> None:
    """Add what spectra deposited, each on the footprint of its point on the map grid."""
    grid_px, field_nm = _grid_px(record), _field_nm(record)
    pitch_nm = field_nm / columns
    for batch in record.maps.started:
        for (x, y), live_s in zip(batch.points_px.tolist(), batch.live_time_s.tolist(), strict=True):
            left, right = x * grid_px[0] // columns, max(1, (x + 1) * grid_px[0] // columns)
            top, bottom = y * grid_px[0] // columns, max(1, (y + 1) * grid_px[0] // columns)
            part = PixelBox(left, top, max(1, right - left), max(1, bottom - top))
            placed = mosaic.place(batch.field.tile, part)
            first_row, in_rows = _shares(placed.top, placed.bottom, factor)
            first_column, in_columns = _shares(placed.left, placed.right, factor)
            rows = slice(first_row, first_row + len(in_rows))
            deposited = np.float32(dose_e_per_nm2(current_pa, live_s * 1e9, pitch_nm))
            overview[rows, first_column : first_column + len(in_columns)] += deposited * np.outer(
                in_rows, in_columns
            )


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


def _grid_px(record: RunRecord) -> tuple[int, int]:
    width, height = record.config["scan"]["analysis"]["size_px"]
    return width, height


def _field_nm(record: RunRecord) -> float:
    return float(record.panorama.tile_fov_mm[0] * 1e6)
