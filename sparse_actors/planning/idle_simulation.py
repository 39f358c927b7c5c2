"""How long the microscope waits for detections: a simulation of tiles that decides as the daemon does.

The unit of time is the fast scan of a whole tile, F. Rescanning a whole tile takes 16 F, as in the
SPARSE paper, so that with a scanning efficiency E the rescans of a tile take 16 (1 - E) F (eq. 6).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heapify, heapreplace

import numpy as np

from sparse_actors.planning.scan_order import Policy, next_step

RESCAN_OF_A_TILE = 16.0
REGIONS_OF_A_TILE = 944
"""Regions of 100 x 100 px that fill a tile of 3072 x 3072 px."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What the beam and the workers have to do for one tile, in any unit of time."""

    fast: tuple[float, ...]
    """Fast scan of each partition."""
    detection: tuple[float, ...]
    """Detection of each partition, on one worker."""
    rescans: tuple[tuple[float, ...], ...]
    """Each region of each partition."""

    @property
    def scanning(self) -> float:
        """Time the beam has to scan, F + R."""
        return sum(self.fast) + sum(map(sum, self.rescans))


def random_tile(
    random: np.random.Generator, *, partitions: int, efficiency: float, rho: float, spread: float = 0.1
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
    """
    fast = 1 / partitions
    counts = random.poisson((1 - efficiency) * REGIONS_OF_A_TILE / partitions, partitions)
    rescan = RESCAN_OF_A_TILE / REGIONS_OF_A_TILE
    detection = random.gamma(spread**-2, rho * fast * spread**2, partitions)
    return Tile(
        fast=(fast,) * partitions,
        detection=tuple(detection.tolist()),
        rescans=tuple((rescan,) * n for n in counts.tolist()),
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
    pending: dict[int, tuple[float, float]] = {}  # when its regions come, and when it was scanned
    ready: deque[float] = deque()
    while True:
        for partition, (comes, since) in sorted(pending.items(), key=lambda item: item[1]):
            if comes <= now:
                del pending[partition]
                ready.extend(tile.rescans[partition])
                longest = max(longest, comes - since)
        step = next_step(len(tile.fast) - scanned, ready, len(pending), longest, policy)
        if step == "fast":
            now += tile.fast[scanned]
            comes = max(now, free[0]) + tile.detection[scanned]
            heapreplace(free, comes)
            pending[scanned] = comes, now
            scanned += 1
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
    now, free, comes = 0.0, [0.0] * workers, []
    for fast, detection in zip(tile.fast, tile.detection, strict=True):
        now += fast
        comes.append(max(now, free[0]) + detection)
        heapreplace(free, comes[-1])
    least, later = tile.scanning, 0.0
    for partition in sorted(range(len(comes)), key=comes.__getitem__, reverse=True):
        later += sum(tile.rescans[partition])
        least = max(least, comes[partition] + later)
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
