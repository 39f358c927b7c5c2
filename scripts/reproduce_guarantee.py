"""Whether the promise of a recall is kept, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from sparse_actors.evaluation.guarantee import TooFewSitesError, affordable, promise, sites_needed

RECALL, CONFIDENCE = 0.99, 0.95
CALIBRATIONS, QUICK_CALIBRATIONS = 1000, 60
POPULATION_TILES = 20_000
TILES = (25, 50, 100, 200)
MOST_TILES, MOST_TOGETHER = 1000, 40
"""What it takes to allow for tiles that are lost as a whole."""

FRONTS = {
    "130 nm, 32 us": {0.01: 0.587, 0.02: 0.763, 0.05: 0.902, 0.10: 0.926},
    "65 nm, 8 us": {0.01: 0.941, 0.02: 0.951, 0.05: 0.951, 0.10: 0.961},
}
"""Share of sites missed -> efficiency, of two fast scans of the simulated steel. Between and beyond these
the area rescanned is taken for a power of the share missed."""

Row = dict[str, Any]
Tiles = list[NDArray[np.float64]]
Choice = Callable[[Tiles], float | None]

TEXT = """# A recall that is promised

    sparse-actors promise PAIRS --recall 0.99 --confidence 0.95 --into config.toml

tries thresholds on the tiles that `pairs` scanned both ways, writes the strictest that can be promised
into the configuration and says what that rests on; or refuses, and says how many sites and tiles are
missing. Found is what the detection rate counts (eq. 4). `--grid KEY=VALUES` has another option of the
detector chosen. In Python:

    from sparse_actors.evaluation.guarantee import promise
    print(promise(scores, recall=0.99, confidence=0.95))

`scores` has an array for each calibration tile: for each of its reference sites the strictest parameter of
the detector from which on it is found. The answer is the strictest parameter that can be promised, and what
that rests on; or a refusal that says how many sites and tiles are missing.

## What is promised

Of all sites in all tiles like those of the calibration at least 99 % are found at the parameter. Of 100
calibrations at least 95 keep this promise. It rests on

* the calibration tiles being drawn at random from those to be surveyed: the same material, preparation,
  fast scan. A survey of another sample needs another calibration.
* no tile missing more than `lost_together` sites at the parameter chosen. Sites of a tile may otherwise
  depend on each other in any way. No calibration tile breaks this, and the promise says how many tiles at
  most do. The more sites there are, the more are allowed for, unless you choose the number: {affordable}.

Sites are what the detector finds in the analysis image. In a second analysis image it finds some percent of
them not again, where they lie at the threshold: no fast scan can do better.

## What it takes

Sites needed if none of them is missed. More are needed, the nearer the parameter is to the promised recall.

| recall | lost together 1 | 2 | 3 | 5 | 40 |
|---|---|---|---|---|---|
{needed}

The last column is for those who want to allow for tiles that are lost as a whole: if one in a hundred is,
that shows in 300 tiles, not in 25.

## The proof

A tile holds m sites, of which X(p) are missed at parameter p; tiles are drawn independently, and their
numbers of sites are taken as they are. Let a be the share that may be missed, K `lost_together`, d one
minus the confidence, and D(p) = X(p) - a m. In tiles with as many sites as these more than a is missed
exactly if the mean of E[D(p)] over the n tiles is above 0; call such p too strict.

1. D(p) <= (1 - a) K: at most K are missed, and m is at least X. So for 0 < b <= 1/((1 - a) K) every factor
   of W_b(p) = prod (1 - b D(p)) is at least 0. The tiles are independent, so the mean of the product is the
   product of the means, which is no more than the n-th power of their mean (geometric and arithmetic mean),
   and for p too strict that is below 1. The same holds for the weighted mean W(p) of some W_b(p) with
   weights that add to 1 and are fixed beforehand: half for the largest b, which pays best where nothing is
   missed, the rest for 0.7 to 0.12 of it. By Markov's inequality W(p) >= 1/d has a probability of at most
   d. (Waudby-Smith, Ramdas: Estimating means of bounded random variables by betting. J. R. Stat. Soc. B 86,
   2024. W is their wealth.)
2. X(p) never rises as p is loosened, so W(p) never falls. The parameter chosen is the strictest one with W
   >= 1/d. Suppose that it is too strict. If there is a loosest parameter q that is too strict, then the one
   chosen is no looser, and W(q) >= 1/d. If there is none, take parameters q1, q2, ... too strict and ever
   looser, that approach the first that is not: from some on W(qi) >= 1/d, and these events grow. Either way
   the probability is at most d, however many parameters were tried. (Bates, Angelopoulos, Lei, Malik,
   Jordan: Distribution-free, risk-controlling prediction sets. J. ACM 68, 2021, theorem 1.)
