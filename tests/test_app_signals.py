"""Ctrl-C and SIGTERM at any moment are an orderly end, and a driver that hangs is not waited for."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import hanging_microscope
import kills
import pytest

from sparse_actors import app, ending, session
from sparse_actors.actors.microscope_actor import Instrument
from sparse_actors.cli.exit_codes import ExitCode, of_outcome
from sparse_actors.config import parse_config
from sparse_actors.geometry import TileIndex
from sparse_actors.messages import MicroscopeFailed, MicroscopeReset, MoveToTile, ResetMicroscope
from sparse_actors.network.pool import WorkerPool
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify
from sparse_actors.stop_signals import StopSignals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals to itself")


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))


def survey(folder: Path, *changes: str, **options: Any) -> app.RunResult:
    text = kills.CONFIG.format(time_scale=0, log=str(folder / "log.jsonl"), state=str(folder / "state.json"))
    return app.run_survey(parse_config(text, ["workers.local=1", *changes]), out=folder / "run", **options)


def code(result: app.RunResult) -> ExitCode:
    return of_outcome(result.outcome, result.cause, result.problems)


def first(what: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """Send signals, then do it."""

    def disturbed(*arguments: Any, **options: Any) -> Any:
        for name in names:
            send(name)
        return what(*arguments, **options)

    return disturbed


@pytest.mark.parametrize(
    ("moment", "name", "wanted"),
    [
        ("session", "SIGINT", 130),
        ("driver", "SIGTERM", 75),
        ("pool", "SIGTERM", 75),
        ("compile", "SIGINT", 130),
    ],
)
def test_a_signal_before_the_first_scan_ends_the_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, name: str, wanted: int
) -> None:
    owner, function = {
        "session": (app, "open_session"),
        "driver": (app.plugins, "build"),
        "pool": (WorkerPool, "start"),
        "compile": (app, "compile_merging"),
    }[moment]
    before = signal.getsignal(getattr(signal, name))
    with monkeypatch.context() as patch:
        patch.setattr(owner, function, first(getattr(owner, function), name))
        result = survey(tmp_path)
    assert (result.outcome, result.problems, code(result)) == ("stopped", (), wanted)
    assert not (tmp_path / "state.json").exists()  # the microscope was never touched
    assert signal.getsignal(getattr(signal, name)) == before
    assert RunRecord.open(tmp_path / "run").outcome is not None
    assert (tmp_path / "run" / "run.nxs").exists()


def test_a_signal_while_a_resumed_run_looks_for_its_images_ends_it_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey(tmp_path, until_tile=1)
    with monkeypatch.context() as patch:
        patch.setattr(session, "lost_images", first(session.lost_images, "SIGTERM"))
        assert code(survey(tmp_path, resume=True)) == ExitCode.STOPPED
    assert code(survey(tmp_path, resume=True)) == ExitCode.DONE


@pytest.mark.parametrize("signals", [("SIGTERM",), ("SIGINT", "SIGINT")])
def test_the_result_is_written_after_one_signal_and_left_after_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: tuple[str, ...]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(app, "finalize", first(app.finalize, *signals))
        result = survey(tmp_path)
    if len(signals) == 1:
        assert (result.outcome, result.problems, code(result)) == ("completed", (), ExitCode.DONE)
    else:
        assert result.problems == (
            "the result file was not written; resume to write it",
            "the report was not written; `sparse-actors report` writes it",
        )
        assert code(result) == ExitCode.INTERRUPTED
        assert not (tmp_path / "run" / "run.nxs").exists()
        assert code(survey(tmp_path, resume=True)) == ExitCode.DONE
    assert (tmp_path / "run" / "run.nxs").exists()
    assert verify(tmp_path / "run").problems == []


@pytest.fixture
def let_go() -> Iterator[None]:
    """A microscope that hangs in this process; its thread ends with the test."""
    hanging_microscope.LET_GO.clear()
    yield
    hanging_microscope.LET_GO.set()


HANGING = 'microscope.driver="hanging_microscope:HangingMicroscope"'


@pytest.mark.usefixtures("let_go")
@pytest.mark.parametrize(
    ("hangs_in", "waits_for"),
    [
        ("connect", "the microscope to connect and prepare"),
        ("move_stage", "the stage to reach tile r000c000"),
        ("reset_microscope", "the microscope to be reset"),
    ],
)
def test_a_second_signal_does_not_wait_for_a_driver_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs_in: str, waits_for: str
) -> None:
    monkeypatch.setattr(ending, "PATIENCE_S", 0.5)
    said: list[str] = []
    times: list[float] = []

    def say(text: str) -> None:
        said.append(text)
        times.append(time.monotonic())
        send("SIGINT")

    def observe(message: Any, number: int) -> None:
        awaited = {"connect": "PrepareMicroscope", "move_stage": "MoveToTile"}.get(
            hangs_in, "ResetMicroscope"
        )
        if type(message).__name__ == awaited and not said:
            send("SIGINT")

    hanging = f'microscope.options.hangs_in="{hangs_in}"'
    result = survey(tmp_path, HANGING, hanging, observe=observe, say=say, until_tile=1)
    assert time.monotonic() - times[0] < 20
    assert len(said) == 1
    assert waits_for in said[0]
    assert (result.outcome, code(result)) == ("stopped", ExitCode.INTERRUPTED)
    assert waits_for in result.reason
    assert any("THE MICROSCOPE WAS NOT RESET" in problem for problem in result.problems)
    assert "the microscope did not stop in time" in result.problems


@pytest.mark.usefixtures("let_go")
def test_a_second_signal_ends_the_scan_and_the_microscope_is_reset(tmp_path: Path) -> None:
    def observe(message: Any, number: int) -> None:
        if type(message).__name__ == "ScanArea" and message.attempt == 1:
            send("SIGINT")

    result = survey(
        tmp_path,
        HANGING,
        'microscope.options.hangs_in="scan_area"',
        observe=observe,
        say=lambda text: send("SIGINT"),
    )
    assert (result.outcome, code(result)) == ("stopped", ExitCode.INTERRUPTED)
    assert not any("RESET" in problem for problem in result.problems)
    state = json.loads((tmp_path / "state.json").read_text())["state"]
    assert (state["x_mm"], state["beam_on"]) == (0.0, False)


def test_what_is_waited_for_is_what_the_driver_does_and_not_what_was_ordered_meanwhile() -> None:
    said: list[str] = []
    watching = ending.Ending(Instrument(cast("Any", None)), lambda message: None, said.append)
    move = MoveToTile(tile=TileIndex(0, 0), attempt=1, x_mm=0, y_mm=0)
    watching.watch(move, 1)
    watching.watch(ResetMicroscope(attempt=1), 2)
    watching.stop("SIGTERM", 1)
    watching.watch(MicroscopeFailed(order="move", reason="slow", attempt=1, tile=move.tile), 3)
    watching.stop("SIGTERM", 1)
    watching.watch(MicroscopeReset(), 4)
    watching.stop("SIGTERM", 1)
    waited_for = [text.split("waiting for ")[1].split(";")[0] for text in said]
    assert waited_for == ["the stage to reach tile r000c000", "the microscope to be reset", ending.NOTHING]


def test_signals_that_are_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            send("SIGHUP")
            assert signals.count == 0
    finally:
        signal.signal(signal.SIGHUP, before)
