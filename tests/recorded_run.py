"""A small recorded run, written as the recorder writes it: fast scans, regions, a mask, a missed scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois
from sparse_actors.contracts.microscope import Capabilities, MicroscopeState, ScanLimits
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex, partition_boxes
from sparse_actors.imaging import Imaging
from sparse_actors.messages import (
    ExposureStarted,
    MicroscopePrepared,
    PoisFound,
    Recorded,
    RegionsPlanned,
    RunFinished,
    RunStarted,
    Scan,
    ScanId,
    ScanMissed,
    StorageReserved,
    TileFinished,
    TileReached,
)
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.store import RunStore

FAST = Imaging((32, 24), 300.0)
ANALYSIS = Imaging((64, 48), 3200.0)
TILES = [TileIndex(0, 0), TileIndex(0, 1), TileIndex(1, 0), TileIndex(1, 1)]
CONFIG = """
[microscope]
driver = "simulated"
[panorama]
corners_mm = [[1.0, 2.0], [1.12, 2.0], [1.0, 2.09]]
tile_fov_um = 64.0
overlap_pct = 10.0
partitions = 2
[scan.fast]
size_px = [32, 24]
dwell_ns = 300.0
[scan.analysis]
size_px = [64, 48]
dwell_ns = 3200.0
[regions]
size_px = [16, 12]
"""
"""120 x 90 um in tiles of 64 x 48 um: 2 x 2 tiles with 1 um pixels on the analysis grid."""


def started(session: int = 0) -> RunStarted:
    return RunStarted(
        name="steel", session=session, started_s=1.7e9 + session, seed=1, version="0.1.0", config_toml=CONFIG
    )


def region(partition: PartitionId, number: int, *boxes: PixelBox) -> Scan:
    """Make a region of one box, or a mask of several."""
    outer = boxes[0]
    for box in boxes:
        outer = outer.union(box)
    return Scan(ScanId(partition, number), outer, ANALYSIS, boxes if len(boxes) > 1 else ())


@dataclass
class RecordedRun:
    """Writes a run step by step; `images` is what was acknowledged."""

    path: Path
    pixel_type: str = "uint8"
    images: dict[ScanId, NDArray[Any]] = field(default_factory=dict)
    now_s: float = 1.7e9

    def __post_init__(self) -> None:
        folder = RunFolder(self.path)
        folder.create()
        self.store = RunStore(self.path)
        self.journal = Journal.create(folder.journal)
        self.random = np.random.default_rng(7)
        self.journal.append(started())
        capabilities = Capabilities(
            **dict.fromkeys([f for f in Capabilities.__dataclass_fields__ if f != "limits"], True),
            limits=ScanLimits(),
        )
        state = MicroscopeState(x_mm=1.0, y_mm=2.0, working_distance_mm=10.0)
        self.journal.append(MicroscopePrepared(name="Test SEM", capabilities=capabilities, initial=state))

    def reserve(self, slab: str, *scans: Scan) -> None:
        self.store.reserve(slab, scans, self.pixel_type)
        self.journal.append(StorageReserved(slab=slab, scans=scans, pixel_type=self.pixel_type))
        self.journal.sync()

    def record(self, slab: str, scan: Scan) -> None:
        top = np.iinfo(self.pixel_type).max
        image = self.random.integers(1, top, scan.shape, dtype=self.pixel_type, endpoint=True)
        self.journal.append(ExposureStarted(scan_id=scan.id, attempt=1, started_s=self.now_s))
        crc32 = self.store.write(slab, scan, image)
        self.journal.append(
            Recorded(
                scan_id=scan.id,
                attempt=1,
                slab=slab,
                crc32=crc32,
                dwell_ns=scan.imaging.dwell_ns,
                started_s=self.now_s,
                finished_s=self.now_s + 0.5,
            )
        )
        self.journal.sync()
        self.images[scan.id] = image
        self.now_s += 1

    def fast(self, tile: TileIndex) -> None:
        state = MicroscopeState(x_mm=1.0 + tile.column, y_mm=2.0 + tile.row, working_distance_mm=10.0)
        self.journal.append(
            TileReached(
                tile=tile, attempt=1, state=state, started_s=self.now_s - 0.2, finished_s=self.now_s - 0.1
            )
        )
        boxes = partition_boxes(FAST.size_px, 2)
        scans = [Scan(ScanId(PartitionId(tile, i)), box, FAST) for i, box in enumerate(boxes)]
        self.reserve(f"{tile}-fast", *scans)
        for scan in scans:
            self.record(f"{tile}-fast", scan)

    def plan(self, *scans: Scan) -> str:
        """Journal points and the plan of a partition and reserve its slab; returns the slab's name."""
        partition = scans[0].id.partition
        centres = [(s.box.left + s.box.width / 2, s.box.top + s.box.height / 2) for s in scans]
        self.journal.append(PoisFound(partition=partition, pois=Pois.at(centres), worker="w", elapsed_s=0.1))
        self.journal.append(
            RegionsPlanned(partition=partition, scans=scans, strategy="greedy", predicted_s=1.0)
        )
        self.reserve(f"{partition}-regions", *scans)
        return f"{partition}-regions"

    def finish(self, outcome: Any = "completed") -> None:
        self.journal.append(RunFinished(outcome=outcome, reason="all tiles are finished"))
        self.journal.close()


