"""What every worker pool promises: our own over ZeroMQ, and a Dask cluster, with real processes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import kills
import numpy as np
import pytest
from dask_cluster import cluster
from odd_detectors import BAD, GOOD, image_that_means
from pool_under_test import (
    WAIT_S,
    DaskPoolUnderTest,
    PoolUnderTest,
    posix_only,
    wait_until,
    zero_copy_thread,
)

from sparse_actors.app import run_survey
from sparse_actors.config import parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import (
    DetectImage,
    DetectionLost,
    DetectionReturned,
    Heartbeat,
    Message,
    PoisFound,
    WorkerJoined,
    WorkerLost,
)
from sparse_actors.network.pool import MAX_OPEN_JOBS
from sparse_actors.recording.run_record import RunRecord

__all__ = ["zero_copy_thread"]  # fixture

pytestmark = [
    pytest.mark.failure_matrix,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed", "ignore::FutureWarning:distributed"),
]
KINDS = ("zeromq", "dask")


@pytest.fixture(scope="module", autouse=True)
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a cluster before any test counts its processes; without Dask there is none."""
    if importlib.util.find_spec("distributed") is None:
        yield ""
        return
    with cluster(tmp_path_factory.mktemp("cluster"), nanny=True) as url:
        yield url


class Pools:
    """Opens pools of one kind with two workers each."""

    def __init__(self, kind: str, request: pytest.FixtureRequest, stack: contextlib.ExitStack) -> None:
        self.kind, self._request, self._stack = kind, request, stack

    def open(self, **arguments: object) -> PoolUnderTest:
        tmp_path: Path = self._request.getfixturevalue("tmp_path")
        if self.kind == "dask":
            url = self._request.getfixturevalue("url")
            if not url:
                pytest.skip("Dask is an optional extra")
            under_test: PoolUnderTest = DaskPoolUnderTest(url, tmp_path / "workers.log", **arguments)
        else:
            under_test = PoolUnderTest(tmp_path / "workers.log", **{"local_workers": 2} | arguments)
        under_test.pool.start()
        self._stack.callback(under_test.pool.close)
        return under_test


@pytest.fixture(params=KINDS)
def pools(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pools]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with contextlib.ExitStack() as stack:
        yield Pools(request.param, request, stack)


def joined(under_test: PoolUnderTest, count: int = 2) -> dict[str, int]:
    """Wait for so many workers; their process ids."""
    found = [under_test.next(WorkerJoined) for _ in range(count)]
    return {message.worker: message.pid for message in found}


def test_good_detections_come_back_and_bad_ones_are_named(pools: Pools) -> None:
    under_test = pools.open()
    pids = joined(under_test)
    image = image_that_means("centre of mass", (300, 200))
    image[100, 150] = 60_000
    under_test.submit(image, scale=4)
    answer = under_test.next(DetectionReturned)
    assert np.allclose(answer.pois.xy_px, [[150, 100]], atol=0.1)
    assert answer.worker in pids
    assert 0 < answer.elapsed_s < WAIT_S
    in_its_own_process = {"look around"}  # tells that a worker of ours has the main thread
    for behaviour in GOOD.keys() - {"centre of mass"} - in_its_own_process:
        assert isinstance(under_test.detect(behaviour), DetectionReturned), behaviour
    for behaviour in BAD:
        lost = under_test.detect(behaviour)
        assert isinstance(lost, DetectionLost), behaviour
        assert behaviour in lost.reason
        assert "'odd_detectors:Odd'" in lost.reason
    assert under_test.process_id() in pids.values()


@posix_only
def test_a_worker_that_dies_costs_its_job_only_and_is_replaced(pools: Pools) -> None:
    under_test = pools.open()
    before = joined(under_test)
    lost = under_test.detect("signal SIGKILL")
    assert isinstance(lost, DetectionLost)
    assert lost.worker in before
    assert isinstance(under_test.detect("nothing"), DetectionReturned)
    (new,) = joined(under_test, 1).values()
    assert new not in before.values()


@posix_only
def test_a_worker_killed_from_outside_is_missed_at_once(pools: Pools) -> None:
    under_test = pools.open()
    pids = joined(under_test)
    under_test.submit(image_that_means("hang"))
    free = under_test.process_id()
    (busy,) = set(pids.values()) - {free}
    started_s = time.monotonic()
    os.kill(busy, signal.SIGKILL)
    assert pids[under_test.next(DetectionLost).worker] == busy
    assert time.monotonic() - started_s < 5
    joined(under_test, 1)


def test_a_detector_that_hangs_is_given_up_at_its_deadline_and_its_worker_replaced(pools: Pools) -> None:
    under_test = pools.open(deadline_s=0.5)
    before = joined(under_test)
    started_s = time.monotonic()
    lost = under_test.detect("hang")
    assert isinstance(lost, DetectionLost)
    assert lost.reason == "detector 'odd_detectors:Odd' exceeded its deadline of 0.5 s"
    assert time.monotonic() - started_s >= 0.5
    (new,) = joined(under_test, 1).values()
    assert new not in before.values()


