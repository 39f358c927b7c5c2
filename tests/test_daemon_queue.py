"""The queue: on disk after every change, bounded tries, and what becomes of a run that ended."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_actors.daemon import run_queue
from sparse_actors.daemon.run_queue import Entry, RunQueue
from sparse_actors.daemon.verdict import verdict
from sparse_actors.errors import ControlError


class Time:
    """A clock that is set by hand."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def entry(name: str) -> Entry:
    return Entry(
        number=0, name=name, config="", overrides=(), cwd="/", out="", out_dir="runs", submitted_s=1.0
    )


def names(queue: RunQueue) -> list[str]:
    return [e.name for e in queue.entries]


def test_those_at_the_front_go_before_those_that_wait_but_not_before_one_that_was_begun(
    tmp_path: Path,
) -> None:
    queue = RunQueue.open(tmp_path, Time())
    begun, _ = (queue.add(entry(name), at_front=False) for name in ("begun", "waits"))
    queue.change(begun, folder="/run")
    queue.add(entry("urgent"), at_front=True)
    assert names(queue) == ["begun", "urgent", "waits"]
    assert [e.number for e in queue.entries] == [1, 3, 2]
    assert RunQueue.open(tmp_path, Time()).entries == queue.entries


def test_a_run_that_breaks_off_is_tried_again_until_it_gets_no_further(tmp_path: Path) -> None:
    time = Time()
    queue = RunQueue.open(tmp_path, time)
    run = queue.add(entry("a"), at_front=False)
    later = queue.add(entry("b"), at_front=False)
    recorded = [5, 9, 9, 9]
    for count in recorded[:-1]:
        assert queue.next() == run
        run = queue.broke_off(run, "a crash", count)
        assert run.state == "waiting"
        assert queue.next() is None  # it pauses, and the other run does not overtake it
        time.now_s += run_queue.PAUSES_S[-1]
    run = queue.broke_off(run, "a crash", recorded[-1])
    assert (run.state, run.reason) == ("failed", "given up after 3 tries: a crash")
    assert queue.next() == later
    assert queue.resume(run).tries == 0
    assert queue.next().name == "a"


def test_a_held_queue_begins_nothing_and_stays_held_when_it_is_opened_again(tmp_path: Path) -> None:
    queue = RunQueue.open(tmp_path, Time())
    queue.add(entry("a"), at_front=False)
    queue.hold(True)
    assert RunQueue.open(tmp_path, Time()).next() is None
    queue.hold(False)
    assert RunQueue.open(tmp_path, Time()).next().name == "a"


def test_the_queue_is_bounded_and_forgets_only_what_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_queue, "MAX_WAITING", 3)
    monkeypatch.setattr(run_queue, "KEPT", 2)
    time = Time()
    queue = RunQueue.open(tmp_path, time)
    for name in "abc":
        queue.add(entry(name), at_front=False)
    with pytest.raises(ControlError, match="full"):
        queue.add(entry("d"), at_front=False)
    for run in tuple(queue.entries):
        time.now_s += 1
        queue.end(run, "done", "")
    assert names(queue) == ["b", "c"]
    assert queue.add(entry("d"), at_front=False).number == 4
    with pytest.raises(ControlError, match="there is no run 1"):
        queue.of(1)
    with pytest.raises(ControlError, match="run 2 is done"):
        queue.resume(queue.of(2))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2, "next_number": 1, "is_held": false, "entries": []}']
)
def test_a_queue_that_cannot_be_read_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / "queue.json"
    file.write_text(text)
    with pytest.raises(ControlError, match=r"queue\.json"):
        RunQueue.open(tmp_path, Time())
    assert file.read_text() == text


def test_a_crash_while_the_queue_is_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = RunQueue.open(tmp_path, Time())
    queue.add(entry("a"), at_front=False)
    monkeypatch.setattr(run_queue.disk, "sync_file", lambda fd: (_ for _ in ()).throw(OSError("torn")))
    for change in (
        lambda: queue.add(entry("b"), at_front=False),
        lambda: queue.hold(True),
        lambda: queue.end(queue.of(1), "done", ""),
    ):
        with pytest.raises(OSError, match="torn"):
            change()
    assert (names(queue), queue.is_held, queue.of(1).state) == (["a"], False, "waiting")
    assert names(RunQueue.open(tmp_path, Time())) == ["a"]


COMPLETED = {
    "outcome": "completed",
    "reason": "",
    "problems": [],
    "figures": {"scans_missed": 0, "maps": None},
}


@pytest.mark.parametrize(
    ("exit_code", "result", "was_stopped", "end", "reason"),
    [
        (0, COMPLETED, False, "done", ""),
        (None, COMPLETED, False, "done", ""),
        (0, COMPLETED, True, "done", ""),
        (6, COMPLETED | {"figures": {"scans_missed": 2}}, False, "incomplete", ""),
        (6, COMPLETED | {"figures": {"maps": {"fields_missing": 1}}}, False, "incomplete", ""),
        (1, COMPLETED | {"problems": ["no result"]}, False, "broke off", "no result"),
        (75, {"outcome": "stopped", "reason": "stop received"}, True, "stopped", "stop received"),
        (75, {"outcome": "stopped", "reason": "SIGTERM"}, False, "stopped", "SIGTERM"),
        (4, {"outcome": "failed", "reason": "no beam"}, False, "broke off", "no beam"),
        (4, {"outcome": "failed", "reason": "no beam"}, True, "stopped", "no beam"),
        (3, {"error": "ConfigError", "problems": ["a", "b"]}, False, "failed", "ConfigError: a; b"),
        (7, {"error": "InstrumentInUseError", "problems": ["by x"]}, False, "in use", "by x"),
        (5, {"error": "JournalError", "problems": ["open"]}, False, "broke off", "JournalError: open"),
        (-11, {}, False, "broke off", f"the process ended by signal {signal.SIGSEGV.name}"),
        (-15, {}, True, "stopped", "stopped before it had begun"),
        (0xC0000005, {}, False, "broke off", "the process ended with exit code 0xc0000005"),
        (None, {}, False, "broke off", "the process ended without a word"),
    ],
)
def test_what_becomes_of_a_run_follows_from_what_it_left(
    exit_code: int | None, result: dict[str, Any], was_stopped: bool, end: str, reason: str
) -> None:
    found = verdict(exit_code, result, was_stopped=was_stopped)
    assert (found.end, found.reason) == (end, reason)


def test_the_last_words_of_a_process_are_told() -> None:
    found = verdict(1, {}, was_stopped=False, last_words="SyntaxError: invalid")
    assert found.reason == "the process ended with exit code 1: SyntaxError: invalid"


@given(
    exit_code=st.none() | st.integers(-64, 2**32),
    result=st.dictionaries(
        st.sampled_from(["outcome", "reason", "problems", "figures", "error"]),
        st.none() | st.text(max_size=5) | st.lists(st.integers(), max_size=2) | st.just({"maps": {}}),
    ),
    was_stopped=st.booleans(),
)
def test_whatever_a_process_left_is_judged(
    exit_code: int | None, result: dict[str, Any], was_stopped: bool
) -> None:
    assert verdict(exit_code, result, was_stopped=was_stopped).end
