"""What the maps of a run will cost, before it is started: time, dose, disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from sparse_actors import plugins
from sparse_actors.config import Config, EdsTable
from sparse_actors.config_rules import spectrum_dose_problem
from sparse_actors.contracts.classifier import SpectrumClassifier
from sparse_actors.contracts.microscope import Microscope
from sparse_actors.errors import ClassifierError, ConfigError, PluginError
from sparse_actors.imaging import dose_e_per_nm2, spot_s
from sparse_actors.learn import LIBRARY
from sparse_actors.sampling.map_plan import MapPlan

from .display import duration

SHARES = (0.01, 0.05, 0.20)
"""Parts of the area that are regions, for which costs are predicted."""
CHANNELS = 4096
"""Of a spectrum, where the instrument does not say before it is connected."""
COUNT_BYTES = 4
LEAST_SIDE = 8
"""A region with fewer points on a side is hardly a map."""
TRIED = 300
"""Spectra on which the classifier is tried."""
UNSURE = 0.9
MOST_WRONG = 0.02
LONGER = (2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapCost:
    """The maps of whole tiles, or of regions that cover a share of the area."""

    share: float
    """Of the area; 1 for whole tiles."""
    points: int
    spectra_s: float
    """Live, dead and settling time."""
    full_s: float
    """Every point of the same fields."""
    disk_bytes: int
    """Before compression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPrediction:
    """What maps cost if each takes eds.points_pct of its points."""

    where: str
    pitch_nm: float
    """From one point of the grid to the next."""
    live_time_s: float
    overhead_s: float
    """Beside live and dead time, as the driver declares."""
    spot_s: float
    """All of it, the dead time as eds.dead_time_pct expects it."""
    channels: int
    is_channels_known: bool
    has_spectra: bool | None
    """Whether the instrument gives spectra; None where the driver cannot tell before it is connected."""
    dose_e_per_nm2: float | None
    """At a measured point, spread over its cell of the grid; None where the beam current is not known."""
    costs: tuple[MapCost, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the prediction by name."""
        return asdict(self)


def predict_maps(config: Config, eds: EdsTable) -> MapPrediction:
    """Predict the cost of the maps; builds the driver and does not connect it."""
    microscope: Microscope = plugins.build("microscope", config.microscope.driver, config.microscope.options)
    channels, overhead_s, has_spectra = None, 0.0, None
    try:
        overhead_s = microscope.limits.spectrum_overhead_s
        has_spectra = microscope.capabilities.spectra
        channels = microscope.energy_axis().channels
    except Exception:  # noqa: S110 - whatever a foreign driver raises means that it cannot tell yet
        pass
    live_time_s = eds.live_time_ms / 1000
    dead_share = eds.dead_time_pct / 100
    one_s = spot_s(live_time_s, dead_share=dead_share, settling_s=overhead_s)
    panorama = config.panorama.geometry(config.analysis.size_px)
    grid = math.prod(eds.grid_px) * panorama.rows * panorama.columns
    pitch_nm = config.panorama.tile_fov_um * 1e3 / eds.grid_px[0]
    current_pa = config.microscope.beam_current_pa
    costs = []
    for share in (1.0,) if eds.where == "field" else SHARES:
        points = round(eds.points_pct / 100 * share * grid)
        seconds = points * one_s
        if eds.time_min is not None:
            points, seconds = min(
                (points, seconds), (round(points * eds.time_min * 60 / seconds), eds.time_min * 60)
            )
        costs.append(
            MapCost(
                share=share,
                points=points,
                spectra_s=seconds,
                full_s=share * grid * one_s,
                disk_bytes=points * (channels or CHANNELS) * COUNT_BYTES,
            )
        )
    return MapPrediction(
        where=eds.where,
        pitch_nm=pitch_nm,
        live_time_s=live_time_s,
        overhead_s=overhead_s,
        spot_s=one_s,
        channels=channels or CHANNELS,
        is_channels_known=channels is not None,
        has_spectra=has_spectra,
        dose_e_per_nm2=dose_e_per_nm2(current_pa, one_s * 1e9, pitch_nm) if current_pa else None,
        costs=tuple(costs),
    )


def map_warnings(config: Config, eds: EdsTable, prediction: MapPrediction) -> list[str]:
    """Return what is allowed but probably not meant."""
    found = []
    if prediction.has_spectra is False:
        found.append(
            f"eds: {config.microscope.driver} gives no spectra; leave [eds] out, or take another driver"
        )
    batch_ms = MapPlan.max_batch * eds.live_time_ms
    if batch_ms < MapPlan.batch_s * 1000:
        found.append(
            f"eds.live_time_ms = {eds.live_time_ms:g}: {MapPlan.max_batch} points, the most in a batch, take "
            f"{batch_ms:g} ms; choosing the next may take longer, and the beam waits"
        )
    if too_much := spectrum_dose_problem(config, prediction.overhead_s):
        found.append(f"{too_much}; the settling time is {prediction.overhead_s * 1000:g} ms")
    if eds.where == "regions":
        sides = [
            region * points / pixels
            for region, points, pixels in zip(
                config.regions.size_px, eds.grid_px, config.analysis.size_px, strict=True
            )
        ]
        if min(sides) < LEAST_SIDE:
            found.append(
                f"eds.grid_px = [{eds.grid_px[0]}, {eds.grid_px[1]}]: a region of regions.size_px has only "
                f"{sides[0]:.3g} x {sides[1]:.3g} points; a finer grid or larger regions make a map of it"
            )
    return found + _classifier_warnings(eds)


def missing_library(eds: EdsTable) -> list[str]:
    """Say if the library of spectra is still to be made."""
    path = eds.options.get("library")
    if not isinstance(path, str) or Path(path).exists():
        return []
    return [f"eds.options.library = {path!r}: there is no such file yet; `learn` makes it"]


def _classifier_warnings(eds: EdsTable) -> list[str]:
    """Try the classifier on spectra of its library, as short as they will be."""
    path = eds.options.get("library")
    if not isinstance(path, str) or not Path(path).exists():
        return missing_library(eds)
    try:
        library = plugins.model_part(LIBRARY).load(Path(path))
        classifier: SpectrumClassifier = plugins.build("classifier", eds.classifier, eds.options)
        wrong = _share_wrong(classifier, library, eds.live_time_ms / 1000)
        if wrong is None or wrong <= MOST_WRONG:
            return []
        text = (
            f"eds.live_time_ms = {eds.live_time_ms:g}: {wrong:.0%} of spectra so short are classified wrongly"
        )
        for factor in LONGER:
            better = _share_wrong(classifier, library, factor * eds.live_time_ms / 1000)
            if better is not None and better <= MOST_WRONG:
                text += f"; with {factor * eds.live_time_ms:g} ms it is {better:.1%}"
                break
        return [f"{text} (tried on thinned spectra of the library)"]
    except (ClassifierError, ConfigError, PluginError, OSError) as error:
        return [f"eds.options: {error}"]


def _share_wrong(classifier: SpectrumClassifier, library: Any, live_time_s: float) -> float | None:
    """Return the share of spectra thinned to a live time that get a wrong phase or none; None: not known."""
    longer = np.flatnonzero(library.live_time_s >= live_time_s)
    if not len(longer):
        return None
    random = np.random.default_rng(0)
    chosen = random.choice(longer, TRIED)
    kept = live_time_s / library.live_time_s[chosen, None]
    counts = random.binomial(library.counts[chosen], kept).astype(np.uint32)
    classes = classifier.classify(counts, np.full(TRIED, live_time_s), library.axis)
    return float((classes.labels != library.labels[chosen]).mean())


def map_table(config: Config, eds: EdsTable, prediction: MapPrediction) -> Table:
    """Return the prediction for people."""
    columns, rows = eds.grid_px
    settling = f" + {prediction.overhead_s * 1000:g} ms" if prediction.overhead_s else ""
    dead = f", {eds.dead_time_pct:g}% dead time" if eds.dead_time_pct else ""
    left_out = "stage moves" if dead else "dead time (eds.dead_time_pct) and stage moves"
    what = "whole tiles" if eds.where == "field" else "regions"
    limit = f", at most {eds.time_min:g} min" if eds.time_min is not None else ""
    table = Table(
        title=f"maps of {what}: {columns} x {rows} points a field of view, "
        f"{prediction.pitch_nm:.3g} nm apart",
        caption=f"{eds.points_pct:g}% of the points, {eds.live_time_ms:g} ms each{dead}{settling}{limit}; "
        f"{left_out} left out, disk before compression",
    )
    for name in ("", "points", "time on spectra", "every point", "saved", "disk"):
        table.add_column(name, justify="right" if name else "left")
    for cost in prediction.costs:
        table.add_row(
            "whole tiles" if eds.where == "field" else f"{cost.share:.0%} in regions",
            str(cost.points),
            duration(cost.spectra_s),
            duration(cost.full_s),
            f"{1 - cost.spectra_s / cost.full_s:.0%}",
            f"{cost.disk_bytes / 1e6:.0f} MB",
        )
    return table


def map_sentences(prediction: MapPrediction) -> Sequence[str]:
    """Say what the table does not."""
    sentences = []
    if prediction.dose_e_per_nm2 is not None:
        dose = prediction.dose_e_per_nm2
        sentences.append(
            f"dose of maps: {dose:.3g} electrons per nm^2 at a measured point, over its cell of the grid"
        )
    if not prediction.is_channels_known:
        sentences.append(
            f"disk: the driver does not say how many channels a spectrum has; {prediction.channels} taken"
        )
    return sentences
