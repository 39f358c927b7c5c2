"""Plain charts for pages; `chart.html` draws them, in the colours of the page.

All marks are paths of an SVG in pixels, so that ten thousand dots are one element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 440, 240
LEFT, TOP, RIGHT, BELOW = 54, 12, 24, 40
SERIES = 10
"""Colours in the style sheet, series-0 and on."""
Numbers = Sequence[float]
Intervals = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """What a direction shows, and from where to where."""

    label: str
    low: float
    high: float
    is_log: bool = False
    is_share: bool = False
    """Whether ticks are in percent."""

    def place(self, value: float) -> float:
        """Return where a value lies, 0..1 inside the axis."""
        if self.is_log:
            low, high = math.log10(self.low), math.log10(self.high)
            return (math.log10(max(value, self.low)) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places with their words."""
        values = _decades(self.low, self.high) if self.is_log else _steps(self.low, self.high)
        return [(self.place(value), self._words(value)) for value in values]

    def _words(self, value: float) -> str:
        return f"{100 * value:g} %" if self.is_share else f"{value:g}"


@dataclass(frozen=True, slots=True)
class Mark:
    """One path: `kind` is line, bars, band, dots or crosses; a name gets into the legend."""

    kind: str
    series: int
    path: str
    name: str = ""


@dataclass(slots=True)
class Chart:
    """Axes with marks."""

    title: str
    x: Axis
    y: Axis
    width: int = WIDTH
    height: int = HEIGHT
    marks: list[Mark] = field(default_factory=list)

    @property
    def area(self) -> tuple[int, int, int, int]:
        """left, top, width, height of what the axes enclose."""
        return LEFT, TOP, self.width - LEFT - RIGHT, self.height - TOP - BELOW

    def at(self, x: float, y: float) -> str:
        """Return the place of a point, as paths have it."""
        left, top, width, height = self.area
        return f"{left + width * self.x.place(x):.1f} {top + height * (1 - self.y.place(y)):.1f}"

    def line(self, xs: Numbers, ys: Numbers, series: int = 0, name: str = "") -> None:
        """Join points in their order."""
        joined = "L".join(self.at(x, y) for x, y in zip(xs, ys, strict=True))
        self.marks.append(Mark("line", series % SERIES, f"M{joined}" if joined else "", name))

    def dots(self, xs: Numbers, ys: Numbers, series: int = 0, name: str = "") -> None:
        """Show a dot for each point."""
        dots = "".join(f"M{self.at(x, y)}h0" for x, y in zip(xs, ys, strict=True))
        self.marks.append(Mark("dots", series % SERIES, dots, name))

    def crosses(
        self, xs: Intervals, ys: Intervals, middles: Sequence[tuple[float, float]], series: int
    ) -> None:
        """Show the intervals of points across and up."""
        path = ""
        for (left, right), (low, high), (x, y) in zip(xs, ys, middles, strict=True):
            path += f"M{self.at(left, y)}L{self.at(right, y)}M{self.at(x, low)}L{self.at(x, high)}"
        self.marks.append(Mark("crosses", series % SERIES, path))

    def band(self, xs: Numbers, lows: Numbers, highs: Numbers, series: int = 0, name: str = "") -> None:
        """Fill what lies between two lines."""
        there = [self.at(x, y) for x, y in zip(xs, lows, strict=True)]
        back = [self.at(x, y) for x, y in zip(xs, highs, strict=True)][::-1]
        self.marks.append(Mark("band", series % SERIES, f"M{'L'.join([*there, *back])}z", name))

    def bars(self, edges: Numbers, heights: Numbers, series: int = 0, name: str = "") -> None:
        """Draw a bar between each two edges, one more than heights."""
        path = ""
        for first, last, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if height > self.y.low:
                base = f"M{self.at(first, self.y.low)}L{self.at(first, height)}"
                path += f"{base}L{self.at(last, height)}L{self.at(last, self.y.low)}z"
        self.marks.append(Mark("bars", series % SERIES, path, name))


def _steps(low: float, high: float, most: int = 6) -> list[float]:
    """Return round values between two others."""
    span = max(high - low, 1e-300)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * n for n in (1, 2, 5, 10) if span / (power * n) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten, or of many decades the powers alone."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    values = [n * 10.0**power for power in range(first, last + 1) for n in factors]
    return [float(f"{value:.12g}") for value in values if low * 0.999 <= value <= high * 1.001]
