"""Pitch and dwell time of the fast scan, chosen together for the least total time at a recall.

Fast scans are simulated from the analysis images of pairs, with the noise that was measured on them. For
each, the options of the paper's detector are chosen on some tiles and judged on the others. What is simulated
shares the recorded noise of the analysis image with the reference; to keep that small, a scan of half the
pitch or finer is considered only if its pixels dwell at most MOST_DWELL of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors import plugins
from sparse_actors.config import Config
from sparse_actors.contracts.microscope import Microscope, ScanLimits
from sparse_actors.errors import ConfigError
from sparse_actors.imaging import Imaging

from .engines import engine
from .grid import Configuration
from .instrument import Instrument, estimated
from .judging import REFERENCE_DETECTOR, judged_tile, reference_options
from .matching import Sites, find
from .measures import Measures, TileScore, measures
from .pairs import Pairs, open_pairs
from .sampled_scans import sampled

SCALES = (1, 2, 3, 4, 6)
DWELL_SHARES = (1.0, 0.25, 1 / 16, 1 / 64, 1 / 256)
MOST_SHARE = 0.13
"""Fast scans that take more of the conventional time are not considered."""
MOST_DWELL = 0.25
MOST_NOISE_GREY = 25.0
"""Noisier fast scans, at grey 100, are not considered."""
THRESHOLD_STEPS = (0, 5, 10, 15, 20, 26, 34, 44)
"""Grey levels from the threshold of the reference towards the surroundings."""
QUIET_GREY, SMOOTHING_PX = 4.0, (0.7, 1.2)
"""Fast images with more noise are smoothed before the threshold, by these standard deviations in fast px."""
FOLDS = 5
MOST_RESCANNED = 0.5
"""Eager options are not followed further on a tile once so much of it is rescanned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fast scan, judged on tiles that its detector options were not chosen on."""

    size_px: tuple[int, int]
    scale: int
    dwell_ns: float
    options: dict[str, Any]
    """Of the detector, as chosen on all tiles."""
    measures: Measures

    def to_json(self) -> dict[str, Any]:
        """Return it by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Design:
    """What was found: the instrument, and every fast scan that reaches the recall, the fastest first."""

    instrument: Instrument
    rows: tuple[Row, ...]
    missed: tuple[Imaging, ...]
    """Fast scans at which no options reach the recall."""


