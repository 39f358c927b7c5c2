"""A worker pool with real processes, for tests: what it published, and waiting for it."""

from __future__ import annotations

import contextlib
import inspect
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from odd_detectors import image_that_means
from zmq.utils.garbage import gc as zero_copy

from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import DetectImage, DetectionLost, DetectionReturned, Message
from sparse_actors.network.dask_pool import DaskPool
from sparse_actors.network.pool import WorkerPool
from sparse_actors.network.welcome import welcome_of

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals")

AnyMessage = TypeVar("AnyMessage", bound=Message)
WAIT_S = 30.0


@pytest.fixture(scope="module", autouse=True)
def zero_copy_thread() -> None:
    """Have pyzmq's thread for sends without a copy before a test counts threads; it outlives any socket."""
    if zero_copy.thread is None:  # another test may have sent something before
        zero_copy.start()


class PoolUnderTest:
    """A pool, and what it published."""

    def __init__(self, log: Path, **arguments: Any) -> None:
        self._attempt = 0
        self._published: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._log = log
        self.pool = self._made(
            {"detector": "odd_detectors:Odd", "options": {}, "deadline_s": WAIT_S} | arguments
        )

    def _made(self, arguments: dict[str, Any]) -> Any:
        settings = {"local_workers": 1, "restart_budget": 10, "log": self._log} | arguments
        welcome = welcome_of(**_split(settings))
        return WorkerPool(publish=self._published.put, now=time.monotonic, welcome=welcome, **settings)

    def next(self, kind: type[AnyMessage]) -> AnyMessage:
        """Wait for the next message of a kind; what comes before is passed over."""
        give_up_s = time.monotonic() + WAIT_S
        passed = []
        while True:
            try:
                message = self._published.get(timeout=max(0.0, give_up_s - time.monotonic()))
            except queue.Empty:
                log = self._log.read_text() if self._log.exists() else ""
                pytest.fail(f"no {kind}, only {passed}; the workers printed:\n{log}")
            if isinstance(message, kind):
                return message
            passed.append(message)

    def submit(self, image: np.ndarray[Any, Any], scale: int = 1, *, may_be_refused: bool = False) -> None:
        self._attempt += 1
        partition = PartitionId(TileIndex(0, 0), 0)
        order = DetectImage(partition=partition, attempt=self._attempt, image=image, scale=scale)
        assert self.pool.offer(order) or may_be_refused

    def detect(self, behaviour: str) -> DetectionReturned | DetectionLost:
        self.submit(image_that_means(behaviour))
        answer = self.next((DetectionReturned, DetectionLost))  # type: ignore[arg-type]
        assert answer.attempt == self._attempt
        return answer

    def process_id(self) -> int:
        answer = self.detect("process id")
        assert isinstance(answer, DetectionReturned), answer
        return int(answer.pois.score[0])

    def nothing_more(self) -> bool:
        return self._published.empty()


class DaskPoolUnderTest(PoolUnderTest):
    """The same on a Dask cluster."""

    def __init__(self, url: str, log: Path, **arguments: Any) -> None:
        self._url = url
        super().__init__(log, **arguments)

    def _made(self, arguments: dict[str, Any]) -> Any:
        welcome = welcome_of(**_split(arguments))
        budget = {"start_budget": arguments.get("restart_budget", 10)}
        return DaskPool(self._url, publish=self._published.put, now=time.monotonic, welcome=welcome, **budget)


def _split(settings: dict[str, Any]) -> dict[str, Any]:
    """Take out of the settings of a pool what its workers are told."""
    told = inspect.signature(welcome_of).parameters.keys() & settings.keys()
    return {name: settings.pop(name) for name in told}


OpenPool = Callable[..., PoolUnderTest]


@pytest.fixture
def open_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenPool]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with contextlib.ExitStack() as stack:

        def start(**arguments: Any) -> PoolUnderTest:
            under_test = PoolUnderTest(tmp_path / "workers.log", **arguments)
            under_test.pool.start()
            stack.callback(under_test.pool.close)
            return under_test

        yield start


def wait_until(is_true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < give_up_s
        threading.Event().wait(0.01)


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc/self").exists()


def a_worker(endpoint: str, token: str = "", *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sparse_actors", "worker", endpoint, *options],
        env=os.environ | {"SPARSE_ACTORS_WORKER_TOKEN": token},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
