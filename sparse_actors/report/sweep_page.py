"""`sweep.html`: every configuration of a sweep to compare, the sites that it misses, and its keys to copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_actors.evaluation.figures import series
from sparse_actors.evaluation.grid import Configuration
from sparse_actors.evaluation.measures import Interval, Measures
from sparse_actors.evaluation.pairs import Pairs
from sparse_actors.evaluation.sweep import Judged
from sparse_actors.evaluation.table import size_names
from sparse_actors.toml_text import toml_document

from .charts import SERIES, Axis, Chart
from .missed_sites import MissedSites
from .page import write_page

PAGE = "sweep.html"
MOST_POINTS = 3000
"""Configurations that the page has; the best and, of the others, some evenly."""
Point = tuple[Judged, Measures]
AXES: tuple[tuple[str, str, bool], ...] = (
    ("efficiency", "efficiency: share of the area that is not rescanned", True),
    ("total_time", "time of a conventional scan, dwell time alone", False),
    ("full_time", "time of a conventional scan, with overheads", False),
)
"""Figure, label, and whether more of it is better."""
NEAR_RECALL = 0.8
"""What a closer look begins with: nobody chooses a configuration below."""


def write_sweep(out: Path, pairs: Pairs, folder: Path, results: Sequence[Judged], about: str) -> Path | None:
    """Write the page of a sweep beside its tables; None: the pairs show no site.

    Parameters
    ----------
    out
        Folder of the results.
    pairs, folder
        On which was judged.
    results
        The configurations. Sites that are looked for in another way are others: those that look for them as
        the first one does are shown.
    about
        A sentence on what was judged.
    """
    judged = [(result, result.measures()) for result in results]
    judged = [point for point in judged if point[1].sites]
    if not judged:
        return None
    reference = judged[0][0].configuration.reference
    same = [point for point in judged if point[0].configuration.reference == reference]
    best = {id(point) for _, better in _fronts(same) for point in better}
    points = _some(same, best)
    missed = MissedSites(pairs, folder)
    # The best come first, so that they have pictures where there is no room for all.
    shown = {id(p): missed.of(p[0]) for p in sorted(points, key=lambda p: id(p) not in best)}
    fronts = _fronts(points)
    names = _names(points)
    near = [point for point in points if point[1].recall >= NEAR_RECALL]
    near = near if len(near) < len(points) else []
    path = out / PAGE
    write_page(
        path,
        "sweep.html",
        ("page.js", "sweep.js"),
        about=about,
        axes=[(key, label) for key, label, _ in AXES],
        charts=[
            (f"{key}-{part}", _chart(some, series(points), key, label))
            for key, label, _ in AXES
            for part, some in (("near", near), ("all", points))
            if some
        ],
        near=bool(near),
        near_recall=NEAR_RECALL,
        front=[(points.index(point), *point) for point in fronts[0][1]],
        keys=_keys,
        all_count=len(results),
        shown_count=len(points),
        left_out=len(same) - len(points),
        others=len(judged) - len(same),
        max_efficiency=max(found.max_efficiency for _, found in points),
        data={
            "axes": [key for key, _, _ in AXES],
            "sizes": size_names(),
            "sites": missed.pictures(),
            "points": [_data(point, names[id(point)], shown[id(point)]) for point in points],
        },
    )
    return path


def _fronts(points: Sequence[Point]) -> list[tuple[str, list[Point]]]:
    """Return for each figure the configurations that no other beats in it and in recall, by rising recall."""
    fronts = []
    for key, _, is_more_better in AXES:
        sign = -1 if is_more_better else 1
        front: list[Point] = []
        for point in sorted(points, key=lambda p: (sign * getattr(p[1], key), -p[1].recall)):
            if not front or point[1].recall > front[-1][1].recall:
                front.append(point)
        fronts.append((key, front))
    return fronts


def _some(points: list[Point], best: set[int]) -> list[Point]:
    """Return as many as the page holds, in their order."""
    others = [point for point in points if id(point) not in best]
    step = max(1, math.ceil(len(others) / max(1, MOST_POINTS - len(best))))
    kept = best | {id(point) for point in others[::step]}
    return [point for point in points if id(point) in kept]


def _names(points: Sequence[Point]) -> dict[int, int]:
    """Return the number of the series of each point."""
    groups = series(points)
    return {id(point): number for number, group in enumerate(groups.values()) for point in group}


def _chart(points: Sequence[Point], groups: dict[str, list[Point]], key: str, label: str) -> Chart:
    """Draw configurations, those on the front with their intervals; series keep their colours."""

    def value(point: Point) -> float:
        return float(getattr(point[1], key))

    front = next(better for name, better in _fronts(points) if name == key)
    ends = [getattr(point[1], f"{key}_ci") for point in front]
    xs = [1.0, *(point[1].recall_ci[0] for point in front), *(point[1].recall for point in points)]
    ys = [*map(value, points), *(end for pair in ends for end in pair)]
    x = Axis("detection rate (recall)", *_round_range(xs), is_share=True)
    y = Axis(label.partition(":")[0], *_round_range(ys), is_share=True)
    chart = Chart(f"Detection rate and {label}", x, y, width=720, height=430)
    there = {id(point) for point in points}
    for number, (name, group) in enumerate(groups.items()):
        some = [point for point in group if id(point) in there]
        chart.dots([point[1].recall for point in some], list(map(value, some)), number, name)
    chart.line([point[1].recall for point in front], list(map(value, front)), 8, "none is better in both")
    middles = [(point[1].recall, value(point)) for point in front]
    chart.crosses([point[1].recall_ci for point in front], ends, middles, 8)
    return chart


def _round_range(values: Sequence[float]) -> tuple[float, float]:
    """Return ends in whole steps of 2, 5 or 10 % around shares."""
    known = [value for value in values if not math.isnan(value)]
    low, high = min(known), max(known)
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1e9) if high - low <= 8 * s)
    first = max(0.0, math.floor(low / step) * step)
    return first, max(math.ceil(high / step - 1e-9) * step, first + step)


def _keys(configuration: Configuration) -> list[tuple[str, str]]:
    """Return the keys and values of a configuration, as people compare them."""
    (width, height), dwell_ns = configuration.fast.size_px, configuration.fast.dwell_ns
    given = [(key.removeprefix("detect.options."), f"{value}") for key, value in configuration.options]
    return [("fast scan", f"{width} x {height} px, {dwell_ns:g} ns"), *given]


def _data(point: Point, number: int, missed: dict[str, Any]) -> dict[str, Any]:
    """Return what the page's script needs of a configuration."""
    configuration, found = point[0].configuration, point[1]
    return {
        "series": number % SERIES,
        "keys": _keys(configuration),
        "toml": as_toml(configuration, found),
        "recall": _shares(found.recall, found.recall_ci),
        "figures": [_shares(getattr(found, key), getattr(found, f"{key}_ci")) for key, _, _ in AXES],
        "found": found.found,
        "of": found.sites,
        "whole": found.whole,
        "detections": found.detections_per_tile,
        "by_size": [_known(recall) for recall in found.recall_by_size],
        "sites_by_size": found.sites_by_size,
        **missed,
    }


def _shares(value: float, interval: Interval) -> list[float | None]:
    """Return a figure and its interval for JSON, which has no word for what is not a number."""
    return [_known(value), *map(_known, interval)]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def as_toml(configuration: Configuration, found: Measures) -> str:
    """Return the keys of a configuration as they are pasted into a configuration file."""
    tables: dict[str, Any] = {
        "scan": {"fast": {"size_px": configuration.fast.size_px, "dwell_ns": configuration.fast.dwell_ns}}
    }
    headers = {("scan",), ("scan", "fast")}
    for key, value in configuration.options:
        *above, name = key.split(".")
        table = tables
        for depth, part in enumerate(above, start=1):
            table = table.setdefault(part, {})
            headers.add(tuple(above[:depth]))
        table[name] = value
    low, high = found.recall_ci
    about = (
        f"# recall {found.recall:.1%} ({low:.1%} to {high:.1%}) of {found.sites} sites, on the tiles swept\n"
    )
    return about + toml_document(tables, headers)
