"""Everything about a survey that is known before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from sparse_actors.geometry import Panorama, PartitionId, PixelBox, TileIndex, TileOrder, partition_boxes
from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.messages import MicroscopePrepared, MoveToTile, PrepareMicroscope, Scan, ScanId
from sparse_actors.planning.audit import AuditPlan
from sparse_actors.planning.seams import Seam, seams

Merging = Literal["mask", "bounding_box", "greedy"]
ScanOrderPolicy = Literal["paper", "hold_back"]


@dataclass(frozen=True, kw_only=True)
class FieldsPlan:
    """Where maps are made once the survey is finished."""

    where: Literal["field", "regions"]
    """Whole tiles, without a survey; or the regions that the survey found."""
    grid_px: tuple[int, int]
    """(width, height): points of a map that would fill the whole field of view."""
    largest: int | None = None
    """Only so many regions, the largest of the run; None: all."""
    time_s: float | None = None
    """Beam time for all maps together; each field gets a share by its area."""
    dead_share: float = 0.0
    """Of the time at a point, as expected before the first spectra tell."""


@dataclass(frozen=True, kw_only=True)
class SurveyPlan:
    """The survey as configured, in domain terms.

    The corner values are (top left, top right, bottom left), or None where nothing is to be set.
    """

    has_regions: ClassVar[bool] = True
    """Whether something plans regions in what is scanned fast."""

    panorama: Panorama
    fast: Imaging
    analysis: Imaging
    partitions: int
    halo_px: int = 0
    """Fast pixels on both sides of a seam that are detected together; 0: partitions are on their own."""
    reach_px: int = 4
    """How far around a feature the detector looks, fast pixels."""
    region_px: tuple[int, int]
    region_margin_px: int | None = None
    """None: regions are centred on their points. Else they are placed freely, with this margin."""
    merging: Merging
    timing: ScanTiming | None
    """What scans cost as far as configured, until it is learnt; None: what the driver declares."""
    tile_order: TileOrder = "serpentine"
    scan_order: ScanOrderPolicy = "hold_back"
    working_distance_mm: tuple[float, float, float] | None = None
    brightness_pct: tuple[float, float, float] | None = None
    contrast_pct: tuple[float, float, float] | None = None
    detection_deadline_s: float = 60.0
    rescan_when_detection_fails: bool = True
    scan_attempts: int = 3
    seed: int = 0
    """Of the search for better mergings, and of the windows of the audit."""
    in_flight_bytes: int = 512_000_000
    beam_current_pa: float | None = None
    max_dose_e_per_nm2: float | None = None
    """No pixel shall get more over all exposures; needs the beam current. None: no limit."""
    until_tile: int | None = None
    """Only so many tiles, in scan order."""
    fields: FieldsPlan | None = None
    """Where maps are made; None: nowhere."""
    audit: AuditPlan | None = None
    """How many windows that nobody proposed are scanned as well; None: none."""
    inspects: bool = False
    """Whether rescanned regions are looked at again at analysis quality; an audit needs it."""

    @cached_property
    def scale(self) -> int:
        """Analysis pixels per fast pixel."""
        return self.analysis.size_px[0] // self.fast.size_px[0]

    @cached_property
    def all_tiles(self) -> tuple[TileIndex, ...]:
        """The tiles of the run, in order."""
        return tuple(self.panorama.tiles(self.tile_order))[: self.until_tile]

    @cached_property
    def tiles(self) -> tuple[TileIndex, ...]:
        """The tiles to survey, in order; none if whole tiles are mapped."""
        return () if self.fields is not None and self.fields.where == "field" else self.all_tiles

    @cached_property
    def _boxes(self) -> tuple[PixelBox, ...]:
        return partition_boxes(self.fast.size_px, self.partitions)

    @cached_property
    def seams(self) -> tuple[Seam, ...]:
        """The lines along which partitions meet, on the fast grid."""
        return seams(self.fast.size_px, self.partitions) if self.halo_px else ()

    def parts(self, tile: TileIndex) -> tuple[PartitionId, ...]:
        """Return all that is detected in a tile: the partitions, and numbered after them the seams."""
        return tuple(PartitionId(tile, index) for index in range(self.partitions + len(self.seams)))

    def seam(self, part: PartitionId) -> Seam | None:
        """Return the seam of this number, or None for a partition."""
        return None if part.index < self.partitions else self.seams[part.index - self.partitions]

    def detected_after(self, fast: ScanId) -> tuple[PartitionId, ...]:
        """Return what a fast scan lets be detected: its partition, and if it is the last, the seams."""
        return (fast.partition, *self.parts(fast.partition.tile)[self.partitions :])

    def fast_scans(self, tile: TileIndex) -> tuple[Scan, ...]:
        """Return the fast scans of a tile, one for each partition."""
        return tuple(
            Scan(ScanId(PartitionId(tile, index)), box, self.fast) for index, box in enumerate(self._boxes)
        )

    def fast_box(self, part: PartitionId, widened: int = 0) -> PixelBox:
        """Return the box of a partition on the fast grid, or the band of a seam, 4^widened times as wide."""
        seam = self.seam(part)
        return self._boxes[part.index] if seam is None else seam.band(self.halo_px << 2 * widened)

    def analysis_box(self, part: PartitionId) -> PixelBox:
        """Return the box of a partition, or the band of a seam, on the analysis grid."""
        return self.fast_box(part).scaled(self.scale)

    def problems_with(self, microscope: MicroscopePrepared, recorded: str | None) -> list[str]:
        """Say what of the survey a microscope cannot do; `recorded` is the pixel type of earlier scans."""
        can = microscope.capabilities
        if recorded not in (None, can.limits.pixel_type):
            given = can.limits.pixel_type
            return [f"the run holds {recorded} pixels and {microscope.name} now gives {given}"]
        if self.fields is not None and not can.spectra:
            return [f"[eds] is set and {microscope.name} gives no spectra: leave it out"]
        least = can.limits.min_region_px
        if self.audit is not None and self.audit.least_px(self.analysis.size_px) < least:
            return [f"audit.size_px: {microscope.name} scans no less than {least} x {least} pixels"]
        return [
            f"{key} is set and {microscope.name} cannot set it: leave it out"
            for key, value, is_possible in (
                ("panorama.at_corners.working_distance_mm", self.working_distance_mm, can.working_distance),
                ("panorama.at_corners.brightness_pct", self.brightness_pct, can.brightness_contrast),
            )
            if value is not None and not is_possible
        ]

    def prepare(self, attempt: int) -> PrepareMicroscope:
        """Return the order that makes the microscope ready."""
        return PrepareMicroscope(
            attempt=attempt,
            view_field_mm=self.panorama.tile_fov_mm[0],
            scan_rotation_deg=self.panorama.rotation_deg,
        )

    def move(self, tile: TileIndex, attempt: int) -> MoveToTile:
        """Return the order that brings a tile into the field of view, with its optics."""

        def at(values: tuple[float, float, float] | None) -> float | None:
            return None if values is None else self.panorama.plane(values, tile)

        x_mm, y_mm = self.panorama.centre_mm(tile)
        return MoveToTile(
            tile=tile,
            attempt=attempt,
            x_mm=x_mm,
            y_mm=y_mm,
            working_distance_mm=at(self.working_distance_mm),
            brightness_pct=at(self.brightness_pct),
            contrast_pct=at(self.contrast_pct),
        )
