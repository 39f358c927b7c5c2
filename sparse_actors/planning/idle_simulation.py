"""How long the microscope waits for detections: a simulation of tiles that decides as the daemon does.

The unit of time is the fast scan of a whole tile, F. Rescanning a whole tile takes 16 F, as in the
SPARSE paper, so that with a scanning efficiency E the rescans of a tile take 16 (1 - E) F (eq. 6).

Seams between partitions are detected too, each as soon as the fast scans that its band lies in are made.
Bands that have to be widened are left out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heapify, heapreplace

import numpy as np

from sparse_actors.geometry import partition_boxes
from sparse_actors.planning.scan_order import Policy, next_step
from sparse_actors.planning.seams import seams

RESCAN_OF_A_TILE = 16.0
FAST_PX = 768
"""Rows and columns of the fast image of a tile."""
REGIONS_OF_A_TILE = 944
"""Regions of 100 x 100 px that fill a tile of 3072 x 3072 px."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What the beam and the workers have to do for one tile, in any unit of time.

    The parts of a tile are its partitions and after them, if they are detected, its seams.
    """

    fast: tuple[float, ...]
    """Fast scan of each partition."""
    detection: tuple[float, ...]
    """Detection of each part, on one worker."""
    rescans: tuple[tuple[float, ...], ...]
    """Each region of each part."""
    seams_after: tuple[int, ...] = ()
    """How many fast scans have to be made before each seam can be detected."""

    @property
    def scanning(self) -> float:
        """Time the beam has to scan, F + R."""
        return sum(self.fast) + sum(map(sum, self.rescans))

    def detected_after(self, scans: int) -> list[int]:
        """Return the parts that can be detected after so many fast scans and not before."""
        first_seam = len(self.fast)
        return [scans - 1, *(first_seam + i for i, after in enumerate(self.seams_after) if after == scans)]


def seam_bands(size_px: tuple[int, int], partitions: int, halo_px: int) -> list[tuple[int, float]]:
    """Return how many fast scans each seam needs, and which share of the tile its band is.

    Parameters
    ----------
    size_px, partitions
        (width, height) of the fast image of a tile, and into how many it is cut.
    halo_px
        Half the width of a band; 0 if seams are not detected.
    """
    if not halo_px:
        return []
    boxes = partition_boxes(size_px, partitions)
    bands = [seam.band(halo_px) for seam in seams(size_px, partitions)]
    return [
        (
            1 + max(number for number, box in enumerate(boxes) if box.intersection(band)),
            band.area / (size_px[0] * size_px[1]),
        )
        for band in bands
    ]


def random_tile(
    random: np.random.Generator,
    *,
    partitions: int,
    efficiency: float,
    rho: float,
    spread: float = 0.1,
    halo_px: int = 0,
) -> Tile:
    """Draw a tile whose regions lie at random.

    Parameters
    ----------
    random
        Source of the draw.
    partitions, efficiency
        Number of partitions, and the share of the tile that needs no rescan.
    rho
        Mean detection time over the fast-scan time of a partition.
    spread
        Standard deviation of detection times over their mean.
    halo_px
        Half the width of the bands around seams, of FAST_PX; 0: no seams. What is found there is taken to be
        known from the partitions, as nearly all of it is, so that it brings no further rescans.
    """
    fast = 1 / partitions
    counts = random.poisson((1 - efficiency) * REGIONS_OF_A_TILE / partitions, partitions)
    rescan = RESCAN_OF_A_TILE / REGIONS_OF_A_TILE
    detection = random.gamma(spread**-2, rho * fast * spread**2, partitions)
    bands = seam_bands((FAST_PX, FAST_PX), partitions, halo_px)
    in_bands = [rho * share * random.gamma(spread**-2, spread**2) for _, share in bands]
    return Tile(
        fast=(fast,) * partitions,
        detection=(*detection.tolist(), *in_bands),
        rescans=(*((rescan,) * n for n in counts.tolist()), *(() for _ in bands)),
        seams_after=tuple(after for after, _ in bands),
    )


def makespan(tile: Tile, workers: int, policy: Policy, longest: float) -> tuple[float, float]:
    """Simulate one tile.

    Parameters
    ----------
    tile, workers, policy
        The work, the number of detector workers, and how `next_step` decides.
    longest
        The longest time from a fast scan to its regions in earlier tiles.

    Returns
    -------
    tuple
        Time from the first to the last scan, and the longest time so far from a fast scan to its regions.
    """
    now, scanned = 0.0, 0
    free = [0.0] * workers
    heapify(free)
    pending: dict[int, tuple[float, float]] = {}  # when the regions of a part come, and when it was scanned
    ready: deque[float] = deque()
    while True:
        for part, (comes, since) in sorted(pending.items(), key=lambda item: item[1]):
            if comes <= now:
                del pending[part]
                ready.extend(tile.rescans[part])
                longest = max(longest, comes - since)
        step = next_step(len(tile.fast) - scanned, ready, len(pending), longest, policy)
        if step == "fast":
            now += tile.fast[scanned]
            scanned += 1
            # The daemon counts the time of a seam from the last fast scan before it comes.
            for part, (comes, _) in pending.items():
                if part >= len(tile.fast) and comes > now:
                    pending[part] = comes, now
            for part in tile.detected_after(scanned):
                comes = max(now, free[0]) + tile.detection[part]
                heapreplace(free, comes)
                pending[part] = comes, now
        elif step == "rescan":
            now += ready.popleft()
        elif step == "wait":
            now = min(comes for comes, _ in pending.values())
        else:
            return now, longest


def least_makespan(tile: Tile, workers: int) -> float:
    """Return the time that no order of scans can beat.

    Detections come no earlier than if all partitions were scanned first. The beam needs
    F + R; and from any time on, what is detected then or later is still to be rescanned. For the
    last one detected this is C_det,last + r_last.
    """
    now, free, comes = 0.0, [0.0] * workers, dict[int, float]()
    for scanned, fast in enumerate(tile.fast, 1):
        now += fast
        for part in tile.detected_after(scanned):
            comes[part] = max(now, free[0]) + tile.detection[part]
            heapreplace(free, comes[part])
    least, later = tile.scanning, 0.0
    for part in sorted(comes, key=comes.__getitem__, reverse=True):
        later += sum(tile.rescans[part])
        least = max(least, comes[part] + later)
    return least


def idle_share(tiles: list[Tile], workers: int, policy: Policy) -> float:
    """Return the share of a survey, without stage moves, in which the beam does not scan."""
    total, longest = 0.0, 0.0
    for tile in tiles:
        time, longest = makespan(tile, workers, policy, longest)
        total += time
    return 1 - sum(tile.scanning for tile in tiles) / total


def least_idle_share(tiles: list[Tile], workers: int) -> float:
    """Return the idle share that no order of scans can beat."""
    return 1 - sum(tile.scanning for tile in tiles) / sum(least_makespan(tile, workers) for tile in tiles)
