"""Room on disk, asked for before anything is exposed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from sparse_actors.geometry import TileIndex
from sparse_actors.messages import Effect, ReserveStorage, Scan
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.planning.unanswered import Unanswered


class Reservations:
    """Asks for the room that scans need, once for each slab.

    Parameters
    ----------
    plan, state
        The survey and where it stands.
    unanswered
        Where the answers are waited for.
    """

    def __init__(self, plan: SurveyPlan, state: SurveyState, unanswered: Unanswered) -> None:
        self._plan = plan
        self._state = state
        self._unanswered = unanswered
        self.pixel_type: Literal["uint8", "uint16"] | None = None
        """Of the microscope; nothing is asked for before it is known."""

    def take_up(self, tile: TileIndex) -> Iterator[Effect]:
        """Ask for all that is known to be scanned of a tile and has no room yet."""
        yield from self._ask(f"{tile}-fast", self._plan.fast_scans(tile))
        for part in self._state.parts(tile):
            yield from self.ask_for_regions(self._state.regions.get(part, ()))

    def ask_for_regions(self, scans: tuple[Scan, ...]) -> Iterator[Effect]:
        """Ask for the regions of one partition; what is not asked for is asked for by `take_up`."""
        if scans:
            yield from self._ask(f"{scans[0].id.partition}-regions", scans)

    def _ask(self, slab: str, scans: tuple[Scan, ...]) -> Iterator[Effect]:
        pixel_type = self.pixel_type
        is_wanted = any(scan.id not in self._state.reserved for scan in scans)
        if pixel_type is None or not is_wanted or scans[0].id.partition.tile in self._state.skipped:
            return
        yield from self._unanswered.wait(
            f"storage {slab}",
            lambda attempt: ReserveStorage(slab=slab, scans=scans, pixel_type=pixel_type, attempt=attempt),
        )
