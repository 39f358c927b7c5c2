"""Running a survey in front of somebody."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sparse_actors.app import RunResult, run_survey, survey_plan
from sparse_actors.config import Config, load_config
from sparse_actors.config_sources import find, read
from sparse_actors.errors import ConfigError, JournalError
from sparse_actors.instrument_times import read_times, times_folder
from sparse_actors.recording.journal import read_journal
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.run_record import RunRecord

from .display import Display, summary
from .exit_codes import ExitCode, of_outcome
from .map_progress import MapProgress
from .progress import Figures, Progress


def run_shown(
    config_file: Path | None,
    overrides: Sequence[str],
    out: Path | None,
    resume: bool,
    until_tile: int | None,
) -> tuple[RunResult, Figures, ExitCode]:
    """Run or resume a survey, maps or both with progress, and a summary at the end, on stderr."""
    file = find(config_file, os.environ)
    config = load_config(file, overrides).for_survey()
    console = Console(stderr=True)
    times = times_folder(os.environ)
    progress = survey_progress(config, until_tile, read_times(times, config.microscope))
    if resume:
        out = out or latest_run(config)
        console.print(f"going on with {out}", markup=False, highlight=False, soft_wrap=True)
        # The journal is what happened before the bus counts from the beginning again.
        journal = RunFolder(out).journal
        history = read_journal(journal) if journal.exists() else []
        for number, fact in enumerate(history, start=-len(history)):
            progress.observe(fact, number)
    with Display(progress, console) as display:
        result = run_survey(
            config,
            given=read(file),
            out=out,
            resume=resume,
            until_tile=until_tile,
            observe=display.observe,
            times_folder=times,
            say=lambda text: console.print(text, style="yellow", markup=False, soft_wrap=True),
        )
        figures = _with_all_exposures(display.figures(), result.folder)
    console.print(summary(figures, result.outcome, result.reason, result.folder))
    if result.note:
        console.print(result.note, style="yellow", markup=False)
    for problem in result.problems:
        console.print(problem, style="red", markup=False)
    missing = figures.scans_missed + (figures.maps.fields_missing if figures.maps else 0)
    return result, figures, of_outcome(result.outcome, result.cause, result.problems, missing)


def _with_all_exposures(figures: Figures, folder: Path) -> Figures:
    """Count the exposures that gave no image too, as the journal has them; they left their dose."""
    try:
        return replace(figures, exposed_pixels=RunRecord.open(folder).totals.exposed_pixels)
    except (JournalError, OSError):
        return figures


def survey_progress(
    config: Config, until_tile: int | None = None, known_times: Mapping[str, Any] | None = None
) -> Progress:
    """Return the progress of a run that has not begun."""
    plan = survey_plan(config, until_tile)
    maps = None
    if config.eds is not None and plan.fields is not None:
        maps = MapProgress(
            plan=plan,
            fields=plan.fields,
            fraction=config.eds.points_pct / 100,
            live_time_s=config.eds.live_time_ms / 1000,
        )
    return Progress(
        tiles=len(plan.tiles),
        partitions=plan.partitions,
        seams=len(plan.seams),
        analysis=config.analysis,
        timing=config.timing,
        tile_distance_mm=plan.panorama.tile_fov_mm[0] * (1 - plan.panorama.overlap),
        known_times=known_times,
        maps=maps,
    )


def latest_run(config: Config) -> Path:
    """Return the newest folder of this run's name; raises ConfigError if there is none.

    Folders are named by date and time, so the last by name is the newest.
    """
    found = sorted(config.run.out_dir.glob(f"????-??-??T??????_{config.run.name}"))
    if not found:
        raise ConfigError(
            f"run.name = {config.run.name!r}: there is no run of this name in {config.run.out_dir} to go on "
            "with; name its folder with --out"
        )
    return found[-1]
