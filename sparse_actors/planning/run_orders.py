"""Whether a running survey takes an order from outside, and what follows from it."""

from __future__ import annotations

from sparse_actors.geometry import PartitionId, full_frame
from sparse_actors.messages import (
    AuditUpdated,
    ContinueRun,
    Message,
    MicroscopePrepared,
    OrderRefused,
    PauseRun,
    PlanRegions,
    ProposeRegions,
    RegionsProposed,
    RunContinued,
    RunFinished,
    RunPaused,
    SkipTile,
    TileSkipped,
)
from sparse_actors.planning.audit import AUDIT
from sparse_actors.planning.audit_watch import pause
from sparse_actors.planning.map_queue import MapQueue
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState

RunOrder = PauseRun | ContinueRun | SkipTile | ProposeRegions
RunAnswer = RunPaused | RunContinued | TileSkipped | RegionsProposed | OrderRefused

MAX_TEXT = 200
"""Characters of a reason, a source or a request."""
MAX_BOXES = 1000
"""Of one proposal."""
MAX_PROPOSALS = 100
"""Of one tile."""


class RunOrders:
    """The orders that were taken, a fold of facts, and the judge of new ones.

    Parameters
    ----------
    plan, state, maps
        The survey, where it stands, and its maps.
    """

    def __init__(self, plan: SurveyPlan, state: SurveyState, maps: MapQueue) -> None:
        self._plan = plan
        self._state = state
        self._maps = maps
        self._answers: dict[str, RunAnswer] = {}
        self._last_change: Message | None = None
        self._min_region_px = 1
        self._alarm: AuditUpdated | None = None
        """The audit's last word, if it asks for a pause."""
        self.pause: RunPaused | None = None
        """Why nothing is exposed, if so.

        A pause stands after a crash: nobody said that the reason is gone, and a stage that moves while
        somebody is at the sample is worse than lost time. Whoever stops a run and takes it up again has
        decided that it goes on, so the end of a session ends the pause.
        """

    def learn(self, fact: Message) -> None:
        """Take in one fact; a fact learnt twice changes nothing."""
        match fact:
            case RunPaused():
                self.pause = self._last_change = fact
            case AuditUpdated():
                self._alarm = fact if fact.is_below_limit else None
            case RunContinued() | RunFinished():
                self.pause, self._last_change = None, fact
            case MicroscopePrepared(capabilities=capabilities):
                self._min_region_px = capabilities.limits.min_region_px
            case _:
                pass
        if isinstance(fact, RunPaused | RunContinued | TileSkipped | RegionsProposed) and fact.request:
            self._answers[fact.request] = fact

    def due(self) -> PauseRun | None:
        """Return the pause that the audit asks for, unless it was made or the run is paused already."""
        order = None if self._alarm is None or self.pause is not None else pause(self._alarm)
        return order if order is not None and order.request not in self._answers else None

    def answer(self, order: RunOrder, *, is_ending: bool) -> RunAnswer:
        """Return the fact that an order makes true, or why it is refused."""
        given = self._answers.get(order.request) if order.request else None
        if isinstance(given, RunPaused | RunContinued) and given is not self._last_change:
            return self._refused(order, "this order was carried out before, and another came since")
        if given is not None:
            return given
        if problem := "the run is ending" if is_ending else self._problem(order):
            return self._refused(order, problem)
        match order:
            case PauseRun(reason=reason):
                return RunPaused(reason=reason, request=order.request)
            case ContinueRun():
                return RunContinued(request=order.request)
            case SkipTile(tile=tile, reason=reason):
                return TileSkipped(tile=tile, reason=reason, request=order.request)
            case ProposeRegions(tile=tile, boxes=boxes, source=source):
                part = PartitionId(tile, len(self._state.parts(tile)))
                return RegionsProposed(partition=part, boxes=boxes, source=source, request=order.request)

    def _refused(self, order: RunOrder, reason: str) -> OrderRefused:
        return OrderRefused(order=type(order).__name__, reason=reason, request=order.request[:MAX_TEXT])

    def _problem(self, order: RunOrder) -> str:
        """Say why an order is not taken; nothing if it is."""
        if len(order.request) > MAX_TEXT:
            return f"request has {len(order.request)} characters, at most {MAX_TEXT} are taken"
        match order:
            case PauseRun(reason=reason):
                if self.pause is not None:
                    return f"the run is paused already: {self.pause.reason}"
                return _text_problem("reason", reason)
            case ContinueRun():
                return "" if self.pause is not None else "the run is not paused"
            case SkipTile(reason=reason):
                return self._skip_problem(order) or _text_problem("reason", reason)
            case ProposeRegions(source=source):
                if source == AUDIT:
                    return f"source {AUDIT!r} is what the run itself draws at random: give another"
                return self._proposal_problem(order) or _text_problem("source", source)

    def _skip_problem(self, order: SkipTile) -> str:
        tile, state = order.tile, self._state
        if tile not in self._plan.all_tiles:
            return f"tile {tile} is not of this run"
        if tile in state.skipped:
            return f"tile {tile} is skipped already: {state.skipped[tile]}"
        is_scanned = tile in state.finished or tile not in self._plan.tiles
        if is_scanned and not self._maps.has_left(tile):
            return f"tile {tile} is finished: there is nothing left to skip"
        return ""

    def _proposal_problem(self, order: ProposeRegions) -> str:
        tile, boxes, size_px = order.tile, order.boxes, self._plan.analysis.size_px
        if tile not in self._plan.all_tiles:
            return f"tile {tile} is not of this run"
        if tile not in self._plan.tiles:
            return "this run maps whole tiles and scans no regions"
        if not self._plan.has_regions:
            return "this run scans whole tiles for analysis: there is nothing to propose"
        if tile in self._state.skipped:
            return f"tile {tile} is skipped: {self._state.skipped[tile]}"
        if not any(scan.id in self._state.exposed for scan in self._plan.fast_scans(tile)):
            return f"tile {tile} is not surveyed yet"
        if len(self._state.proposals.get(tile, ())) >= MAX_PROPOSALS:
            return f"tile {tile} has had {MAX_PROPOSALS} proposals, which is the limit"
        if not 1 <= len(boxes) <= MAX_BOXES:
            return f"{len(boxes)} boxes, expected 1 to {MAX_BOXES}"
        field, least = full_frame(size_px), self._min_region_px
        for box in boxes:
            if not field.contains(box):
                return f"box {box} leaves the field of view of {field.width} x {field.height} analysis pixels"
            if min(box.width, box.height) < least:
                return f"box {box}: the microscope scans no less than {least} x {least} pixels"
        if sum(box.area for box in boxes) > field.area:
            return "the boxes have more area than the field of view"
        return ""


def plan_order(proposed: RegionsProposed, attempt: int) -> PlanRegions:
    """Return the order to plan what was proposed."""
    return PlanRegions(
        partition=proposed.partition, boxes=proposed.boxes, source=proposed.source, attempt=attempt
    )


def _text_problem(name: str, text: str) -> str:
    is_good = text.strip() and len(text) <= MAX_TEXT and text.isprintable()
    return "" if is_good else f"{name}: expected 1 to {MAX_TEXT} printable characters in one line"
