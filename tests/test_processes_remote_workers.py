"""Workers as on another computer: keys, code, slots, and links that are cut, slow or broken."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_detectors import image_that_means
from pool_under_test import (
    WAIT_S,
    OpenPool,
    PoolUnderTest,
    a_worker,
    is_running,
    open_pool,
    posix_only,
    wait_until,
    zero_copy_thread,
)

from sparse_actors.messages import (
    DetectionLost,
    DetectionReturned,
    MessageRefused,
    ResultCameLate,
    WorkerJoined,
    WorkerLost,
)
from sparse_actors.network.keys import DAEMON, Keys, read_public
from sparse_actors.testing.cuttable_link import cuttable_link

__all__ = ["open_pool", "zero_copy_thread"]  # fixtures

QUICK: dict[str, Any] = {
    "local_workers": 0,
    "listen": "tcp://127.0.0.1:*",
    "heartbeat_s": 0.2,
    "silence_s": 1.0,
}


class Printed:
    """What a worker's process prints, read while it runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def has(self, words: str) -> str:
        """Wait for a line with these words."""
        give_up_s = time.monotonic() + WAIT_S
        seen = []
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, give_up_s - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no line with {words!r} in {seen}")
            if words in line:
                return line
            seen.append(line)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        if self.process.stderr:
            self.process.stderr.close()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self._lines.put(line.decode())


StartWorker = Callable[..., Printed]


@pytest.fixture
def start_worker() -> Iterator[StartWorker]:
    with contextlib.ExitStack() as stack:

        def start(endpoint: str, token: str = "", *options: str) -> Printed:
            printed = Printed(a_worker(endpoint, token, *options))
            stack.callback(printed.end)
            return printed

        yield start


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path / "keys")
    keys.new(DAEMON)
    return keys


def keyfile(keys: Keys, name: str, *, is_allowed: bool = True) -> Path:
    path = keys.new(name, keys.daemon().public)
    if is_allowed:
        keys.allow(*read_public(path.with_suffix(".key")), "workers")
    return path


def port_of(under_test: PoolUnderTest) -> int:
    return int(under_test.pool.endpoints[1].rpartition(":")[2])


# -- who may work ------------------------------------------------------------------------------------


@pytest.mark.failure_matrix
def test_a_key_lets_a_worker_in_and_revoking_it_sends_it_away(
    open_pool: OpenPool, start_worker: StartWorker, keys: Keys
) -> None:
    under_test = open_pool(keys=keys, **QUICK)
    bench = keyfile(keys, "bench", is_allowed=False)
    printed = start_worker(under_test.pool.endpoints[1], "", f"--keyfile={bench}", "--tag=gpu")
    printed.has("does not let this key in")
    assert "may not connect" in under_test.next(MessageRefused).reason
    keys.allow(*read_public(bench.with_suffix(".key")), "workers")
    joined = under_test.next(WorkerJoined)
    assert (joined.worker, joined.tags) == ("bench/1", ("gpu",))
    assert joined.models[0].startswith("odd_detectors:Odd ")
    assert under_test.process_id() == joined.pid != printed.process.pid
    keys.revoke("bench")
    assert under_test.next(WorkerLost).reason == "its key was revoked"
    printed.has("its key was revoked")
    printed.has("does not let this key in")


