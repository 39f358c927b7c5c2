"""What taps that nobody reads cost a run: memory, the time of whoever sends, and idle beam.

    python scripts/benchmark_taps.py                    # 100 taps, 1 GB/s of whole images for 20 s
    python scripts/benchmark_taps.py --survey c.toml    # a survey without and with 100 such taps

The figures are of a quiet computer only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import msgpack
import numpy as np
import psutil
import zmq

from sparse_actors.actors.recorder import KEPT
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.imaging import Imaging
from sparse_actors.messages import RegionScanned, Scan, ScanId
from sparse_actors.network.taps import Taps

SIDE_PX = 3072
LOOPBACK = "tcp://127.0.0.1"


def look_away(endpoint: str, count: int) -> None:
    """Connect so many taps that hear everything and read nothing, until stdin is closed."""
    context = zmq.Context()
    door = context.socket(zmq.DEALER)
    door.connect(endpoint)
    door.send(b"describe")
    ports = msgpack.unpackb(door.recv_multipart()[1])["fields"]
    taps = []
    for _ in range(count):
        for port in filter(None, (ports["facts_port"], ports["images_port"])):
            tap = context.socket(zmq.SUB)
            tap.rcvhwm = 1
            tap.subscribe(b"")
            tap.connect(f"{endpoint.rpartition(':')[0]}:{port}")
            taps.append(tap)
    for tap in taps:
        while not tap.poll(100):
            door.send_multipart([b"echo", b"ready"])
    print("ready", flush=True)
    sys.stdin.read()
    context.destroy(linger=0)


@contextmanager
def dead_taps(endpoint: str, count: int) -> Iterator[None]:
    """Have so many taps that nobody reads, in a process of their own."""
    command = [sys.executable, __file__, "--look-away", endpoint, "--taps", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            yield
        finally:
            process.kill()


def stream(
    count: int, seconds: float, mb_per_s: float, images: str, side_px: int = SIDE_PX
) -> dict[str, float]:
    """Offer images to taps; returns memory (MB) and the time of the sender (us)."""
    scan = Scan(
        ScanId(PartitionId(TileIndex(0, 0), 0), 0),
        PixelBox(0, 0, side_px, side_px),
        Imaging((side_px, side_px), 1.0),
    )
    settings = {"listen": f"{LOOPBACK}:*", "images_listen": f"{LOOPBACK}:*", "images": images, "token": ""}
    taps = Taps(**settings, history=list, journaled=KEPT, publish=lambda message: None)  # type: ignore[arg-type]
    process = psutil.Process()
    tick = threading.Event()
    try:
        with dead_taps(taps.endpoint, count) if count else nullcontext():
            before_mb = most_mb = process.memory_info().rss / 1e6
            took_us = []
            begun_s = time.perf_counter()
            period_s = side_px**2 * 2 / 1e6 / mb_per_s
            while (now_s := time.perf_counter()) < begun_s + seconds:
                image = np.full((side_px, side_px), len(took_us), np.uint16)  # a new one, as from a driver
                message = RegionScanned(
                    scan=scan, attempt=1, image=image, dwell_ns=1.0, started_s=0.0, finished_s=1.0
                )
                offered_s = time.perf_counter()
                taps.take(message, len(took_us) + 1)
                took_us.append((time.perf_counter() - offered_s) * 1e6)
                del image, message
                most_mb = max(most_mb, process.memory_info().rss / 1e6)
                tick.wait(max(0.0, period_s - (time.perf_counter() - now_s)))
            offered_mb = len(took_us) * side_px**2 * 2 / 1e6
            return {
                "taps": count,
                "images": len(took_us),
                "offered_mb_per_s": offered_mb / (time.perf_counter() - begun_s),
                "memory_before_mb": before_mb,
                "memory_most_mb": most_mb,
                "memory_end_mb": process.memory_info().rss / 1e6,
                "take_p50_us": float(np.percentile(took_us, 50)),
                "take_p99_us": float(np.percentile(took_us, 99)),
                "not_sent": sum(taps.dropped.values()),
            }
    finally:
        taps.close()


def survey(config: Path, count: int, port: int) -> dict[str, float]:
    """Run a survey with so many dead taps (0: with taps off); returns its idle share and time."""
    ports = (
        [f'taps.listen="{LOOPBACK}:{port}"', f'taps.images_listen="{LOOPBACK}:{port + 2}"'] if count else []
    )
    overrides = [word for change in ports for word in ("--set", change)]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "sparse_actors",
            "run",
            str(config),
            "--out",
            f"{folder}/run",
            "--json",
        ]
        with subprocess.Popen([*command, *overrides], stdout=subprocess.PIPE, text=True) as process:
            with dead_taps(f"{LOOPBACK}:{port}", count) if count else nullcontext():
                output, _ = process.communicate()
        figures = json.loads(output)["figures"]
    return {"taps": count, "idle_share": figures["idle_share"], "scan_s": figures["scan_s"]}


def main() -> None:
    """Measure what is asked for, and print it as lines of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--taps", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--mb-per-s", type=float, default=1000.0)
    parser.add_argument("--survey", type=Path, help="configuration of a survey to run")
    parser.add_argument("--port", type=int, default=7742)
    parser.add_argument("--look-away", metavar="ENDPOINT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look_away:
        look_away(options.look_away, options.taps)
    elif options.survey:
        for count in (0, options.taps, 0, options.taps):
            print(json.dumps(survey(options.survey, count, options.port)), flush=True)
    else:
        for images in ("preview", "full"):
            for count in (0, options.taps):
                figures = stream(count, options.seconds, options.mb_per_s, images)
                print(json.dumps({"sent": images, **figures}), flush=True)


if __name__ == "__main__":
    main()
