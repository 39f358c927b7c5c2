"""Which finished tile is inspected next, and what is ordered when the answer stays out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sparse_actors.geometry import TileIndex
from sparse_actors.messages import Effect, InspectTile, Message, TileInspected
from sparse_actors.planning.audit import AUDIT
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.planning.unanswered import Unanswered

WITHIN_S = 300.0
"""An inspection is ordered again after this long; it goes on with what is left."""


class InspectionWatch:
    """Inspections on their way, one tile at a time.

    Parameters
    ----------
    state
        Where the survey stands.
    unanswered
        What is waited for.
    attempts
        How often a tile is ordered to be inspected.
    """

    def __init__(self, state: SurveyState, unanswered: Unanswered, attempts: int) -> None:
        self._state = state
        self._unanswered = unanswered
        self._attempts = attempts

    def go_on(self) -> Iterator[Effect]:
        """Have the next tile inspected, if there is one and no other is."""
        tile = min(self._state.uninspected, default=None)
        if tile is not None and not self._unanswered.count("inspect"):
            yield from self._unanswered.wait(f"inspect {tile}", partial(self._order, tile), WITHIN_S)

    def _order(self, tile: TileIndex, attempt: int) -> Message:
        if attempt > self._attempts:
            return TileInspected(tile=tile, problem="no answer from the inspection")
        parts, proposals = self._state.parts(tile), self._state.proposals.get(tile, {})
        audit = next((part for part, one in proposals.items() if one.source == AUDIT), None)
        drawn_at = len(parts) if audit is None else parts.index(audit)
        regions, windows, later = (
            tuple(scan for part in some for scan in self._state.regions.get(part, ()))
            for some in (parts[:drawn_at], parts[drawn_at : drawn_at + 1], parts[drawn_at + 1 :])
        )
        everything = (*regions, *windows, *later)
        return InspectTile(
            tile=tile,
            attempt=attempt,
            regions=regions,
            windows=windows,
            later=later,
            missing=tuple(scan.id for scan in everything if scan.id not in self._state.recorded),
        )

    def answered(self, tile: TileIndex) -> None:
        """Note that a tile is inspected or skipped."""
        self._unanswered.answered(f"inspect {tile}")

    def stop(self) -> None:
        """Inspect nothing more: the run ends before its time."""
        self._unanswered.drop("inspect")
        self._state.uninspected.clear()
