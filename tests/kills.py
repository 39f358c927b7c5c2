"""Surveys in processes of their own, killed at a moment that the journal's growth picks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparse_actors.messages import WorkerJoined
from sparse_actors.recording.journal import read_journal
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.run_record import RunRecord

CONFIG = """
[run]
name = "killed"
seed = 3
[microscope]
driver = "simulated"
[microscope.options]
seed = 3
time_scale = {time_scale}
stage_settle_s = 0.01
scan_overhead_ms = 2.0
log_file = {log!r}
state_file = {state!r}
[panorama]
corners_mm = [[0.0, 0.0], [0.05, 0.0], [0.0, 0.025]]
tile_fov_um = 25.0
overlap_pct = 0.0
[panorama.at_corners]
working_distance_mm = [9.9, 9.95, 9.98]
[scan.fast]
size_px = [192, 192]
dwell_ns = 8000.0
[scan.analysis]
size_px = [768, 768]
dwell_ns = 8000.0
[detect.options]
threshold = 60
[regions]
size_px = [48, 48]
[limits]
min_free_disk_gb = 0.0
"""


class KilledSurvey:
    """A survey in `folder` that is started again after each kill."""

    text = CONFIG

    def __init__(self, folder: Path, time_scale: float = 4.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.run = folder / "run"
        self.log, self.state, self.config = (folder / name for name in ("log.jsonl", "state.json", "c.toml"))
        text = self.text.format(time_scale=time_scale, log=str(self.log), state=str(self.state))
        self.config.write_text(text, encoding="utf-8")
        self.output = folder / "output.txt"

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "sparse_actors", "run", str(self.config), "--out", str(self.run)]
        if (self.run / "journal").exists():
            command.append("--resume")
        with self.output.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output)

    def finish(self) -> None:
        process = self.start()
        assert process.wait(120) == 0, self.output.read_text(errors="replace")[-3000:]

    def interrupt(self, growth_bytes: int, kill: Callable[[subprocess.Popen[bytes]], None]) -> int:
        """Start, wait until the journal has grown so far, do `kill`, and wait for the end."""
        before = self._journal_bytes()
        process = self.start()
        turn = threading.Event()
        while process.poll() is None and self._journal_bytes() < before + growth_bytes:
            turn.wait(0.002)
        kill(process)
        return process.wait(120)

    def _journal_bytes(self) -> int:
        try:
            return (self.run / "journal").stat().st_size
        except OSError:
            return 0

    def kill_a_worker(self, rng: random.Random) -> None:
        """Kill one detector worker that the journal names and that still lives."""
        joined = [m for m in read_journal(RunFolder(self.run).journal) if isinstance(m, WorkerJoined)]
        if joined:
            try:
                os.kill(rng.choice(joined[-2:]).pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def panorama(self) -> dict[str, np.ndarray[Any, Any]]:
        """Every recorded image by its name."""
        record = RunRecord.open(self.run)
        return {str(scan_id): record.image(scan_id) for scan_id in record.recorded}

    def exposures(self) -> list[dict[str, Any]]:
        """The instrument's own account of the scans it made."""
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [entry for entry in entries if "pixels" in entry]
