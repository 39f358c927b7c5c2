"""The table of a sweep: CSV for programs, Markdown for people."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .measures import SIZE_BINS_PX
from .sweep import Judged

Row = dict[str, Any]


def size_names() -> list[str]:
    """Name the bins of cluster sizes, such as "5-9" and "200+"."""
    ends = [*(f"-{after - 1}" for after in SIZE_BINS_PX[1:]), "+"]
    return [f"{first}{end}" for first, end in zip(SIZE_BINS_PX, ends, strict=True)]


def rows(results: Sequence[Judged]) -> list[Row]:
    """Return what is known of each configuration, by column."""
    table = []
    for result in results:
        configuration, found = result.configuration, asdict(result.measures())
        width, height = configuration.fast.size_px
        row: Row = {"fast": f"{width}x{height}@{configuration.fast.dwell_ns:g}"}
        row |= {key.removeprefix("detect.options."): value for key, value in configuration.options}
        row |= {f"reference_{key}": value for key, value in configuration.reference}
        for name, value in found.items():
            if name.endswith("_ci"):
                row[f"{name}_low"], row[f"{name}_high"] = value
            elif not name.endswith("_by_size"):
                row[name] = value
        for size, recall, sites in zip(
            size_names(), found["recall_by_size"], found["sites_by_size"], strict=True
        ):
            row[f"recall {size} px"], row[f"sites {size} px"] = recall, sites
        table.append(row)
    return table


def to_csv(table: Sequence[Row]) -> str:
    """Write all columns; an empty field where there is no number."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table:
        writer.writerow({name: "" if _is_nan(value) else value for name, value in row.items()})
    return text.getvalue()


def to_markdown(table: Sequence[Row], about: str) -> str:
    """Write the columns that people compare, the best configuration of each recall first."""
    swept = [name for name in (table[0] if table else {}) if name not in _MEASURED and " px" not in name]
    head = [*swept, "recall", "efficiency", "total time", "with overheads", "whole", "detections a tile"]
    lines = [about, "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in sorted(table, key=lambda row: (-_number(row["recall"]), row["total_time"])):
        cells = [str(row[name]) for name in swept]
        cells += [_with_interval(row, name) for name in ("recall", "efficiency", "total_time", "full_time")]
        cells += [_share(row["whole"]), f"{row['detections_per_tile']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


_MEASURED = frozenset(
    """tiles sites found recall recall_ci_low recall_ci_high efficiency efficiency_ci_low efficiency_ci_high
    max_efficiency total_time total_time_ci_low total_time_ci_high full_time full_time_ci_low
    full_time_ci_high whole detections_per_tile""".split()
)


def _with_interval(row: Row, name: str) -> str:
    low, high = row[f"{name}_ci_low"], row[f"{name}_ci_high"]
    return f"{_share(row[name])} ({_share(low)} to {_share(high)})"


def _share(value: float) -> str:
    return "-" if _is_nan(value) else f"{value:.1%}"


def _number(value: float) -> float:
    return -1.0 if _is_nan(value) else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
