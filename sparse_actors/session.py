"""Begins the folder of a run, or takes up one that was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sparse_actors.config import Config, parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.messages import ImagesLost, RunStarted
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.lost_images import lost_images
from sparse_actors.recording.run_folder import RunFolder


def new_folder(config: Config) -> Path:
    """Return a folder named by date, time and the run's name under `run.out_dir`."""
    stamp = datetime.now().astimezone().strftime("%Y-%m-%dT%H%M%S")
    return Path(config.run.out_dir) / f"{stamp}_{config.run.name}"


def open_session(
    folder: RunFolder,
    config: Config,
    *,
    resume: bool,
    given: str,
    is_stopping: Callable[[], bool] = lambda: False,
) -> tuple[Journal, int, Config, list[ImagesLost], str]:
    """Begin or take up a run.

    Parameters
    ----------
    folder, config
        Where, and with what.
    resume
        Go on with the run in the folder.
    given
        The text of the configuration file, kept with a new run.
    is_stopping
        Whether the session is to end before it began: then images need not be looked for.

    Returns
    -------
    tuple
        The journal, open for writing; the number of this session; the configuration, a resumed run
        keeping its grid of tiles although its corners were set anew; which images were lost since, as
        journaled; and in words what had to be mended.

    Raises
    ------
    ConfigError
        The folder holds a run already or none to resume, or the configuration does not fit it.
    JournalError
        The journal is damaged or in use.
    """
    if resume:
        if not folder.journal.exists():
            raise ConfigError(f"{folder.path} holds no run to resume: there is no journal")
        journal, history, note = Journal.open(folder.journal)
        sessions = [fact for fact in history if isinstance(fact, RunStarted)]
        try:
            if sessions:
                config = _fitted(parse_config(sessions[-1].config_toml), config)
            lost = lost_images(folder.path, is_stopping)
            for fact in lost:
                journal.append(fact)
            journal.sync()
        except BaseException:
            journal.close()
            raise
        folder.config_resolved.write_text(config.to_toml(), encoding="utf-8")
        notes = [note] if note else []
        notes += [f"{len(f.scan_ids)} scans of {f.slab} are to be exposed again: {f.reason}" for f in lost]
        return journal, len(sessions), config, lost, "\n".join(notes)
    if folder.journal.exists():
        raise ConfigError(f"{folder.path} holds a run already: --resume goes on with it, --out names another")
    folder.create()
    folder.config_given.write_text(given or config.to_toml(), encoding="utf-8")
    folder.config_resolved.write_text(config.to_toml(), encoding="utf-8")
    return Journal.create(folder.journal), 0, config, [], ""


def _fitted(before: Config, now: Config) -> Config:
    """Give the configuration the grid of the run; raises ConfigError if recorded pixels lose their place."""
    old = before.panorama.geometry(before.analysis.size_px)
    grid = (old.rows, old.columns)
    pairs = [
        ("scan.fast", before.scan.fast, now.scan.fast),
        ("scan.analysis", before.scan.analysis, now.scan.analysis),
        ("panorama.partitions", before.panorama.partitions, now.panorama.partitions),
        ("detect.halo_px", before.detect.halo_px, now.detect.halo_px),
        ("panorama.tile_fov_um", before.panorama.tile_fov_um, now.panorama.tile_fov_um),
        ("panorama.grid", grid, now.panorama.grid or grid),
    ]
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