@pytest.mark.failure_matrix
def test_a_worker_with_other_code_is_refused_and_told_which(
    open_pool: OpenPool, start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_test = open_pool(**QUICK)
    (tmp_path / "other").mkdir()
    source = Path(__file__).with_name("odd_detectors.py").read_text()
    (tmp_path / "other" / "odd_detectors.py").write_text(source + "# changed\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    printed = start_worker(under_test.pool.endpoints[1], under_test.pool.token)
    assert "odd_detectors.py differs; install the same" in under_test.next(WorkerLost).reason
    printed.has("odd_detectors.py differs; install the same")
    assert printed.process.wait(WAIT_S) == 3, "starting it again is of no use"


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_key_that_cannot_be_used_is_said_at_once(start_worker: StartWorker, keys: Keys, mode: int) -> None:
    path = keys.folder / "daemon.secret"
    path.chmod(mode)
    printed = start_worker("tcp://127.0.0.1:1", "", f"--keyfile={path}")
    printed.has("others" if mode == 0o644 and sys.platform != "win32" else "is the daemon's")
    assert printed.process.wait(WAIT_S) == 3


# -- slots -------------------------------------------------------------------------------------------


@pytest.mark.failure_matrix
def test_a_slot_whose_detector_crashes_is_filled_again_and_the_other_works_on(
    open_pool: OpenPool, start_worker: StartWorker
) -> None:
    under_test = open_pool(**QUICK)
    start_worker(under_test.pool.endpoints[1], under_test.pool.token, "--slots=2")
    first, second = under_test.next(WorkerJoined), under_test.next(WorkerJoined)
    answer = under_test.detect("exit code 3")
    assert isinstance(answer, DetectionLost)
    assert answer.reason == "connection lost"
    assert under_test.next(WorkerJoined).pid not in {first.pid, second.pid}
    assert isinstance(under_test.detect("nothing"), DetectionReturned)


@pytest.mark.failure_matrix
@posix_only
def test_ctrl_c_lets_a_job_end_and_then_leaves(
    open_pool: OpenPool, start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_BEGUN", str(tmp_path / "begun"))
    monkeypatch.setenv("ODD_RELEASE", str(tmp_path / "release"))
    under_test = open_pool(**QUICK)
    printed = start_worker(under_test.pool.endpoints[1], under_test.pool.token)
    pid = under_test.next(WorkerJoined).pid
    under_test.submit(image_that_means("wait for release"))
    wait_until((tmp_path / "begun").exists)
    printed.process.send_signal(signal.SIGINT)
    under_test.submit(image_that_means("nothing"))
    (tmp_path / "release").touch()
    assert isinstance(under_test.next(DetectionReturned), DetectionReturned)
    assert under_test.next(WorkerLost).reason == "left"
    assert printed.process.wait(WAIT_S) == 0
    assert not is_running(pid)


@pytest.mark.failure_matrix
@posix_only
def test_the_workers_of_a_computer_end_when_the_process_that_holds_them_is_killed(
    open_pool: OpenPool, start_worker: StartWorker
) -> None:
    under_test = open_pool(**QUICK)
    printed = start_worker(under_test.pool.endpoints[1], under_test.pool.token)
    pid = under_test.next(WorkerJoined).pid
    under_test.submit(image_that_means("hang"))
    printed.process.kill()
    assert under_test.next(DetectionLost).reason == "connection lost"
    wait_until(lambda: not is_running(pid))


# -- links -------------------------------------------------------------------------------------------


@pytest.mark.failure_matrix
def test_a_job_behind_a_cut_link_is_done_by_another_and_the_late_result_is_counted(
    open_pool: OpenPool, start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_BEGUN", str(tmp_path / "begun"))
    monkeypatch.setenv("ODD_RELEASE", str(tmp_path / "release"))
    under_test = open_pool(**QUICK)
    with cuttable_link(port_of(under_test)) as link:
        start_worker(link.endpoint, under_test.pool.token)
        far = under_test.next(WorkerJoined)
        under_test.submit(image_that_means("wait for release"))
        wait_until((tmp_path / "begun").exists)
        link.cut()
        (tmp_path / "release").touch()
        started_s = time.monotonic()
        lost = under_test.next(WorkerLost)
        assert lost.worker == far.worker
        assert lost.reason.startswith("silent for")
        assert time.monotonic() - started_s < 1.2 + 5, "silence of 1 s, beats of 0.2 s, a busy test machine"
        start_worker(under_test.pool.endpoints[1], under_test.pool.token)
        near = under_test.next(WorkerJoined)
        assert under_test.next(DetectionReturned).worker == near.worker, "the same job, by whoever is there"
        link.heal()
        late = under_test.next(ResultCameLate)
        assert not late.is_used
        assert under_test.nothing_more() or not isinstance(under_test.next(WorkerJoined), DetectionReturned)


@pytest.mark.failure_matrix
def test_a_late_result_of_a_job_that_is_still_open_is_used(
    open_pool: OpenPool, start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_BEGUN", str(tmp_path / "begun"))
    monkeypatch.setenv("ODD_RELEASE", str(tmp_path / "release"))
    under_test = open_pool(**QUICK)
    with cuttable_link(port_of(under_test)) as link:
        start_worker(link.endpoint, under_test.pool.token)
        pid = under_test.next(WorkerJoined).pid
        under_test.submit(image_that_means("wait for release"))
        wait_until((tmp_path / "begun").exists)
        link.cut()
        under_test.next(WorkerLost)
        (tmp_path / "release").touch()
        link.heal()
        assert under_test.next(DetectionReturned).pois.score[0] == pid, "it need not be done again"
        assert under_test.process_id() == pid


@pytest.mark.failure_matrix
def test_a_connection_that_breaks_costs_no_job(open_pool: OpenPool, start_worker: StartWorker) -> None:
    under_test = open_pool(**QUICK)
    with cuttable_link(port_of(under_test)) as link:
        start_worker(link.endpoint, under_test.pool.token)
        pid = under_test.next(WorkerJoined).pid
        link.break_off()
        assert under_test.next(WorkerLost).reason == "connection lost"
        assert under_test.process_id() == pid


def test_images_cross_a_slow_link_compressed(open_pool: OpenPool, start_worker: StartWorker) -> None:
    under_test = open_pool(**QUICK | {"heartbeat_s": 1.0, "silence_s": 5.0})
    image = np.random.default_rng(3).integers(0, 64, (512, 1024)).astype(np.uint16)
    image[0, 0] = image_that_means("nothing")[0, 0]
    with cuttable_link(port_of(under_test), bytes_per_s=4e6) as link:
        start_worker(link.endpoint, under_test.pool.token)
        under_test.next(WorkerJoined)
        passed = []
        for _ in range(3):
            before = link.bytes_passed
            under_test.submit(image)
            assert isinstance(under_test.next(DetectionReturned), DetectionReturned)
            passed.append(link.bytes_passed - before)
    assert passed[0] > image.nbytes, "nothing was known of the link"
    assert passed[2] < 0.5 * image.nbytes, "6 of 16 bits are noise"


@pytest.mark.failure_matrix
@posix_only
def test_a_worker_finds_the_daemon_that_is_started_again(
    start_worker: StartWorker, tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    script = f"""
import sys, time
from pathlib import Path
from pool_under_test import PoolUnderTest
from sparse_actors.messages import WorkerJoined
from sparse_actors.network.keys import Keys
under_test = PoolUnderTest(Path({str(tmp_path / "log")!r}), local_workers=0, listen=sys.argv[1],
    keys=Keys(Path({str(keys.folder)!r})))
under_test.pool.start()
print(under_test.pool.endpoints[1], flush=True)
print(under_test.next(WorkerJoined).worker, flush=True)
time.sleep(60)
"""
    bench = keyfile(keys, "bench")
    endpoint = "tcp://127.0.0.1:*"
    for _ in range(2):
        daemon = subprocess.Popen([sys.executable, "-c", script, endpoint], stdout=subprocess.PIPE, text=True)
        assert daemon.stdout
        with daemon:
            first = endpoint.endswith("*")
            endpoint = "tcp://127.0.0.1:" + daemon.stdout.readline().strip().rpartition(":")[2]
            if first:
                start_worker(endpoint, "", f"--keyfile={bench}")
            begins_s = time.monotonic()
            assert daemon.stdout.readline() == "bench/1\n"
            assert first or time.monotonic() - begins_s < 5 + 5, "5 s, and 5 s to load on a busy test machine"
            os.kill(daemon.pid, signal.SIGKILL)
