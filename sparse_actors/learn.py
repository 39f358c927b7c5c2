"""Making a library of spectra from a specimen: spots are measured, grouped by phase and named.

Spots spread over the first tile are grouped by whether their counts agree; spots that somebody chose
are of the phases that they were named.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors import plugins
from sparse_actors.actors.microscope_actor import Instrument, MicroscopeActor
from sparse_actors.config import Config, MicroscopeTable
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ConfigError, MicroscopeError, StoppedError
from sparse_actors.lease import leased
from sparse_actors.messages import (
    FieldId,
    MeasureSpots,
    Message,
    MicroscopeFailed,
    MicroscopePrepared,
    SpectraMeasured,
)
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.sampling.spectrum_groups import Grouping, SpectrumGroup, grouped
from sparse_actors.sampling.start_points import start_points
from sparse_actors.stop_signals import StopSignals

LIBRARY = "sparse_actors.models.spectrum_library:SpectrumLibrary"

NO_EDS = "eds is missing: the table says on which grid and for how long spectra are taken"
NAMED_SHARE = 0.1
"""A phase is named after elements with this share of the counts of its strongest, at most three."""
BATCH_S = 1.0
"""Beam time between two looks at whether somebody pressed Ctrl-C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A point that somebody chose."""

    x_px: int
    y_px: int
    """On `eds.grid_px`."""
    name: str
    """Of the phase there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredSpots:
    """The spectra of some spots, as they came from the instrument."""

    points_px: NDArray[np.int64]
    """(n, 2): x, y on `eds.grid_px`."""
    counts: NDArray[np.uint32]
    """(n, channels)"""
    live_time_s: NDArray[np.float64]
    """(n,)"""
    axis: EnergyAxis


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntPhase:
    """A phase of the library to be."""

    name: str
    spots: tuple[int, ...]
    """Which of the measured spots."""
    counts: int
    elements: tuple[str, ...]
    """What its lines show, the surest first; empty where that cannot be told."""


