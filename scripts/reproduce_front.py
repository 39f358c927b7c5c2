"""What is found against what it costs: the paper's pipeline and ours, on the twin and on recorded images.

Every tile is judged at an operating point that was chosen on other tiles: they are dealt into FOLDS parts,
and for each part the parameters are the fastest of those that reach the recall on the others.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from front_methods import Method, methods, methods_for_samples
from front_report import documents as documents
from front_report import line as line
from front_tiles import ANALYSIS, FastScan, TwinTile, recorded

from sparse_actors.detection.threshold_dbscan import ThresholdDbscan
from sparse_actors.evaluation.matching import Found, Sites, find
from sparse_actors.evaluation.measures import Scanning, TileScore, measures, score
from sparse_actors.imaging import Imaging, ScanTiming

Row = dict[str, Any]
TILES, QUICK_TILES, QUICK_SIZE_PX = 30, 5, 1024
FOLDS = 5
TARGETS = (0.99, 0.98, 0.95, 0.90)
MOST_RESCANNED, MOST_DETECTIONS = 0.9, 5000
"""A family of parameters is not followed further on a tile once it rescans or finds so much."""
TIMING = ScanTiming(row_overhead_us=20.0, scan_overhead_ms=5.0)
"""Of the full time model, as the simulated microscope declares."""
THRESHOLD = 55.0
PAPER = {0.99: 0.48, 0.95: 0.87, 0.90: 0.95}
"""Published efficiencies, section 3.4."""
Key = tuple[str, int, int]
"""Method, family, place in the family."""


def rows(quick: bool, seed: int, processes: int = 1) -> Iterator[Row]:
    """Judge every method on the twin, then those that sampled images allow on what is recorded."""
    tiles: list[Any] = [TwinTile(index, seed + 1) for index in range(TILES)]
    if quick:
        tiles = [TwinTile(index, seed + 1, QUICK_SIZE_PX) for index in range(QUICK_TILES)]
    yield from _rows(tiles, methods(quick), seed, processes, "twin", "")
    if not quick:
        for images, note, tiles in recorded(seed):
            yield from _rows(tiles, methods_for_samples(), seed, processes, images, note)


def _rows(
    tiles: Sequence[Any], names: dict[str, Method], seed: int, processes: int, images: str, note: str
) -> Iterator[Row]:
    scored: dict[Key, dict[str, TileScore]] = {}
    for found in _each_tile(tiles, names, processes):
        for key, entry in found.items():
            scored.setdefault(key, {})[entry.tile] = entry
    for row in judged(names, scored, [tile.name for tile in tiles], seed):
        yield {"images": images, "note": note} | row


def judged(
    names: dict[str, Method],
    scored: dict[Key, dict[str, TileScore]],
    tiles: Sequence[str],
    seed: int,
) -> Iterator[Row]:
    """Yield a row for each method and recall asked for."""
    for name, method in names.items():
        table = {key: found for key, found in scored.items() if key[0] == name and len(found) == len(tiles)}
        for target in TARGETS:
            chosen = [_chosen(table, tiles, fold, target) for fold in range(FOLDS)]
            if None in chosen:
                continue
            entries = [table[chosen[n % FOLDS]][tile] for n, tile in enumerate(tiles)]  # type: ignore[index]
            result = measures(entries, seed)
            low, high = result.recall_ci
            yield {
                "method": name,
                "target": target,
                "recall": result.recall,
                "efficiency": result.efficiency,
                "total_time": result.total_time,
                "ci": {
                    "recall": [low, high],
                    "efficiency": list(result.efficiency_ci),
                    "total_time": list(result.total_time_ci),
                },
                "full_time": result.full_time,
                "max_efficiency": result.max_efficiency,
                "whole": result.whole,
                "sites": result.sites,
                "tiles": result.tiles,
                "published_efficiency": PAPER.get(target) if name == "paper-same-fast-scan" else None,
                "parameters": [
                    method.families[key[1]][key[2]] for key in dict.fromkeys(c for c in chosen if c)
                ],
            }


def _chosen(
    table: dict[Key, dict[str, TileScore]], tiles: Sequence[str], fold: int, target: float
) -> Key | None:
    """Return the parameters of least time that reach the recall on the tiles of the other folds."""
    others = [tile for n, tile in enumerate(tiles) if n % FOLDS != fold]
    best: tuple[float, Key] | None = None
    for key, found in table.items():
        sites = sum(found[tile].sites for tile in others)
        hits = sum(found[tile].found for tile in others)
        rescanned = sum(found[tile].rescanned_px for tile in others)
        if hits >= target * sites and (best is None or (rescanned, key) < best):
            best = rescanned, key
    return best[1] if best else None


def _each_tile(
    tiles: Sequence[Any], names: dict[str, Method], processes: int
) -> Iterator[dict[Key, TileScore]]:
    if processes == 1:
        yield from (tile_scores(tile, names) for tile in tiles)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(tile_scores, tiles, [names] * len(tiles))


def tile_scores(tile: Any, names: dict[str, Method]) -> dict[Key, TileScore]:
    """Judge every set of parameters of every method on one tile."""
    sites: dict[str, Sites] = {}
    images: dict[FastScan, Any] = {}
    detected: dict[str, Found] = {}
    found: dict[Key, TileScore] = {}
    for name, method in names.items():
        noise = method.scan.noise_grey
        reference = f"{noise} {method.reference}"
        if reference not in sites:
            analysis = tile.analysis(noise)
            detector = ThresholdDbscan(**{"threshold": THRESHOLD, **method.reference}, threads=1)
            sites[reference] = Sites.of(find(detector, analysis, 1), analysis.shape)
        if method.scan not in images:  # methods of the same scan follow one another
            images = {method.scan: tile.fast(method.scan)}
            detected.clear()
        image, scale = images[method.scan], method.scan.scale
        for family, sets in enumerate(method.families):
            for place, parameters in enumerate(sets):
                what = f"{method.find.__name__} {parameters}"
                if what not in detected:
                    detected[what] = method.find(image, scale, parameters)
                if len(detected[what].pois) > MOST_DETECTIONS:
                    break
                entry = _scored(tile.name, method, detected[what], image, sites[reference])
                found[name, family, place] = entry
                if entry.rescanned_px > MOST_RESCANNED * entry.area_px:
                    break
    return found


def _scored(tile: str, method: Method, detected: Found, image: Any, sites: Sites) -> TileScore:
    rows, columns = sites.shape
    scanning = Scanning(
        fast=Imaging((image.shape[1], image.shape[0]), method.scan.dwell_ns),
        analysis=Imaging((columns, rows), ANALYSIS.dwell_ns),
        timing=TIMING,
        partitions=4,
        merging="mask",
    )
    regions = method.regions(detected.pois, (columns, rows))
    ideal = method.regions(sites.found.pois, (columns, rows))
    return score(tile, sites, detected, regions, ideal, scanning)
