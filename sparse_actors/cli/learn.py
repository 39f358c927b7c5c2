"""Learning a library of spectra in front of somebody."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sparse_actors import learn
from sparse_actors.app import survey_plan
from sparse_actors.config import Config, EdsTable, load_config
from sparse_actors.config_sources import find
from sparse_actors.errors import ConfigError

from .display import duration
from .train import refuse_to_overwrite

SPOTS = 100
LIVE_TIMES = 20
"""So many times as long as at a point of the map: a library wants cleaner spectra."""
FEW_COUNTS = 500
FEW_SPECTRA = 5

_AT = re.compile(r"\s*(\d+)\s*,\s*(\d+)\s*=\s*(\S.*?)\s*")


def learn_shown(
    config_file: Path | None,
    overrides: Sequence[str],
    out: Path | None,
    spots: int | None,
    at: Sequence[str],
    phases: int | None,
    live_ms: float | None,
    force: bool,
) -> dict[str, Any]:
    """Measure, group, write, and show it on stderr; returns what was found."""
    config = load_config(find(config_file, os.environ), overrides).for_survey()
    chosen, out, beam_kev, eds = _wanted(config, at, out)
    refuse_to_overwrite(out, force)
    spread = spots if spots is not None else 0 if chosen else SPOTS
    live_time_s = (eds.live_time_ms * LIVE_TIMES if live_ms is None else live_ms) / 1000
    points = learn.spots_of(config, spread, chosen)
    console = Console(stderr=True)
    beam_s = len(points) * live_time_s
    said = f"{len(points)} spots of {live_time_s * 1000:g} ms live time, {duration(beam_s)} of beam time"
    console.print(said, markup=False, highlight=False)
    with console.status("measuring") as status:
        measured = learn.measure(
            config.microscope,
            survey_plan(config),
            points,
            live_time_s,
            lambda n: status.update(f"measured {n} of {len(points)} spots"),
        )
        status.update("grouping")
        grouping = learn.phases_of(measured, [spot.name for spot in chosen], phases)
        found = learn.named(grouping.groups, measured, beam_kev)
    learn.save(out, measured, found, beam_kev)
    in_phases = len(points) - len(grouping.left)
    console.print(_table(found, in_phases))
    for warning in (warned := _warnings(measured, found, len(grouping.left))):
        console.print(f"warning: {warning}", markup=False, style="yellow", soft_wrap=True)
    console.print(f"written to {out}", markup=False, highlight=False, soft_wrap=True)
    return {
        "library": str(out),
        "spots": len(points),
        "left_out": len(grouping.left),
        "live_time_s": live_time_s,
        "warnings": warned,
        "phases": [
            {
                "name": phase.name,
                "spots": len(phase.spots),
                "share": len(phase.spots) / in_phases,
                "counts": phase.counts,
                "elements": list(phase.elements),
            }
            for phase in found
        ],
    }


def _wanted(
    config: Config, at: Sequence[str], out: Path | None
) -> tuple[list[learn.Spot], Path, float, EdsTable]:
    """Return the spots, the file, the beam energy and the table [eds], or say all that is missing."""
    problems = []
    chosen = []
    for text in at:
        if match := _AT.fullmatch(text):
            chosen.append(learn.Spot(x_px=int(match[1]), y_px=int(match[2]), name=match[3]))
        else:
            problems.append(
                f"--at {text}: expected X,Y=NAME in pixels of eds.grid_px, such as 120,80=ferrite"
            )
    eds = config.eds
    if eds is None:
        raise ConfigError(learn.NO_EDS)
    if eds.beam_kev is None:
        problems.append(
            "eds.beam_kev is missing (energy of the beam in keV): a library is of one beam energy"
        )
    library = eds.options.get("library")
    if out is None and not isinstance(library, str):
        problems.append("--out is missing, and eds.options.library names no file either")
    if problems:
        raise ConfigError(*problems)
    return chosen, out or Path(str(library)), eds.beam_kev or 0.0, eds


def _table(phases: Sequence[learn.LearntPhase], spots: int) -> Table:
    table = Table(title=f"{len(phases)} phases")
    table.add_column("phase")
    for name in ("spots", "share", "counts per spot"):
        table.add_column(name, justify="right")
    table.add_column("elements by its lines, the surest first")
    for phase in phases:
        n = len(phase.spots)
        elements = Text(", ".join(phase.elements) or "not known")
        table.add_row(Text(phase.name), str(n), f"{n / spots:.1%}", str(round(phase.counts / n)), elements)
    return table


def _warnings(measured: learn.MeasuredSpots, phases: Sequence[learn.LearntPhase], left: int) -> list[str]:
    found = []
    if left:
        found.append(
            f"{left} spots are of no phase, as there are too few like them; more --spots may show more"
        )
    if (mean := measured.counts.sum(axis=1).mean()) < FEW_COUNTS:
        found.append(f"{mean:.0f} counts in a spectrum are few; a longer --live-ms tells more phases apart")
    found += [
        f"{phase.name!r} has {len(phase.spots)} spectra; {FEW_SPECTRA} or more say how much they differ"
        for phase in phases
        if len(phase.spots) < FEW_SPECTRA
    ]
    return found
