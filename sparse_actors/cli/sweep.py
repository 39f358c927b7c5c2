"""Sweeping in front of somebody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sparse_actors.config import parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.figures import write_figures
from sparse_actors.evaluation.grid import configurations
from sparse_actors.evaluation.pairs import Pairs, open_pairs
from sparse_actors.evaluation.pick import Goal, Picked, pick
from sparse_actors.evaluation.sweep import Judged, sweep
from sparse_actors.evaluation.table import Row, rows, to_csv, to_markdown
from sparse_actors.report.sweep_page import write_sweep
from sparse_actors.toml_edit import with_values

from .pairs import fast_setting
from .work_display import WorkDisplay

SHOWN = 12
"""Rows of the table on the terminal: the fastest of each recall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """What is swept, where, and what becomes of it."""

    grid: Sequence[str]
    reference: Sequence[str]
    fast: Sequence[str]
    random: int | None
    seed: int
    engine: str
    jobs: int
    out: Path | None
    goals: Sequence[str]
    into: Path | None


def sweep_shown(folder: Path, options: SweepOptions) -> dict[str, Any]:
    """Sweep, write tables and figures, choose if that is asked; returns what was found."""
    goals = [Goal.parse(text) for text in options.goals]
    if options.into is not None and not goals:
        raise ConfigError("--into: changes a configuration to what --pick chooses; give --pick")
    pairs = open_pairs(folder)
    settings = [fast_setting(text) for text in options.fast]
    for text, setting in zip(options.fast, settings, strict=True):
        if setting not in pairs.settings:
            there = ", ".join(f"{s.size_px[0]}x{s.size_px[1]}@{s.dwell_ns:g}" for s in pairs.settings)
            raise ConfigError(f"--fast {text}: the pairs have no such images; they have {there}")
    wanted = configurations(
        settings or list(pairs.settings),
        options.grid,
        options.reference,
        count=options.random,
        seed=options.seed,
    )
    out = options.out or folder / "sweep"
    console = Console(stderr=True)
    said = f"{len(wanted)} configurations on {len(pairs.tiles)} tiles; {pairs.origin}"
    console.print(said, markup=False, highlight=False, soft_wrap=True)
    with WorkDisplay(console, "configurations") as progress:
        results = sweep(
            folder, wanted, out, engine_name=options.engine, jobs=options.jobs, on_progress=progress.show
        )
    table = rows(results)
    about = f"{len(pairs.tiles)} tiles, {said.split('; ')[1]}. Intervals hold 95 % (bootstrap of the tiles)."
    (out / "table.csv").write_text(to_csv(table), encoding="utf-8", newline="\n")
    (out / "table.md").write_text(to_markdown(table, about), encoding="utf-8", newline="\n")
    figures = write_figures(out, pairs, folder, results)
    if (page := write_sweep(out, pairs, folder, results, about)) is not None:
        figures.append(page)
    console.print(_shown(results))
    for path in (out / "table.csv", out / "table.md", *figures):
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    found: dict[str, Any] = {"out": str(out), "origin": pairs.origin, "rows": table}
    if goals:
        found["picked"] = _picked(pairs, pick(results, goals), options.into, out, console)
    return found


def _picked(pairs: Pairs, chosen: Picked, into: Path | None, out: Path, console: Console) -> dict[str, Any]:
    """Write the configuration that was chosen."""
    configuration, measures = chosen.result.configuration, chosen.measures
    fast = configuration.fast
    values = {tuple(key.split(".")): value for key, value in configuration.options}
    values |= {
        ("scan", "fast", "size_px"): list(fast.size_px),
        ("scan", "fast", "dwell_ns"): fast.dwell_ns,
    }
    file = into or out / "picked.toml"
    before = into.read_text("utf-8-sig") if into else pairs.given
    after = with_values(before, values)
    parse_config(after)
    file.write_text(after, encoding="utf-8", newline="\n")
    low, high = measures.recall_ci
    for sentence in (
        f"picked {configuration.name}",
        f"recall {measures.recall:.2%} ({low:.2%} to {high:.2%}) of {measures.sites} sites, efficiency "
        f"{measures.efficiency:.1%}, time {measures.total_time:.1%} of a conventional scan, "
        f"{measures.full_time:.1%} with overheads",
        f"wrote {file}",
    ):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    warning = (
        "chosen and judged on the same tiles: on others the recall will be somewhat lower; its interval "
        "does not know of the choice"
    )
    console.print(f"warning: {warning}", markup=False, style="yellow", soft_wrap=True)
    return {
        "configuration": configuration.to_json(),
        "recall": measures.recall,
        "recall_ci": list(measures.recall_ci),
        "efficiency": measures.efficiency,
        "total_time": measures.total_time,
        "full_time": measures.full_time,
        "file": str(file),
        "warning": warning,
    }


def _shown(results: Sequence[Judged]) -> Table:
    """Return the fastest configuration of each recall, the Pareto front."""
    judged = sorted(
        ((result.measures(), result.configuration) for result in results),
        key=lambda entry: (entry[0].total_time, -entry[0].recall),
    )
    front, best = [], -1.0
    for measured, configuration in judged:
        if measured.recall > best:
            best = measured.recall
            front.append((measured, configuration))
    table = Table(title=f"the best of {len(results)} configurations")
    for name in ("fast", "options", "recall", "efficiency", "time", "with overheads"):
        table.add_column(name, justify="left" if name in ("fast", "options") else "right")
    for measured, configuration in front[-SHOWN:]:
        (width, height), dwell_ns = configuration.fast.size_px, configuration.fast.dwell_ns
        given = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in configuration.options)
        low, high = measured.recall_ci
        table.add_row(
            f"{width}x{height}@{dwell_ns:g}",
            given,
            f"{measured.recall:.1%} ({low:.1%}-{high:.1%})",
            f"{measured.efficiency:.1%}",
            f"{measured.total_time:.1%}",
            f"{measured.full_time:.1%}",
        )
    return table


def rows_as_json(table: Sequence[Row]) -> list[Row]:
    """Return rows that JSON can hold: None where there is no number."""
    return [{k: None if isinstance(v, float) and v != v else v for k, v in row.items()} for row in table]
