"""How fast the live page shows what happens, and what it costs a run, in a headless Chromium.

    python scripts/benchmark_page.py latency [--tiles-per-s 50] [--regions-per-s 1000] [--seconds 20]
    python scripts/benchmark_page.py idle [--pages 5]

`latency`: the journal of a survey of 10 000 tiles is written as a run would, its images lying on disk. From
the moment at which a tile is journaled to that at which the browser has drawn it passes the latency;
meanwhile the map is moved, so that every frame is drawn anew. `idle`: a survey with and without pages.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from sparse_actors.contracts.detector import Pois
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex, full_frame
from sparse_actors.imaging import Imaging
from sparse_actors.messages import (
    ExposureStarted,
    PoisFound,
    Recorded,
    RegionsPlanned,
    RunStarted,
    Scan,
    ScanId,
    StorageReserved,
    TileFinished,
)
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.store import RunStore

SIDE = 100
CONFIG = f"""
[run]
name = "benchmark"
[microscope]
driver = "simulated"
[panorama]
corners_mm = [[0.0, 0.0], [{SIDE * 0.1}, 0.0], [0.0, {SIDE * 0.1}]]
tile_fov_um = 100.0
overlap_pct = 0.0
partitions = 1
[scan.fast]
size_px = [256, 256]
dwell_ns = 300.0
[scan.analysis]
size_px = [1024, 1024]
dwell_ns = 3200.0
[detect]
halo_px = 0
"""
FAST, ANALYSIS = Imaging((256, 256), 300.0), Imaging((1024, 1024), 3200.0)
WATCH = """() => {
  window.seen = {}; window.frames = 0; window.messages = 0;
  addEventListener("drawn", (event) => {
    window.messages += 1;
    const now = (performance.timeOrigin + performance.now()) / 1000;
    for (const tile of event.detail) window.seen[tile] ??= now;
  });
  const canvas = document.getElementById("canvas");
  const frame = () => {
    window.frames += 1;
    const key = window.frames % 2 ? "ArrowLeft" : "ArrowRight";
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
    requestAnimationFrame(frame);
  };
  frame();
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("latency", "idle"))
    parser.add_argument("--tiles-per-s", type=int, default=50)
    parser.add_argument("--regions-per-s", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--pages", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = (
            shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        )
        if chromium is None:
            sys.exit("no Chromium is installed")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if given.what == "latency":
            latency(Path(folder), browser, given.tiles_per_s, given.regions_per_s, given.seconds)
        else:
            idle(Path(folder), browser, given.pages)


def latency(folder: Path, browser: Browser, tiles_per_s: int, regions_per_s: int, seconds: int) -> None:
    store, journal = RunStore(folder), _begun(folder)
    tiles = [TileIndex(*divmod(number, SIDE)) for number in range(tiles_per_s * seconds)]
    image = np.random.default_rng(1).integers(0, 256, (256, 256), np.uint8)
    written = {}
    for tile in tiles:
        scan = Scan(ScanId(PartitionId(tile, 0)), full_frame(FAST.size_px), FAST)
        store.reserve(f"{tile}-fast", (scan,), "uint8")
        written[tile] = scan, store.write(f"{tile}-fast", scan, image)
    arguments = [sys.executable, "-m", "sparse_actors", "page", str(folder), "--listen", "127.0.0.1:0"]
    with _process(arguments) as process:
        assert process.stdout is not None
        page = _opened(browser, process.stdout.readline().decode().strip())
        page.evaluate(WATCH)
        begun_s, said_s = time.time(), {}
        writer = threading.Thread(
            target=lambda: said_s.update(_write(journal, written, tiles_per_s, regions_per_s))
        )
        writer.start()
        while writer.is_alive():
            page.wait_for_timeout(200)
        took_s = time.time() - begun_s
        frames, messages = page.evaluate("() => [window.frames, window.messages]")
        page.wait_for_function(f"Object.keys(window.seen).length >= {len(tiles)}", timeout=60_000)
        seen = page.evaluate("() => window.seen")
    journal.close()
    waits_ms = [1e3 * (seen[str(tile.row * SIDE + tile.column)] - at) for tile, at in said_s.items()]
    middle, late = np.percentile(waits_ms, [50, 95])
    print(f"{len(tiles) / took_s:.0f} tiles/s and {regions_per_s * seconds / took_s:.0f} regions/s written")
    print(f"{frames / took_s:.0f} frames/s, {messages / took_s:.0f} messages/s")
    print(f"latency p50 {middle:.0f} ms, p95 {late:.0f} ms, largest {max(waits_ms):.0f} ms")


