"""`Run`: a recorded run, opened for reading."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from sparse_actors.errors import JournalError
from sparse_actors.geometry import PixelBox, TileIndex, full_frame
from sparse_actors.messages import FieldId, FieldMapped, MapField, Scan
from sparse_actors.recording.mosaic import Mosaic
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.slabs import PIXELS
from sparse_actors.recording.tables import (
    Columns,
    audit_table,
    left_out_table,
    poi_table,
    recorded_scans,
    region_source,
    region_table,
    skipped_table,
    tile_table,
    timing_table,
)

from .phase_map import PhaseMap, PointSpectra, spectrum_labels
from .picture import Picture, Piece, ScanCache
from .tile import Region, Tile

TABLES = ("tiles", "regions", "sites", "timing", "audit", "skipped", "left_out", "maps")


class Run:
    """A run as it stood when it was opened; nothing on disk is changed, no pixel read before it is asked for.

    Also for runs that were stopped, killed or damaged, and for one that goes on: what is safe on disk is
    there, and opening it again shows what has come since.

    Made by `open`::

        run = sparse_actors.Run.open("runs/2026-11-21T092100_dp800")
        run.state, run.problems
        run.panorama_fast[:1000, :1000]
        pandas.DataFrame(run.sites)
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        """What the journal says, for whatever is not below."""
        self._unreadable: dict[str, None] = {}
        self._cache = ScanCache(self._read_or_tell)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open the run in a folder.

        Raises
        ------
        JournalError
            There is no run, or its journal is damaged in its midst.
        """
        record = RunRecord.open(Path(path))
        if not record.sessions:
            raise JournalError(f"{path}: the run was killed before it had begun")
        return cls(record)

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.state}, {len(self.tiles)} tiles, {len(self.regions)} regions>"

    # -- the run ------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.record.folder.path

    @property
    def name(self) -> str:
        """As in the configuration."""
        return self.record.sessions[0].name

    @property
    def started(self) -> datetime:
        """When it began."""
        return datetime.fromtimestamp(self.record.sessions[0].started_s, UTC)

    @property
    def state(self) -> str:
        """Return "completed", "stopped", "failed", "running" or "interrupted" (killed; it can be resumed).

        "running" is told of runs of this computer only.
        """
        if self.record.outcome is not None:
            return self.record.outcome.outcome
        return "running" if _is_alive(self.path) else "interrupted"

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The configuration with every default filled in, as nested tables."""
        return MappingProxyType(self.record.config)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is missing or damaged, as far as the journal and what was read until now tell.

        ``sparse-actors verify RUN`` reads everything.
        """
        record = self.record
        found = [] if record.warning is None or self.state == "running" else [record.warning]
        found += record.contradictions
        found += [f"scan {scan_id} was lost: {why}" for scan_id, why in record.lost.items()]
        found += [f"scan {scan_id} is missing: {missed.reason}" for scan_id, missed in record.missed.items()]
        return (*found, *self._unreadable)

    # -- images -------------------------------------------------------------------------------

    @cached_property
    def panorama_fast(self) -> Picture | None:
        """All fast scans at their nominal places; None where there are none.

        In the overlap of tiles the first tile is on top.
        """
        return self._panorama("fast scans", self._fast, is_fast=True)

    @cached_property
    def panorama_analysis(self) -> Picture | None:
        """All rescans at their nominal places, 0 elsewhere; None where nothing was rescanned."""
        return self._panorama("analysis scans", self._analysis, is_fast=False)

    @cached_property
    def tiles(self) -> Mapping[str, Tile]:
        """The tiles by name, row by row: those that the stage was sent to or that were skipped."""
        record = self.record
        indices = record.tiles.keys() | record.skipped_tiles.keys()
        indices |= {scan.id.partition.tile for scan in record.scans.values()}
        return MappingProxyType({str(index): self._tile(index) for index in sorted(indices)})

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Every region that was planned, in the order of planning."""
        return tuple(self._region(scan) for i, scan in self.record.scans.items() if not i.is_fast)

    def scan_image(self, scan: Scan) -> NDArray[Any] | None:
        """Return the image of a recorded scan, (rows, columns), 0 outside of a mask.

        None where it cannot be read; `problems` says why.
        """
        return self._cache.image(scan)

    # -- tables -------------------------------------------------------------------------------

    @cached_property
    def sites(self) -> Columns:
        """The candidate sites as columns, ``pandas.DataFrame(run.sites)``.

        tile, partition; x_px, y_px on the analysis grid of the tile; score; stage_x_mm, stage_y_mm.
        """
        return self.table("sites")

    def table(self, name: str) -> Columns:
        """Return a table as columns, (n,) each; the unit ends the name of a column.

        Parameters
        ----------
        name
            "tiles", "regions", "sites" (the candidates), "timing" (every exposure), "audit" (what was told
            of the sites missed), "skipped" (tiles), "left_out" (regions left out because of the dose) or
            "maps".

        Raises
        ------
        LookupError
            There is no such table.
        """
        match name:
            case "tiles":
                return tile_table(self.record)
            case "regions":
                return region_table(self.record, self._analysis)
            case "sites":
                return poi_table(self.record, self._analysis)
            case "timing":
                return timing_table(self.record)
            case "audit":
                return audit_table(self.record)
            case "skipped":
                return skipped_table(self.record)
            case "left_out":
                return left_out_table(self.record)
            case "maps":
                return self._map_table()
        raise LookupError(f"table {name!r}: expected one of {', '.join(TABLES)}")

    # -- maps ---------------------------------------------------------------------------------

    @cached_property
    def maps(self) -> Mapping[str, PhaseMap]:
        """The phase maps by the name of their field, those that were not finished too."""
        names = {field_id for field_id, _ in self.record.maps.batches} | self.record.maps.mapped.keys()
        return MappingProxyType({str(name): self._map(name) for name in sorted(names)})

    # -- how it is made -----------------------------------------------------------------------

    @cached_property
    def _analysis(self) -> Mosaic:
        return Mosaic(self.record.panorama, self.record.analysis_px)

    @cached_property
    def _fast(self) -> Mosaic:
        scans = self._scans_of(is_fast=True)
        return Mosaic(self._analysis.panorama, scans[0].imaging.size_px) if scans else self._analysis

    def _scans_of(self, *, is_fast: bool) -> list[Scan]:
        return [scan for scan in recorded_scans(self.record) if scan.id.is_fast is is_fast]

    @cached_property
    def _of_tile(self) -> Mapping[tuple[TileIndex, bool], list[Scan]]:
        """The recorded scans of each tile, fast or not, that are on the grid of its picture."""
        found = defaultdict(list)
        for scan in recorded_scans(self.record):
            mosaic = self._fast if scan.id.is_fast else self._analysis
            if scan.imaging.size_px == mosaic.size_px:
                found[scan.id.partition.tile, scan.id.is_fast].append(scan)
        return found

    @cached_property
    def _regions_of(self) -> Mapping[TileIndex, list[Region]]:
        found = defaultdict(list)
        for region in self.regions:
            found[region.scan.id.partition.tile].append(region)
        return found

    def _panorama(self, name: str, mosaic: Mosaic, *, is_fast: bool) -> Picture | None:
        scans = [scan for (_, fast), of_tile in self._of_tile.items() if fast is is_fast for scan in of_tile]
        return self._picture(name, mosaic, scans, full_frame((mosaic.shape[1], mosaic.shape[0])))

    def _picture(self, name: str, mosaic: Mosaic, scans: list[Scan], box: PixelBox) -> Picture | None:
        """Show a box of a mosaic."""
        if not scans:
            return None
        width_mm, height_mm = mosaic.pixel_mm
        recorded = self.record.recorded[scans[0].id]

        def pieces() -> Iterator[Piece]:
            for scan, parts in mosaic.visible_parts(scans):
                for place, part in parts:
                    yield Piece(place.shifted(-box.left, -box.top), part, scan)

        return Picture(
            name,
            (box.height, box.width),
            PIXELS[self.record.slabs[recorded.slab].pixel_type],
            (width_mm * 1e3, height_mm * 1e3),
            (box.left * width_mm * 1e3, box.top * height_mm * 1e3),
            pieces,
            self._cache,
        )

    def _tile(self, index: TileIndex) -> Tile:
        record = self.record
        pictures = {}
        for is_fast, mosaic in ((True, self._fast), (False, self._analysis)):
            box = mosaic.place(index, full_frame(mosaic.size_px))
            name = f"{'fast scan' if is_fast else 'rescans'} of {index}"
            pictures[is_fast] = self._picture(name, mosaic, self._of_tile.get((index, is_fast), []), box)
        reached = record.tiles.get(index)
        state = reached.state if reached else None
        is_skipped, is_finished = index in record.skipped_tiles, index in record.finished_tiles
        return Tile(
            index=index,
            status="skipped" if is_skipped else "finished" if is_finished else "unfinished",
            stage_mm=self._analysis.panorama.centre_mm(index),
            read_back_mm=(state.x_mm, state.y_mm) if state else None,
            working_distance_mm=state.working_distance_mm if state else None,
            brightness_pct=state.brightness_pct if state else None,
            contrast_pct=state.contrast_pct if state else None,
            fast=pictures[True],
            analysis=pictures[False],
            regions=tuple(self._regions_of.get(index, ())),
            _metadata=record.folder.path / "metadata" / f"{index}.json",
        )

    def _region(self, scan: Scan) -> Region:
        mosaic = Mosaic(self._analysis.panorama, scan.imaging.size_px)
        x_px, y_px = scan.box.left + scan.box.width / 2, scan.box.top + scan.box.height / 2
        return Region(
            name=str(scan.id),
            tile=str(scan.id.partition.tile),
            box=scan.box,
            stage_mm=mosaic.stage_mm(scan.id.partition.tile, x_px, y_px),
            pixel_um=(mosaic.pixel_mm[0] * 1e3, mosaic.pixel_mm[1] * 1e3),
            dwell_ns=scan.imaging.dwell_ns,
            status=self.record.status(scan.id),
            source=region_source(self.record, scan),
            scan=scan,
            _read=self._read,
        )

    def _map(self, name: FieldId) -> PhaseMap:
        maps, eds = self.record.maps, self.config.get("eds", {})
        batches = [recorded for (field, _), recorded in sorted(maps.batches.items()) if field == name]
        spectra = PointSpectra(batches, maps.spectra, self._tell)
        mapped = maps.mapped.get(name)
        if mapped is None:
            labels = [
                maps.classified[name, b.batch].labels
                if (name, b.batch) in maps.classified
                else np.full(len(b.points_px), -1)
                for b in batches
            ]
            mapped = _unfinished(name, tuple(eds["grid_px"]), spectra.points_px, np.concatenate(labels))
        phases = (*maps.phases, *(f"phase {n + 1}" for n in range(len(maps.phases), mapped.phase_map.max())))
        return PhaseMap(
            field=mapped.field,
            pitch_um=self._analysis.panorama.tile_fov_mm[0] * 1e3 / mapped.field.grid_px[0],
            phases=phases,
            labels=mapped.phase_map,
            confidence=mapped.confidence,
            erd=mapped.erd,
            is_complete=mapped.is_complete,
            reason=mapped.reason,
            distortion=mapped.distortion if mapped.distortion >= 0 else float("nan"),
            distortion_range=mapped.distortion_range,
            spectra=spectra,
            spectrum_labels=spectrum_labels(spectra, mapped.points_px, mapped.labels),
            beam_kev=eds.get("beam_kev"),
        )

    def _map_table(self) -> Columns:
        maps = list(self.maps.values())
        numbers = {
            "x_px": [m.box.left for m in maps],
            "y_px": [m.box.top for m in maps],
            "width_px": [m.box.width for m in maps],
            "height_px": [m.box.height for m in maps],
            "pitch_um": [m.pitch_um for m in maps],
            "spectra": [len(m.spectra) for m in maps],
            "live_time_s": [m.spectra.live_time_s.sum() for m in maps],
            "distortion": [m.distortion for m in maps],
            "distortion_low": [m.distortion_range[0] for m in maps],
            "distortion_high": [m.distortion_range[1] for m in maps],
        }
        shares = {f"share of {p}": [m.shares.get(p, 0.0) for m in maps] for p in self.record.maps.phases}
        return {
            "field": [m.name for m in maps],
            "tile": [m.tile for m in maps],
            **{name: np.array(values) for name, values in (numbers | shares).items()},
            "reason": [m.reason for m in maps],
        }

    def _read(self, scan: Scan) -> NDArray[Any]:
        """Return the checked image of a recorded scan, (rows, columns)."""
        pixels = self.record.image(scan.id)
        if not scan.mask_boxes:
            return pixels
        mask = scan.mask()
        image = np.zeros(mask.shape, dtype=pixels.dtype)
        image[mask] = pixels
        return image

    def _read_or_tell(self, scan: Scan) -> NDArray[Any] | None:
        try:
            return self._read(scan)
        except (JournalError, OSError) as error:
            self._tell(f"scan {scan.id} cannot be read: {error}")
            return None

    def _tell(self, problem: str) -> None:
        self._unreadable[problem] = None


def _unfinished(
    name: FieldId, grid_px: tuple[int, int], points_px: NDArray[np.int64], labels: NDArray[np.int64]
) -> FieldMapped:
    """Show a field without a map by its points alone."""
    box = full_frame(grid_px)
    phase_map = np.zeros((box.height, box.width), np.uint8)
    phase_map[points_px[:, 1], points_px[:, 0]] = np.maximum(labels, 0)
    nothing = np.zeros(phase_map.shape, np.float32)
    return FieldMapped(
        field=MapField(name, box, grid_px),
        is_complete=False,
        reason="not finished: only its points are shown",
        points_px=points_px,
        labels=labels,
        distortion=-1.0,
        distortion_range=(0.0, 1.0),
        phase_map=phase_map,
        confidence=nothing,
        erd=nothing,
    )


def _is_alive(folder: Path) -> bool:
    """Whether the process that had the run is there."""
    try:
        pid = json.loads((folder / "control.json").read_text(encoding="utf-8"))["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(pid, int) and psutil.pid_exists(pid)
