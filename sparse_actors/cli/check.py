"""What a run will cost, before it is started: time, dose, disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sparse_actors import plugins
from sparse_actors.config import Config
from sparse_actors.contracts.microscope import Microscope, ScanLimits
from sparse_actors.geometry import PixelBox, partition_boxes
from sparse_actors.imaging import ScanTiming, dose_e_per_nm2
from sparse_actors.planning.learnt_times import LearntTimes

from .display import duration

SHARES = (0.01, 0.05, 0.20, 0.50)
"""Parts of the area that are rescanned, for which times are predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveCost:
    """The survey when a share of the area is rescanned."""

    share: float
    regions_per_tile: float
    scan_s: float
    """All tiles, without moving the stage."""
    saved_share: float
    """Of the conventional scan; below 0 where adaptivity costs more than it saves."""
    disk_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a survey costs.

    Every scan takes eq. 1 of the SPARSE paper. The rescanned share is assumed to lie in regions
    that do not overlap, evenly over the tiles; the stage's moves are left out, as they are the
    same for every way to scan.
    """

    tiles: int
    tile_rows: int
    tile_columns: int
    timing: ScanTiming
    timing_source: str
    """Either "learnt" by earlier runs, "configured", or what the driver says of its own figures."""
    timing_scans: int
    """How many scans it was learnt from; 0 where it was not."""
    conventional_s: float
    fast_s: float
    audit_s: float
    """The windows of the audit, in all tiles; part of the adaptive scan."""
    adaptive: tuple[AdaptiveCost, ...]
    pixel_nm: tuple[float, float]
    """(fast, analysis) pixel size."""
    dose_e_per_nm2: tuple[float, float, float] | None
    """Fast scan, rescan, and both; None where the beam current is not known."""
    bytes_per_pixel: int
    largest_disk_bytes: int
    """Everything rescanned."""
    free_disk_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the prediction by name."""
        return asdict(self)


def declared_limits(config: Config) -> ScanLimits:
    """Return what the driver says of its scan generator, without connecting it.

    Making a driver object touches no instrument, that is what `connect` is for. A driver that
    cannot tell before it is connected declares nothing.
    """
    microscope: Microscope = plugins.build("microscope", config.microscope.driver, config.microscope.options)
    try:
        return microscope.limits
    except Exception:
        # Not connected, so any error of a foreign driver means the same: it cannot tell yet.
        return ScanLimits()


def predict(
    config: Config, limits: ScanLimits, free_disk_bytes: int, known_times: Mapping[str, Any] | None = None
) -> Prediction:
    """Predict the cost of the survey; pure.

    What earlier runs measured counts before what is configured, and that before what is declared.
    """
    panorama = config.panorama.geometry(config.analysis.size_px)
    tiles = panorama.rows * panorama.columns
    timing, scans = config.timing or limits.timing, 0
    source: str = "configured" if config.timing else limits.timing_source
    if known_times is not None:
        learnt = LearntTimes(config.timing, known_times).scans
        timing, source, scans = learnt.timing, "learnt", learnt.count
    fast, analysis = config.fast, config.analysis

    def scan_s(box: PixelBox, dwell_ns: float) -> float:
        return timing.duration_s(box.area, box.height, dwell_ns)

    frame = PixelBox(0, 0, *analysis.size_px)
    region = PixelBox(0, 0, *config.regions.size_px)
    bytes_per_pixel = 2 if limits.pixel_type == "uint16" else 1
    conventional_s = tiles * scan_s(frame, analysis.dwell_ns)
    boxes = partition_boxes(fast.size_px, config.panorama.partitions)
    fast_s = tiles * sum(scan_s(box, fast.dwell_ns) for box in boxes)
    fast_px = math.prod(fast.size_px)
    audit_s, audit_px = 0.0, 0
    if config.audit is not None:
        plan = config.audit.plan()
        (window,) = plan.exposures([_centred(frame, plan.window_px)], analysis.size_px)
        audit_s = tiles * plan.windows * scan_s(window, analysis.dwell_ns)
        audit_px = plan.windows * window.area
    adaptive = []
    for share in SHARES:
        regions = share * frame.area / region.area
        adaptive_s = fast_s + audit_s + tiles * regions * scan_s(region, analysis.dwell_ns)
        adaptive.append(
            AdaptiveCost(
                share=share,
                regions_per_tile=regions,
                scan_s=adaptive_s,
                saved_share=1 - adaptive_s / conventional_s,
                disk_bytes=round(tiles * bytes_per_pixel * (fast_px + audit_px + share * frame.area)),
            )
        )
    fov_nm = config.panorama.tile_fov_um * 1e3
    pixel_nm = (fov_nm / fast.size_px[0], fov_nm / analysis.size_px[0])
    dose = None
    if current_pa := config.microscope.beam_current_pa:
        fast_dose = dose_e_per_nm2(current_pa, fast.dwell_ns, pixel_nm[0])
        analysis_dose = dose_e_per_nm2(current_pa, analysis.dwell_ns, pixel_nm[1])
        dose = (fast_dose, analysis_dose, fast_dose + analysis_dose)
    return Prediction(
        tiles=tiles,
        tile_rows=panorama.rows,
        tile_columns=panorama.columns,
        timing=timing,
        timing_source=source,
        timing_scans=scans,
        conventional_s=conventional_s,
        fast_s=fast_s,
        audit_s=audit_s,
        adaptive=tuple(adaptive),
        pixel_nm=pixel_nm,
        dose_e_per_nm2=dose,
        bytes_per_pixel=bytes_per_pixel,
        largest_disk_bytes=tiles * bytes_per_pixel * (fast_px + audit_px + frame.area),
        free_disk_bytes=free_disk_bytes,
    )