3. The share q of tiles that miss more than K never rises either as p is loosened, so the same argument
   bounds it: none of n calibration tiles does so with probability (1 - q)^n.

Why not otherwise: conformal risk control (Angelopoulos et al., ICLR 2024) keeps the recall on average over
calibrations, not in 95 % of them. The exact binomial limit as in Learn then Test (Angelopoulos et al. 2021)
takes sites for independent; the table shows what comes of it. Hoeffding's and Bentkus' inequalities for
tiles allow for whole tiles to be lost, and do not gain where few are.

## Kept or not

{calibrations} calibrations each, from simulated tiles with {mean:.0f} sites on average (negative
binomial, shape 4) whose scores depend on the tile, on groups of neighbours and on the site. "Broken":
the share of calibrations that promise a parameter whose true recall is below 99 %; it may be 5 %.
"Missed": the sites missed, of those that might be (median). "Area": what is rescanned, beside what the
strictest parameter with 99 % needs, by the fronts measured with a fast scan of 130 nm at 32 us (the
paper's) and one of 65 nm at 8 us.

| tiles differ | tiles | method | broken | refused | recall, median | missed | area 130 nm | area 65 nm |
|---|---|---|---|---|---|---|---|---|
{table}

"Sites alone" is the exact binomial limit, "training" the strictest parameter with 99 % on the calibration
tiles. "Out of focus": in one tile of 50 everything is harder to find. There the promise is broken more
often than it may where few tiles have been seen, for what it is said to rest on does not hold; to allow for
{most_together} sites lost together takes {most_tiles} tiles.

{made_by}
"""


@dataclass(frozen=True, slots=True)
class Specimen:
    """How alike the sites of a tile are."""

    name: str
    tile: float
    group: float
    """Shares of the variance of the scores that tiles and groups of neighbours have in common."""
    out_of_focus: float = 0.0
    """Share of tiles in which everything is harder to find."""


SPECIMENS = (
    Specimen("not at all", 0.0, 0.0),
    Specimen("some", 0.1, 0.2),
    Specimen("much", 0.3, 0.2),
    Specimen("out of focus", 0.1, 0.2, out_of_focus=0.02),
)
_GROUP, _MEAN_SITES, _SHAPE = 2.0, 40.0, 4.0
_GREY, _SPREAD, _BLUR = 60.0, 8.0, 16.0
_NEVER = 5e-4


def tiles_of(specimen: Specimen, count: int, random: np.random.Generator) -> Tiles:
    """Draw tiles: for each the grey level from which on each of its sites is found."""
    drawn = []
    for _ in range(count):
        sites = random.negative_binomial(_SHAPE, _SHAPE / (_SHAPE + _MEAN_SITES))
        group = random.integers(0, max(1, round(sites / _GROUP)), sites)
        shift = random.standard_normal(sites + 1)
        alone = 1 - specimen.tile - specimen.group
        score = _GREY + _SPREAD * (
            np.sqrt(specimen.tile) * random.standard_normal()
            + np.sqrt(specimen.group) * shift[group]
            + np.sqrt(alone) * random.standard_normal(sites)
        )
        score += _BLUR * (random.random() < specimen.out_of_focus)
        drawn.append(np.where(random.random(sites) < _NEVER, np.inf, score))
    return drawn


def _ours(lost_together: int | None, tiles: Tiles) -> float | None:
    try:
        chosen = promise(tiles, recall=RECALL, confidence=CONFIDENCE, lost_together=lost_together)
    except TooFewSitesError:
        return None
    return chosen.parameter


def _sites_alone(tiles: Tiles) -> float | None:
    """Return the strictest parameter whose exact binomial limit, for independent sites, allows the recall."""
    scores = np.sort(np.concatenate(tiles))
    missed = np.arange(len(scores) - 1, -1, -1)
    limit = beta.ppf(CONFIDENCE, missed + 1, len(scores) - missed)
    return _first(scores, limit <= 1 - RECALL)


def _training(tiles: Tiles) -> float | None:
    """Return the strictest parameter with the recall on the calibration tiles themselves."""
    scores = np.sort(np.concatenate(tiles))
    missed = np.arange(len(scores) - 1, -1, -1)
    return _first(scores, missed <= (1 - RECALL) * len(scores))


def _first(scores: NDArray[np.float64], good: NDArray[np.bool_]) -> float | None:
    fit = scores[good & np.isfinite(scores)]
    return float(fit[0]) if len(fit) else None


METHODS: dict[str, Choice] = {
    "ours": partial(_ours, None),
    "sites alone": _sites_alone,
    "training": _training,
}


def rows(quick: bool, seed: int) -> Iterator[Row]:
    """Yield for each specimen, number of tiles and method how often the promise is broken, and the cost."""
    calibrations = QUICK_CALIBRATIONS if quick else CALIBRATIONS
    for number, specimen in enumerate(SPECIMENS):
        random = np.random.default_rng((seed, number))
        population = tiles_of(specimen, POPULATION_TILES // (10 if quick else 1), random)
        scores = np.sort(np.concatenate(population))
        for count in TILES:
            for name, choice in METHODS.items():
                yield _judged(specimen, population, scores, count, calibrations, name, choice, random)
        if specimen.out_of_focus:
            name, choice = f"ours, {MOST_TOGETHER} lost together", partial(_ours, MOST_TOGETHER)
            yield _judged(specimen, population, scores, MOST_TILES, calibrations, name, choice, random)


def _judged(
    specimen: Specimen,
    population: Tiles,
    scores: NDArray[np.float64],
    count: int,
    calibrations: int,
    name: str,
    choice: Choice,
    random: np.random.Generator,
) -> Row:
    true = []
    for _ in range(calibrations):
        chosen = choice([population[i] for i in random.integers(0, len(population), count)])
        if chosen is not None:
            true.append(np.searchsorted(scores, chosen, side="right") / len(scores))
    recall = float(np.median(true)) if true else None
    return {
        "specimen": specimen.name,
        "tiles": count,
        "method": name,
        "calibrations": calibrations,
        "promised_recall": RECALL,
        "confidence": CONFIDENCE,
        # Where whole tiles are lost, what ours is said to rest on does not hold.
        "broken_allowed": None if specimen.out_of_focus and count < MOST_TILES else 1 - CONFIDENCE,
        "broken": float(np.sum(np.array(true) < RECALL)) / calibrations,
        "refused": 1 - len(true) / calibrations,
        "recall_median": recall,
        "recall_mean": float(np.mean(true)) if true else None,
        "missed_over_allowed": None if recall is None else (1 - recall) / (1 - RECALL),
        "efficiency": {front: recall and efficiency(front, 1 - recall) for front in FRONTS},
        "efficiency_needed": {front: efficiency(front, 1 - RECALL) for front in FRONTS},
    }


def efficiency(front: str, missed: float) -> float:
    """Return the efficiency at which a share of the sites is missed."""
    shares, efficiencies = map(np.array, zip(*FRONTS[front].items(), strict=True))
    x, y, at = np.log(shares), np.log(1 - efficiencies), np.log(max(missed, 1e-6))
    slope = min(float((y[1] - y[0]) / (x[1] - x[0])), 0.0)
    area = y[0] + slope * (at - x[0]) if at < x[0] else np.interp(at, x, y)
    return 1 - min(float(np.exp(area)), 1.0)


def line(row: Row) -> str:
    """Return one row for people."""
    return (
        f"tiles differ {row['specimen']:13} {row['tiles']:5} tiles  {row['method']:24} "
        f"broken {row['broken']:6.1%}  refused {row['refused']:4.0%}  recall {_shown(row['recall_median'])}"
    )


def _shown(recall: float | None) -> str:
    return "-" if recall is None else f"{recall:.2%}"


def documents(found: list[Row], made_by: str) -> dict[str, str]:
    """Return the page on the promise."""
    needed = "\n".join(
        f"| {recall:.1%} | "
        + " | ".join(f"{sites_needed(recall, CONFIDENCE, k)}" for k in (1, 2, 3, 5, 40))
        + " |"
        for recall in (0.9, 0.95, 0.98, 0.99, 0.995)
    )
    text = TEXT.format(
        affordable=", ".join(
            f"{affordable(sites, RECALL, CONFIDENCE)} with {sites} sites"
            for sites in (1000, 2000, 4000, 8000)
        ),
        most_tiles=MOST_TILES,
        most_together=MOST_TOGETHER,
        needed=needed,
        calibrations=found[0]["calibrations"],
        mean=_MEAN_SITES,
        table="\n".join(map(_table_line, found)),
        made_by=made_by,
    )
    return {"guarantee.md": text}


def _table_line(row: Row) -> str:
    areas = [
        "-"
        if row["efficiency"][front] is None
        else f"x {(1 - row['efficiency'][front]) / (1 - row['efficiency_needed'][front]):.2f}"
        for front in FRONTS
    ]
    cells = [
        row["specimen"],
        str(row["tiles"]),
        row["method"],
        "-" if row["refused"] == 1 else f"{row['broken']:.1%}",
        f"{row['refused']:.0%}",
        _shown(row["recall_median"]),
        "-" if row["missed_over_allowed"] is None else f"{row['missed_over_allowed']:.0%}",
        *areas,
    ]
    return f"| {' | '.join(cells)} |"
