"""What an audit tells while the run goes on: a fold of facts, the same when the run is resumed."""

from __future__ import annotations

from sparse_actors.geometry import TileIndex
from sparse_actors.messages import (
    AuditUpdated,
    Message,
    PauseRun,
    RunContinued,
    RunFinished,
    RunPaused,
    TileSkipped,
)

from .audit import AUDIT, AuditPlan
from .audit_estimate import AuditedTile, estimate
from .audit_sequence import recall_at_most


class AuditWatch:
    """The tiles audited so far, and those that count against the limit.

    Whoever lets a run go on that the audit paused has seen what it told: for the limit the evidence begins
    anew, so that the run is paused again only if the tiles since then show it as well.

    Parameters
    ----------
    plan
        Of the audit.
    field_px
        (width, height) of the field of view, analysis pixels.
    """

    def __init__(self, plan: AuditPlan, field_px: tuple[int, int]) -> None:
        self._plan = plan
        self._weight = max(1.0, plan.all_windows(field_px) / plan.windows)
        self._tiles: dict[TileIndex, AuditedTile] = {}
        self._of_limit: dict[TileIndex, AuditedTile] = {}
        self._is_paused = False

    def learn(self, fact: Message) -> None:
        """Take in one fact; a fact learnt twice changes nothing."""
        match fact:
            case AuditUpdated(tile=tile):
                tile_is = AuditedTile(found=fact.found, windows=fact.windows, missed=fact.missed)
                self._tiles[tile] = self._of_limit[tile] = tile_is
            case TileSkipped(tile=tile):
                self._tiles.pop(tile, None)
                self._of_limit.pop(tile, None)
            case RunPaused(request=request):
                self._is_paused = is_of_audit(request)
            case RunContinued() | RunFinished():
                if self._is_paused:
                    self._of_limit.clear()
                self._is_paused = False
            case _:
                pass

    def updated(self, tile: TileIndex, judged: AuditedTile) -> AuditUpdated:
        """Return what the audit tells with one tile more, or with one judged anew."""
        told = estimate((self._tiles | {tile: judged}).values())
        of_limit = self._of_limit | {tile: judged}
        return AuditUpdated(
            tile=tile,
            found=judged.found,
            windows=judged.windows,
            missed=judged.missed,
            tiles=told.tiles,
            all_found=told.found,
            all_missed=told.missed,
            missed_low=told.missed_low,
            missed_high=told.missed_high,
            recall=told.recall,
            recall_low=told.low,
            recall_high=told.high,
            confidence=told.confidence,
            tiles_of_limit=len(of_limit),
            recall_at_most=recall_at_most(of_limit.values(), self._weight, told.confidence),
            least_recall=self._plan.least_recall,
        )


def pause(updated: AuditUpdated) -> PauseRun:
    """Return the order that follows from a recall below the limit."""
    return PauseRun(
        reason=f"audit: at most {updated.recall_at_most:.2%} of the sites are found "
        f"({updated.tiles_of_limit} tiles, {updated.confidence:.0%} confidence), audit.least_recall_pct = "
        f"{100 * (updated.least_recall or 0):g}",
        request=f"{AUDIT} {updated.tile}, {updated.tiles} tiles",
    )


def is_of_audit(request: str) -> bool:
    """Whether a pause was ordered by the audit."""
    return request.startswith(f"{AUDIT} ")
