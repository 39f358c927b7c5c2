"""Tables and figure of `reproduce.py slads`."""

from __future__ import annotations

import math
from typing import Any

from slads_images import EXPERIMENTS

TITLES = {
    "two-phase-128": "Two phases, 128 x 128",
    "two-phase-1024": "Two phases, 1024 x 1024",
    "four-phase-256": "Four phases, 256 x 256",
    "four-phase-1024": "Four phases, 1024 x 1024",
    "two-phase-128-noisy": "Two phases, 128 x 128, 1 % ill spectra, 0.5 % misclassified",
    "four-phase-256-noisy": "Four phases, 256 x 256, 1 % ill spectra, 0.5 % misclassified",
}
DRAWN = {
    "ours": "#c2571a",
    "authors": "#0b6e99",
    "heuristic": "#7a3e9d",
    "Halton": "#777777",
    "oracle": "#2c8a3d",
}
PANEL_W, PANEL_H, GAP, LEFT, TOP = 230, 190, 34, 70, 70
DECADES = (-5, -1)
INK, PALE = "#222222", "#dddddd"
Row = dict[str, Any]

TEXT = """# How good a phase map of few points is

Total distortion (TD) is the share of pixels whose phase is wrong in the map made from the points measured
so far (Zhang et al., Ultramicroscopy 184 (2018) 90, equation 19). Lower is better; 0.01 is one pixel in a
hundred.

![Total distortion over the share of points](slads.svg)

The images are **not those of the paper**, which are not public with a licence. They are comparable: the
same sizes and numbers of phases, two of them of the same materials (Pb-Sn; the powder of CaO, LaO, Si and
C), all segmented in the same manner (median 5, Gauss 1, thresholds by multi-Otsu, majority 7). So the
paper's figure in the last column was measured on other images. The test and the training fields have no
pixel in common. The 1024 x 1024 fields of four phases, and those marked so, are enlarged from smaller
images by cubic interpolation: smoother than real ones.

* ours: the sampler and the reconstruction that come with the program, trained on none of these images.
* authors: a new writing of the authors' published algorithm (26 terms, least squares, c = 8, random 1 %
  to start), trained on the training fields of the case. At 1024 x 1024 with the exact update instead of
  its window of at most 30 x 30 pixels, which would take an hour for one map.
* heuristic: (1 - winning share of the vote + 0.002) sqrt(distance to the nearest point), from 1 % Halton
  points.
* R2, grid, Halton, random: points fixed beforehand; "nearest" takes the nearest point's phase, everything
  else but ours the weighted vote of the 10 nearest points.
* oracle: knows the truth and measures what lowers the distortion the most, greedily.

Mean, and after it the worst, over all fields and seeds. With ill spectra, the pixels that have one do not
count.

{made_by}
"""


def line(row: Row) -> str:
    """Return one row for people."""
    return (
        "{case:22} {method:16} {fraction:4.0%}  mean {td_mean:.5f}  worst {td_worst:.5f}  "
        "({n_images} images x {n_seeds} seeds)".format(**row)
    )


def documents(rows: list[Row], made_by: str) -> dict[str, str]:
    """Return the tables and the figure."""
    cases = [case for case in TITLES if any(row["case"] == case for row in rows)]
    tables = "".join(_table(case, [row for row in rows if row["case"] == case]) for case in cases)
    return {"slads.md": TEXT.format(made_by=made_by) + tables, "slads.svg": _figure(rows, cases)}


def _table(case: str, rows: list[Row]) -> str:
    experiment = EXPERIMENTS[case]
    by_cell = {(row["method"], row["fraction"]): row for row in rows}
    tests = [field.name for fold in experiment.folds() for field in fold.tests]
    lines = [
        f"\n## {TITLES[case]}\n",
        f"Test fields ({rows[0]['n_images']} used, {rows[0]['n_seeds']} seeds each): {'; '.join(tests)}.",
    ]
    for fold in experiment.folds():
        trained = " and ".join(field.name for field in fold.train)
        lines.append(
            f"The authors' algorithm for {'; '.join(f.name for f in fold.tests)} is trained on {trained}."
        )
    lines += [
        "",
        "| method | " + " | ".join(f"{fraction:.0%}" for fraction in experiment.fractions) + " |",
        "|---|" + "---|" * len(experiment.fractions),
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = [by_cell[method, fraction] for fraction in experiment.fractions]
        text = " | ".join("{td_mean:.5f} ({td_worst:.5f})".format(**cell) for cell in cells)
        lines.append(f"| {method} | {text} |")
    if experiment.paper:
        figures = (experiment.paper.get(fraction, "") for fraction in experiment.fractions)
        lines.append(f"| the paper, other images | {' | '.join(map(str, figures))} |")
    return "\n".join(lines) + "\n"


def _figure(rows: list[Row], cases: list[str]) -> str:
    """Return mean TD (logarithmic) over the fraction as SVG, one panel a case."""
    columns = min(2, len(cases))
    panel_rows = math.ceil(len(cases) / columns)
    width, height = LEFT + columns * (PANEL_W + GAP), TOP + panel_rows * (PANEL_H + GAP + 16) + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 22, "Total distortion over the share of points", 'font-size="15"'),
    ]
    for number, (method, colour) in enumerate(DRAWN.items()):
        parts.append(f'<path d="M{LEFT + 96 * number} 43h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(LEFT + 96 * number + 24, 47, method))
    for number, case in enumerate(cases):
        x = LEFT + number % columns * (PANEL_W + GAP)
        y = TOP + number // columns * (PANEL_H + GAP + 16)
        parts += _panel(x, y, case, [row for row in rows if row["case"] == case])
    return "\n".join([*parts, "</svg>", ""])


def _panel(x: int, y: int, case: str, rows: list[Row]) -> list[str]:
    fractions = EXPERIMENTS[case].fractions
    parts = [_text(x, y - 4, TITLES[case], 'font-size="10"')]
    for decade in range(DECADES[0], DECADES[1] + 1):
        at = _y(10.0**decade, y)
        parts.append(f'<path d="M{x} {at:.1f}h{PANEL_W}" stroke="{PALE}"/>')
        parts.append(_text(x - 5, at + 4, f"{10.0**decade:g}", 'text-anchor="end" font-size="10"'))
    places = {fraction: x + PANEL_W * fraction / fractions[-1] for fraction in fractions}
    for fraction, at in places.items():
        parts.append(f'<path d="M{at:.1f} {y}v{PANEL_H}" stroke="{PALE}"/>')
        parts.append(_text(at, y + PANEL_H + 14, f"{fraction:.0%}", 'text-anchor="middle" font-size="10"'))
    for method, colour in DRAWN.items():
        points = sorted((row["fraction"], row["td_mean"]) for row in rows if row["method"] == method)
        if points:
            path = " ".join(f"{places[fraction]:.1f},{_y(td, y):.1f}" for fraction, td in points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return [*parts, f'<path d="M{x} {y}v{PANEL_H}h{PANEL_W}" fill="none" stroke="{INK}"/>']


def _y(distortion: float, top: float) -> float:
    """Return where a distortion lies in a panel; less than the lowest decade lies on the axis."""
    low, high = DECADES
    decade = min(max(math.log10(max(distortion, 1e-12)), low), high)
    return top + PANEL_H * (high - decade) / (high - low)


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" {style}>{text}</text>'
