"""Training a scorer of candidates from pairs, and judging it on tiles that it was not trained on.

Each tile shows its sites in many more fast images than were scanned: one for every way to lay the coarse grid
over the analysis image. They multiply the sites to learn from; judged is on the scanned images alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparse_actors import plugins
from sparse_actors.detection.candidates import DEPTH, FEATURES, candidates
from sparse_actors.detection.scorer import FORMAT, KEY, ScorerFacts
from sparse_actors.errors import ConfigError
from sparse_actors.imaging import Imaging

from .grid import Setting
from .judging import REFERENCE_DETECTOR, reference_options
from .matching import DILATION_PX, Sites, find
from .pairs import Pairs
from .sampled_scans import fitted_noise, sampled
from .scorer_judging import Judgement, judge
from .tree_ensemble import onnx_bytes

FOLDS = 3
TREES = 180
LEAST_SITES = 30
"""Fewer sites than this teach nothing and judge nothing."""
MOST_PHASES = 5
"""Fast images sampled from each analysis image, beside the scanned one."""
FIRST_DEPTH_GREY = 12.0
"""Shallower minima are not looked at."""
KEPT = 0.2
"""Share of the candidates off all sites that a sampled image teaches; each counts for 1 / KEPT."""
SITES_BELOW_DEPTH = 0.001
"""Share of the sites that may be shallower than the least depth of a candidate."""
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """The candidates of one fast image."""

    features: Rows
    pixels: NDArray[np.int64]
    """(n, 2): row, column on the analysis grid of the top left corner of each candidate's pixel."""
    weight: float
    """How much each that is no site counts in training."""
    is_site: NDArray[np.int8]
    """(n,): 1 on a site, 0 far from all, -1 in between, which teaches nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """What a tile teaches."""

    name: str
    sites: Sites
    scanned: Image
    sampled: tuple[Image, ...]


@dataclass(frozen=True, slots=True)
class Trained:
    """A scorer and what people should know of it."""

    onnx: bytes
    card: dict[str, Any]


def train_scorer(
    pairs: Pairs,
    setting: Imaging,
    reference: Setting = (),
    *,
    seed: int = 0,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Train on pairs.

    Parameters
    ----------
    pairs, setting
        The tiles, and with which of their fast scans.
    reference
        Options of the detector that finds the sites in the analysis images, over those configured.
    seed
        Of what is drawn at random.
    on_progress
        Told what is being done.

    Raises
    ------
    ConfigError
        There are too few tiles or sites, or a package of the extra `train` is missing.
    """
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("training needs the package onnx: pip install 'sparse-actors[train]'") from None
    options = reference_options(pairs.config, reference)
    polarity = options.get("polarity", "dark")
    scale = pairs.config.analysis.size_px[0] // setting.size_px[0]
    if len(pairs.tiles) < 2:
        raise ConfigError(
            f"pairs of {len(pairs.tiles)} tile: expected at least 2, one to judge the scorer on"
        )
    tiles: list[Tile] = []
    for name in pairs.tiles:
        on_progress(f"tile {name}, {len(tiles) + 1} of {len(pairs.tiles)}")
        tiles.append(_tile(pairs, name, setting, scale, options, seed))
    sites = sum(len(tile.sites) for tile in tiles)
    if sites < LEAST_SITES:
        raise ConfigError(f"the pairs show {sites} sites: expected at least {LEAST_SITES}; scan more tiles")
    least_depth = _least_depth(tiles)
    order = np.random.default_rng(seed).permutation(len(tiles))
    folds = [order[start :: min(FOLDS, len(tiles))] for start in range(min(FOLDS, len(tiles)))]
    raw: list[NDArray[np.float64]] = [np.empty(0)] * len(tiles)
    for number, held_out in enumerate(folds, start=1):
        on_progress(f"judging, {number} of {len(folds)}")
        model = _fitted([t for n, t in enumerate(tiles) if n not in held_out], least_depth, seed)
        for n in held_out:
            raw[n] = _decision(model, tiles[n].scanned.features)
    judgement = judge(
        [tile.sites for tile in tiles],
        [tile.scanned.pixels for tile in tiles],
        [
            np.where(t.scanned.features[:, DEPTH] >= least_depth, r, -np.inf)
            for t, r in zip(tiles, raw, strict=True)
        ],
        [tile.scanned.is_site for tile in tiles],
        scale,
    )
    on_progress("training on all tiles")
    model = _fitted(tiles, least_depth, seed)
    facts = ScorerFacts(
        format=FORMAT,
        features=FEATURES,
        scale=scale,
        dwell_ns=setting.dwell_ns,
        polarity=polarity,
        least_depth_grey=least_depth,
        score_at_recall=judgement.score_at_recall,
    )
    data = onnx_bytes(model, judgement.calibration, {KEY: facts.to_json()})
    card = _card(pairs, setting, options, tiles, facts, judgement, seed)
    return Trained(data, {"sha256": hashlib.sha256(data).hexdigest(), **card})


def save(trained: Trained, out: Path) -> Path:
    """Write the scorer, and its card beside it; returns where the card is."""
    import json

    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(trained.onnx)
    card = out.with_suffix(".json")
    card.write_text(json.dumps(trained.card, indent=1) + "\n", encoding="utf-8", newline="\n")
    return card


