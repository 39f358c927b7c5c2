"""How few points give the phase map of a real spectrum image, by our sampler, its authors' and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reproduce_slads import our_maps
from slads_authors import authors_order, train
from slads_baselines import heuristic, maps, pattern_maps
from slads_images import DATA, Labels

IMAGES = ("chevkinite_30x30", "granite_P45_75x100")
METHODS = ("ours", "authors", "heuristic", "R2", "grid", "Halton", "random")
AGREEMENTS = (0.95, 0.99)
SEEDS, QUICK_SEEDS = 5, 1
STEP = 0.01
Row = dict[str, Any]

TEXT = """# How few points give the phase map of a real spectrum image

The share of the points after which the map made from them agrees with the map of all points in 95 and in
99 % of the pixels, and stays so. Mean over {seeds} seeds, and after it the worst. The full map is k-means on
the smoothed spectra of all pixels, with phases of a few pixels and frayed borders that no sampling foresees.

* chevkinite, 30 x 30 pixels, 4 minerals, 21 000 counts in a pixel. {origin}
* granite P45, 75 x 100 pixels, 3 minerals, 21 counts in a pixel. The same source.

The authors' algorithm is trained on the other image, ours on neither.

| spectrum image | method | 95 % | 99 % |
|---|---|---|---|
{table}

{made_by}
"""
ORIGIN = "Test data of RosettaSciIO."


def rows(quick: bool, seed: int) -> Iterator[Row]:
    """Yield, for each image and method, the fractions of points that it takes."""
    for image in IMAGES:
        for method in METHODS:
            seeds = range(seed, seed + (QUICK_SEEDS if quick else SEEDS))
            found = np.array([_fractions(image, method, number) for number in seeds])
            row: Row = {"image": image, "method": method, "n_seeds": len(seeds)}
            for agreement, column in zip(AGREEMENTS, found.T, strict=True):
                row[f"fraction_{agreement:.0%}"] = float(column.mean())
                row[f"worst_{agreement:.0%}"] = float(column.max())
            yield row


def reference(image: str) -> Labels:
    """Return the labels (rows, columns) of all pixels of a spectrum image."""
    with np.load(DATA / "eds_maps" / f"{image}.npz") as file:
        return np.asarray(file["labels_reference"], dtype=np.int32)


def fractions(
    labels: Labels, maps_at: Callable[[Sequence[int]], Iterator[NDArray[Any]]]
) -> tuple[float, ...]:
    """Return the fraction of points from which on a map agrees with `labels`, for each of `AGREEMENTS`.

    Parameters
    ----------
    labels
        (rows, columns), of every pixel: a reference, or what a classifier says of its spectrum.
    maps_at
        Makes the maps after these numbers of measurements.
    """
    counts = [round(step * STEP * labels.size) for step in range(1, round(1 / STEP))]
    agree = np.array([(phase_map == labels).mean() for phase_map in maps_at(counts)])
    # The last count that is not good enough, and one step more.
    last = (int(np.max(np.flatnonzero(agree < least), initial=-1)) for least in AGREEMENTS)
    return tuple((number + 2) * STEP for number in last)


def _fractions(image: str, method: str, seed: int) -> tuple[float, ...]:
    labels = reference(image)
    if method == "ours":
        return fractions(labels, lambda counts: our_maps(labels, counts, seed))
    if method == "authors":
        theta = train([reference(other) for other in IMAGES if other != image], seed=seed)
        order = authors_order(labels, theta, labels.size, seed)
    elif method == "heuristic":
        order = heuristic(labels, labels.size, seed)
    else:
        return fractions(labels, lambda counts: (v for v, _ in pattern_maps(labels, method, counts, seed)))
    return fractions(labels, lambda counts: (vote for vote, _ in maps(labels, order, counts)))


def line(row: Row) -> str:
    """Return one row for people."""
    return "{image:20} {method:10} 95 %: {fraction_95%:4.0%} of points   99 %: {fraction_99%:4.0%}".format(
        **row
    )


def documents(rows: list[Row], made_by: str) -> dict[str, str]:
    """Return the table."""
    cell = "{{fraction_{0}:.0%}} ({{worst_{0}:.0%}})"
    form = f"| {{image}} | {{method}} | {cell.format('95%')} | {cell.format('99%')} |"
    table = "\n".join(form.format(**row) for row in rows)
    text = TEXT.format(seeds=rows[0]["n_seeds"], origin=ORIGIN, table=table, made_by=made_by)
    return {"slads-eds-maps.md": text}
