"""Promising a recall in front of somebody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sparse_actors.config import Config, parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.grid import Configuration, configurations
from sparse_actors.evaluation.guarantee import promise
from sparse_actors.evaluation.judging import REFERENCE_DETECTOR
from sparse_actors.evaluation.pairs import Pairs, open_pairs
from sparse_actors.evaluation.site_scores import Looser, looser_of, site_scores, value_of
from sparse_actors.imaging import Imaging
from sparse_actors.toml_edit import with_values

from .pairs import setting_of

STRICTER, LOOSER, STEP = 15, 40, 1
"""Grey levels around the configured threshold that are tried where nobody says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseOptions:
    """What is promised, of what, and what becomes of it."""

    recall: float
    confidence: float
    grid: str | None
    looser: Looser | None
    lost_together: int | None
    reference: Sequence[str]
    fast: str | None
    into: Path | None
    engine: str
    jobs: int


def promise_shown(folder: Path, options: PromiseOptions) -> dict[str, Any]:
    """Choose the strictest value that can be promised, state it, and write it into a configuration.

    Raises
    ------
    ConfigError
        The options are wrong, or the configuration to change is not of these pairs.
    TooFewSitesError
        No value can be promised.
    """
    for name, share in (("--recall", options.recall), ("--confidence", options.confidence)):
        if not 0 < share < 1:
            raise ConfigError(f"{name} {share}: expected a share between 0 and 1; 1 itself cannot be proven")
    pairs = open_pairs(folder)
    before = options.into.read_text("utf-8-sig") if options.into else pairs.given
    config = parse_config(before).for_survey() if options.into else pairs.config.for_survey()
    setting = _setting(pairs, config, options)
    values = _values(config, setting, options)
    key = values[0].options[0][0]
    looser = options.looser or looser_of(config, key)
    if looser is None:
        raise ConfigError(f"--looser is missing: does the detector find more with a higher or a lower {key}?")
    console = Console(stderr=True)

    def say(text: str, style: str = "") -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)

    say(f"{len(values)} values of {key} on {len(pairs.tiles)} tiles; {pairs.origin}")
    scores = site_scores(
        folder,
        config,
        values,
        looser,
        engine_name=options.engine,
        jobs=options.jobs,
        on_progress=lambda done, total: say(f"tile {done} of {total}"),
    )
    made = promise(
        scores,
        recall=options.recall,
        confidence=options.confidence,
        lost_together=options.lost_together,
        looser=looser,
    )
    chosen = next(one for one in values if value_of(one) == made.parameter)
    after = with_values(before, _changes(chosen))
    parse_config(after)
    file = options.into or folder / "promise.toml"
    file.write_text(after, encoding="utf-8", newline="\n")
    warnings = _warnings(pairs)
    for sentence in (f"{key} = {made.parameter:g}", str(made), f"wrote {file}"):
        say(sentence)
    for warning in warnings:
        say(f"warning: {warning}", "yellow")
    more = {"key": key, "statement": str(made), "file": str(file), "warnings": warnings}
    return {**asdict(made), "worse_tiles": made.worse_tiles, **more}


def _setting(pairs: Pairs, config: Config, options: PromiseOptions) -> Imaging:
    """Return the fast scan that the promise is about; raises ConfigError."""
    if options.into is None:
        return setting_of(pairs, options.fast)
    if options.fast is not None:
        raise ConfigError("--fast: with --into the fast scan is that of the configuration; leave it out")
    for name, theirs, there in (
        ("scan.analysis", config.analysis, (pairs.config.analysis,)),
        ("scan.fast", config.fast, tuple(pairs.settings)),
    ):
        if theirs not in there:
            has = ", ".join(f"{s.size_px[0]}x{s.size_px[1]}@{s.dwell_ns:g}" for s in there)
            (width, height), dwell_ns = theirs.size_px, theirs.dwell_ns
            raise ConfigError(
                f"--into {options.into}: has {name} {width}x{height}@{dwell_ns:g}, the pairs {has}"
            )
    return config.fast


def _values(config: Config, setting: Imaging, options: PromiseOptions) -> list[Configuration]:
    """Return what is tried, each with the one key set."""
    grid = options.grid
    if grid is None:
        threshold = config.detect.options.get("threshold")
        if config.detect.detector != REFERENCE_DETECTOR or not isinstance(threshold, int | float):
            raise ConfigError(
                "--grid is missing: expected KEY=VALUES with one key of numbers, such as "
                "detect.options.min_score=0.05:0.95:0.05"
            )
        is_higher = looser_of(config, "detect.options.threshold") == "higher"
        down, up = (STRICTER, LOOSER) if is_higher else (LOOSER, STRICTER)
        grid = f"detect.options.threshold={max(1, threshold - down):g}:{threshold + up:g}:{STEP}"
    values = configurations([setting], [grid], options.reference)
    if any(len(one.options) != 1 for one in values):
        raise ConfigError(f"--grid {grid}: expected one key")
    if len({one.reference for one in values}) > 1:
        raise ConfigError("--reference: expected one value for each key")
    for one in values:
        value_of(one)
    return values


def _changes(chosen: Configuration) -> dict[tuple[str, ...], Any]:
    ((key, value),) = chosen.options
    return {
        ("scan", "fast", "size_px"): list(chosen.fast.size_px),
        ("scan", "fast", "dwell_ns"): chosen.fast.dwell_ns,
        tuple(key.split(".")): value,
    }


def _warnings(pairs: Pairs) -> list[str]:
    given = pairs.config.pairs
    if given is not None and given.at:
        return ["the tiles were named, not drawn at random: the promise is for tiles like these"]
    return []
