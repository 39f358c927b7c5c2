"""Begins the folder of a run, or takes up one that was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_actors.config import Config, parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.map_files import OPTIONS, changed, option_files
from sparse_actors.messages import ImagesLost, RunStarted
from sparse_actors.planning.map_queue import MapQueue
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.lost_images import lost_images
from sparse_actors.recording.run_folder import RunFolder, dated_folder


def new_folder(config: Config) -> Path:
    """Return a folder named by date, time and the run's name under `run.out_dir`."""
    return dated_folder(Path(config.run.out_dir), config.run.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session of a run, about to begin."""

    journal: Journal
    """Open for writing."""
    number: int
    config: Config
    """As given; but a resumed run keeps its grid of tiles, and one with nothing left to scan everything."""
    lost: tuple[ImagesLost, ...] = ()
    """Which images were lost since the last session, as journaled."""
    note: str = ""
    """What had to be mended, in words."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files that the labels of maps hang on, by their keys."""
    is_finished: bool = False
    """Whether the run was finished before and the microscope handed back: there is nothing to do."""


def open_session(
    folder: RunFolder,
    config: Config,
    *,
    resume: bool,
    given: str,
    plan_of: Callable[[Config], SurveyPlan],
    is_stopping: Callable[[], bool] = lambda: False,
) -> Session:
    """Begin or take up a run.

    Parameters
    ----------
    folder, config
        Where, and with what.
    resume
        Go on with the run in the folder.
    given
        The text of the configuration file, kept with a new run.
    plan_of
        Makes the plan of the survey out of a configuration.
    is_stopping
        Whether the session is to end before it began: then images need not be looked for.

    Raises
    ------
    ConfigError
        The folder holds a run already or none to resume, or the configuration does not fit it.
    JournalError
        The journal is damaged or in use.
    """
    if resume:
        return _resumed(folder, config, plan_of, is_stopping)
    if folder.journal.exists():
        raise ConfigError(f"{folder.path} holds a run already: --resume goes on with it, --out names another")
    folder.create()
    folder.config_given.write_text(given or config.to_toml(), encoding="utf-8")
    folder.config_resolved.write_text(config.to_toml(), encoding="utf-8")
    return Session(journal=Journal.create(folder.journal), number=0, config=config, files=_files(config))


def _resumed(
    folder: RunFolder,
    config: Config,
    plan_of: Callable[[Config], SurveyPlan],
    is_stopping: Callable[[], bool],
) -> Session:
    if not folder.journal.exists():
        raise ConfigError(f"{folder.path} holds no run to resume: there is no journal")
    journal, history, note = Journal.open(folder.journal)
    try:
        sessions = [fact for fact in history if isinstance(fact, RunStarted)]
        before = parse_config(sessions[-1].config_toml) if sessions else config
        config = _fitted(before, config)
        files_before = next((fact.files for fact in sessions if fact.files), {})
        files = _files(config) if sessions else {}
        lost = lost_images(folder.path, is_stopping)
        for loss in lost:
            journal.append(loss)
        journal.sync()
        plan = plan_of(config)
        state = SurveyState(plan)
        maps = MapQueue(plan, state)
        # As the next session sees it: what was missed is tried again.
        for fact in (*history, *lost, *sessions[-1:]):
            state.learn(fact)
            maps.learn(fact)
        nothing_left = state.is_finished() and maps.next() is None
        if nothing_left:
            # No pixel was or will be taken with what is configured now.
            config = before
        elif problems := changed(files_before, files):
            raise ConfigError(*problems)
        else:
            folder.config_resolved.write_text(config.to_toml(), encoding="utf-8")
    except BaseException:
        journal.close()
        raise
    notes = [note] if note else []
    notes += [f"{len(f.scan_ids)} scans of {f.slab} are to be exposed again: {f.reason}" for f in lost]
    return Session(
        journal=journal,
        number=len(sessions),
        config=config,
        lost=tuple(lost),
        files=files_before or files,
        note="\n".join(notes),
        is_finished=nothing_left and state.to_restore is None and not state.uninspected,
    )


def _files(config: Config) -> dict[str, str]:
    """Return the digests of what maps are made with; raises ConfigError where a file cannot be read."""
    if config.eds is None:
        return {}
    try:
        options = option_files(config.eds.options, OPTIONS)
        return options | option_files({"sampler": config.eds.sampler}, "eds.")
    except OSError as error:
        raise ConfigError(f"eds: {error}") from None


def _fitted(before: Config, now: Config) -> Config:
    """Give the configuration the grid of the run; raises ConfigError if recorded pixels lose their place."""
    old = before.panorama.geometry(before.analysis.size_px)
    grid = (old.rows, old.columns)
    pairs: list[tuple[str, Any, Any]] = [
        ("scan.fast", before.scan.fast, now.scan.fast),
        ("scan.analysis", before.scan.analysis, now.scan.analysis),
        ("panorama.partitions", before.panorama.partitions, now.panorama.partitions),
        ("detect.halo_px", before.detect.halo_px, now.detect.halo_px),
        ("panorama.tile_fov_um", before.panorama.tile_fov_um, now.panorama.tile_fov_um),
        ("panorama.grid", grid, now.panorama.grid or grid),
    ]
    if (before.pairs is None) != (now.pairs is None):
        what = "a survey: go on with `run`" if before.pairs is None else "pairs: go on with `pairs`"
        raise ConfigError(f"--resume: the run to resume is {what}")
    if before.pairs is not None:
        pairs += [("pairs", before.pairs, now.pairs), ("run.seed", before.run.seed, now.run.seed)]
    if before.eds is None or now.eds is None:
        pairs.append(("eds", before.eds, now.eds))
    else:
        # A map goes on as it was begun; only the time for it may be set anew.
        then_eds, now_eds = before.eds.model_dump(), now.eds.model_dump()
        pairs += [(f"eds.{key}", then_eds[key], now_eds[key]) for key in then_eds if key != "time_min"]
    problems = [
        f"{key}: the run to resume was begun with {then}, now it is {given}"
        for key, then, given in pairs
        if then != given
    ]
    if problems:
        raise ConfigError(*problems)
    fitted = now.model_copy(update={"panorama": now.panorama.model_copy(update={"grid": grid})})
    try:
        fitted.panorama.geometry(fitted.analysis.size_px)
    except ValueError as error:
        raise ConfigError(f"panorama.corners_mm: {error}; the run to resume has this grid") from None
    return fitted
