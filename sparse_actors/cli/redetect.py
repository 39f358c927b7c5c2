"""Detecting recorded runs again in front of somebody."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sparse_actors.redetect import PathMap, Row, redetect

from .work_display import WorkDisplay

COLUMNS = (
    *("run", "tile", "found_then", "found_now", "gained", "lost"),
    *("wanted_px", "unscanned_px", "failed", "absent"),
)
TABLE = "table.csv"


def redetect_shown(
    runs: Sequence[Path],
    overrides: Sequence[str],
    out: Path,
    *,
    engine: str,
    jobs: int,
    path_maps: Sequence[str],
) -> list[Row]:
    """Detect again, write the table, and say what came out for each run; returns the rows of the table."""
    console = Console(stderr=True)
    with WorkDisplay(console, "tiles") as progress:
        rows = redetect(
            runs,
            overrides,
            out,
            engine_name=engine,
            jobs=jobs,
            path_maps=[PathMap.parse(text) for text in path_maps],
            on_progress=progress.show,
        )
    (out / TABLE).write_text(_csv(rows), encoding="utf-8", newline="\n")
    console.print(_shown(rows))
    console.print(f"wrote {out / TABLE}", markup=False, highlight=False, soft_wrap=True)
    return [{name: row[name] for name in COLUMNS} for row in rows]


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _shown(rows: Sequence[Row]) -> Table:
    table = Table(title="sums of each run")
    heads = (
        "run",
        "tiles",
        "found then",
        "now",
        "gained",
        "lost",
        "wanted Mpx",
        "not scanned",
        "failed parts",
    )
    for head in heads:
        table.add_column(head, justify="left" if head == "run" else "right")
    for run, group in groupby(rows, key=lambda row: str(row["run"])):
        tiles = list(group)
        total = {name: sum(tile[name] for tile in tiles) for name in COLUMNS[2:]}
        table.add_row(
            run,
            str(len(tiles)),
            *(str(total[name]) for name in ("found_then", "found_now", "gained", "lost")),
            f"{total['wanted_px'] / 1e6:.2f}",
            f"{total['unscanned_px'] / max(total['wanted_px'], 1):.1%}",
            str(total["failed"]),
        )
    return table
