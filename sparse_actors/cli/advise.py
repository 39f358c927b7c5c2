"""How many partitions and workers a survey wants, by the simulation of its own decisions."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from sparse_actors import plugins
from sparse_actors.config import Config
from sparse_actors.contracts.detector import Detector, checked_pois
from sparse_actors.geometry import PixelBox, partition_boxes
from sparse_actors.imaging import ScanTiming
from sparse_actors.planning.idle_simulation import Tile, idle_share, seam_bands

PARTITIONS = (1, 2, 4, 9, 16)
RESCANNED = 0.05
"""Share of the area taken to be rescanned; with less there is less to hide a detection behind."""
TILES = 20
CLOSE = 1.001
"""Times this close together are the same: the fewer workers and partitions then win."""
WORTH_CHANGING = 1.02
"""What is configured is left alone if it costs no more than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One choice of partitions and workers."""

    partitions: int
    workers: int
    tile_s: float
    """Time of a tile with its waiting, by simulation."""
    idle_share: float


def measured_detection_s(config: Config, pixel_type: str) -> float:
    """Run the configured detector on noise of the size of one tile, and return the seconds it takes.

    It runs in this process, twice: the first time it may compile.
    """
    detector: Detector = plugins.build("detector", config.detect.detector, config.detect.options)
    width, height = config.fast.size_px
    levels = np.iinfo(pixel_type).max
    noise = np.random.default_rng(config.run.seed).normal(0.5, 0.05, (height, width)) * levels
    image = noise.astype(pixel_type)
    image.flags.writeable = False
    for _ in range(2):
        start = time.perf_counter()
        checked_pois(detector.detect(image, config.scale), image.shape, config.scale)
        elapsed = time.perf_counter() - start
    return elapsed


def advise(
    config: Config, timing: ScanTiming, detection_s: float, cores: int | None = None
) -> tuple[Advice, Advice]:
    """Return what is configured and what is best, for a detection of a whole tile in `detection_s`.

    Parameters
    ----------
    config, timing
        The survey, and what its scans cost (eq. 1).
    detection_s
        Detection of a tile by one worker; a partition, or the band around a seam, takes its share of it.
    cores
        Processor cores of this computer, by default as many as there are; one stays free.
    """
    from sparse_actors.app import survey_plan

    spare = max(1, (cores or os.cpu_count() or 2) - 1)
    halo_px = survey_plan(config).halo_px
    judged = partial(_judged, config, timing, detection_s, halo_px)
    mine = judged(config.panorama.partitions, config.workers.local or spare)
    choices = [
        judged(partitions, workers)
        for workers in range(1, min(spare, 16) + 1)
        for partitions in PARTITIONS
        if partitions <= min(config.fast.size_px)
    ]
    least_s = min(choice.tile_s for choice in (mine, *choices))
    if mine.tile_s <= least_s * WORTH_CHANGING:
        return mine, mine
    return mine, next(choice for choice in choices if choice.tile_s <= least_s * CLOSE)


def _judged(
    config: Config, timing: ScanTiming, detection_s: float, halo_px: int, partitions: int, workers: int
) -> Advice:
    boxes = partition_boxes(config.fast.size_px, partitions)
    fast = tuple(timing.duration_s(box.area, box.height, config.fast.dwell_ns) for box in boxes)
    width, height = config.fast.size_px
    share = [box.area / (width * height) for box in boxes]
    bands = seam_bands(config.fast.size_px, partitions, halo_px)
    region = PixelBox(0, 0, *config.regions.size_px)
    rescan_s = timing.duration_s(region.area, region.height, config.analysis.dwell_ns)
    regions = round(RESCANNED * config.analysis.size_px[0] * config.analysis.size_px[1] / region.area)
    random = np.random.default_rng(config.run.seed)
    tiles = [
        Tile(
            fast=fast,
            detection=tuple(detection_s * part for part in (*share, *(band for _, band in bands))),
            rescans=(
                *((rescan_s,) * n for n in random.multinomial(regions, share).tolist()),
                *(() for _ in bands),  # nearly all that is found there is known already
            ),
            seams_after=tuple(after for after, _ in bands),
        )
        for _ in range(TILES)
    ]
    idle = idle_share(tiles, workers, config.scan.order)
    return Advice(
        partitions=partitions,
        workers=workers,
        tile_s=sum(tile.scanning for tile in tiles) / TILES / (1 - idle),
        idle_share=idle,
    )


def sentences(mine: Advice, best: Advice, detection_s: float) -> list[str]:
    """Say it to people."""
    first = (
        f"detector: {detection_s:.3g} s a tile; with {mine.partitions} partitions and {mine.workers} "
        f"workers the beam waits {mine.idle_share:.1%} of the time (simulated, {RESCANNED:.0%} rescanned)"
    )
    if best == mine:
        return [first]
    gain = 1 - best.tile_s / mine.tile_s
    return [
        first,
        f"advice: panorama.partitions = {best.partitions}, workers.local = {best.workers}: waits "
        f"{best.idle_share:.1%}, the scan takes {gain:.1%} less time",
    ]
