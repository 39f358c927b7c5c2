"""Measure what a small scan costs through `sharksem` beyond the time of the beam, on loopback.

python scripts/measure_sharksem.py              200 scans of 32 x 32 pixels at 1 us
python scripts/measure_sharksem.py --host SEM --port 8300   on a microscope: exposes the specimen

The fake server runs in a process of its own and in real time. Beam time is the server's own estimate.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from sparse_actors.drivers.sharksem import SharkSemMicroscope

from sparse_actors.geometry import PixelBox

WINDOW, BOX, DWELL_NS = (768, 768), PixelBox(300, 300, 32, 32), 1000.0


def measure(host: str, port: int, scans: int) -> None:
    microscope = SharkSemMicroscope(host=host, port=port)
    microscope.connect()
    found = microscope.get_state()
    try:
        microscope.prepare()
        beam_ms = microscope.estimate_time_s(BOX, DWELL_NS, WINDOW) * 1e3
        over_ms = []
        for _ in range(scans):
            started_s = time.perf_counter()
            microscope.scan_area(BOX, DWELL_NS, WINDOW)
            over_ms.append((time.perf_counter() - started_s) * 1e3 - beam_ms)
    finally:
        microscope.reset_microscope(found)
        microscope.disconnect()
    share, median_ms = statistics.quantiles(over_ms, n=20), statistics.median(over_ms)
    print(f"{scans} scans of {BOX.width} x {BOX.height} px at {DWELL_NS:g} ns; beam time {beam_ms:.2f} ms")
    print(f"beyond it: median {median_ms:.2f} ms, 90 % in {share[0]:.2f} to {share[-1]:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="", help="of a microscope; else the fake server is started")
    parser.add_argument("--port", type=int, default=8300)
    parser.add_argument("--scans", type=int, default=200)
    chosen = parser.parse_args()
    if chosen.host:
        return measure(chosen.host, chosen.port, chosen.scans)
    command = [sys.executable, "-m", "sparse_actors.drivers.sharksem.fake_server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rpartition(":")[2])
            measure("127.0.0.1", port, chosen.scans)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
