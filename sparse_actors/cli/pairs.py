"""Acquiring pairs in front of somebody."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sparse_actors.app import RunResult, run_survey, survey_plan
from sparse_actors.config import Config, load_config
from sparse_actors.config_sources import find, read
from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.pair_files import collect
from sparse_actors.evaluation.pairs import Pairs
from sparse_actors.imaging import Imaging, ScanTiming, dose_e_per_nm2
from sparse_actors.instrument_times import read_times, times_folder
from sparse_actors.messages import Message, Recorded, TileFinished
from sparse_actors.planning.learnt_times import LearntTimes
from sparse_actors.planning.pairs_plan import PairsPlan
from sparse_actors.session import new_folder

from .check import declared_limits, free_disk_bytes
from .display import duration
from .exit_codes import ExitCode, of_outcome
from .run import latest_run

_SETTING = re.compile(r"\s*(\d+)\s*x\s*(\d+)\s*@\s*([0-9.eE+]+)\s*")
PACKED_TOO = 2
"""The images are on disk twice while they are packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsCost:
    """What pairs cost, stage moves left out."""

    tiles: int
    fast: tuple[tuple[tuple[int, int], float], ...]
    """(width, height) and dwell time in ns of each fast setting."""
    scan_s: float
    analysis_s: float
    """Of that, the analysis scans."""
    dose_e_per_nm2: float | None
    """On each pixel, all settings together; None where the beam current is not known."""
    disk_bytes: int


def pairs_config(file: Path, overrides: Sequence[str], tiles: str | None, fast: Sequence[str]) -> Config:
    """Return the configuration of pairs; what is given on the command line counts before the file."""
    more = list(overrides)
    if tiles is not None:
        names = [name.strip() for name in tiles.split(",")]
        more += [f"pairs.tiles={names[0]}", "pairs.at=[]"] if names[0].isdigit() else [f"pairs.at={names}"]
    if fast:
        more.append(f"pairs.fast=[{', '.join(_table(text) for text in fast)}]")
    return load_config(file, more).for_pairs()


def _table(text: str) -> str:
    imaging = fast_setting(text)
    return f"{{size_px = {list(imaging.size_px)}, dwell_ns = {imaging.dwell_ns!r}}}"


def fast_setting(text: str) -> Imaging:
    """Read a fast setting such as "768x768@3200": width, height, dwell time in ns."""
    match = _SETTING.fullmatch(text)
    try:
        if match is None:
            raise ValueError("expected WIDTHxHEIGHT@DWELL")
        return Imaging((int(match[1]), int(match[2])), float(match[3]))
    except ValueError as error:
        raise ConfigError(f"--fast {text}: {error}, pixels and nanoseconds, such as 768x768@3200") from None


def cost(config: Config, plan: PairsPlan, timing: ScanTiming, bytes_per_pixel: int) -> PairsCost:
    """Predict what pairs take by eq. 1 of the SPARSE paper; pure."""
    settings = (plan.fast, *plan.more_fast)

    def scan_s(imaging: Imaging) -> float:
        width, height = imaging.size_px
        return timing.duration_s(width * height, height, imaging.dwell_ns)

    tiles, analysis = len(plan.tiles), plan.analysis
    field_nm, current_pa = plan.panorama.tile_fov_mm[0] * 1e6, config.microscope.beam_current_pa
    dose = None
    if current_pa is not None:
        dose = sum(
            dose_e_per_nm2(current_pa, s.dwell_ns, field_nm / s.size_px[0]) for s in (*settings, analysis)
        )
    pixels = sum(s.size_px[0] * s.size_px[1] for s in (*settings, analysis))
    return PairsCost(
        tiles=tiles,
        fast=tuple((s.size_px, s.dwell_ns) for s in settings),
        scan_s=tiles * sum(map(scan_s, (*settings, analysis))),
        analysis_s=tiles * scan_s(analysis),
        dose_e_per_nm2=dose,
        disk_bytes=PACKED_TOO * tiles * pixels * bytes_per_pixel,
    )