def _begun(folder: Path) -> Journal:
    RunFolder(folder).create()
    journal = Journal.create(RunFolder(folder).journal)
    journal.append(
        RunStarted(
            name="benchmark", session=0, started_s=time.time(), seed=1, version="0", config_toml=CONFIG
        )
    )
    return journal


def _write(
    journal: Journal, written: dict[TileIndex, tuple[Scan, int]], tiles_per_s: int, regions_per_s: int
) -> dict[TileIndex, float]:
    """Journal the tiles at their rate, each with its regions; returns when each was first told of."""
    said_s = {}
    begun_s = time.monotonic()
    for number, (tile, (scan, crc32)) in enumerate(written.items()):
        time.sleep(max(0.0, begun_s + number / tiles_per_s - time.monotonic()))
        part = PartitionId(tile, 0)
        boxes = [PixelBox(40 * n % 960, 30 * n % 960, 64, 64) for n in range(regions_per_s // tiles_per_s)]
        regions = tuple(Scan(ScanId(part, n), box, ANALYSIS) for n, box in enumerate(boxes))
        said_s[tile] = now_s = time.time()
        journal.append(ExposureStarted(scan_id=scan.id, attempt=1, started_s=now_s))
        journal.append(StorageReserved(slab=f"{tile}-fast", scans=(scan,), pixel_type="uint8"))
        _record(journal, scan, f"{tile}-fast", crc32)
        points = Pois.at([(box.left + 32, box.top + 32) for box in boxes])
        journal.append(PoisFound(partition=part, pois=points, worker="w", elapsed_s=0.01))
        journal.append(RegionsPlanned(partition=part, scans=regions, strategy="greedy", predicted_s=1.0))
        for region in regions:
            _record(journal, region, f"{part}-regions", 0)
        journal.append(TileFinished(tile=tile))
    return said_s


def _record(journal: Journal, scan: Scan, slab: str, crc32: int) -> None:
    times = {"started_s": time.time(), "finished_s": time.time()}
    journal.append(Recorded(scan_id=scan.id, attempt=1, slab=slab, crc32=crc32, dwell_ns=300.0, **times))


def idle(folder: Path, browser: Browser, pages: int) -> None:
    for count in (0, pages):
        listen = "127.0.0.1:0" if count else ""
        arguments = ["run", "config.toml", "--out", str(folder / str(count)), "--json"]
        arguments += [
            "--set",
            f"page.listen={listen!r}",
            "--set",
            "panorama.corners_mm=[[0,0],[0.66,0],[0,0.47]]",
        ]
        with (folder / "said.txt").open("wb") as said:
            command = [sys.executable, "-m", "sparse_actors", *arguments]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        opened = []
        while count and process.poll() is None and not opened:
            time.sleep(0.1)
            if found := re.search(r"page: (http://\S+)", (folder / "said.txt").read_text()):
                opened = [_opened(browser, found[1]) for _ in range(count)]
        output, _ = process.communicate()
        for page in opened:
            page.close()
        print(f"{count} pages: idle {json.loads(output)['figures']['idle_share']:.2%}")


def _opened(browser: Browser, url: str) -> Page:
    page = browser.new_page(viewport={"width": 1400, "height": 900}, locale="en-US", bypass_csp=True)
    page.goto(url)
    page.wait_for_function("document.getElementById('name').textContent !== 'sparse-actors'", timeout=60_000)
    return page


@contextmanager
def _process(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process: subprocess.Popen[Any] = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