def spots_of(config: Config, spread: int, chosen: Sequence[Spot]) -> NDArray[np.int64]:
    """Return the points (n, 2) of x, y to measure: those chosen, in their order, and then the spread ones."""
    if config.eds is None:
        raise ConfigError(NO_EDS)
    columns, rows = config.eds.grid_px
    problems = [
        f"--at {spot.x_px},{spot.y_px}={spot.name}: expected x of 0 to {columns - 1} and y of 0 to "
        f"{rows - 1}, on eds.grid_px = [{columns}, {rows}]"
        for spot in chosen
        if not (0 <= spot.x_px < columns and 0 <= spot.y_px < rows)
    ]
    if spread > columns * rows - len(chosen):
        problems.append(f"--spots {spread}: eds.grid_px = [{columns}, {rows}] has no room for so many")
    if problems:
        raise ConfigError(*problems)
    points = np.array([(spot.x_px, spot.y_px) for spot in chosen], np.int64).reshape(-1, 2)
    is_free = np.ones((rows, columns), np.bool_)
    is_free[points[:, 1], points[:, 0]] = False
    if not spread:
        return points
    pixels = start_points("halton", is_free, spread, config.run.seed)
    return np.concatenate([points, np.column_stack([pixels % columns, pixels // columns])])


def measure(
    microscope: MicroscopeTable,
    plan: SurveyPlan,
    points_px: NDArray[np.int64],
    live_time_s: float,
    on_spots: Callable[[int], None] = lambda done: None,
) -> MeasuredSpots:
    """Measure spots of the first tile, and leave the microscope as it was found.

    Parameters
    ----------
    microscope, plan
        The instrument, and where its first tile and the grid of points lie.
    points_px
        (n, 2) of x, y on that grid; given back in this order.
    on_spots
        Told how many are measured.

    Raises
    ------
    MicroscopeError
        It failed, is in use, gives no spectra, or was not brought back.
    StoppedError
        A signal asked for the end; the microscope was brought back.
    """
    if plan.fields is None:
        raise ConfigError(NO_EDS)
    tile, grid_px = plan.all_tiles[0], plan.fields.grid_px
    driver = plugins.build("microscope", microscope.driver, microscope.options)
    actor = MicroscopeActor(Instrument(driver), lambda note: None, time.time)
    parts: list[SpectraMeasured] = []
    with StopSignals() as signals, leased(microscope, "learn", os.environ):
        try:
            prepared = _done(actor, plan.prepare(1))
            if isinstance(prepared, MicroscopePrepared) and not prepared.capabilities.spectra:
                raise MicroscopeError(f"{prepared.name} gives no spectra")
            _done(actor, plan.move(tile, 1))
            size = max(1, int(BATCH_S / live_time_s))
            for number, first in enumerate(range(0, len(points_px), size)):
                if signals.count:
                    raise StoppedError(signals.name)
                some = points_px[first : first + size]
                order = MeasureSpots(
                    field=FieldId(tile, 0),
                    batch=number,
                    attempt=1,
                    points_px=some,
                    live_time_s=np.full(len(some), live_time_s),
                    grid_px=grid_px,
                )
                measured = _done(actor, order)
                assert isinstance(measured, SpectraMeasured)  # noqa: S101  for the type checker
                parts.append(measured)
                on_spots(first + len(some))
        finally:
            actor.close()
    return MeasuredSpots(
        points_px=points_px,
        counts=np.concatenate([part.counts for part in parts]).astype(np.uint32),
        live_time_s=np.concatenate([part.live_time_s for part in parts]),
        axis=parts[0].axis,
    )


def _done(actor: MicroscopeActor, order: Any) -> Message:
    (fact,) = actor.handle(order)
    if isinstance(fact, MicroscopeFailed):
        raise MicroscopeError(f"{fact.order}: {fact.reason}")
    return fact


def phases_of(measured: MeasuredSpots, names: Sequence[str], phases: int | None) -> Grouping:
    """Group measured spots by phase; the first of them have the names that somebody gave.

    Raises
    ------
    ConfigError
        So many phases cannot be told apart, or none was found.
    """
    found = grouped(measured.counts, measured.axis, names, phases)
    if found is None:
        raise ConfigError(
            f"--phases {phases}: the spectra of {len(measured.counts)} spots cannot be parted so; ask for "
            "another number, or give more --spots or a longer --live-ms"
        )
    if not found.groups:
        raise ConfigError(
            f"--spots {len(measured.counts)}: no two of their spectra are alike; give more spots"
        )
    for group in found.groups:
        if not measured.counts[list(group.members)].any():
            raise ConfigError(
                f"--live-ms: not one X-ray was counted at the {len(group.members)} spots of a phase"
            )
    return found


def named(groups: Sequence[SpectrumGroup], measured: MeasuredSpots, beam_kev: float) -> list[LearntPhase]:
    """Name each group: as somebody did, else after its elements, else by number."""
    try:
        match_elements = plugins.model_part(plugins.ELEMENTS)
    except ConfigError:
        match_elements = None  # whoever has no tables of lines gets numbers
    phases: list[LearntPhase] = []
    given = {group.name for group in groups}
    for number, group in enumerate(groups, start=1):
        summed = measured.counts[list(group.members)].sum(axis=0, dtype=np.int64)
        found = match_elements(summed, measured.axis, beam_kev=beam_kev) if match_elements else ()
        strong = sorted(found, key=lambda match: -match.counts)[:3]
        symbols = [match.element for match in strong if match.counts >= NAMED_SHARE * strong[0].counts]
        taken = given | {phase.name for phase in phases}
        versions = _versions("-".join(symbols) or f"phase {number}")
        phases.append(
            LearntPhase(
                name=group.name or next(text for text in versions if text not in taken),
                spots=group.members,
                counts=int(summed.sum()),
                elements=tuple(match.element for match in found),
            )
        )
    return phases


def _versions(name: str) -> Iterator[str]:
    yield name
    for number in range(2, 1000):
        yield f"{name} {number}"


def save(path: Path, measured: MeasuredSpots, phases: Sequence[LearntPhase], beam_kev: float) -> None:
    """Write the library, for classifiers; raises OSError."""
    spots = np.concatenate([np.array(phase.spots) for phase in phases])
    labels = np.repeat(np.arange(1, len(phases) + 1), [len(phase.spots) for phase in phases])
    library = plugins.model_part(LIBRARY)(
        counts=measured.counts[spots],
        labels=labels.astype(np.int32),
        phases=tuple(phase.name for phase in phases),
        axis=measured.axis,
        live_time_s=measured.live_time_s[spots],
        beam_kev=beam_kev,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    library.save(path)
