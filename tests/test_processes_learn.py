"""Learning a library as a process, ended by a signal: the microscope is as it was found."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_learn import CONFIG

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
DEADLINE_S = 60


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 75)])
def test_a_signal_while_spots_are_measured_brings_the_microscope_back(
    tmp_path: Path, name: str, code: int
) -> None:
    files = {key: tmp_path / key for key in ("state", "log", "library")}
    config = tmp_path / "c.toml"
    config.write_text(CONFIG.format(**{key: str(path) for key, path in files.items()}), encoding="utf-8")
    command = [sys.executable, "-m", "sparse_actors", "learn", str(config), "--spots", "4000"]
    slow = ["--live-ms", "500", "--set", "microscope.options.time_scale=1"]
    with subprocess.Popen([*command, *slow], stderr=subprocess.PIPE, text=True) as process:
        until_s, turn = time.monotonic() + DEADLINE_S, threading.Event()
        while not _spots(files["log"]):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until_s
            turn.wait(0.05)
        process.send_signal(getattr(signal, name))
        said = process.communicate(timeout=DEADLINE_S)[1]
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert f"{name} received" in said
    state = json.loads(files["state"].read_text())["state"]
    assert (state["x_mm"], state["y_mm"], state["beam_on"]) == (0.0, 0.0, False)
    assert not files["library"].exists()


def _spots(log: Path) -> int:
    """How many batches of spectra the instrument has finished."""
    return log.read_text().count('"spectra"') if log.exists() else 0
