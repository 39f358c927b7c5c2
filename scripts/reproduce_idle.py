"""How long the microscope waits for detections, by simulation: our order of scans beside the paper's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from idle_figure import figure

from sparse_actors.planning.idle_simulation import FAST_PX, idle_share, least_idle_share, random_tile

TILES, QUICK_TILES = 200, 5
RHO = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0)
PARTITIONS = (1, 2, 4, 9, 16)
WORKERS = (1, 2, 4, 8)
EFFICIENCY = (0.48, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
QUICK = ((0.5, 3.0), (1, 4), (1, 4), (0.95, 0.99))
HALO_PX = 32
"""As in the default configuration."""
SHOWN_RHO = (0.1, 0.3, 0.5, 1.0, 2.0, 3.0)
SHOWN_EFFICIENCY = (0.8, 0.95, 0.99)
Row = dict[str, Any]

TEXT = """# How long the microscope waits

A tile is scanned fast in P partitions, W workers detect each partition in turn, and what they find is
rescanned. The microscope waits when there is nothing to scan until a detection ends. How much depends on
rho, the time of a detection over the fast scan of a partition, and on the efficiency E, the share of the
tile that needs no rescan: with it the rescans take 16 (1 - E) times the fast scan of the tile.

![Idle share of the microscope](idle.svg)

`scan.order = "hold_back"` keeps rescans back to fill the time of the last detections; the paper's order
(`"paper"`) makes them as soon as it can. No order can have less idle time than the bound. A simulation of
{tiles} random tiles at each of {points} points (rho {rhos}; P {partitions}; W {workers}; E {efficiencies}),
which decides by the same code as the daemon, finds:

* rho up to 1, W = 1, P = 4, E up to 0.95: {easy:.3f} % idle at most; the paper's order {easy_paper:.1f} %.
* Our order has at most {excess:.3f} percentage points more than the bound, the paper's {paper_excess:.1f}.
* Less than 0.1 % idle: ours at {ours_free} points, the paper's at {paper_free}, the bound at {bound_free}.
* Where seams between partitions are detected too, in bands {halo_px} of {fast_px} px to both sides: ours
  {easy_seams:.3f} % at most for the points of the first line; less than 0.1 % at {seams_free} of all points,
  the bound at {seams_bound}.

Where the bound is high there are too few rescans to fill the time: more partitions or more workers help.
Detection times vary by 10 % (gamma); regions of 100 px lie at random in a field of 3072 px; moves of the
stage are left out, and so are seams but for the last line above. Runs of the daemon itself are in
[idle-daemon.md](idle-daemon.md).

{made_by}

Idle time in percent: paper's order → ours (bound).
"""


def rows(quick: bool, seed: int) -> Iterator[Row]:
    """Simulate every point; every point has its own tiles, all orders the same ones."""
    grid = QUICK if quick else (RHO, PARTITIONS, WORKERS, EFFICIENCY)
    tiles = QUICK_TILES if quick else TILES
    for rho, partitions, workers, efficiency in product(*grid):
        random = np.random.default_rng([seed, int(1000 * rho), int(partitions), int(1000 * efficiency)])
        survey, with_seams = (
            [
                random_tile(
                    random, partitions=int(partitions), efficiency=efficiency, rho=rho, halo_px=halo_px
                )
                for _ in range(tiles)
            ]
            for halo_px in (0, HALO_PX)
        )
        yield {
            "rho": rho,
            "partitions": partitions,
            "workers": workers,
            "efficiency": efficiency,
            "tiles": tiles,
            # Rounding errors of the simulation can make it less than nothing.
            "paper": max(0.0, idle_share(survey, int(workers), "paper")),
            "ours": max(0.0, idle_share(survey, int(workers), "hold_back")),
            "bound": max(0.0, least_idle_share(survey, int(workers))),
            "ours_with_seams": max(0.0, idle_share(with_seams, int(workers), "hold_back")),
            "bound_with_seams": max(0.0, least_idle_share(with_seams, int(workers))),
        }


def line(row: Row) -> str:
    """Return one point for people."""
    point = "rho {rho:<5g} P {partitions:<3g} W {workers:<2g} E {efficiency:<5g}".format(**row)
    return point + " paper {paper:7.3%}   ours {ours:7.3%}   bound {bound:7.3%}".format(**row)


def documents(points: list[Row], made_by: str) -> dict[str, str]:
    """Return the table and the figure."""

    def values(key: str) -> list[Any]:
        return sorted({row[key] for row in points})

    easy = [
        row
        for row in points
        if row["rho"] <= 1 and row["workers"] == 1 and row["partitions"] == 4 and row["efficiency"] <= 0.95
    ]
    text = TEXT.format(
        tiles=points[0]["tiles"],
        points=len(points),
        rhos=f"{values('rho')[0]:g} to {values('rho')[-1]:g}",
        partitions=", ".join(map(str, values("partitions"))),
        workers=", ".join(map(str, values("workers"))),
        efficiencies=f"{values('efficiency')[0]:g} to {values('efficiency')[-1]:g}",
        easy=100 * max(row["ours"] for row in easy),
        easy_seams=100 * max(row["ours_with_seams"] for row in easy),
        seams_free=sum(row["ours_with_seams"] < 0.001 for row in points),
        seams_bound=sum(row["bound_with_seams"] < 0.001 for row in points),
        halo_px=HALO_PX,
        fast_px=FAST_PX,
        easy_paper=100 * max(row["paper"] for row in easy),
        excess=100 * max(row["ours"] - row["bound"] for row in points),
        paper_excess=100 * max(row["paper"] - row["bound"] for row in points),
        ours_free=sum(row["ours"] < 0.001 for row in points),
        paper_free=sum(row["paper"] < 0.001 for row in points),
        bound_free=sum(row["bound"] < 0.001 for row in points),
        made_by=made_by,
    )
    efficiencies = [value for value in values("efficiency") if value in SHOWN_EFFICIENCY]
    tables = "".join(_table(points, efficiency) for efficiency in efficiencies)
    return {"idle.md": text + tables, "idle.svg": figure(points, efficiencies)}


def _table(points: list[Row], efficiency: float) -> str:
    by_point = {
        (row["workers"], row["partitions"], row["rho"]): row
        for row in points
        if row["efficiency"] == efficiency
    }
    rhos = [rho for rho in SHOWN_RHO if any(rho == point[2] for point in by_point)]
    lines = [
        f"\n## E = {efficiency:g}\n",
        "| W | P | " + " | ".join(f"rho {rho:g}" for rho in rhos) + " |",
        "|---|---|" + "---|" * len(rhos),
    ]
    for workers, partitions in sorted({point[:2] for point in by_point}):
        cells = (_cell(by_point[workers, partitions, rho]) for rho in rhos)
        lines.append(f"| {workers} | {partitions} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    return "{:.1f} → {:.1f} ({:.1f})".format(*(100 * row[key] for key in ("paper", "ours", "bound")))
