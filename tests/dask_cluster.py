"""A Dask cluster in processes of its own, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

WORKERS = 2
WAIT_S = 60.0


@contextlib.contextmanager
def cluster(folder: Path, *, nanny: bool = False, port: int = 0) -> Iterator[str]:
    """Yield the "dask://" address of a scheduler with two workers; a nanny replaces dead ones."""
    distributed = pytest.importorskip("distributed")
    address = folder / "scheduler.json"
    scheduler = [
        "dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-jupyter",
        "--scheduler-file", str(address),
    ]  # fmt: skip
    worker = [
        "dask_worker", "--scheduler-file", str(address), "--nthreads", "1", "--no-dashboard",
        "--nanny" if nanny else "--no-nanny", "--host", "127.0.0.1", "--local-directory", str(folder),
    ]  # fmt: skip
    processes: list[subprocess.Popen[bytes]] = []
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    with (folder / "cluster.log").open("wb") as log:
        for module, *arguments in (scheduler, *[worker] * WORKERS):
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    env=os.environ | {"PYTHONPATH": path},
                    **_own_group(),
                )
            )
    try:
        turn, give_up_s = threading.Event(), time.monotonic() + WAIT_S
        while not (address.exists() and (text := address.read_text())):
            if time.monotonic() > give_up_s:
                pytest.fail((folder / "cluster.log").read_text())
            turn.wait(0.05)
        there = json.loads(text)["address"].removeprefix("tcp://")
        with distributed.Client(there, set_as_default=False) as client:
            client.wait_for_workers(WORKERS, timeout=WAIT_S)
        yield f"dask://{there}"
    finally:
        for process in processes:  # asked to end, a worker waits for a scheduler that is gone
            _kill(process)
            process.wait(30)


def _own_group() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with what it started, which on POSIX is in its session."""
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