def _tile(pairs: Pairs, name: str, setting: Imaging, scale: int, options: dict[str, Any], seed: int) -> Tile:
    """Detect the sites of a tile, and describe the candidates of its fast images."""
    analysis = pairs.analysis(name)
    detector = plugins.build("detector", REFERENCE_DETECTOR, options)
    sites = Sites.of(find(detector, analysis, 1), (analysis.shape[0], analysis.shape[1]))
    is_away = np.ones(sites.shape, np.uint8)
    is_away[sites.found.painted(sites.shape)] = 0
    # Where nothing is, the transform would give no distance at all.
    away = cv2.distanceTransform(is_away, cv2.DIST_L2, 5) if len(sites) else np.full(sites.shape, np.inf)
    inverted = options.get("polarity", "dark") == "bright"

    def image(fast: NDArray[Any], row: int, column: int) -> Image:
        found = candidates(np.iinfo(fast.dtype).max - fast if inverted else fast, FIRST_DEPTH_GREY)
        centre = found.row_column * scale + (row, column)
        distance = away[tuple(np.minimum(centre, np.array(sites.shape) - 1).T)]
        # A drift of some pixels, and half a fast pixel to where the site is deepest.
        near = distance <= 4 + 0.75 * scale
        is_site = np.where(near, 1, np.where(distance > DILATION_PX + 2, 0, -1)).astype(np.int8)
        return Image(found.features, found.row_column * scale, 1.0, is_site)

    def thinned(whole: Image) -> Image:
        kept = (whole.is_site == 1) | ((whole.is_site == 0) & (random.random(len(whole.is_site)) < KEPT))
        return Image(whole.features[kept], whole.pixels[kept], 1 / KEPT, whole.is_site[kept])

    noise = fitted_noise([(analysis, pairs.config.analysis.dwell_ns)], pairs.config.analysis.dwell_ns)
    others = [(r, c) for r in range(scale) for c in range(scale) if (r, c) != (scale // 2, scale // 2)]
    random = np.random.default_rng([seed, *name.encode()])
    chosen: Any = random.choice(len(others), min(MOST_PHASES, len(others)), replace=False) if others else []
    more = []
    if noise is not None:
        for row, column in (others[n] for n in chosen):
            fast = sampled(
                analysis, scale, (row, column), setting.dwell_ns, noise, sweeps=False, random=random
            )
            more.append(thinned(image(fast, row, column)))
    return Tile(name, sites, image(pairs.fast(name, setting), scale // 2, scale // 2), tuple(more))


def _least_depth(tiles: Sequence[Tile]) -> float:
    """Return the depth that all sites but a few have in the images sampled of them."""
    depths = np.concatenate(
        [image.features[image.is_site == 1, DEPTH] for t in tiles for image in (t.scanned, *t.sampled)]
    )
    return max(FIRST_DEPTH_GREY, float(np.floor(np.quantile(depths, SITES_BELOW_DEPTH))))


def _fitted(tiles: Sequence[Tile], least_depth: float, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    images = [image for tile in tiles for image in (tile.scanned, *tile.sampled)]
    used = [(image.is_site >= 0) & (image.features[:, DEPTH] >= least_depth) for image in images]
    features = np.concatenate([image.features[use] for image, use in zip(images, used, strict=True)])
    labels = np.concatenate([image.is_site[use] for image, use in zip(images, used, strict=True)])
    weights = np.concatenate(
        [
            np.where(image.is_site[use] == 1, 1.0, image.weight)
            for image, use in zip(images, used, strict=True)
        ]
    )
    model = HistGradientBoostingClassifier(
        max_iter=TREES,
        learning_rate=0.09,
        max_leaf_nodes=24,
        min_samples_leaf=30,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    # By one thread: sums in another order would give another model for the same seed.
    with threadpool_limits(1):
        return model.fit(features, labels, weights)


def _decision(model: Any, features: Rows) -> NDArray[np.float64]:
    return np.asarray(model.decision_function(features)) if len(features) else np.empty(0)


def _card(
    pairs: Pairs,
    setting: Imaging,
    options: dict[str, Any],
    tiles: Sequence[Tile],
    facts: ScorerFacts,
    judgement: Judgement,
    seed: int,
) -> dict[str, Any]:
    config = pairs.config
    return {
        "what": "scorer of candidates in fast images: gradient boosting on local minima (scikit-learn)",
        "trained_on": {
            "pairs_sha256": hashlib.sha256(pairs.manifest.read_bytes()).hexdigest(),
            "origin": pairs.origin,
            "sample": config.sample.model_dump(mode="json", exclude_defaults=True),
            "microscope": config.microscope.driver,
            "tile_fov_um": config.panorama.tile_fov_um,
            "tiles": [tile.name for tile in tiles],
            "sites": sum(len(tile.sites) for tile in tiles),
            "site": {key: value for key, value in options.items() if key != "threads"},
            "analysis": {"size_px": list(config.analysis.size_px), "dwell_ns": config.analysis.dwell_ns},
            "fast": {"size_px": list(setting.size_px), "dwell_ns": setting.dwell_ns},
            "images_sampled_a_tile": max(len(tile.sampled) for tile in tiles),
        },
        "judged_on": judgement.to_json(),
        "least_depth_grey": facts.least_depth_grey,
        "seed": seed,
        "versions": {
            name: metadata.version(name) for name in ("sparse-actors", "scikit-learn", "onnx", "numpy")
        },
    }