def whole_run(path: Path, pixel_type: str = "uint8", outcome: str = "completed") -> RecordedRun:
    """Write four tiles: overlapping regions in the first, then a mask, then a scan that is missed."""
    run = RecordedRun(path, pixel_type)
    for tile in TILES:
        run.fast(tile)
    first, second, third = (PartitionId(tile, 0) for tile in TILES[:3])
    # The second region overlaps the first, the third reaches into the next tile's overlap.
    regions = [
        region(first, 0, PixelBox(4, 4, 16, 12)),
        region(first, 1, PixelBox(10, 8, 16, 12)),
        region(first, 2, PixelBox(50, 0, 14, 14)),
    ]
    slab = run.plan(*regions)
    for scan in regions:
        run.record(slab, scan)
    mask = region(second, 0, PixelBox(2, 3, 8, 8), PixelBox(6, 7, 8, 8))
    run.record(run.plan(mask), mask)
    kept, lost = region(third, 0, PixelBox(0, 0, 8, 8)), region(third, 1, PixelBox(20, 2, 8, 8))
    slab = run.plan(kept, lost)
    run.record(slab, kept)
    run.journal.append(ExposureStarted(scan_id=lost.id, attempt=1, started_s=run.now_s))
    run.journal.append(ScanMissed(scan_id=lost.id, reason="the scan failed three times"))
    for tile in TILES:
        run.journal.append(TileFinished(tile=tile))
    run.finish(outcome)
    return run


def write_until_killed(path: Path) -> None:
    """Record fast scans without end, taking up what is there; says each scan once it is safe."""
    folder = RunFolder(path)
    folder.create()
    if folder.journal.exists():
        journal, history, _ = Journal.open(folder.journal)
    else:
        journal, history = Journal.create(folder.journal), []
    journal.append(started(sum(isinstance(message, RunStarted) for message in history)))
    reserved = {message.slab for message in history if isinstance(message, StorageReserved)}
    recorded = {message.scan_id for message in history if isinstance(message, Recorded)}
    store, random = RunStore(path), np.random.default_rng()
    imaging = Imaging((512, 512), 300.0)
    for number in count():
        tile = TileIndex(0, number)
        slab = f"{tile}-fast"
        boxes = partition_boxes(imaging.size_px, 4)
        scans = tuple(Scan(ScanId(PartitionId(tile, i)), box, imaging) for i, box in enumerate(boxes))
        if slab not in reserved:
            store.reserve(slab, scans, "uint16")
            journal.append(StorageReserved(slab=slab, scans=scans, pixel_type="uint16"))
            journal.sync()
        for scan in scans:
            if scan.id not in recorded:
                journal.append(ExposureStarted(scan_id=scan.id, attempt=1, started_s=1.7e9))
                image = random.integers(0, 65536, scan.shape, dtype=np.uint16)
                crc32 = store.write(slab, scan, image)
                fact = Recorded(
                    scan_id=scan.id,
                    attempt=1,
                    slab=slab,
                    crc32=crc32,
                    dwell_ns=300.0,
                    started_s=1.7e9,
                    finished_s=1.7e9 + 0.5,
                )
                journal.append(fact)
                journal.sync()
                print(scan.id, crc32, flush=True)
