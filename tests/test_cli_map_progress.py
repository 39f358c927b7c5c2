"""Maps in the figures of a run, folded from its messages, and in words."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from story import survey
from story_map import AXIS, MapStory, field_survey, map_plan

from sparse_actors.cli.display import duration, one_line, summary
from sparse_actors.cli.map_progress import MapProgress
from sparse_actors.cli.progress import CHOOSING, Figures, Progress
from sparse_actors.geometry import TileIndex
from sparse_actors.messages import (
    NOT_KNOWN,
    FieldId,
    FieldMapped,
    Message,
    PhaseNamed,
    PhaseProposed,
    SpectraClassified,
    SpectraMeasured,
    SpectraRecorded,
    SpotsSpared,
    StopRun,
    WorkerJoined,
)
from sparse_actors.planning.survey_plan import FieldsPlan, SurveyPlan


def folded(plan: SurveyPlan, messages: list[Message], fraction: float = 0.25) -> Progress:
    assert plan.fields is not None
    progress = Progress(
        tiles=len(plan.tiles),
        partitions=plan.partitions,
        seams=len(plan.seams),
        analysis=plan.analysis,
        maps=MapProgress(plan=plan, fields=plan.fields, fraction=fraction, live_time_s=0.01),
    )
    for number, message in enumerate(messages, 1):
        progress.observe(message, number)
    return progress


def told(plan: SurveyPlan, **how: Any) -> list[Message]:
    joined = WorkerJoined(worker="w", host="h", pid=1, phases=("ferrite", "martensite"))
    return [joined, *MapStory(plan, map_plan(**how)).tell()]


def shown(figures: Figures) -> str:
    out = io.StringIO()
    Console(file=out, width=150).print(summary(figures, "completed", "", Path("run")))
    return out.getvalue()


FIELD = field_survey()
MESSAGES = told(FIELD)


def test_a_map_in_figures() -> None:
    figures = folded(FIELD, MESSAGES).figures()
    maps = figures.maps
    assert maps is not None
    assert (maps.fields_done, maps.fields_total, maps.fields_missing) == (1, 1, 0)
    assert (maps.points_done, maps.points_most, maps.grid_points) == (144, 144, 576)
    assert set(maps.phases) == {"ferrite", "martensite"}
    assert sum(maps.phases.values()) == pytest.approx(1)
    mapped = next(message for message in MESSAGES if isinstance(message, FieldMapped))
    assert maps.phases["ferrite"] == pytest.approx((mapped.phase_map == 1).mean())
    assert maps.spectra_s == pytest.approx(144 * 0.01)
    # Every point at the same live time, less what the map took.
    assert maps.full_s == pytest.approx(576 * 0.01)
    assert maps.saved_s == pytest.approx(432 * 0.01 - maps.waited_s)
    assert maps.saved_share == pytest.approx(1 - (1.44 + maps.waited_s) / 5.76)
    assert [(end.field, end.points, end.reason) for end in maps.ended] == [("r000c000m0000", 144, "points")]
    assert (figures.eta_s, figures.tiles_total) == (pytest.approx(0), 0)
    assert json.loads(json.dumps(figures.to_json()))["maps"]["points_done"] == 144


def test_a_map_in_words_has_no_word_of_a_survey() -> None:
    figures = folded(FIELD, MESSAGES).figures()
    text = shown(figures)
    assert "Map completed" in text
    assert "144, 25.0% of the grid" in text
    assert "144 points, eds.points_pct reached" in text
    assert "75% of 5.8 s for every point of these fields" in text
    assert not any(word in text for word in ("Survey", "tiles", "fast", "regions", "scanning"))
    line = one_line(figures)
    assert line.startswith("map 1/1, points 144 of at most 144, ")
    assert "ferrite" in line
    assert "tile" not in line


def test_half_way_the_time_left_is_that_of_the_points_left() -> None:
    half = [m for m in MESSAGES if isinstance(m, SpectraRecorded)][10]
    figures = folded(FIELD, MESSAGES[: MESSAGES.index(half) + 1]).figures()
    assert figures.maps is not None
    done = figures.maps.points_done
    assert 20 < done < 100
    # Points left, at the live time and what came beside it so far.
    beside_s = figures.maps.waited_s / done
    assert figures.eta_s == pytest.approx((144 - done) * (0.01 + beside_s))
    assert one_line(figures).startswith("map 1/1 (r000c000m0000), points ")


def test_the_journal_alone_and_every_message_twice_give_the_same() -> None:
    once = folded(FIELD, MESSAGES).figures().to_json()
    journal = [message for message in MESSAGES if not isinstance(message, SpectraMeasured)]
    doubled = [message for message in MESSAGES for _ in range(2)]
    for messages in (journal, doubled):
        again = folded(FIELD, messages).figures().to_json()
        assert again.pop("maps")["points_done"] == 144
        assert again["idle_s"].keys() == once["idle_s"].keys()
        assert again["idle_share"] == pytest.approx(once["idle_share"])


def test_waiting_between_batches_is_called_so_and_costs_what_is_saved() -> None:
    first, second = [m for m in MESSAGES if isinstance(m, SpectraRecorded)][:2]
    later = {"started_s": first.finished_s + 2, "finished_s": first.finished_s + 3}
    second = type(second)(**{name: getattr(second, name) for name in second.__slots__} | later)
    maps = (figures := folded(FIELD, [first, second]).figures()).maps
    assert maps is not None
    assert maps.waited_s == pytest.approx(2)
    assert figures.idle_s == {CHOOSING: pytest.approx(2)}


def test_before_anything_happened_all_points_are_left() -> None:
    figures = folded(FIELD, []).figures()
    assert figures.maps is not None
    assert figures.maps.eta_s == pytest.approx(144 * 0.01)
    assert figures.eta_s is not None
    assert figures.eta_s > figures.maps.eta_s  # the move to the tile
    assert one_line(figures).startswith("map 0/1, points 0 of at most 144, idle 0.0%, left ")


def test_the_time_allowed_bounds_the_time_left() -> None:
    maps = folded(field_survey(time_s=0.5), []).figures().maps
    assert maps is not None
    assert maps.eta_s == pytest.approx(0.5)


def test_maps_after_a_survey_are_counted_once_the_regions_are_known() -> None:
    plan = survey(columns=2, fields=FieldsPlan(where="regions", grid_px=(32, 32), largest=3))
    messages = told(plan)
    figures = folded(plan, messages).figures()
    assert figures.maps is not None
    assert (figures.maps.fields_done, figures.maps.fields_total) == (3, 3)
    assert figures.eta_s == pytest.approx(0)
    text = shown(figures)
    assert "Survey and map completed" in text
    assert "time saved by maps" in text
    assert all(word in text for word in ("tiles", "time scanning", "time on spectra", "map r000"))
    planned = next(i for i, m in enumerate(messages) if type(m).__name__ == "RegionsPlanned")
    early = folded(plan, messages[: planned + 1]).figures()
    assert early.maps is not None
    assert (early.maps.fields_total, early.maps.points_most) == (None, None)
    assert early.maps.eta_s is not None
    assert one_line(early).startswith("tile 0/2")
    late = folded(plan, [m for m in messages if not type(m).__name__.startswith("Field")]).figures()
    assert late.maps is not None
    assert late.maps.fields_missing == 3


def test_a_map_cut_short_is_missing_and_says_why() -> None:
    story = MapStory(FIELD)
    at = next(d.number for d in _deliveries(FIELD) if isinstance(d.message, SpectraRecorded))

    def stop(delivery: Any) -> None:
        if delivery.number == at + 40:
            story.bus.publish(StopRun(reason="test"))

    figures = folded(FIELD, story.tell(stop)).figures()
    assert figures.maps is not None
    assert figures.maps.fields_missing == 1
    assert "cut short: stopped" in shown(figures)


def _deliveries(plan: SurveyPlan) -> list[Any]:
    story = MapStory(plan)
    story.tell()
    return list(story.bus.deliveries)


def test_what_is_left_out_and_what_nobody_classified_is_counted_and_missing() -> None:
    field, points_px = FieldId(TileIndex(0, 0), 0), np.array([[1, 2], [3, 4]])
    spared = SpotsSpared(field=field, batch=9, points_px=points_px, labels=np.array([NOT_KNOWN, 1]))
    lost = next(message for message in MESSAGES if isinstance(message, SpectraClassified))
    ended = next(message for message in MESSAGES if isinstance(message, FieldMapped))
    n = len(lost.labels)
    told_again = [
        replace(m, labels=np.zeros_like(m.labels), worker="") if m is lost else m
        for m in MESSAGES
        if m is not ended
    ]
    progress = folded(FIELD, [*told_again, spared, spared, replace(ended, unclassified=n)])
    maps = progress.figures().maps
    assert maps is not None
    assert (maps.points_left_out, maps.points_unclassified, maps.points_without_phase) == (1, n, 0)
    assert (maps.fields_done, maps.fields_missing, maps.ended[0].unclassified) == (1, 1, n)
    text = shown(progress.figures())
    assert f"{n} points; --resume tries again" in text
    assert f"144 points, {n} not classified" in text
    assert "1 points, for limits.max_dose_e_per_nm2" in text
    progress.observe(lost, len(MESSAGES) + 10)
    progress.observe(ended, len(MESSAGES) + 11)
    maps = progress.figures().maps
    assert maps is not None
    assert (maps.points_unclassified, maps.fields_missing) == (0, 0)


def test_new_phases_and_the_estimated_distortion_are_shown() -> None:
    mapped = next(message for message in MESSAGES if isinstance(message, FieldMapped))
    changed = {"distortion": 0.012, "distortion_range": (0.009, 0.016), "phase_map": mapped.phase_map + 2}
    better = FieldMapped(**{name: getattr(mapped, name) for name in FieldMapped.__slots__} | changed)
    new = PhaseProposed(field=mapped.field.id, label=3, members=12, template=np.ones(3), axis=AXIS)
    assert "found, 3 (elements not known), found in 12" in shown(folded(FIELD, [*MESSAGES, new]).figures())
    name = PhaseNamed(label=3, name="S-Mn", elements=("Mn", "S"))
    figures = folded(FIELD, [*MESSAGES, new, name, better]).figures()
    assert figures.maps is not None
    assert set(figures.maps.phases) == {"S-Mn", "phase 4"}
    text = shown(figures)
    assert "S-Mn (Mn, S), found in 12 spectra" in text
    assert "an estimated 1.20% of its pixels wrong (0.90% to 1.60%)" in text
    assert "new S-Mn" in one_line(figures)


def test_many_maps_are_counted_by_why_they_ended() -> None:
    plan = field_survey(columns=8, grid_px=(8, 8))
    text = shown(folded(plan, told(plan)).figures())
    assert "8 of 8" in text
    assert "eds.points_pct reached 8" in text
    assert "map r000c000m0000" not in text


def test_a_negative_time_is_shown_as_one() -> None:
    assert (duration(-0.5), duration(-51)) == ("-0.5 s", "-0:00:51")
