"""The tables of a run as columns: tiles, regions, points of interest, exposures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PartitionId
from sparse_actors.messages import Scan

from .dose_maps import beam_current_pa, tile_dose
from .mosaic import Mosaic
from .packed import region_paths
from .run_record import RunRecord

Columns = Mapping[str, NDArray[Any] | list[str]]
"""Values by column name; units stand at the end of the name."""

NOT_INSPECTED = -1
"""In place of a number of sites."""
UNITS = {"mm": "mm", "px": "px", "s": "s", "ns": "ns", "pct": "%", "nm2": "1/nm^2"}


def units_of(column: str) -> str | None:
    """Return the unit that ends a column's name, e.g. "mm" of "stage_x_mm"."""
    return UNITS.get(column.rpartition("_")[2])


def tile_table(record: RunRecord) -> Columns:
    """Return what was read back at each tile; NaN where the instrument has no such setting."""
    tiles = sorted(record.tiles)
    reached = [record.tiles[tile] for tile in tiles]
    fast = Counter(scan_id.partition.tile for scan_id in record.recorded if scan_id.is_fast)

    def readings(name: str) -> NDArray[np.float64]:
        values = [getattr(message.state, name) for message in reached]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    is_dose_known = beam_current_pa(record) is not None
    doses = [tile_dose(record, tile).max() if is_dose_known else np.nan for tile in tiles]
    return {
        "tile": [str(tile) for tile in tiles],
        "row": _whole(tile.row for tile in tiles),
        "column": _whole(tile.column for tile in tiles),
        "stage_x_mm": readings("x_mm"),
        "stage_y_mm": readings("y_mm"),
        "working_distance_mm": readings("working_distance_mm"),
        "brightness_pct": readings("brightness_pct"),
        "contrast_pct": readings("contrast_pct"),
        "move_started_s": np.array([message.started_s for message in reached]),
        "move_finished_s": np.array([message.finished_s for message in reached]),
        "fast_scans_recorded": _whole(fast[tile] for tile in tiles),
        "dose_max_e_per_nm2": np.array(doses, dtype=np.float64),
        "is_finished": _whole(tile in record.finished_tiles for tile in tiles),
    }


def region_table(record: RunRecord, mosaic: Mosaic) -> Columns:
    """Return every region that was planned and what became of it; `path` is below the tile groups."""
    scans = [scan for scan_id, scan in record.scans.items() if not scan_id.is_fast]
    done = [scan for scan in recorded_scans(record) if not scan.id.is_fast]
    paths = {scan.id: path for scan, path in zip(done, region_paths(done), strict=True)}
    centres = [_centre(scan, mosaic) for scan in scans]
    return {
        **_names(scans),
        "region": _whole(scan.id.region or 0 for scan in scans),
        "x_px": _whole(scan.box.left for scan in scans),
        "y_px": _whole(scan.box.top for scan in scans),
        "width_px": _whole(scan.box.width for scan in scans),
        "height_px": _whole(scan.box.height for scan in scans),
        "pixels": _whole(scan.pixels for scan in scans),
        "stage_x_mm": np.array([x for x, _ in centres]),
        "stage_y_mm": np.array([y for _, y in centres]),
        "source": [region_source(record, scan) for scan in scans],
        **_sites_seen(record, scans),
        "status": [record.status(scan.id) for scan in scans],
        "path": [paths.get(scan.id, "") for scan in scans],
    }


def _sites_seen(record: RunRecord, scans: Sequence[Scan]) -> Columns:
    """Return how many sites each region has; no column where nobody looked at regions again."""
    if not record.sites:
        return {}
    return {"sites_seen": _whole(record.sites.get(scan.id, NOT_INSPECTED) for scan in scans)}


def audit_table(record: RunRecord) -> Columns:
    """Return what the audit told with each tile: what was seen in it, and of all tiles until then."""
    told = list(record.audits.values())

    def shares(name: str) -> NDArray[np.float64]:
        return np.array([getattr(one, name) for one in told], dtype=np.float64)

    return {
        "tile": [str(one.tile) for one in told],
        "found": _whole(one.found for one in told),
        "windows": _whole(one.windows for one in told),
        "windows_drawn": _whole(len(one.missed) for one in told),
        "missed_seen": _whole(sum(one.missed) for one in told),
        "missed_so_far": shares("all_missed"),
        "recall_so_far": shares("recall"),
        "recall_low": shares("recall_low"),
        "recall_high": shares("recall_high"),
        "recall_at_most": shares("recall_at_most"),
    }


