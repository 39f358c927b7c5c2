"""The workers of an extra computer: as many as it has slots, restarted when they die, until Ctrl-C."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from .link import REFUSED, say
from .local_workers import PARENT_VARIABLE, TOKEN_VARIABLE, LocalWorkers
from .worker import run_worker, worker_key

POLL_S = 0.1
DRAIN_S = 3600.0
"""Longest wait for jobs to end; a second Ctrl-C ends it."""
STOP_S = 2.0
WRONG_SETUP = 3
"""Exit code of wrong configuration, as everywhere."""
RESTARTS, RESTARTS_WITHIN_S = 5, 60.0


def host_workers(endpoint: str, keyfile: Path | None = None, slots: int = 1, tags: Sequence[str] = ()) -> int:
    """Work for the daemon at `endpoint`, run after run, until Ctrl-C; then end the jobs that are begun.

    Called in a process that is itself such a worker, it is one. The parameters are those of `run_worker`;
    `slots` is the number of jobs at a time.

    Returns
    -------
    int
        Exit code: 0 after Ctrl-C, 3 if the workers may not join as they are.

    Raises
    ------
    ConfigError
        The key cannot be used.
    """
    if PARENT_VARIABLE in os.environ:
        return run_worker(endpoint, keyfile, tags)
    options = [f"--keyfile={keyfile}"] if keyfile else []
    options += [f"--tag={tag}" for tag in tags]
    if keyfile is not None:
        worker_key(keyfile)
    workers = LocalWorkers(
        count=slots,
        restart_budget=RESTARTS,
        restart_window_s=RESTARTS_WITHIN_S,
        log=None,
        options=options,
        token=os.environ.pop(TOKEN_VARIABLE, ""),
    )
    running = 0
    try:
        while True:
            for name, _ in workers.start_missing(endpoint, time.monotonic()):
                running += 1
                say(f"{name} of {slots} works for {endpoint}; Ctrl-C ends it after its job")
            for name, reason, code in workers.ended(time.monotonic()):
                running -= 1
                if code == REFUSED:
                    return WRONG_SETUP
                say(f"{name}: {reason}; started again")
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        workers.ask_to_leave()
        give_up_s = time.monotonic() + DRAIN_S
        while running and time.monotonic() < give_up_s:
            running -= len(list(workers.ended(time.monotonic())))
            time.sleep(POLL_S)
        return 0
    finally:
        workers.stop(STOP_S)
