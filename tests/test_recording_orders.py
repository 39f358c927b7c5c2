"""What orders leave in the figures and in the result of a run."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
from order_story import COFFEE_S, OrderMapStory, OrderStory, told
from recorded_run import TILES, RecordedRun, region
from story import survey
from story_map import field_survey

from sparse_actors.cli.display import one_line
from sparse_actors.cli.map_progress import MapProgress
from sparse_actors.cli.progress import HANDLING, Figures, Progress
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.messages import (
    MapTheField,
    MicroscopeIdle,
    PauseRun,
    ProposeRegions,
    RegionsPlanned,
    RegionsProposed,
    RunContinued,
    RunPaused,
    SkipTile,
    TileFinished,
    TileSkipped,
)
from sparse_actors.planning.survey_plan import FieldsPlan
from sparse_actors.recording.nexus import finalize
from sparse_actors.recording.run_record import RunRecord

FIRST, SECOND = TileIndex(0, 0), TileIndex(0, 1)


def progress(story: OrderStory, until: type | None = None, tile: TileIndex | None = None) -> Figures:
    """Figures at the end, or when a kind of message came, of a tile if given."""
    fold = Progress(
        tiles=len(story.plan.tiles), partitions=story.plan.partitions, analysis=story.plan.analysis
    )
    for number, (_, message) in enumerate(story.bus.published):
        fold.observe(message, number)
        if until and isinstance(message, until) and tile in (None, getattr(message, "tile", None)):
            break
    return fold.figures()


def test_a_pause_is_idle_time_with_its_cause_and_does_not_lengthen_the_forecast() -> None:
    story, undisturbed = OrderStory(survey(columns=3)), OrderStory(survey(columns=3))
    told(story, PauseRun(reason="coffee", request="p"), 40)
    undisturbed.tell()
    figures = progress(story)
    assert figures.idle_s["paused: coffee"] == pytest.approx(COFFEE_S, abs=1)
    others = sum(s for cause, s in figures.idle_s.items() if cause != "paused: coffee")
    assert others == pytest.approx(sum(progress(undisturbed).idle_s.values()), abs=0.2)
    assert figures.paused == ""
    assert "paused: coffee" in one_line(progress(story, RunPaused))
    eta_s = progress(story, TileFinished).eta_s
    assert eta_s == pytest.approx(progress(undisturbed, TileFinished).eta_s, rel=0.2)


def test_a_skipped_tile_is_done_saves_nothing_and_is_not_waited_for() -> None:
    story = OrderStory(survey(columns=3))
    told(story, SkipTile(tile=SECOND, reason="torn foil", request="s"), 20)
    figures = progress(story)
    assert (figures.tiles_done, figures.tiles_skipped, figures.scans_missed) == (3, 1, 0)
    one = OrderStory(survey(columns=2))
    one.tell()
    assert figures.saved_s == pytest.approx(progress(one).saved_s, rel=0.1)
    assert figures.eta_s == 0.0
    eta_s = progress(story, TileFinished, FIRST).eta_s
    assert eta_s == pytest.approx(progress(one, TileFinished, FIRST).eta_s, rel=0.3)


def test_what_is_proposed_of_a_finished_tile_opens_it_again() -> None:
    story = OrderStory(survey())
    order = ProposeRegions(tile=FIRST, boxes=(PixelBox(0, 0, 9, 9),), source="me", request="r")
    messages = told(story, order, 150)
    assert [m.tile for m in messages if isinstance(m, TileFinished)].count(FIRST) == 2
    assert progress(story, RegionsProposed).tiles_done == 0
    figures = progress(story)
    assert (figures.tiles_done, figures.regions_done) == (2, figures.regions_planned)


def test_maps_of_skipped_tiles_are_not_missing() -> None:
    story = OrderMapStory(field_survey(columns=2))
    told(story, SkipTile(tile=SECOND, reason="torn foil", request="s"), 20)
    fields = story.plan.fields
    assert isinstance(fields, FieldsPlan)
    maps = MapProgress(plan=story.plan, fields=fields, fraction=0.25, live_time_s=0.01)
    for _, message in story.bus.published:
        maps.observe(message)
    assert (maps.figures().fields_total, maps.figures().fields_missing) == (1, 0)
    assert [m.field.id.tile for _, m in story.bus.published if isinstance(m, MapTheField)] == [FIRST]


def test_the_result_tells_who_wanted_a_region_what_was_skipped_and_what_the_beam_waited_for(
    tmp_path: Path,
) -> None:
    run = RecordedRun(tmp_path / "run")
    for tile in TILES[:2]:
        run.fast(tile)
    own = region(PartitionId(TILES[0], 0), 0, PixelBox(4, 4, 16, 12))
    slab = run.plan(own)
    run.journal.append(RunPaused(reason="coffee"))
    run.journal.append(MicroscopeIdle(cause="paused: coffee"))
    run.journal.append(RunContinued())
    run.record(slab, own)
    proposal = region(PartitionId(TILES[0], 2), 0, PixelBox(30, 4, 8, 8))
    run.journal.append(
        RegionsProposed(partition=proposal.id.partition, boxes=(proposal.box,), source="live classes")
    )
    run.journal.append(
        RegionsPlanned(
            partition=proposal.id.partition,
            scans=(proposal,),
            strategy="as proposed",
            predicted_s=1.0,
            source="live classes",
        )
    )
    run.reserve(f"{proposal.id.partition}-regions", proposal)
    run.record(f"{proposal.id.partition}-regions", proposal)
    left = region(PartitionId(TILES[1], 0), 0, PixelBox(0, 0, 8, 8))
    run.plan(left)
    run.journal.append(TileSkipped(tile=TILES[1], reason="torn foil"))
    run.finish()
    finalize(run.path)
    record = RunRecord.open(run.path)
    assert record.status(left.id) == "skipped"
    with h5py.File(run.path / "run.nxs") as file:
        regions, timing, skipped = (file["entry"][name] for name in ("regions", "timing", "skipped"))
        assert list(regions["source"].asstr()) == ["detector", "live classes", "detector"]
        assert list(regions["status"].asstr()) == ["recorded", "recorded", "skipped"]
        assert list(skipped["tile"].asstr()) == [str(TILES[1])]
        assert list(skipped["reason"].asstr()) == ["torn foil"]
        assert list(timing["pause_cause"].asstr()) == ["", "", "", "", "paused: coffee", ""]
    assert HANDLING not in record.waited_for.values()