def pairs_shown(
    config_file: Path | None,
    overrides: Sequence[str],
    *,
    tiles: str | None,
    fast: Sequence[str],
    out: Path | None,
    resume: bool,
    check: bool,
) -> tuple[PairsCost, RunResult | None, ExitCode]:
    """Say what pairs cost; then, unless that was all, acquire or go on acquiring them."""
    file = find(config_file, os.environ)
    config = pairs_config(file, overrides, tiles, fast)
    plan = survey_plan(config)
    if not isinstance(plan, PairsPlan):
        raise TypeError("a configuration with [pairs] has a plan of pairs")
    limits, times = declared_limits(config), times_folder(os.environ)
    known = read_times(times, config.microscope)
    learnt = None if known is None else LearntTimes(config.timing, known).scans.timing
    timing = learnt or config.timing or limits.timing
    predicted = cost(config, plan, timing, 2 if limits.pixel_type == "uint16" else 1)
    console = Console(stderr=True)
    for sentence in sentences(predicted, plan, free_disk_bytes(config.run.out_dir)):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    limit = config.limits.max_dose_e_per_nm2
    if limit is not None and (predicted.dose_e_per_nm2 or 0.0) > limit:
        raise ConfigError(
            f"limits.max_dose_e_per_nm2 = {limit:g}: the settings together take "
            f"{predicted.dose_e_per_nm2:.4g}; compare fewer, or raise the limit"
        )
    if check:
        return predicted, None, ExitCode.DONE
    if resume:
        out = out or latest_run(config)
    out = out or new_folder(config)
    progress = _Progress(console, plan)
    result = run_survey(
        config,
        given=read(file),
        out=out,
        resume=resume,
        observe=progress.observe,
        times_folder=times,
        say=lambda text: console.print(text, style="yellow", markup=False, soft_wrap=True),
    )
    said = f"pairs {result.outcome}" + (f": {result.reason}" if result.reason else "")
    console.print(f"{said}; {out}", markup=False, highlight=False, soft_wrap=True)
    for text in (result.note, *result.problems):
        if text:
            console.print(text, style="yellow", markup=False, soft_wrap=True)
    missing = int(result.outcome == "completed" and "missing" in result.reason)
    return predicted, result, of_outcome(result.outcome, result.cause, result.problems, missing)


def sentences(predicted: PairsCost, plan: PairsPlan, free_bytes: int) -> list[str]:
    """Say what pairs take, and what of it is not known or not there."""
    settings = ", ".join(f"{w} x {h} at {dwell:g} ns" for (w, h), dwell in predicted.fast)
    width, height = plan.analysis.size_px
    found = [
        f"{predicted.tiles} tiles of {plan.panorama.rows * plan.panorama.columns} (seed {plan.seed}): "
        + ", ".join(map(str, plan.tiles[:20]))
        + (" ..." if predicted.tiles > 20 else ""),
        f"each fast at {settings}; then at {width} x {height}, {plan.analysis.dwell_ns:g} ns",
        f"scan time {duration(predicted.scan_s)}, {duration(predicted.analysis_s)} of it for analysis",
        f"disk {predicted.disk_bytes / 1e6:.0f} MB",
    ]
    if predicted.dose_e_per_nm2 is None:
        found.append("dose not known; give microscope.beam_current_pa")
    else:
        found.append(f"dose {predicted.dose_e_per_nm2:.3g} electrons per nm^2, all settings together")
    if predicted.disk_bytes > free_bytes:
        found.append(f"warning: only {free_bytes / 1e9:.1f} GB are free")
    return found


class _Progress:
    """Says after every tile how many are done."""

    def __init__(self, console: Console, plan: PairsPlan) -> None:
        self._console, self._plan = console, plan
        self._scans = self._tiles = 0

    def observe(self, message: Message, number: int) -> None:
        match message:
            case Recorded():
                self._scans += 1
            case TileFinished(tile=tile):
                self._tiles += 1
                self._console.print(
                    f"tile {tile} done, {self._tiles} of {len(self._plan.tiles)}; {self._scans} scans",
                    markup=False,
                    highlight=False,
                )
            case _:
                pass


def pairs_from_files(
    config_file: Path | None,
    overrides: Sequence[str],
    source: Path,
    fast: Sequence[str],
    noise_grey: float,
    out: Path | None,
) -> dict[str, Any]:
    """Make pairs out of images that are there, and say how."""
    config = pairs_config(find(config_file, os.environ), overrides, None, fast)
    given = config.pairs.fast if config.pairs else ()
    settings = [scan.imaging() for scan in given] or [config.fast]
    if out is None:
        raise ConfigError("--out is missing: the folder that will list the pairs")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"--out {out}: is not empty; name a new folder")
    pairs = collect(source, config, settings, noise_grey, config.run.seed)
    pairs.save(out)
    console = Console(stderr=True)
    console.print(f"{len(pairs.tiles)} tiles: {pairs.origin}", markup=False, highlight=False, soft_wrap=True)
    return {"folder": str(out), "tiles": len(pairs.tiles), "origin": pairs.origin}


def as_json(predicted: PairsCost) -> dict[str, Any]:
    """Return the prediction by name."""
    return asdict(predicted)


def setting_of(pairs: Pairs, fast: str | None) -> Imaging:
    """Return the fast setting asked for, or the only one there is."""
    there = ", ".join(f"{s.size_px[0]}x{s.size_px[1]}@{s.dwell_ns:g}" for s in pairs.settings)
    if fast is None:
        if len(pairs.settings) > 1:
            raise ConfigError(f"--fast is missing: the pairs have {there}")
        return pairs.settings[0]
    setting = fast_setting(fast)
    if setting not in pairs.settings:
        raise ConfigError(f"--fast {fast}: the pairs have no such images; they have {there}")
    return setting
