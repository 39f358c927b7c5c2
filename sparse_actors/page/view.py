"""A run as the page shows it: a fold of its journal, and what each browser has not seen of it."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_actors.cli.progress import Progress
from sparse_actors.config import Config
from sparse_actors.geometry import Panorama, PixelBox, TileIndex, partition_boxes
from sparse_actors.messages import (
    DetectionFailed,
    ExposureStarted,
    FieldId,
    FieldMapped,
    ImagesLost,
    MapField,
    Message,
    PhaseMapUpdated,
    PoisFound,
    Recorded,
    RegionsPlanned,
    RegionsProposed,
    RunContinued,
    RunFinished,
    RunPaused,
    RunStarted,
    ScanMissed,
    SpectraClassified,
    SpectraRecorded,
    SpotsStarted,
    TileFinished,
    TileReached,
    TileSkipped,
    WorkerJoined,
    WorkerLost,
)

from .maps import MapsView
from .sentences import sentence
from .tiles import TileView

EVENTS = 300
"""So many sentences are kept."""


@dataclass(slots=True)
class Unseen:
    """What one browser has not been sent yet; at most the whole run, however slow it is."""

    tiles: set[TileIndex] = field(default_factory=set)
    findings: set[TileIndex] = field(default_factory=set)
    """Of these also the regions and points of interest, not only what became of them."""
    pictures: set[TileIndex] = field(default_factory=set)
    fields: set[FieldId] = field(default_factory=set)
    """Maps of which the small picture changed."""
    since: int = 0
    """Number of the last sentence sent."""
    map_version: int = -1
    run: str = ""
    """Which run it was sent the layout of."""


@dataclass(slots=True)
class RunView:
    """One run; every use holds `lock`."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    folder: Path | None = None
    name: str = ""
    state: str = "none"
    """none, running, paused, completed, stopped, failed or broken off"""
    reason: str = ""
    begun_s: float = 0.0
    config: Config | None = None
    panorama: Panorama | None = None
    progress: Progress | None = None
    """None as well where the driver or the detector of the run is not known here."""
    tiles: dict[TileIndex, TileView] = field(default_factory=dict)
    maps: MapsView = field(default_factory=MapsView)
    workers: dict[str, str] = field(default_factory=dict)
    """Name and computer."""
    beam: tuple[TileIndex, PixelBox, bool] | None = None
    """Where the beam is: analysis pixels of the tile; whether it takes spectra."""
    events: deque[tuple[int, float, str, str]] = field(default_factory=lambda: deque(maxlen=EVENTS))
    """(number, time, level, text)"""
    readers: list[Unseen] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _now_s: float = 0.0
    """The latest time that any fact told; many tell none."""
    _under_beam: TileIndex | None = None
    _mapping: TileIndex | None = None

    def begin(self, folder: Path | None, config: Config | None, progress: Progress | None) -> None:
        """Show another run, or none."""
        self.folder, self.config, self.progress = folder, config, progress
        self.name = config.run.name if config else ""
        self.panorama = config.panorama.geometry(config.analysis.size_px) if config else None
        self.state, self.reason, self.begun_s = "none" if config is None else "running", "", 0.0
        self.tiles, self.maps, self.workers, self.beam = {}, MapsView(), {}, None
        self._now_s = 0.0
        self._under_beam = self._mapping = None
        self.events.clear()
        for reader in self.readers:
            self._show_all(reader)

    @contextmanager
    def reading(self) -> Iterator[Unseen]:
        """Keep account of what one browser has not seen."""
        reader = Unseen()
        with self.lock:
            self._show_all(reader)
            self.readers.append(reader)
        try:
            yield reader
        finally:
            with self.lock:
                self.readers.remove(reader)

    def _show_all(self, reader: Unseen) -> None:
        reader.run, reader.since, reader.map_version = "", 0, -1
        reader.fields.clear()
        reader.fields.update(self.maps.fields)
        for waiting in (reader.tiles, reader.findings, reader.pictures):
            waiting.clear()
            waiting.update(self.tiles)

    def observe(self, message: Message, number: int) -> None:
        """Take in a fact, with its number in the journal."""
        if self.progress is not None:
            self.progress.observe(message, number)
        self._now_s = max(self._now_s, _time_of(message))
        if (said := sentence(message)) is not None:
            self.events.append((next(self._numbers), self._now_s, *said))
        match message:
            case RunStarted(started_s=started_s):
                self.begun_s = self.begun_s or started_s
                self.state, self.reason = "running", ""
                self.workers = {}
                for tile, one in self.tiles.items():
                    if one.missed:
                        self._tile(tile).begin_session()
            case RunFinished(outcome=outcome, reason=reason):
                self.state, self.reason, self.beam = outcome, reason, None
                self._leave()
            case RunPaused(reason=reason):
                self.state, self.reason = "paused", reason
            case RunContinued():
                self.state, self.reason = "running", ""
            case WorkerJoined(worker=worker, host=host):
                self.workers = {**self.workers, worker: host}
                self.maps.take(message, None)
            case WorkerLost(worker=worker):
                self.workers = {name: host for name, host in self.workers.items() if name != worker}
            case _:
                self._observe_tile(message)

    def _observe_tile(self, message: Message) -> None:
        match message:
            case TileReached(tile=tile, finished_s=finished_s):
                self._leave()
                self._under_beam = tile
                view = self._tile(tile)
                view.is_under_beam, view.reached_s = True, view.reached_s or finished_s
            case ExposureStarted(scan_id=scan_id):
                tile = scan_id.partition.tile
                self.beam = self._beam_of(scan_id)
                self._tile(tile)
            case PoisFound(partition=part):
                self._tile(part.tile, findings=True).take_pois(message)
            case RegionsPlanned(partition=part):
                self._tile(part.tile, findings=True).take_plan(message)
            case Recorded(scan_id=scan_id):
                self._tile(scan_id.partition.tile, pictures=scan_id.is_fast).take_recorded(message)
            case ScanMissed(scan_id=scan_id):
                self._tile(scan_id.partition.tile).miss(scan_id)
            case DetectionFailed(partition=part):
                self._tile(part.tile).undetected.add(part)
            case ImagesLost(scan_ids=scan_ids):
                for tile in {scan_id.partition.tile for scan_id in scan_ids}:
                    self._tile(tile, pictures=True).lose(i for i in scan_ids if i.partition.tile == tile)
            case RegionsProposed(partition=part):
                self._tile(part.tile).is_finished = False
            case TileFinished(tile=tile):
                self._tile(tile).is_finished = True
            case TileSkipped(tile=tile, reason=reason):
                self._tile(tile).skipped = reason
            case _:
                self.observe_map(message)

    def observe_map(self, message: Message) -> None:
        """Take in what concerns maps: facts, and what taps show."""
        match message:
            case SpotsStarted(field=field_id, points_px=points_px):
                self.beam = self._spot(field_id.tile, points_px[0].tolist())
                self._maps_in(field_id.tile)
                return
            case SpectraRecorded(field=field_id) | SpectraClassified(field=field_id):
                whole = self._map_field(message)
                self._maps_in(field_id.tile)
            case PhaseMapUpdated():
                whole = self._map_field(message)
            case FieldMapped(field=whole):
                self._maps_in(None)
                if self.progress is not None and self.progress.tiles == 0:
                    self._tile(whole.id.tile).is_finished = message.is_complete
            case _:
                whole = None
        changed = self.maps.take(message, whole)
        if changed is not None:
            for reader in self.readers:
                reader.fields.add(changed.field.id)

    def _map_field(self, message: SpectraRecorded | SpectraClassified | PhaseMapUpdated) -> MapField | None:
        place = self.maps.place_of(message.field)
        if place is None and self.progress is not None and self.progress.maps is not None:
            place = self.progress.maps.field_of(message.field)
        return place

    def _maps_in(self, tile: TileIndex | None) -> None:
        if tile != self._mapping:
            for other, is_mapping in ((self._mapping, False), (tile, True)):
                if other is not None:
                    self._tile(other).is_mapping = is_mapping
            self._mapping = tile

    def _leave(self) -> None:
        self._maps_in(None)
        if self._under_beam is not None:
            self._tile(self._under_beam).is_under_beam = False
            self._under_beam = None

    def _tile(self, tile: TileIndex, *, findings: bool = False, pictures: bool = False) -> TileView:
        """Return a tile that changes, and note for every browser that it does."""
        view = self.tiles.get(tile)
        if view is None:
            partitions = self.config.panorama.partitions if self.config else 1
            parts = partitions + (self.progress.seams if self.progress else 0)
            view = self.tiles[tile] = TileView(tile, partitions, parts)
        for reader in self.readers:
            reader.tiles.add(tile)
            if findings:
                reader.findings.add(tile)
            if pictures:
                reader.pictures.add(tile)
        return view

    def _beam_of(self, scan_id: Any) -> tuple[TileIndex, PixelBox, bool] | None:
        tile = scan_id.partition.tile
        if scan_id.is_fast and self.config is not None:
            boxes = partition_boxes(self.config.fast.size_px, self.config.panorama.partitions)
            return tile, boxes[scan_id.partition.index].scaled(self.config.scale), False
        scan = self._tile(tile).regions.get(scan_id)
        return None if scan is None else (tile, scan.box, False)

    def _spot(self, tile: TileIndex, point: list[int]) -> tuple[TileIndex, PixelBox, bool] | None:
        if self.config is None or self.config.eds is None:
            return None
        (width, height), (columns, rows) = self.config.analysis.size_px, self.config.eds.grid_px
        x, y = point
        box = PixelBox(
            x * width // columns, y * height // rows, max(1, width // columns), max(1, height // rows)
        )
        return tile, box, True


def _time_of(message: Message) -> float:
    for name in ("finished_s", "started_s"):
        if (found := getattr(message, name, 0.0)) > 0:
            return float(found)
    return 0.0
