"""Faults of the workers, how long they may go unseen, and that docs/failures.md lists what is tested."""

from __future__ import annotations

import ast
import os
import re
import signal
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from odd_detectors import image_that_means
from pool_under_test import OpenPool, open_pool, posix_only, wait_until, zero_copy_thread
from story import survey

from sparse_actors.actors.detector_actor import DetectorActor
from sparse_actors.geometry import TileIndex
from sparse_actors.messages import (
    DetectImage,
    DetectionFailed,
    DetectionLost,
    DetectionReturned,
    Message,
    PartitionScanned,
    PoisFound,
    WorkerJoined,
    WorkerLost,
)

__all__ = ["open_pool", "zero_copy_thread"]  # fixtures

ROOT = Path(__file__).parents[1]
BUSY_S = 2.0
"""What a machine that runs other things may add to a bound."""

pytestmark = pytest.mark.failure_matrix
Record = Callable[[str, object], None]


@posix_only
def test_the_death_of_a_worker_is_seen_in_100_ms(open_pool: OpenPool, record_property: Record) -> None:
    under_test = open_pool(restart_budget=100)
    took_s = []
    for _ in range(5):
        pid = under_test.next(WorkerJoined).pid
        under_test.submit(image_that_means("hang"))
        started_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert under_test.next(DetectionLost).reason == "worker died: signal SIGKILL"
        took_s.append(time.monotonic() - started_s)
    record_property("seen_s", took_s)
    assert statistics.median(took_s) < 0.1 + BUSY_S


@posix_only
def test_a_worker_that_stands_still_at_work_is_replaced_in_1_2_s_and_its_job_done_by_another(
    open_pool: OpenPool, record_property: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_BEGUN", str(tmp_path / "begun"))
    monkeypatch.setenv("ODD_RELEASE", str(tmp_path / "release"))
    under_test = open_pool(local_workers=2)
    pids = {
        joined.worker: joined.pid for joined in (under_test.next(WorkerJoined), under_test.next(WorkerJoined))
    }
    under_test.submit(image_that_means("wait for release"))
    wait_until((tmp_path / "begun").exists)
    idle = under_test.process_id()
    (stopped,) = set(pids.values()) - {idle}
    os.kill(stopped, signal.SIGSTOP)
    (tmp_path / "release").touch()
    started_s = time.monotonic()
    lost = under_test.next(WorkerLost)
    took_s = time.monotonic() - started_s
    record_property("seen_s", took_s)
    assert pids[lost.worker] == stopped
    assert lost.reason == "its process gives no sign of life"
    assert took_s < 1.2 + BUSY_S
    assert under_test.next(DetectionReturned).pois.score[0] == idle


@posix_only
def test_a_job_that_kills_two_workers_is_given_up_and_the_others_are_done(open_pool: OpenPool) -> None:
    plan = survey(fast=survey().analysis, analysis=survey().analysis)
    actor = DetectorActor(plan, ())
    under_test = open_pool(local_workers=2)
    todo: deque[Message] = deque()
    for scan in plan.fast_scans(TileIndex(0, 0)):
        meaning = "signal SIGKILL" if scan.id.partition.index == 1 else "nothing"
        image = image_that_means(meaning, (scan.box.height, scan.box.width))
        todo.append(
            PartitionScanned(scan=scan, attempt=1, image=image, dwell_ns=1, started_s=0, finished_s=0)
        )
    ended: list[Message] = []
    deaths = 0
    while len(ended) < plan.partitions:
        while todo:
            for effect in actor.handle(todo.popleft()):  # type: ignore[arg-type]
                if isinstance(effect, DetectImage):
                    assert under_test.pool.offer(effect)
                else:
                    ended.append(effect)
        if len(ended) < plan.partitions:
            answer = under_test.next((DetectionReturned, DetectionLost))  # type: ignore[arg-type]
            deaths += isinstance(answer, DetectionLost)
            todo.append(answer)
    assert deaths == 2
    (failed,) = (fact for fact in ended if isinstance(fact, DetectionFailed))
    assert failed.partition.index == 1
    assert "signal SIGKILL" in failed.reason
    assert len([fact for fact in ended if isinstance(fact, PoisFound)]) == plan.partitions - 1


def test_no_clock_that_can_be_set_is_read_where_workers_are_watched() -> None:
    for file in (ROOT / "sparse_actors" / "network").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("time", "time"), file
                assert node.value.id != "datetime", file


# -- the page ------------------------------------------------------------------------------------------


def rows() -> dict[str, str]:
    """Return the tests that the page names, each with its line."""
    page = (ROOT / "docs" / "failures.md").read_text("utf-8")
    return {test: line for line in page.splitlines() for test in re.findall(r"`(tests/\w+\.py::\w+)`", line)}


def words(node: ast.AST) -> set[str]:
    return set(re.findall(r"\w+", ast.unparse(node)))


def marked() -> set[str]:
    """Return the tests with the marker, of whole files too."""
    found = set()
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        is_whole = any(
            isinstance(node, ast.Assign) and {"pytestmark", "failure_matrix"} <= words(node)
            for node in tree.body
        )
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                if is_whole or any("failure_matrix" in words(mark) for mark in node.decorator_list):
                    found.add(f"tests/{file.name}::{node.name}")
    return found


def test_the_page_lists_the_tests_that_there_are() -> None:
    own = {"test_the_page_lists_the_tests_that_there_are"}
    assert rows().keys() == {test for test in marked() if test.partition("::")[2] not in own}
