"""The worker pool with real processes: detectors that fail in every way, and hostile peers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from odd_detectors import BAD, ENDLESS, FATAL, GOOD, image_that_means
from pool_under_test import (
    WAIT_S,
    OpenPool,
    a_worker,
    is_running,
    open_pool,
    posix_only,
    wait_until,
    zero_copy_thread,
)

from sparse_actors import wire
from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import (
    ActorFailed,
    DetectImage,
    DetectionLost,
    DetectionReturned,
    Heartbeat,
    Message,
    MessageRefused,
    MicroscopeReset,
    StopRun,
    WorkerDismissed,
    WorkerHello,
    WorkerJoined,
    WorkerLost,
    WorkerReady,
    WorkerWelcome,
)
from sparse_actors.version import VERSION

__all__ = ["open_pool", "zero_copy_thread"]  # fixtures


# -- detectors -------------------------------------------------------------------------------------


def test_points_come_back_in_analysis_pixels_from_the_worker_that_found_them(open_pool: OpenPool) -> None:
    under_test = open_pool()
    joined = under_test.next(WorkerJoined)
    assert joined.worker == "local-1"
    assert joined.pid == under_test.process_id() != os.getpid()
    image = image_that_means("centre of mass", (300, 200))
    image[100, 150] = 60_000
    under_test.submit(image, scale=4)
    answer = under_test.next(DetectionReturned)
    assert np.allclose(answer.pois.xy_px, [[150, 100]], atol=0.1)
    assert answer.worker == "local-1"
    assert 0 < answer.elapsed_s < WAIT_S
    for behaviour in GOOD.keys() - {"centre of mass"}:
        assert isinstance(under_test.detect(behaviour), DetectionReturned), behaviour


@pytest.mark.failure_matrix
def test_a_detector_that_raises_or_returns_nonsense_is_named_and_its_worker_kept(open_pool: OpenPool) -> None:
    under_test = open_pool()
    pid = under_test.process_id()
    for behaviour in BAD:
        answer = under_test.detect(behaviour)
        assert isinstance(answer, DetectionLost), behaviour
        assert "'odd_detectors:Odd'" in answer.reason
        assert behaviour in answer.reason
        assert answer.worker == "local-1"
    assert under_test.process_id() == pid


@pytest.mark.failure_matrix
def test_a_worker_that_dies_loses_its_job_and_is_replaced(open_pool: OpenPool) -> None:
    under_test = open_pool()
    for behaviour in FATAL:
        before = under_test.next(WorkerJoined)
        answer = under_test.detect(behaviour)
        assert isinstance(answer, DetectionLost)
        assert answer.reason == f"worker died: {behaviour}"
        assert not is_running(before.pid)
    assert under_test.process_id() > 0


@pytest.mark.failure_matrix
def test_a_detector_that_hangs_is_killed_at_its_deadline(open_pool: OpenPool) -> None:
    under_test = open_pool(deadline_s=0.5, restart_budget=0)
    for behaviour in ENDLESS:
        pid = under_test.next(WorkerJoined).pid
        started_s = time.monotonic()
        answer = under_test.detect(behaviour)
        assert isinstance(answer, DetectionLost)
        assert answer.reason == "detector 'odd_detectors:Odd' exceeded its deadline of 0.5 s"
        assert time.monotonic() - started_s >= 0.5
        wait_until(lambda pid=pid: not is_running(pid))  # type: ignore[misc]
    # Ending at a deadline is no fault of the worker, so that even a budget of 0 gives a new one.
    under_test.next(WorkerJoined)
    assert under_test.process_id() > 0


@pytest.mark.failure_matrix
@pytest.mark.parametrize(
    ("detector", "reason"),
    [
        ("odd_detectors:DiesAtOnce", "worker died: exit code 7"),
        ("odd_detectors:Refuses", "the weights are missing"),
        ("odd_detectors:Missing", "Missing"),
    ],
)
def test_a_detector_that_never_starts_leaves_no_job_waiting(
    open_pool: OpenPool, detector: str, reason: str
) -> None:
    under_test = open_pool(detector=detector, restart_budget=1)
    under_test.submit(image_that_means("nothing"))
    assert reason in under_test.next(WorkerLost).reason
    assert reason in under_test.next(WorkerLost).reason
    answer = under_test.next(DetectionLost)
    assert reason.removeprefix("worker died: ") in answer.reason
    assert "more than 1 times" in answer.reason
    under_test.submit(image_that_means("nothing"))
    assert under_test.next(DetectionLost).reason == answer.reason


@pytest.mark.failure_matrix
def test_a_worker_out_of_budget_is_tried_again_after_a_rest(open_pool: OpenPool) -> None:
    under_test = open_pool(restart_budget=0, restart_window_s=1.0)
    assert isinstance(under_test.detect("exit code 3"), DetectionLost)
    answer = under_test.detect("nothing")
    assert isinstance(answer, DetectionLost)
    assert "exit code 3" in answer.reason
    under_test.next(WorkerJoined)
    assert isinstance(under_test.detect("nothing"), DetectionReturned)


# -- peers -----------------------------------------------------------------------------------------


@pytest.fixture
def dealer() -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    yield dealer
    context.destroy(linger=0)


def received(dealer: zmq.Socket[bytes]) -> Message:
    assert dealer.poll(int(WAIT_S * 1000))
    return wire.decode(dealer.recv_multipart())


def hello(token: str, version: str = VERSION) -> WorkerHello:
    return WorkerHello(token=token, version=version, host="pc", pid=1)


@pytest.mark.failure_matrix
def test_garbage_is_counted_and_ignored(open_pool: OpenPool, dealer: zmq.Socket[bytes]) -> None:
    under_test = open_pool(listen="tcp://127.0.0.1:*")
    under_test.next(WorkerJoined)
    port = int(under_test.pool.endpoints[1].rpartition(":")[2])
    dealer.connect(under_test.pool.endpoints[1])
    partition = PartitionId(TileIndex(0, 0), 0)
    kinds: list[Message] = [
        Heartbeat(),
        WorkerReady(),
        MicroscopeReset(),
        StopRun(reason="mine"),
        DetectionLost(partition=partition, attempt=1, reason="", worker="local-1"),
        WorkerLost(worker="local-1", reason=""),
    ]
    for message in kinds:
        dealer.send_multipart(wire.encode(message))
    for frames in ([b""], [b"\x93"], [b"x" * 40], [b"\0"] * 10_000, [b"", b"", b""]):
        dealer.send_multipart(frames)
    counts = [under_test.next(MessageRefused).count for _ in range(4)]
    assert counts == [1, 2, 4, 8], "a flood is told at every doubling"
    for raw in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(range(256)) * 64,
        b"\xff" + bytes(9) + b"\x7f",
    ) * 2:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as peer:
            # The pool may hang up before everything is written.
            with contextlib.suppress(OSError):
                peer.sendall(raw)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass
    assert under_test.next(MessageRefused).count == 16
    assert isinstance(under_test.detect("nothing"), DetectionReturned)


@pytest.mark.failure_matrix
def test_a_frame_larger_than_any_answer_costs_the_connection(
    open_pool: OpenPool, dealer: zmq.Socket[bytes]
) -> None:
    under_test = open_pool(listen="tcp://127.0.0.1:*")
    under_test.next(WorkerJoined)
    monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    dealer.connect(under_test.pool.endpoints[1])
    dealer.send(bytes(20_000_000))
    assert monitor.poll(int(WAIT_S * 1000))
    monitor.close()
    assert isinstance(under_test.detect("nothing"), DetectionReturned)


@pytest.mark.failure_matrix
@pytest.mark.parametrize(("token", "version", "word"), [("guess", VERSION, "token"), ("", "0.0.0", "0.0.0")])
def test_a_stranger_is_told_why_it_may_not_join(
    open_pool: OpenPool, dealer: zmq.Socket[bytes], token: str, version: str, word: str
) -> None:
    under_test = open_pool(local_workers=0, listen="tcp://127.0.0.1:*")
    dealer.connect(under_test.pool.endpoints[1])
    dealer.send_multipart(wire.encode(hello(token or under_test.pool.token, version)))
    answer = received(dealer)
    assert isinstance(answer, WorkerDismissed)
    assert word in answer.reason
    assert word in under_test.next(MessageRefused).reason


def test_an_external_worker_with_the_token_joins_works_and_is_missed(open_pool: OpenPool) -> None:
    under_test = open_pool(local_workers=0, listen="tcp://127.0.0.1:*", heartbeat_s=0.2)
    with a_worker(under_test.pool.endpoints[1], under_test.pool.token) as worker:
        joined = under_test.next(WorkerJoined)
        assert joined.worker == f"{socket.gethostname()}-{joined.pid}"
        assert under_test.process_id() == joined.pid
        under_test.submit(image_that_means("hang"))
        worker.kill()
        answer = under_test.next(DetectionLost)
        assert answer.reason == "connection lost"
        assert answer.worker == joined.worker


def test_an_external_worker_with_a_wrong_token_ends_and_says_why(open_pool: OpenPool) -> None:
    under_test = open_pool(local_workers=0)
    with a_worker(under_test.pool.endpoints[0], "guess") as worker:
        _, printed = worker.communicate(timeout=WAIT_S)
        assert worker.returncode == 3
        assert b"wrong token" in printed


def test_a_late_result_and_one_for_nobody_are_refused(open_pool: OpenPool, dealer: zmq.Socket[bytes]) -> None:
    under_test = open_pool(local_workers=0, deadline_s=0.3)
    dealer.connect(under_test.pool.endpoints[0])
    dealer.send_multipart(wire.encode(hello(under_test.pool.token)))
    assert isinstance(received(dealer), WorkerWelcome)
    dealer.send_multipart(wire.encode(WorkerReady()))
    under_test.next(WorkerJoined)
    under_test.submit(image_that_means("nothing"))
    order = received(dealer)
    while isinstance(order, Heartbeat):
        order = received(dealer)
    assert isinstance(order, DetectImage)
    assert np.array_equal(order.image, image_that_means("nothing"))
    assert "deadline" in under_test.next(DetectionLost).reason
    late = DetectionLost(partition=order.partition, attempt=order.attempt, reason="late", worker="")
    dealer.send_multipart(wire.encode(late))
    assert under_test.next(MessageRefused).count == 1
    assert under_test.nothing_more()


# -- the port, and the end -------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["nothing", "hang"])
def test_closing_leaves_nothing(open_pool: OpenPool, tmp_path: Path, behaviour: str) -> None:
    threads = set(threading.enumerate())
    under_test = open_pool(local_workers=2)
    pids = [under_test.next(WorkerJoined).pid for _ in range(2)]
    endpoint = under_test.pool.endpoints[0]
    if endpoint.startswith("ipc://"):
        directory = Path(endpoint.removeprefix("ipc://")).parent
        assert directory.stat().st_mode & 0o777 == 0o700
    under_test.submit(image_that_means(behaviour))
    under_test.pool.close(timeout_s=4.0)
    under_test.pool.close()
    assert not any(is_running(pid) for pid in pids)
    assert set(threading.enumerate()) <= threads
    if endpoint.startswith("ipc://"):
        assert not directory.exists()
    assert (tmp_path / "workers.log").read_text().count("dismissed: the run ended") == 2


@pytest.mark.failure_matrix
@posix_only
@pytest.mark.parametrize("behaviour", ["nothing", "hang", "hang with the interpreter locked"])
def test_workers_end_when_the_daemon_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    # Only a locked interpreter has to wait for the worker's own deadline.
    deadline_s = 2.0 if "locked" in behaviour else 20.0
    script = f"""