@posix_only
def test_an_idle_worker_that_stands_still_is_let_go(pools: Pools) -> None:
    under_test = pools.open(heartbeat_s=0.2, silence_s=2.0)
    pids = joined(under_test)
    name, pid = next(iter(pids.items()))
    os.kill(pid, signal.SIGSTOP)
    try:
        lost = under_test.next(WorkerLost)
        assert lost.worker == name
        assert lost.reason in ("silent for 2 s", "its process gives no sign of life")
        assert isinstance(under_test.detect("nothing"), DetectionReturned)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    joined(under_test, 1)


@pytest.mark.parametrize(
    ("detector", "reason"), [("odd_detectors:Refuses", "the weights are missing"), ("odd_detectors:No", "No")]
)
def test_a_detector_that_cannot_be_loaded_leaves_no_job_waiting(
    pools: Pools, detector: str, reason: str
) -> None:
    under_test = pools.open(detector=detector, restart_budget=1)
    under_test.submit(image_that_means("nothing"))
    assert reason in under_test.next(WorkerLost).reason
    assert reason in under_test.next(DetectionLost).reason


def test_other_code_is_refused_and_the_file_named(
    pools: Pools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if pools.kind == "zeromq":
        pytest.skip("its local workers have the code of the run; others: test_processes_remote_workers.py")
    other = {"odd_detectors.py": "0" * 16}
    monkeypatch.setattr("sparse_actors.network.welcome.code_of", lambda *arguments: other)
    lost = pools.open().next(WorkerLost)
    assert "the worker's code is not the daemon's: odd_detectors.py differs" in lost.reason


def test_the_queue_is_bounded_and_a_closed_pool_takes_nothing(pools: Pools) -> None:
    threads = set(threading.enumerate())
    under_test = pools.open(deadline_s=1.0)  # after which a worker of the cluster is free of its job
    joined(under_test)
    order = DetectImage(
        partition=PartitionId(TileIndex(9, 9), 0), attempt=1, image=image_that_means("nothing"), scale=1
    )
    assert not under_test.pool.offer(Heartbeat())
    for _ in range(MAX_OPEN_JOBS + 10):  # some are answered meanwhile
        under_test.submit(image_that_means("hang"), may_be_refused=True)
    assert not under_test.pool.offer(order)
    under_test.pool.close()
    assert not under_test.pool.offer(order)
    assert not any(thread.name == "workers" for thread in set(threading.enumerate()) - threads)


def test_a_survey_finds_the_same_with_either_pool(url: str, tmp_path: Path) -> None:
    if not url:
        pytest.skip("Dask is an optional extra")
    found = []
    for number, choice in enumerate(("workers.local=1", f'workers.pool="{url}"')):
        folder = tmp_path / str(number)
        folder.mkdir()
        text = kills.CONFIG.format(
            time_scale=0, log=str(folder / "log.jsonl"), state=str(folder / "state.json")
        )
        seen: list[PoisFound] = []

        def observe(message: Message, number: int, seen: list[PoisFound] = seen) -> None:
            if isinstance(message, PoisFound):
                seen.append(message)

        result = run_survey(parse_config(text, [choice]), out=folder / "run", observe=observe)
        assert (result.outcome, result.problems) == ("completed", ())
        record = RunRecord.open(folder / "run")
        found.append(
            (
                sorted((fact.partition, fact.pois.xy_px.tolist()) for fact in seen),
                {str(scan): record.image(scan).tobytes() for scan in record.recorded},
            )
        )
    assert found[0] == found[1]
    assert any(xy_px for _, xy_px in found[0][0])


def test_a_scheduler_that_is_not_there_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"workers.pool = 'dask://127.0.0.1:1': there is no scheduler"):
        DaskPoolUnderTest("dask://127.0.0.1:1", tmp_path / "log").pool.start()


@pytest.mark.long
def test_a_cluster_that_is_gone_and_comes_back_does_what_was_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("ODD_BEGUN", str(tmp_path / "begun"))
    monkeypatch.setenv("ODD_RELEASE", str(tmp_path / "release"))
    with contextlib.ExitStack() as stack:
        with cluster(tmp_path / "first") as url:
            under_test = DaskPoolUnderTest(url, tmp_path / "log")
            under_test.pool.start()
            stack.callback(under_test.pool.close)
            first = joined(under_test)
            under_test.submit(image_that_means("wait for release"))
            wait_until((tmp_path / "begun").exists)
        assert "silent for" in under_test.next(WorkerLost).reason
        (tmp_path / "release").touch()
        with cluster(tmp_path / "second", port=int(url.rpartition(":")[2])):
            # Whoever joins first gets it at once.
            assert int(under_test.next(DetectionReturned).pois.score[0]) not in first.values()


def test_settings_of_our_own_workers_beside_a_cluster_are_refused() -> None:
    text = kills.CONFIG.format(time_scale=0, log="log", state="state")
    with pytest.raises(ConfigError, match=r"workers.pool = 'dask://pc:8786': .* leave out workers.local = 2"):
        parse_config(text, ['workers.pool="dask://pc:8786"', "workers.local=2"])
