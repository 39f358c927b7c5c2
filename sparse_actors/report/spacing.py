"""How far sites lie from their nearest neighbours, beside points scattered at random.

Complete spatial randomness is simulated: as many points, uniform over the same scanned area, with the same
edges and gaps. So edges need no correction: a site at an edge has neighbours on one side only, and so have
the simulated points. With 39 simulations the least and the largest value hold 95 %, as 2 in 40 are outside
by chance (Besag and Diggle 1977, doi:10.2307/2346974). The ratio of the mean distances is that of Clark and
Evans (1954, doi:10.2307/1931034), with the simulated mean in place of the one they give for no edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from .sites import Sites

SIMULATIONS = 39
FEWEST_SITES = 10
STEPS = 120
"""Distances at which the shares of sites are compared."""
Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Spacing:
    """Nearest neighbours of the sites and of points at random; distances in um."""

    mean_um: float
    random_um: tuple[float, float, float]
    """Least, mean and largest of the simulated means."""
    distance_um: Curve
    """(STEPS,)"""
    share: Curve
    """(STEPS,): of the sites whose nearest neighbour is within that distance."""
    random_low: Curve
    random_high: Curve
    """The least and the largest share of the simulations."""

    @property
    def ratio(self) -> float:
        """Mean distance relative to that of points at random: below 1 in clusters, above 1 spread evenly."""
        return self.mean_um / self.random_um[1]

    @property
    def verdict(self) -> str:
        """What that says."""
        low, _, high = self.random_um
        if self.mean_um < low:
            return "nearer to each other than points at random: they lie in clusters"
        if self.mean_um > high:
            return "further from each other than points at random: they keep a distance"
        return "as far from each other as points at random"


def spacing(sites: Sites, seed: int) -> Spacing | None:
    """Compare the sites with points at random, drawn with a seed; None: there are too few."""
    count = len(sites)
    if count < FEWEST_SITES:
        return None
    found = nearest_um(sites.picture_px, sites.pixel_um)
    random = np.random.default_rng(seed)
    simulated = [nearest_um(_scattered(sites, count, random), sites.pixel_um) for _ in range(SIMULATIONS)]
    distance_um = np.linspace(0, max(found.max(), *(one.max() for one in simulated)), STEPS)
    shares = np.array([_shares(one, distance_um) for one in simulated])
    means = np.array([one.mean() for one in simulated])
    return Spacing(
        mean_um=float(found.mean()),
        random_um=(float(means.min()), float(means.mean()), float(means.max())),
        distance_um=distance_um,
        share=_shares(found, distance_um),
        random_low=shares.min(axis=0),
        random_high=shares.max(axis=0),
    )


def nearest_um(points_px: NDArray[np.float64], pixel_um: tuple[float, float]) -> Curve:
    """Return the distance of each of (n, 2) points from its nearest neighbour, (n,)."""
    points = points_px * np.array(pixel_um)
    return np.asarray(KDTree(points).query(points, k=2)[0][:, 1])


def _scattered(sites: Sites, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return points that are uniform over the area in which was looked."""
    boxes = sites.searched_px
    area = boxes[:, 2] * boxes[:, 3]
    chosen = boxes[random.choice(len(boxes), count, p=area / area.sum())]
    return chosen[:, :2] + random.random((count, 2)) * chosen[:, 2:]


def _shares(nearest: Curve, distance_um: Curve) -> Curve:
    return np.searchsorted(np.sort(nearest), distance_um, side="right") / len(nearest)
