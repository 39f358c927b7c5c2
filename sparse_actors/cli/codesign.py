"""Choosing the fast scan in front of somebody."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sparse_actors.codesign_record import write_record
from sparse_actors.config import Config, parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.codesign import Design, Row, codesign
from sparse_actors.evaluation.instrument import described
from sparse_actors.evaluation.judging import REFERENCE_DETECTOR
from sparse_actors.evaluation.pairs import open_pairs
from sparse_actors.instrument_times import times_folder
from sparse_actors.toml_edit import with_values

WARNING = (
    "fast scans simulated from the analysis images, without drift: a forecast; `pairs` with the chosen "
    "fast scan and `sweep` measure it"
)


def codesign_shown(
    folder: Path, recall: float, into: Path | None, engine_name: str, jobs: int, seed: int
) -> dict[str, Any]:
    """Judge fast scans, say what was found, and write the best into a configuration."""
    pairs = open_pairs(folder)
    config = pairs.config
    if into is not None:
        _fitting(into, config)
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def on_progress(done: int, total: int) -> None:
        say(f"tile {done} of {total}")

    design = codesign(folder, recall, engine_name=engine_name, jobs=jobs, seed=seed, on_progress=on_progress)
    pitch_nm = config.panorama.tile_fov_um * 1e3 / config.analysis.size_px[0]
    for sentence in described(design.instrument, pitch_nm):
        say(sentence)
    console.print(_table(design, pitch_nm, recall))
    for setting in design.missed:
        say(f"does not reach it: {setting.size_px[0]} x {setting.size_px[1]} at {setting.dwell_ns:g} ns")
    best = design.rows[0]
    file = into or folder / "codesign.toml"
    before = into.read_text("utf-8-sig") if into else pairs.given
    after = with_values(before, _values(best))
    parse_config(after)
    file.write_text(after, encoding="utf-8", newline="\n")
    say(f"wrote {file}: {best.size_px[0]} x {best.size_px[1]} at {best.dwell_ns:g} ns, {best.options}")
    console.print(f"warning: {WARNING}", markup=False, style="yellow", soft_wrap=True)
    found = {
        "recall": recall,
        "sites": best.measures.sites,
        "instrument": design.instrument.to_json(),
        "rows": [_row(row) for row in design.rows],
        "missed": [{"size_px": list(s.size_px), "dwell_ns": s.dwell_ns} for s in design.missed],
    }
    if (records := times_folder(os.environ)) is not None:
        write_record(records, config, found)
    return {**found, "file": str(file), "warning": WARNING}


def _fitting(into: Path, config: Config) -> None:
    """Raise ConfigError where a configuration is not of the analysis scan and detector judged."""
    theirs = parse_config(into.read_text("utf-8-sig"))
    if theirs.analysis != config.analysis:
        raise ConfigError(
            f"--into {into}: has scan.analysis {theirs.analysis.size_px} at {theirs.analysis.dwell_ns:g} ns, "
            f"the pairs {config.analysis.size_px} at {config.analysis.dwell_ns:g} ns"
        )
    if theirs.detect.detector != REFERENCE_DETECTOR:
        raise ConfigError(
            f"--into {into}: detect.detector = {theirs.detect.detector!r}; codesign is for "
            f"{REFERENCE_DETECTOR!r}"
        )


def _values(row: Row) -> dict[tuple[str, ...], Any]:
    values: dict[tuple[str, ...], Any] = {
        ("scan", "fast", "size_px"): list(row.size_px),
        ("scan", "fast", "dwell_ns"): row.dwell_ns,
    }
    return values | {("detect", "options", name): value for name, value in row.options.items()}


def _row(row: Row) -> dict[str, Any]:
    measured = row.measures
    return {
        "size_px": list(row.size_px),
        "dwell_ns": row.dwell_ns,
        "options": row.options,
        "recall": measured.recall,
        "recall_ci": list(measured.recall_ci),
        "efficiency": measured.efficiency,
        "total_time": measured.total_time,
        "full_time": measured.full_time,
        "full_time_ci": list(measured.full_time_ci),
    }


def _table(design: Design, pitch_nm: float, recall: float) -> Table:
    table = Table(title=f"fast scans for a recall of {recall:.1%}, the fastest first")
    for name in ("pitch", "dwell", "recall", "efficiency", "time", "with overheads"):
        table.add_column(name, justify="right")
    for row in design.rows:
        measured = row.measures
        low, high = measured.recall_ci
        table.add_row(
            f"{row.scale * pitch_nm:.0f} nm",
            f"{row.dwell_ns / 1e3:g} us",
            f"{measured.recall:.1%} ({low:.1%}-{high:.1%})",
            f"{measured.efficiency:.1%}",
            f"{measured.total_time:.1%}",
            f"{measured.full_time:.1%}",
        )
    return table
