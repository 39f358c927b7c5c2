"""The actors that only decide, as a run has them and as it is gone through again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_actors import plugins
from sparse_actors.actors.detector_actor import DetectorActor
from sparse_actors.actors.pair_planner import PairPlanner
from sparse_actors.actors.partition_scheduler import PartitionScheduler
from sparse_actors.actors.phase_namer import ElementsOf, PhaseNamer
from sparse_actors.actors.region_inspector import RegionInspector
from sparse_actors.actors.region_planner import RegionPlanner
from sparse_actors.actors.slads_sampler import SladsSampler
from sparse_actors.actors.time_keeper import TimeKeeper
from sparse_actors.config import Config, EdsTable
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ConfigError
from sparse_actors.messages import Message
from sparse_actors.planning.learnt_times import LearntTimes
from sparse_actors.planning.pairs_plan import PairsPlan
from sparse_actors.planning.spot_dose import SpotDoses
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.runtime.shell import Behaviour


class Decider(NamedTuple):
    """An actor without its thread."""

    name: str
    accepts: tuple[type[Message], ...]
    build: Callable[[list[Message]], Behaviour]
    """Makes it from the facts of the journal."""


def deciders(config: Config, plan: SurveyPlan, known_times: Mapping[str, Any] | None) -> list[Decider]:
    """Return all of them in the order of their start: the scheduler, who orders, is the last.

    Parameters
    ----------
    config, plan
        The configuration, and what follows from it.
    known_times
        What earlier runs taught about the instrument's times.
    """
    eds = config.eds
    found = [
        Decider(
            "time keeper",
            TimeKeeper.accepts,
            lambda history: TimeKeeper(LearntTimes(plan.timing, known_times), history),
        ),
    ]
    if isinstance(plan, PairsPlan):
        found += [Decider("planner", PairPlanner.accepts, lambda history: PairPlanner(plan, history))]
    else:
        found += [
            Decider("planner", RegionPlanner.accepts, lambda history: RegionPlanner(plan, history)),
            Decider("detector", DetectorActor.accepts, lambda history: DetectorActor(plan, history)),
        ]
    if plan.inspects:
        found += [
            Decider("inspector", RegionInspector.accepts, lambda history: RegionInspector(plan, history))
        ]
    if eds is not None:
        map_plan = eds.plan(config.run.seed, config.limits.scan_attempts)
        found += [
            Decider(
                "sampler",
                SladsSampler.accepts,
                lambda history: SladsSampler(map_plan, history, SpotDoses(plan)),
            ),
            Decider(
                "phase namer", PhaseNamer.accepts, lambda history: PhaseNamer(_elements_of(eds), history)
            ),
        ]
    return [
        *found,
        Decider("scheduler", PartitionScheduler.accepts, lambda history: PartitionScheduler(plan, history)),
    ]


def _elements_of(eds: EdsTable) -> ElementsOf:
    """Match lines if the energy of the beam is known and the tables of lines are installed."""
    beam_kev = eds.beam_kev

    def elements_of(template: NDArray[np.float64], axis: EnergyAxis) -> tuple[str, ...]:
        if beam_kev is None:
            return ()
        try:
            match_elements = plugins.model_part(plugins.ELEMENTS)
        except ConfigError:
            return ()
        return tuple(match.element for match in match_elements(template, axis, beam_kev=beam_kev))

    return elements_of
