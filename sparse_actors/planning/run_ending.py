"""How a run ends, decided as it goes along."""

from __future__ import annotations

from typing import Literal

from sparse_actors.messages import RunFinished
from sparse_actors.planning.map_queue import MapQueue
from sparse_actors.planning.survey_state import SurveyState

Outcome = Literal["completed", "stopped", "failed"]
Cause = Literal["", "microscope", "storage", "actor"]


class RunEnding:
    """The end that is decided on, if any."""

    def __init__(self) -> None:
        self.fact: RunFinished | None = None

    def decide(self, outcome: Outcome, reason: str, cause: Cause = "") -> None:
        """Decide; the first failure stands, and a failure beats a stop."""
        if self.fact is None or (outcome == "failed" and self.fact.outcome != "failed"):
            self.fact = RunFinished(outcome=outcome, reason=reason, cause=cause)


def what_is_missing(state: SurveyState, maps: MapQueue) -> str:
    """Say what a run that came to its end lacks; nothing if it is whole."""
    scans = f"{len(state.missed)} scans are missing" if state.missed else ""
    fields = f"{maps.given_up} maps are not finished" if maps.given_up else ""
    points = f"{maps.unclassified} points were not classified" if maps.unclassified else ""
    return ", ".join(filter(None, (scans, fields, points)))