def codesign(
    folder: Path,
    recall: float,
    *,
    engine_name: str = "local",
    jobs: int = 0,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Design:
    """Judge fast scans simulated from pairs.

    Parameters
    ----------
    folder
        Of the pairs.
    recall
        Share of the sites to be found.
    engine_name, jobs
        See `engine`.
    seed
        Of the simulated noise.
    on_progress
        Told how many tiles are done, and of how many.

    Raises
    ------
    ConfigError
        There are too few tiles, they show no site, or no fast scan reaches the recall.
    """
    if not 0 < recall <= 1:
        raise ConfigError(f"--recall {recall:g}: expected a share above 0, at most 1")
    pairs = open_pairs(folder)
    if len(pairs.tiles) < 2:
        raise ConfigError(f"pairs of {len(pairs.tiles)} tile: expected at least 2, one to judge by")
    instrument = estimated(pairs)
    settings = considered(pairs, instrument)
    scores: dict[tuple[Imaging, int], list[TileScore]] = {}
    with engine(engine_name, jobs) as executor:
        futures = [
            executor.submit(tile_scores, str(folder.absolute()), tile, settings, instrument, seed)
            for tile in pairs.tiles
        ]
        for done, future in enumerate(futures, start=1):
            for key, entry in future.result().items():
                scores.setdefault(key, []).append(entry)
            on_progress(done, len(futures))
    rows, missed = [], []
    for setting in settings:
        # Options that rescanned nearly all of some tile were not followed there, and are out.
        tried = {
            number: entries
            for (its, number), entries in scores.items()
            if its == setting and len(entries) == len(pairs.tiles)
        }
        sets = option_sets(pairs.config, instrument.noise.sigma(100, setting.dwell_ns))
        row = _row(setting, tried, sets, recall, pairs.config, seed)
        if row is None:
            missed.append(setting)
        else:
            rows.append(row)
    if not rows:
        raise ConfigError(f"--recall {recall:g}: no fast scan considered reaches it; ask for less")
    rows.sort(key=lambda row: (row.measures.full_time, row.scale))
    return Design(instrument, tuple(rows), tuple(missed))


def considered(pairs: Pairs, instrument: Instrument) -> tuple[Imaging, ...]:
    """Return the fast scans that are tried, the configured one among them."""
    config = pairs.config
    width, height = config.analysis.size_px
    least_ns = _least_dwell_ns(config)
    found: dict[Imaging, None] = {}
    for scale in SCALES:
        if width % scale or height % scale:
            continue
        for share in DWELL_SHARES:
            size, dwell = (width // scale, height // scale), config.analysis.dwell_ns * share
            is_apart = scale > 2 or share <= MOST_DWELL
            is_quiet = instrument.noise.sigma(100, dwell) <= MOST_NOISE_GREY
            if share / scale**2 <= MOST_SHARE and is_apart and is_quiet and dwell >= least_ns:
                found[Imaging(size, dwell)] = None
    found[config.fast] = None
    return tuple(found)


def _least_dwell_ns(config: Config) -> float:
    microscope: Microscope = plugins.build("microscope", config.microscope.driver, config.microscope.options)
    try:
        return microscope.limits.dwell_min_ns
    except Exception:
        # Not connected, so any error of a foreign driver means the same: it cannot tell yet.
        return ScanLimits().dwell_min_ns


def option_sets(config: Config, noise_grey: float) -> tuple[dict[str, Any], ...]:
    """Return the detector options that are tried: for each smoothing the careful ones before the eager."""
    own = reference_options(config, ())
    threshold = float(own.get("threshold", 55.0))
    sign = -1 if own.get("polarity") == "bright" else 1
    return tuple(
        {"threshold": threshold + sign * step, "smoothing_px": smoothing}
        for smoothing in (SMOOTHING_PX if noise_grey > QUIET_GREY else (0.0,))
        for step in THRESHOLD_STEPS
    )


@dataclass(frozen=True, slots=True)
class _Simulated:
    """Pairs with another fast image than was scanned; all else is theirs."""

    pairs: Pairs
    image: NDArray[Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pairs, name)

    def fast(self, tile: str, setting: Imaging) -> NDArray[Any]:
        """Return the simulated image."""
        return self.image


def simulated(
    analysis: NDArray[Any], scale: int, dwell_ns: float, instrument: Instrument, seed: Sequence[int]
) -> NDArray[Any]:
    """Return the fast image that the instrument would show of what an analysis image shows."""
    rows, columns = (n // scale * scale for n in analysis.shape)
    return sampled(
        analysis[:rows, :columns],
        scale,
        (scale // 2, scale // 2),
        dwell_ns,
        instrument.noise,
        sweeps=instrument.sweeps,
        random=np.random.default_rng([*seed, scale, round(dwell_ns)]),
    )


@lru_cache(maxsize=2)
def _opened(folder: str) -> Pairs:
    return open_pairs(Path(folder))


def tile_scores(
    folder: str, tile: str, settings: Sequence[Imaging], instrument: Instrument, seed: int
) -> dict[tuple[Imaging, int], TileScore]:
    """Judge every fast scan with every set of options on one tile."""
    pairs = _opened(folder)
    analysis = pairs.analysis(tile)
    reference = plugins.build("detector", REFERENCE_DETECTOR, reference_options(pairs.config, ()))
    sites = Sites.of(find(reference, analysis, 1), (analysis.shape[0], analysis.shape[1]))
    found: dict[tuple[Imaging, int], TileScore] = {}
    for setting in settings:
        scale = pairs.config.analysis.size_px[0] // setting.size_px[0]
        image = simulated(analysis, scale, setting.dwell_ns, instrument, [seed, *tile.encode()])
        its: Any = _Simulated(pairs, image)
        full: set[float] = set()
        for number, options in enumerate(
            option_sets(pairs.config, instrument.noise.sigma(100, setting.dwell_ns))
        ):
            if options["smoothing_px"] in full:
                continue
            entry = _scored(its, tile, setting, options, sites)
            found[setting, number] = entry
            if entry.rescanned_px > MOST_RESCANNED * entry.area_px:
                full.add(options["smoothing_px"])
    return found


def _scored(pairs: Pairs, tile: str, setting: Imaging, options: dict[str, Any], sites: Sites) -> TileScore:
    own = {**reference_options(pairs.config, ()), **options}
    detect = pairs.config.detect.model_copy(update={"detector": REFERENCE_DETECTOR, "options": own})
    config = pairs.config.model_copy(update={"detect": detect})
    detector = plugins.build("detector", REFERENCE_DETECTOR, own)
    return judged_tile(pairs, tile, Configuration(setting, (), ()), config, detector, sites)


def _row(
    setting: Imaging,
    tried: dict[int, list[TileScore]],
    sets: Sequence[dict[str, Any]],
    recall: float,
    config: Config,
    seed: int,
) -> Row | None:
    """Judge a fast scan; None where no options reach the recall."""
    tiles = len(next(iter(tried.values()), ()))
    best = _chosen(tried, range(tiles), recall)
    folds = [range(start, tiles, min(FOLDS, tiles)) for start in range(min(FOLDS, tiles))]
    chosen = [_chosen(tried, [n for n in range(tiles) if n not in fold], recall) for fold in folds]
    if best is None or None in chosen:
        return None
    held_out = {
        n: tried[number][n]
        for fold, number in zip(folds, chosen, strict=True)
        if number is not None
        for n in fold
    }
    return Row(
        size_px=setting.size_px,
        scale=config.analysis.size_px[0] // setting.size_px[0],
        dwell_ns=setting.dwell_ns,
        options=sets[best],
        measures=measures([held_out[n] for n in range(tiles)], seed),
    )


def _chosen(tried: dict[int, list[TileScore]], tiles: Sequence[int], recall: float) -> int | None:
    """Return the options of least time that reach the recall on some tiles."""

    def reaching() -> Iterator[tuple[float, int]]:
        for number, entries in tried.items():
            sites, found = (sum(getattr(entries[n], name) for n in tiles) for name in ("sites", "found"))
            if sites and found >= recall * sites:
                yield sum(entries[n].scan_s for n in tiles), number

    best = min(reaching(), default=None)
    return None if best is None else best[1]
