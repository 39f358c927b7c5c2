"""One configuration of a sweep over all tiles: a pure function of the pairs and of the configuration.

It runs in worker processes, here or of a Dask cluster, which open the pairs by their path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sparse_actors import plugins
from sparse_actors.config import Config, parse_config
from sparse_actors.contracts.detector import Pois
from sparse_actors.errors import ConfigError, DetectorError, SparseActorsError
from sparse_actors.imaging import Imaging
from sparse_actors.planning.placement import regions_covering
from sparse_actors.planning.regions import regions_around

from .grid import Configuration, Setting
from .matching import Sites, find
from .measures import Boxes, Scanning, TileScore, score
from .pairs import Pairs, open_pairs

REFERENCE_DETECTOR = "threshold_dbscan"
"""The reference sites are always the paper's clusters, whatever detector is judged."""


def judged(folder: str, configuration: Configuration) -> list[TileScore]:
    """Judge a configuration on every tile of the pairs in a folder.

    Raises
    ------
    ConfigError
        The configuration is none, or the folder holds no pairs.
    """
    pairs = opened(folder)
    config = checked_config(pairs, configuration)
    detector = plugins.build("detector", config.detect.detector, with_one_thread(config))
    scores = []
    for tile in pairs.tiles:
        sites = sites_of(folder, tile, configuration.reference)
        scores.append(judged_tile(pairs, tile, configuration, config, detector, sites))
    return scores


def checked_config(pairs: Pairs, configuration: Configuration) -> Config:
    """Return the configuration of the pairs with that of the sweep put in; raises ConfigError."""
    return parse_config(pairs.config.for_survey().to_toml(), configuration.overrides)


def judged_tile(
    pairs: Pairs,
    tile: str,
    configuration: Configuration,
    config: Config,
    detector: Any,
    sites: Sites,
) -> TileScore:
    """Detect the fast image of a tile and judge what is found."""
    image = pairs.fast(tile, configuration.fast)
    scale = sites.shape[0] // image.shape[0]
    if (image.shape[0] * scale, image.shape[1] * scale) != sites.shape:
        raise ConfigError(f"tile {tile}: {image.shape} fast pixels do not fit {sites.shape} analysis pixels")
    try:
        found = find(detector, image, scale)
    except SparseActorsError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise DetectorError(f"{config.detect.detector} failed on tile {tile}: {reason}") from error
    rows, columns = sites.shape
    scanning = Scanning(
        fast=replace(configuration.fast, size_px=(image.shape[1], image.shape[0])),
        analysis=Imaging((columns, rows), config.analysis.dwell_ns),
        timing=pairs.timing,
        partitions=config.panorama.partitions,
        merging=config.regions.merge,
        mask_form=pairs.mask_form,
    )
    regions = regions_of(found.pois, config, (columns, rows))
    ideal = regions_of(sites.found.pois, config, (columns, rows))
    return score(tile, sites, found, regions, ideal, scanning)


def regions_of(pois: Pois, config: Config, field_px: tuple[int, int]) -> Boxes:
    """Return the regions that the survey would rescan around points, (n, 4)."""
    if config.regions.placement == "free":
        return regions_covering(pois, config.regions.size_px, field_px, config.regions.margin_px)
    return regions_around(pois, config.regions.size_px, field_px)


def reference_options(config: Config, given: Setting) -> dict[str, Any]:
    """Return the options by which sites are found: the configured ones, and over them those given."""
    own = config.detect.options if config.detect.detector == REFERENCE_DETECTOR else {}
    return {**own, "interpolation": "bicubic", **dict(given), "threads": 1}


def with_one_thread(config: Config) -> Mapping[str, Any]:
    """Return the detector's options; processes work side by side, each with one thread."""
    more = {"threads": 1} if config.detect.detector == REFERENCE_DETECTOR else {}
    return {**config.detect.options, **more}


@lru_cache(maxsize=2)
def opened(folder: str) -> Pairs:
    """Return the pairs in a folder, opened once in each process."""
    return open_pairs(Path(folder))


@lru_cache(maxsize=4096)
def sites_of(folder: str, tile: str, reference: Setting) -> Sites:
    """Return the reference sites of a tile."""
    pairs = opened(folder)
    detector = plugins.build("detector", REFERENCE_DETECTOR, reference_options(pairs.config, reference))
    image = pairs.analysis(tile)
    return Sites.of(find(detector, image, 1), (image.shape[0], image.shape[1]))
