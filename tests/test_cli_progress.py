"""The figures of a run, folded from messages alone, and how they are shown."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sparse_actors.cli.display import Display, duration, one_line, summary
from sparse_actors.cli.progress import Progress
from sparse_actors.contracts.microscope import Capabilities, MicroscopeState, ScanLimits
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.messages import (
    DetectionFailed,
    MicroscopeIdle,
    MicroscopePrepared,
    PartitionScanned,
    Recorded,
    RegionScanned,
    RegionsPlanned,
    RunStarted,
    Scan,
    ScanId,
    ScanMissed,
    StorageReserved,
    TileFinished,
    TileReached,
    WorkerJoined,
    WorkerLost,
)

FAST = Imaging((10, 10), 1e6)  # 1 ms a pixel
ANALYSIS = Imaging((40, 40), 1e6)
STATE = MicroscopeState(x_mm=0, y_mm=0)
TILES = (TileIndex(0, 0), TileIndex(0, 1))


def fast_scan(tile):
    return Scan(ScanId(PartitionId(tile, 0)), PixelBox(0, 0, 10, 10), FAST)


def region_scan(tile, number):
    return Scan(ScanId(PartitionId(tile, 0), number), PixelBox(0, 0, 10, 10), ANALYSIS)


def scanned(scan, start_s, took_s=0.1, attempt=1):
    kind = PartitionScanned if scan.id.is_fast else RegionScanned
    image = np.zeros(scan.shape, np.uint8)
    return kind(
        scan=scan, attempt=attempt, image=image, dwell_ns=1e6, started_s=start_s, finished_s=start_s + took_s
    )


def recorded(message):
    return Recorded(
        scan_id=message.scan.id,
        attempt=message.attempt,
        slab="s",
        crc32=0,
        dwell_ns=message.dwell_ns,
        started_s=message.started_s,
        finished_s=message.finished_s,
    )


def started(session=0):
    return RunStarted(name="r", session=session, started_s=0.0, seed=0, version="0", config_toml="")


def reached(tile, start_s, took_s):
    return TileReached(tile=tile, attempt=1, state=STATE, started_s=start_s, finished_s=start_s + took_s)


def one_tile(tile, t, pause_s=0.0):
    """Move 0.5 s, fast scan 0.1 s, wait `pause_s` for the detection, one region 0.1 s."""
    fast, region = fast_scan(tile), region_scan(tile, 0)
    first, second = scanned(fast, t + 0.5), scanned(region, t + 0.6 + pause_s)
    yield reached(tile, t, 0.5)
    yield StorageReserved(slab="f", scans=(fast,), pixel_type="uint8")
    yield first
    yield recorded(first)
    if pause_s:
        yield MicroscopeIdle(cause="detection")
    yield RegionsPlanned(partition=fast.id.partition, scans=(region,), strategy="greedy", predicted_s=0.1)
    yield StorageReserved(slab="r", scans=(region,), pixel_type="uint8")
    yield second
    yield recorded(second)
    yield TileFinished(tile=tile)


def two_tiles():
    return [started(), *one_tile(TILES[0], 100.0, pause_s=0.3), *one_tile(TILES[1], 101.0)]


def folded(messages, start=1, **options):
    progress = Progress(
        **{"tiles": 2, "partitions": 1, "analysis": ANALYSIS, "timing": ScanTiming()} | options
    )
    for number, message in enumerate(messages, start):
        progress.observe(message, number)
    return progress


def test_a_run_in_figures():
    figures = folded(two_tiles()).figures()
    assert (figures.tiles_done, figures.tiles_total) == (2, 2)
    assert (figures.fast_scans_done, figures.fast_scans_total) == (2, 2)
    assert (figures.regions_done, figures.regions_planned) == (2, 2)
    assert figures.exposed_pixels == 4 * 100
    assert figures.scan_s == pytest.approx(0.4)
    # The first move lies before the first scan; the second fills its gap.
    assert figures.stage_s == pytest.approx(0.5)
    assert {k: v for k, v in figures.idle_s.items() if v > 1e-9} == pytest.approx({"detection": 0.3})
    assert figures.idle_share == pytest.approx(0.3 / (0.4 + 0.5 + 0.3))
    # Conventional: 1600 pixels of 1 ms a tile; taken: 0.4 s of scans and 0.3 s of waiting.
    assert figures.saved_s == pytest.approx(3.2 - 0.7)
    assert figures.saved_share == pytest.approx(2.5 / 3.2)
    assert figures.eta_s == pytest.approx(0)


def test_a_gap_without_a_cause_is_handling():
    messages = [started(), scanned(fast_scan(TILES[0]), 0.0), scanned(region_scan(TILES[0], 0), 0.3)]
    assert folded(messages).figures().idle_s == pytest.approx({"handling": 0.2})


def test_a_cause_counts_for_its_own_gap_only():
    messages = [
        scanned(fast_scan(TILES[0]), 0.0),
        MicroscopeIdle(cause="budget"),
        scanned(region_scan(TILES[0], 0), 0.3),
        scanned(region_scan(TILES[0], 1), 0.5),
    ]
    assert folded(messages).figures().idle_s == pytest.approx({"budget": 0.2, "handling": 0.1})


def test_messages_seen_twice_count_once():
    progress = folded(two_tiles())
    before = progress.figures()
    for number, message in enumerate(two_tiles(), 1):
        progress.observe(message, number)
    assert progress.figures() == before


def test_facts_delivered_twice_count_once():
    doubled = [copy for message in two_tiles() for copy in (message, message)]
    once, twice = (folded(messages).figures().to_json() for messages in (two_tiles(), doubled))
    once_idle, twice_idle = once.pop("idle_s"), twice.pop("idle_s")
    assert twice == pytest.approx(once)
    assert twice_idle == pytest.approx(once_idle, abs=1e-6)


def test_a_repeated_exposure_is_exposed_twice_and_done_once():
    fast = fast_scan(TILES[0])
    second = scanned(fast, 0.2, attempt=2)
    figures = folded([scanned(fast, 0.0), second, recorded(second)]).figures()
    assert (figures.exposed_pixels, figures.fast_scans_done) == (200, 1)


def test_the_journal_alone_gives_the_same_figures():
    journal = [m for m in two_tiles() if not isinstance(m, PartitionScanned | RegionScanned)]
    assert folded(journal).figures() == folded(two_tiles()).figures()


def test_after_resuming_the_pause_is_not_idle():
    history = [started(), *one_tile(TILES[0], 100.0)]
    progress = folded(history, start=-len(history))
    live = [started(session=1), *one_tile(TILES[1], 5000.0)]
    for number, message in enumerate(live, 1):
        progress.observe(message, number)
    figures = progress.figures()
    assert figures.tiles_done == 2
    assert sum(figures.idle_s.values()) == pytest.approx(0)
    assert figures.scan_s == pytest.approx(0.4)


def test_the_rest_takes_as_long_as_the_tiles_before():
    messages = [started(), *one_tile(TILES[0], 100.0, pause_s=0.3)]
    assert folded(messages[:4]).figures().eta_s is None  # nothing is planned yet
    progress = folded(messages, tiles=4)
    # A move of 0.5 s and 0.5 s from the first scan to the end of the tile, three more of them.
    figures = progress.figures()
    assert figures.eta_s == pytest.approx(3 * 1.0)
    assert figures.eta_low_s < figures.eta_s < figures.eta_high_s
    progress.observe(reached(TILES[1], 101.0, 0.5), 90)
    progress.observe(scanned(fast_scan(TILES[1]), 101.5), 91)
    assert progress.figures().eta_s == pytest.approx(3 * 1.0 - 0.6)


def test_regions_that_are_planned_count_as_they_are():
    fast = fast_scan(TILES[0])
    region = region_scan(TILES[0], 0)
    large = Scan(region.id, PixelBox(0, 0, 30, 10), ANALYSIS)
    planned = RegionsPlanned(partition=fast.id.partition, scans=(large,), strategy="greedy", predicted_s=0.3)
    done = scanned(fast, 0.0)
    seconds = folded([started(), done, recorded(done), planned], tiles=1).figures().eta_s
    assert seconds == pytest.approx(0.3 + 0.5, rel=0.05)  # and a move, because none was seen
    missed = ScanMissed(scan_id=region.id, reason="x")
    messages = [started(), done, recorded(done), planned, missed, reached(TILES[0], 0.2, 0.5)]
    assert folded(messages, tiles=1).figures().eta_s == pytest.approx(0.0)
    assert folded([*messages, started(session=1)], tiles=1).figures().eta_s == pytest.approx(0.3, rel=0.05)


def prepared(timing):
    limits = ScanLimits(timing=timing, timing_source="declared")
    flags = {f.name: False for f in dataclasses.fields(Capabilities) if f.name != "limits"}
    return MicroscopePrepared(name="m", capabilities=Capabilities(**flags, limits=limits), initial=STATE)


def tile_at(true, tile=TILES[0], pause_s=0.0):
    """A tile whose fast scan and regions of several sizes take what an instrument truly takes."""
    boxes = [PixelBox(0, 0, side, height) for side in (4, 8, 16) for height in (4, 8, 16)]
    fast = fast_scan(tile)
    regions = [Scan(ScanId(fast.id.partition, number), box, ANALYSIS) for number, box in enumerate(boxes)]
    yield StorageReserved(slab="s", scans=(fast, *regions), pixel_type="uint8")
    t = 100.0
    for scan in (fast, *regions):
        done = scanned(scan, t, true.duration_s(scan.pixels, scan.rows, 1e6))
        t = done.finished_s + pause_s
        yield done
        yield recorded(done)
    yield TileFinished(tile=tile)


@pytest.mark.parametrize("configured", [None, ScanTiming()])
@pytest.mark.parametrize(
    "true",
    [ScanTiming(), ScanTiming(scan_overhead_ms=100.0), ScanTiming(1e4, 20.0), ScanTiming(dwell_factor=0.05)],
)
def test_the_conventional_time_is_what_the_instrument_would_take(true, configured):
    """Whatever the overheads are in truth: they are neither configured nor declared."""
    messages = [prepared(ScanTiming()), *tile_at(true)]
    figures = folded(messages, timing=configured).figures()
    conventional_s = true.duration_s(40 * 40, 40, 1e6)
    assert figures.saved_s + figures.scan_s == pytest.approx(conventional_s, rel=0.05)
    assert figures.saved_share == pytest.approx(figures.saved_s / conventional_s, rel=0.05)


def test_overheads_are_those_declared_or_configured_until_scans_teach_others():
    declared, configured = ScanTiming(row_overhead_us=1e5), ScanTiming(scan_overhead_ms=5e3)
    for timing, wanted in ((None, declared), (configured, configured)):
        figures = folded([prepared(declared), TileFinished(tile=TILES[0])], timing=timing).figures()
        assert figures.saved_s == pytest.approx(wanted.duration_s(1600, 40, 1e6))


def test_what_failed_is_counted():
    partition = PartitionId(TILES[0], 0)
    missed = ScanId(partition, 3)
    messages = [
        WorkerJoined(worker="a", host="h", pid=1),
        WorkerJoined(worker="b", host="h", pid=2),
        WorkerLost(worker="a", reason="died"),
        ScanMissed(scan_id=missed, reason="x"),
        ScanMissed(scan_id=ScanId(partition, 4), reason="x"),
        recorded(scanned(region_scan(TILES[0], 4), 0.0)),
        DetectionFailed(partition=partition, reason="the detector [raised]\nit"),
    ]
    figures = folded(messages).figures()
    assert (figures.workers, figures.scans_missed, figures.detections_failed) == (1, 1, 1)
    out = io.StringIO()
    Console(file=out, width=120).print(summary(figures, "completed", "", Path("x")))
    assert "1 scans given up, 1 detections failed" in out.getvalue()
    assert "the detector [raised] it" in out.getvalue()


def test_before_anything_happened_nothing_is_divided_by_zero():
    figures = folded([]).figures()
    assert (figures.idle_share, figures.saved_share, figures.eta_s) == (0.0, None, None)
    assert one_line(figures) == "tile 0/2, fast 0/2, regions 0/0, idle 0.0%"


# -- shown ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_display_shows_the_figures_and_ends(is_terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=160)
    with Display(Progress(tiles=2, partitions=1, analysis=ANALYSIS), console) as display:
        for number, message in enumerate(two_tiles(), 1):
            display.observe(message, number)
        display.show()
    assert "tile 2/2, fast 2/2, regions 2/2, idle 25.0%" in out.getvalue()
    assert is_terminal or out.getvalue().count("\n") == 1


def test_the_summary_says_where_to_look():
    out = io.StringIO()
    figures = folded(two_tiles()).figures()
    Console(file=out, width=120).print(summary(figures, "completed", "", Path("runs") / "x"))
    text = out.getvalue()
    assert "run.nxs" in text
    assert "25.0% (detection 0.3 s)" in text
    assert "78% of a conventional analysis scan" in text
    assert "given up" not in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.5, "9.5 s"), (61, "0:01:01"), (90000, "1 day, 1:00:00")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
