"""The figures of a sweep as self-contained SVG, after figures 5a, 5b, 6 and A.1 of the SPARSE paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .chart import COLOURS, Panel, chart
from .measures import Measures
from .pairs import Pairs
from .region_figure import region_figure
from .sweep import Judged
from .table import size_names

OPERATING_POINTS = (0.99, 0.95, 0.90)
"""Of which figures 5b and 6 show the fastest configuration that reaches them."""
Point = tuple[Judged, Measures]


def write_figures(out: Path, pairs: Pairs, folder: Path, results: Sequence[Judged]) -> list[Path]:
    """Draw what the results allow, and return the files."""
    points = [(result, result.measures()) for result in results]
    points = [point for point in points if point[1].sites]
    if not points:
        return []
    # Sites that are looked for in another way are others: only their own figure shows them side by side.
    reference = points[0][0].configuration.reference
    first = [point for point in points if point[0].configuration.reference == reference]
    drawn = {"front.svg": front_figure(first), "sizes.svg": size_figure(first)}
    if len(first) < len(points):
        drawn["references.svg"] = reference_figure(points)
    chosen = [point for _, point in operating_points(first)]
    if chosen:
        drawn["regions.svg"] = region_figure(pairs, folder, chosen[::-1])
    paths = []
    for name, text in drawn.items():
        paths.append(out / name)
        paths[-1].write_text(text, encoding="utf-8", newline="\n")
    return paths


def operating_points(points: Sequence[Point]) -> list[tuple[float, Point]]:
    """Return for each recall the configuration of least time that reaches it, each once."""
    found: list[tuple[float, Point]] = []
    for target in OPERATING_POINTS:
        reached = [point for point in points if point[1].recall >= target]
        if reached:
            best = min(reached, key=lambda point: (point[1].total_time, -point[1].recall))
            if all(best is not other for _, other in found):
                found.append((target, best))
    return found


def series(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Group configurations that differ in numbers only: by fast setting, and by what is named in words."""
    groups: dict[str, list[Point]] = {}
    many = len({point[0].configuration.fast for point in points}) > 1
    for point in points:
        configuration = point[0].configuration
        (width, height), dwell_ns = configuration.fast.size_px, configuration.fast.dwell_ns
        words = [f"{width} x {height}, {dwell_ns / 1000:g} us"] if many else []
        words += [str(value) for _, value in configuration.options if isinstance(value, str)]
        groups.setdefault(", ".join(words) or "configurations", []).append(point)
    return groups


def _front(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return recall and efficiency of the configurations that no other beats in both."""
    front: list[tuple[float, float]] = []
    for _, found in sorted(points, key=lambda point: (-point[1].efficiency, -point[1].recall)):
        if not front or found.recall > front[-1][0]:
            front.append((found.recall, found.efficiency))
    return front


def _panel(points: Sequence[Point], title: str = "") -> Panel:
    panel = Panel(title=title, x_label="detection rate", y_label="efficiency")
    for number, (name, group) in enumerate(series(points).items()):
        colour = COLOURS[number % len(COLOURS)]
        panel.dots(name, [(found.recall, found.efficiency) for _, found in group], colour)
        panel.line("", _front(group), colour)
    best = max(found.max_efficiency for _, found in points)
    panel.level("most possible", best)
    return panel


def front_figure(points: Sequence[Point]) -> str:
    """Draw detection rate and efficiency of every configuration, figure 5a."""
    return chart([[_panel(points)]], "Detection rate and efficiency (eqs. 4 and 5)")


def reference_figure(points: Sequence[Point]) -> str:
    """Draw the same for every kind of reference site, figure A.1: thresholds side by side, the rest below."""

    def parts(point: Point) -> tuple[str, str]:
        reference = dict(point[0].configuration.reference)
        across = f"threshold {reference.pop('threshold')}" if "threshold" in reference else ""
        return ", ".join(f"{key} {value}" for key, value in reference.items()), across

    down = list(dict.fromkeys(parts(point)[0] for point in points))
    across = list(dict.fromkeys(parts(point)[1] for point in points))
    panels = [
        [
            _panel([p for p in points if parts(p) == (row, column)], ", ".join(filter(None, (row, column))))
            for column in across
        ]
        for row in down
    ]
    return chart(panels, "Detection rate and efficiency, by the sites that are looked for")


def size_figure(points: Sequence[Point]) -> str:
    """Draw the detection rate by the area of the sites at some operating points, figure 5b."""
    names = size_names()
    panel = Panel(
        title="", x_label="area of the site, analysis pixels", y_label="detection rate", x_names=names
    )
    chosen = operating_points(points) or [(0.0, max(points, key=lambda point: point[1].recall))]
    for number, (_, (_, found)) in enumerate(chosen):
        places = [
            (float(place), recall)
            for place, (recall, sites) in enumerate(
                zip(found.recall_by_size, found.sites_by_size, strict=True)
            )
            if sites
        ]
        name = f"{found.recall:.1%} in all"
        panel.line(name, places, COLOURS[number])
        panel.dots("", places, COLOURS[number])
    sites = chosen[0][1][1].sites_by_size
    panel.notes([f"{n}" for n in sites], "sites")
    return chart([[panel]], "Detection rate by the size of the sites")
