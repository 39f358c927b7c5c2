"""What holds for every test: nothing is left behind, and no test is timed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from sparse_actors.testing.microscope_contract import MicroscopeContract


def pytest_configure() -> None:
    """Hear Ctrl-C and a closed terminal, and let children hear them, wherever the tests were started.

    A shell in the background lets its children ignore the one, nohup the other.
    """
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_IGN:
        signal.signal(hangup, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let `pytest -m contract` choose the contract suite of every driver."""
    for item in items:
        if issubclass(getattr(item, "cls", None) or object, MicroscopeContract):
            item.add_marker("contract")


def _children() -> set[int]:
    """Process ids of live children; empty where /proc does not tell."""
    found = set()
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found |= {int(pid) for pid in task.read_text().split()}
        except OSError:
            continue
    return {pid for pid in found if not _is_tracker(pid)}


def _is_tracker(pid: int) -> bool:
    """Whether a child is a resource tracker of the standard library, which ends with this process."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _new(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that were not there; pyzmq keeps one for the life of the process."""
    new = set(threading.enumerate()) - before
    return [thread for thread in new if type(thread).__name__ != "GarbageCollectorThread"]


@pytest.fixture(autouse=True, scope="session")
def what_runs_share_is_not_touched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests from the user's data, leases and keys; processes that they start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_ACTORS_TIMES", "off")
        patch.setenv("SPARSE_ACTORS_LEASES", str(tmp_path_factory.mktemp("leases")))
        patch.setenv("SPARSE_ACTORS_KEYS", str(tmp_path_factory.mktemp("keys")))
        yield


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread or a process."""
    threads, children = set(threading.enumerate()), _children()
    yield
    deadline = time.monotonic() + 5
    while True:
        left = [t.name for t in _new(threads)]
        processes = _children() - children
        if not (left or processes):
            return
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: threads {left}, processes {sorted(processes)}")
        for thread in _new(threads):
            thread.join(0.1)
        if processes and not left:
            threading.Event().wait(0.05)