def skipped_table(record: RunRecord) -> Columns:
    """Return the tiles that somebody had skipped, with the reason."""
    skipped = sorted(record.skipped_tiles)
    return {
        "tile": [str(tile) for tile in skipped],
        "row": _whole(tile.row for tile in skipped),
        "column": _whole(tile.column for tile in skipped),
        "reason": [record.skipped_tiles[tile].reason for tile in skipped],
    }


def left_out_table(record: RunRecord) -> Columns:
    """Return what was not rescanned because of the limit of the dose, in analysis pixels of the tile."""
    left_out = [(p, box) for p, planned in record.regions.items() for box in planned.left_out]
    return {
        "tile": [str(partition.tile) for partition, _ in left_out],
        "partition": _whole(partition.index for partition, _ in left_out),
        "x_px": _whole(box.left for _, box in left_out),
        "y_px": _whole(box.top for _, box in left_out),
        "width_px": _whole(box.width for _, box in left_out),
        "height_px": _whole(box.height for _, box in left_out),
    }


def poi_table(record: RunRecord, mosaic: Mosaic) -> Columns:
    """Return all points of interest, in analysis pixels of their field of view and on the stage."""
    partitions: list[PartitionId] = []
    rows: list[list[float]] = []
    for partition in sorted(record.pois, key=str):
        pois = record.pois[partition].pois
        for (x_px, y_px), score in zip(pois.xy_px.tolist(), pois.score.tolist(), strict=True):
            partitions.append(partition)
            rows.append([x_px, y_px, score, *mosaic.stage_mm(partition.tile, x_px, y_px)])
    values = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return {
        "tile": [str(partition.tile) for partition in partitions],
        "partition": _whole(partition.index for partition in partitions),
        **dict(zip(("x_px", "y_px", "score", "stage_x_mm", "stage_y_mm"), values, strict=True)),
    }


def timing_table(record: RunRecord) -> Columns:
    """Return every recorded exposure in order of time, with the pause before it and what it was for."""
    done = sorted(record.recorded.values(), key=lambda recorded: recorded.started_s)
    scans = [record.scans[recorded.scan_id] for recorded in done]
    started = np.array([recorded.started_s for recorded in done])
    finished = np.array([recorded.finished_s for recorded in done])
    pauses = started[1:] - finished[:-1]
    return {
        "scan": [str(recorded.scan_id) for recorded in done],
        **_names(scans),
        "is_fast": _whole(scan.id.is_fast for scan in scans),
        "started_s": started,
        "finished_s": finished,
        "pause_before_s": np.concatenate([np.zeros(min(1, len(done))), pauses]),
        "pause_cause": [record.waited_for.get(scan.id, "") for scan in scans],
        "dwell_ns": np.array([recorded.dwell_ns for recorded in done]),
        "pixels": _whole(scan.pixels for scan in scans),
        "exposures": _whole(record.exposures[scan.id] for scan in scans),
    }


def recorded_scans(record: RunRecord) -> list[Scan]:
    """Return the recorded scans in an order that does not depend on when they were recorded."""
    return [record.scans[scan_id] for scan_id in sorted(record.recorded, key=str)]


def region_source(record: RunRecord, scan: Scan) -> str:
    """Return who wanted a region: the detector, or whoever proposed it."""
    planned = record.regions.get(scan.id.partition)
    return (planned.source if planned else "") or "detector"


def _names(scans: Sequence[Scan]) -> Columns:
    partitions = [scan.id.partition for scan in scans]
    return {"tile": [str(p.tile) for p in partitions], "partition": _whole(p.index for p in partitions)}


def _centre(scan: Scan, mosaic: Mosaic) -> tuple[float, float]:
    x, y = scan.box.left + scan.box.width / 2, scan.box.top + scan.box.height / 2
    return mosaic.stage_mm(scan.id.partition.tile, x, y)


def _whole(values: Iterable[int]) -> NDArray[np.int64]:
    return np.array(list(values), dtype=np.int64)
