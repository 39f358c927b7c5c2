"""A Dask cluster for tests."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A scheduler and two workers that have joined it, in processes of their own; yields its address."""
    from distributed import Client

    address = folder / "scheduler.json"
    scheduler = [
        "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-jupyter",
        "--scheduler-file", str(address),
    ]  # fmt: skip
    worker = [
        "dask_worker", "--scheduler-file", str(address), "--nthreads", "1", "--no-nanny", "--no-dashboard",
        "--host", "127.0.0.1", "--local-directory", str(folder),
    ]  # fmt: skip
    processes = []
    with (folder / "cluster.log").open("wb") as log:
        for module, *arguments in (scheduler, worker, worker):
            command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments]
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
    try:
        turn = threading.Event()
        for _ in range(600):
            if address.exists() and (text := address.read_text()):
                break
            turn.wait(0.1)
        else:
            pytest.fail((folder / "cluster.log").read_text())
        found: str = json.loads(text)["address"]
        with Client(found, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield found.removeprefix("tcp://")
    finally:
        for process in processes:  # asked to end, a worker waits for a scheduler that is gone
            process.kill()
            process.wait(30)
