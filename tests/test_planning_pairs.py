"""Pairs scan whole tiles: nobody plans regions in them, so none may be wanted."""

from __future__ import annotations

from pathlib import Path

from story import survey

from sparse_actors.app import survey_plan
from sparse_actors.config import load_config
from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import OrderRefused, ProposeRegions
from sparse_actors.planning.audit import AuditPlan
from sparse_actors.planning.map_queue import MapQueue
from sparse_actors.planning.pairs_plan import PairsPlan
from sparse_actors.planning.run_orders import RunOrders
from sparse_actors.planning.survey_state import SurveyState

TILE = TileIndex(0, 0)
AUDIT = AuditPlan(windows=3, window_px=(8, 8), margin_px=2)


def pairs_plan() -> PairsPlan:
    plan = survey(audit=AUDIT)
    return PairsPlan.of(plan, [plan.fast], (), None)


def test_a_configuration_with_an_audit_gives_pairs_without() -> None:
    default = Path(__file__).parents[1] / "config.toml"
    config = load_config(default, ["audit.windows=3"])
    assert survey_plan(config).audit is not None
    assert config.for_pairs().audit is None
    assert survey_plan(config.for_pairs()).audit is None
    state = SurveyState(pairs_plan())
    assert state.audit_due(TILE) is None


def test_what_is_proposed_in_pairs_is_refused() -> None:
    plan = pairs_plan()
    state = SurveyState(plan)
    state.exposed.add(plan.fast_scans(TILE)[0].id)
    order = ProposeRegions(tile=TILE, boxes=(PixelBox(0, 0, 8, 8),), source="me", request="r")
    answer = RunOrders(plan, state, MapQueue(plan, state)).answer(order, is_ending=False)
    assert isinstance(answer, OrderRefused)
    assert "whole tiles" in answer.reason