def _centred(frame: PixelBox, size_px: tuple[int, int]) -> PixelBox:
    width, height = size_px
    return PixelBox((frame.width - width) // 2, (frame.height - height) // 2, width, height)


def free_disk_bytes(folder: Path) -> int:
    """Return what is free where a folder is, or will be made."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free


def warnings(
    config: Config, prediction: Prediction, has_survey: bool = True, maps_bytes: int = 0
) -> list[str]:
    """Return what is allowed but probably not meant."""
    found = []
    free_gb = prediction.free_disk_bytes / 1e9
    needed_bytes = maps_bytes + (prediction.largest_disk_bytes if has_survey else 0)
    needed_gb = needed_bytes / 1e9 + config.limits.min_free_disk_gb
    if needed_gb > free_gb:
        found.append(f"disk: up to {needed_gb:.1f} GB may be needed, {free_gb:.1f} GB are free")
    if not has_survey:
        return found
    if prediction.timing_source == "unknown":
        found.append("time: the overheads of the scan generator are not known; give [scan.timing]")
    if prediction.adaptive[0].saved_share < 0:
        found.append(
            f"time: adaptive scanning costs more than it saves even at {SHARES[0]:.0%} rescanned; "
            "a faster fast scan or larger regions help"
        )
    return found


def table(prediction: Prediction) -> Table:
    """Return the prediction for people."""
    rows = Table(
        title=f"{prediction.tiles} tiles ({prediction.tile_rows} rows x {prediction.tile_columns} columns)",
        caption=f"scan time by eq. 1 ({_source(prediction)}), regions not overlapping, stage moves left out",
    )
    for name in ("", "scan time", "saved", "regions per tile", "disk"):
        rows.add_column(name, justify="right" if name else "left")
    rows.add_row("conventional", duration(prediction.conventional_s), "", "", "")
    rows.add_row("fast scan alone", duration(prediction.fast_s), "", "", "")
    if prediction.audit_s:
        rows.add_row("windows of the audit", duration(prediction.audit_s), "", "", "")
    for cost in prediction.adaptive:
        rows.add_row(
            f"adaptive, {cost.share:.0%} rescanned",
            duration(cost.scan_s),
            f"{cost.saved_share:.0%}",
            f"{cost.regions_per_tile:.1f}",
            f"{cost.disk_bytes / 1e6:.0f} MB",
        )
    return rows


def _source(prediction: Prediction) -> str:
    """Say in words where the timing comes from."""
    match prediction.timing_source:
        case "learnt":
            return f"learnt from {prediction.timing_scans} scans of this instrument"
        case "configured":
            return "scan.timing as configured"
        case "unknown":
            return "overheads not known"
        case source:
            return f"overheads as {source} by the driver"
