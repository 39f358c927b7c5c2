"""The figure of the idle share: a panel for each number of workers and of partitions, cut at TOP_PCT."""

from __future__ import annotations

import math
from typing import Any

SHOWN_PARTITIONS = (4, 16)
PANEL_W, PANEL_H, GAP, LEFT, TOP = 190, 170, 22, 64, 78
TICKS_RHO = (0.1, 0.3, 1.0, 3.0)
TICKS_PCT = (0, 10, 20, 30)
TOP_PCT = TICKS_PCT[-1]
COLOURS = ("#0b6e99", "#c2571a", "#7a3e9d")
INK, PALE = "#222222", "#dddddd"
STYLES = (
    ("bound", 'stroke-width="6" stroke-opacity="0.25"'),
    ("paper", 'stroke-width="1.6" stroke-dasharray="5 3"'),
    ("ours", 'stroke-width="2"'),
)
NAMES = {"bound": "bound", "paper": "paper’s order", "ours": "ours (hold back)"}
Row = dict[str, Any]


def figure(points: list[Row], efficiencies: list[float]) -> str:
    """Return the idle share over rho as SVG.

    Parameters
    ----------
    points
        What `reproduce_idle.rows` yields.
    efficiencies
        Which E to show, each in its colour; at most three.
    """
    workers = sorted({row["workers"] for row in points})
    partitions = sorted({row["partitions"] for row in points} & set(SHOWN_PARTITIONS))
    rhos = sorted({row["rho"] for row in points})
    width = LEFT + len(workers) * (PANEL_W + GAP)
    height = TOP + len(partitions) * (PANEL_H + GAP) + 42
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 22, "Share of time in which the microscope waits for a detection", 'font-size="15"'),
        *_legend(efficiencies),
    ]
    for row, p in enumerate(partitions):
        y = TOP + row * (PANEL_H + GAP)
        turned = f'text-anchor="middle" transform="rotate(-90 16 {y + PANEL_H / 2:g})"'
        parts.append(_text(16, y + PANEL_H / 2, "idle, percent", turned))
        parts += [_text(LEFT - 7, _y(pct, y) + 4, f"{pct}", 'text-anchor="end"') for pct in TICKS_PCT]
        for column, w in enumerate(workers):
            x = LEFT + column * (PANEL_W + GAP)
            inside = [r for r in points if r["partitions"] == p and r["workers"] == w]
            parts += _panel(x, y, inside, rhos, efficiencies)
            title = f"{p} partition{'s' * (p > 1)}, {w} worker{'s' * (w > 1)}"
            parts.append(_text(x + 6, y + 15, title, 'font-size="11"'))
    for column in range(len(workers)):
        x, y = LEFT + column * (PANEL_W + GAP), height - 48
        parts += [_text(_x(rho, x, rhos), y, f"{rho:g}", 'text-anchor="middle"') for rho in _ticks(rhos)]
    label = "rho = detection time / fast-scan time of a partition"
    parts.append(_text(LEFT + (width - LEFT - GAP) / 2, height - 14, label, 'text-anchor="middle"'))
    return "\n".join([*parts, "</svg>", ""])


def _panel(x: float, y: float, points: list[Row], rhos: list[float], efficiencies: list[float]) -> list[str]:
    parts = [f'<path d="M{x} {_y(pct, y):.1f}h{PANEL_W}" stroke="{PALE}"/>' for pct in TICKS_PCT]
    parts += [f'<path d="M{_x(rho, x, rhos):.1f} {y}v{PANEL_H}" stroke="{PALE}"/>' for rho in _ticks(rhos)]
    # Whatever leaves the panel at its top is cut off.
    parts.append(f'<svg x="{x}" y="{y}" width="{PANEL_W}" height="{PANEL_H + 3}">')
    for order, style in STYLES:
        for efficiency, colour in zip(efficiencies, COLOURS, strict=False):
            places = sorted((r["rho"], 100 * r[order]) for r in points if r["efficiency"] == efficiency)
            path = " ".join(f"{_x(rho, 0, rhos):.1f},{_y(pct, 0):.1f}" for rho, pct in places)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" {style}/>')
    parts.append("</svg>")
    return [*parts, f'<path d="M{x} {y}v{PANEL_H}h{PANEL_W}" fill="none" stroke="{INK}"/>']


def _legend(efficiencies: list[float]) -> list[str]:
    parts, x = [], float(LEFT)
    for efficiency, colour in zip(efficiencies, COLOURS, strict=False):
        parts.append(f'<rect x="{x}" y="40" width="14" height="14" fill="{colour}"/>')
        parts.append(_text(x + 20, 52, f"E = {efficiency:g}"))
        x += 92
    x += 20
    for order, style in reversed(STYLES):
        parts.append(f'<path d="M{x} 47h34" stroke="{INK}" {style}/>')
        parts.append(_text(x + 42, 52, NAMES[order]))
        x += 162
    return parts


def _ticks(rhos: list[float]) -> list[float]:
    return [rho for rho in TICKS_RHO if rhos[0] <= rho <= rhos[-1]]


def _x(rho: float, left: float, rhos: list[float]) -> float:
    """Return where rho lies on the logarithmic axis of a panel."""
    return left + PANEL_W * math.log(rho / rhos[0]) / math.log(rhos[-1] / rhos[0])


def _y(pct: float, top: float) -> float:
    return top + PANEL_H * (1 - pct / TOP_PCT)


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" {style}>{text}</text>'
