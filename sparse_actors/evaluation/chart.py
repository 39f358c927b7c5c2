"""Plain charts as SVG text: panels with dots, lines and levels, in rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

COLOURS = ("#0b6e99", "#c2571a", "#7a3e9d", "#3d7d3d", "#a8324a", "#555555")
INK, PALE, LEVEL = "#222222", "#dddddd", "#b02020"
WIDTH, HEIGHT, SMALL_WIDTH, SMALL_HEIGHT = 460, 320, 220, 160
LEFT, TOP, GAP, BELOW = 62, 44, 46, 34
LEGEND_WIDTH = 210
Points = Sequence[tuple[float, float]]


@dataclass
class Panel:
    """One set of axes; values are shares 0..1, or with `x_names` places 0, 1, ... along x."""

    title: str
    x_label: str
    y_label: str
    x_names: Sequence[str] = ()
    _marks: list[tuple[str, Points, str]] = field(default_factory=list)
    _legend: list[tuple[str, str, str]] = field(default_factory=list)
    _notes: tuple[Sequence[str], str] = ((), "")

    def dots(self, name: str, points: Points, colour: str) -> None:
        """Show a dot for each point."""
        self._add("dots", name, points, colour)

    def line(self, name: str, points: Points, colour: str) -> None:
        """Join points in their order."""
        self._add("line", name, points, colour)

    def level(self, name: str, y: float) -> None:
        """Draw a dashed line across."""
        self._add("level", name, [(0.0, y)], LEVEL)

    def notes(self, texts: Sequence[str], what: str) -> None:
        """Write a text above each of the places along x, and at their left what it is."""
        self._notes = texts, what

    def _add(self, kind: str, name: str, points: Points, colour: str) -> None:
        self._marks.append((kind, points, colour))
        if name:
            self._legend.append((kind, name, colour))

    def ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the least and largest x and y that are shown, on tenths."""
        points = [point for kind, points, _ in self._marks for point in points if kind != "level"]
        low_x = min((x for x, _ in points), default=0.0)
        low_y = min((y for _, y in points), default=0.0)
        across = (-0.5, len(self.x_names) - 0.5) if self.x_names else (_tenth(low_x), 1.0)
        return across, (_tenth(low_y), 1.0)

    def drawn(self, left: float, top: float, width: float, height: float, is_small: bool) -> list[str]:
        """Return the panel as SVG elements."""
        (x0, x1), (y0, y1) = self.ranges()

        def at(x: float, y: float) -> tuple[float, float]:
            return left + (x - x0) / (x1 - x0) * width, top + (y1 - y) / (y1 - y0) * height

        parts = []
        for tick in _ticks(y0, 3 if is_small else 5):
            _, y = at(x0, tick)
            parts.append(f'<path d="M{left} {y:.1f}h{width}" stroke="{PALE}"/>')
            parts.append(text(left - 6, y + 4, f"{100 * tick:.0f} %", "end"))
        if self.x_names:
            ticks = [(float(place), name) for place, name in enumerate(self.x_names)]
        else:
            ticks = [(tick, f"{100 * tick:.0f} %") for tick in _ticks(x0, 3 if is_small else 5)]
        for place, name in ticks:
            x, _ = at(place, y0)
            parts.append(f'<path d="M{x:.1f} {top}v{height}" stroke="{PALE}"/>')
            parts.append(text(x, top + height + 16, name, "middle"))
        for kind, points, colour in self._marks:
            places = [at(x, y) for x, y in points]
            if kind == "line":
                joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
                parts.append(
                    f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
                )
            elif kind == "dots":
                parts += [
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}" fill-opacity="0.7"/>'
                    for x, y in places
                ]
            else:
                y = places[0][1]
                parts.append(f'<path d="M{left} {y:.1f}h{width}" stroke="{colour}" stroke-dasharray="6 4"/>')
        parts.append(f'<path d="M{left} {top}v{height}h{width}" fill="none" stroke="{INK}"/>')
        texts, what = self._notes
        for place, note in enumerate(texts):
            parts.append(text(at(place, y0)[0], top + height - 6, note, "middle", f'fill="{LEVEL}"'))
        if what:
            parts.append(text(left + 4, top + height - 20, what, "start", f'fill="{LEVEL}"'))
        if self.title:
            parts.append(text(left + width / 2, top - 6, self.title, "middle"))
        if not is_small:
            begin = top + height - 14 - 18 * len(self._legend) - 20 * bool(what)
            for number, entry in enumerate(self._legend):
                parts += legend_entry(*entry, left + 12, begin + 18 * number)
        return parts

    def legend_rows(self, columns: int) -> list[list[tuple[str, str, str]]]:
        """Return kind, name and colour of the entries, so many in a row."""
        count = max(1, columns)
        return [self._legend[first : first + count] for first in range(0, len(self._legend), count)]


def legend_entry(kind: str, name: str, colour: str, left: float, y: float) -> list[str]:
    """Return a sample of a mark and its name."""
    if kind == "dots":
        mark = f'<circle cx="{left + 12}" cy="{y}" r="3.5" fill="{colour}"/>'
    else:
        dashed = ' stroke-dasharray="6 4"' if kind == "level" else ""
        mark = f'<path d="M{left} {y}h24" stroke="{colour}" stroke-width="2"{dashed}/>'
    return [mark, text(left + 32, y + 4, name)]


def chart(panels: Sequence[Sequence[Panel]], title: str) -> str:
    """Return panels, row by row, as one SVG."""
    is_small = len(panels) * len(panels[0]) > 1
    width, height = (SMALL_WIDTH, SMALL_HEIGHT) if is_small else (WIDTH, HEIGHT)
    step_x, step_y = width + LEFT + 6, height + GAP
    whole_width = step_x * len(panels[0]) + 24
    first = panels[0][0]
    entries = first.legend_rows(int(whole_width - LEFT) // LEGEND_WIDTH) if is_small else []
    whole_height = TOP + step_y * len(panels) + BELOW + 20 * len(entries)
    parts = [svg_begin(whole_width, whole_height), text(LEFT, 20, title, style='font-size="15"')]
    for row, line in enumerate(panels):
        for column, panel in enumerate(line):
            x, y = LEFT + column * step_x, TOP + row * step_y + 6
            parts += panel.drawn(x, y, width, height, is_small)
    middle = TOP + (step_y * len(panels) - GAP) / 2
    label_y = TOP + step_y * len(panels) + 6
    parts.append(text(LEFT + (whole_width - LEFT - 30) / 2, label_y, first.x_label, "middle"))
    parts.append(text(14, middle, first.y_label, "middle", f'transform="rotate(-90 14 {middle:g})"'))
    for row, line_of_entries in enumerate(entries):
        for column, entry in enumerate(line_of_entries):
            parts += legend_entry(*entry, LEFT + column * LEGEND_WIDTH, label_y + 22 + 20 * row)
    return "\n".join([*parts, "</svg>", ""])


def svg_begin(width: float, height: float) -> str:
    """Return the opening tag and a white ground."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
    )


def text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> str:
    """Return a line of text."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {style}>{escape(words)}</text>'


def _tenth(value: float) -> float:
    return max(0.0, min(0.9, math.floor(value * 10 - 1e-9) / 10))


def _ticks(low: float, count: int) -> list[float]:
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.25, 0.5) if (1 - low) / s <= count)
    return [1 - step * n for n in range(int((1 - low) / step + 1e-9) + 1)]
