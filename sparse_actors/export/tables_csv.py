"""The tables of a run as CSV; the unit ends the name of a column."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from sparse_actors.recording.tables import Columns
from sparse_actors.results.phase_map import PhaseMap
from sparse_actors.results.run import TABLES, Run


def write_csv(run: Run, folder: Path) -> None:
    """Write a file for each table, and for each map one of its points."""
    folder.mkdir()
    for name in TABLES:
        _write(folder / f"{name}.csv", run.table(name))
    for shown in run.maps.values():
        _write(folder / f"points_{shown.name}.csv", _points(shown))


def _points(shown: PhaseMap) -> Columns:
    points_px = shown.spectra.points_px
    names = {n + 1: name for n, name in enumerate(shown.phases)}
    return {
        "x_px": points_px[:, 0],
        "y_px": points_px[:, 1],
        "x_um": (points_px[:, 0] + 0.5) * shown.pitch_um,
        "y_um": (points_px[:, 1] + 0.5) * shown.pitch_um,
        "live_time_s": shown.spectra.live_time_s,
        "label": shown.spectrum_labels,
        "phase": [names.get(label, "") for label in shown.spectrum_labels.tolist()],
    }


def _write(path: Path, columns: Columns) -> None:
    values: list[list[Any]] = [c if isinstance(c, list) else c.tolist() for c in columns.values()]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*values, strict=True))