import time
from pathlib import Path
from odd_detectors import image_that_means
from pool_under_test import PoolUnderTest
from sparse_actors.messages import WorkerJoined
log = Path({str(tmp_path / "log")!r})
under_test = PoolUnderTest(log, deadline_s={deadline_s}, heartbeat_s=0.2, silence_s=1.0)
under_test.pool.start()
joined = under_test.next(WorkerJoined)
under_test.submit(image_that_means({behaviour!r}))
while {behaviour!r} != "nothing" and "hanging" not in log.read_text():
    time.sleep(0.01)
print(under_test.pool.endpoints[0], joined.pid, flush=True)
time.sleep(60)
"""
    daemon = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout
    with daemon:
        endpoint, pid = daemon.stdout.readline().split()
        daemon.kill()
        started_s = time.monotonic()
    try:
        wait_until(lambda: not is_running(int(pid)))
        assert time.monotonic() - started_s < 10
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
        # Nobody is left to remove it.
        shutil.rmtree(Path(endpoint.removeprefix("ipc://")).parent)


@pytest.mark.failure_matrix
def test_a_pool_that_fails_itself_leaves_no_job_waiting(
    open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_test = open_pool()
    pid = under_test.next(WorkerJoined).pid
    under_test.submit(image_that_means("hang"))

    def fail(*arguments: object) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr(under_test.pool._book, "tick", fail)
    assert under_test.next(ActorFailed).is_final
    assert "no more" in under_test.next(DetectionLost).reason
    order = DetectImage(
        partition=PartitionId(TileIndex(9, 9), 0), attempt=1, image=image_that_means("nothing"), scale=1
    )
    assert not under_test.pool.offer(order)
    under_test.pool.close()
    assert not is_running(pid)
