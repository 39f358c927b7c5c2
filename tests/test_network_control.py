"""The control socket: only valid requests of its owner get through, and nothing ends it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sparse_actors.cli.commands import app
from sparse_actors.daemon import requests as daemon
from sparse_actors.errors import ControlError, NobodyAnswersError
from sparse_actors.messages import WorkerJoined
from sparse_actors.network import control
from sparse_actors.network.control import Control, Done, ask, read_address
from sparse_actors.run_control import RunControl
from sparse_actors.run_requests import REQUESTS, Pause, RunStatus, Status, Stop
from sparse_actors.stop_signals import StopSignals


class Answering:
    """A control that notes what reaches it."""

    def __init__(self, folder: Path, requests: Any) -> None:
        self.heard: list[Any] = []
        self.control = Control(folder, requests, self.answer)

    def answer(self, request: Any) -> msgspec.Struct:
        self.heard.append(request)
        return Done("heard")


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    made = Answering(tmp_path, REQUESTS | daemon.Submit)
    with made.control:
        yield made


def send(folder: Path, *frames: bytes, kind: int = zmq.DEALER) -> dict[str, Any]:
    """Send raw frames as a stranger would; returns the reply."""
    address = read_address(folder)
    assert address is not None
    with zmq.Context() as context, context.socket(kind) as channel:
        channel.linger = 0
        channel.connect(address.endpoint)
        channel.send_multipart(frames)
        assert channel.poll(5000), "no reply"
        reply: dict[str, Any] = json.loads(channel.recv_multipart()[-1])
        return reply


def test_a_request_gets_its_reply_and_the_file_goes_with_the_control(
    answering: Answering, tmp_path: Path
) -> None:
    assert ask(tmp_path, Stop(now=True), Done) == Done("heard")
    assert answering.heard == [Stop(now=True)]
    # The format of the page, as another program would send it.
    token = read_address(tmp_path).token
    body = json.dumps({"token": token, "request": {"ask": "stop", "now": False}}).encode()
    assert send(tmp_path, body, kind=zmq.REQ) == {"reply": "done", "said": "heard"}
    file = tmp_path / control.FILE_NAME
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nobody_answers_when_the_control_is_closed(tmp_path: Path) -> None:
    with Answering(tmp_path, REQUESTS).control:
        assert read_address(tmp_path) is not None
    assert read_address(tmp_path) is None
    with pytest.raises(NobodyAnswersError):
        ask(tmp_path, Status(), RunStatus)


def test_what_a_dead_process_left_is_nobody_and_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / control.FILE_NAME
    stale = {"endpoint": f"ipc://{tmp_path}/gone", "token": "t", "pid": 1}
    file.write_text(json.dumps(stale))
    with pytest.raises(NobodyAnswersError, match="process 1 did"):
        ask(tmp_path, Status(), RunStatus, timeout_s=0.1)
    with Answering(tmp_path, REQUESTS).control:
        assert ask(tmp_path, Status(), Done).said == "heard"
    file.write_text("{")
    with pytest.raises(ControlError, match="is damaged"):
        ask(tmp_path, Status(), RunStatus)


KILLED = """
import os, pathlib, signal, sys
from sparse_actors.run_control import RunControl
from sparse_actors.stop_signals import StopSignals
with RunControl("a", pathlib.Path(sys.argv[1]), StopSignals()):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sockets in the file system")
def test_the_socket_of_a_process_that_was_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    left = Path(read_address(tmp_path).endpoint.removeprefix("ipc://"))
    assert left.is_socket()
    with Answering(tmp_path, REQUESTS).control:
        assert not left.parent.exists()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not a request"),
        (b"GET / HTTP/1.1", "not a request"),
        (b"[" * 100_000, "not a request"),
        (b'{"token": "wrong", "request": {"ask": "stop"}}', "token"),
        (b'{"request": {"ask": "stop"}}', "token"),
        (b'{"token": "\\ud800", "request": {"ask": "stop"}}', "not a request"),
        (b'{"token": TOKEN}', "Expected"),
        (b'{"token": TOKEN, "request": {"ask": "quit"}}', "quit"),
        (b'{"token": TOKEN, "request": {"ask": "stop", "now": 1}}', "now"),
        (b'{"token": TOKEN, "request": {"ask": "stop", "then": true}}', "then"),
        (b'{"token": TOKEN, "request": {"ask": "pause", "request": "a"}}', "reason"),
        (b'{"token": TOKEN, "request": {"ask": "skip", "tile": "x", "reason": "a", "request": "a"}}', "tile"),
        (
            b'{"token": TOKEN, "request": {"ask": "propose", "tile": "r000c000", "source": "a", '
            b'"request": "a", "boxes": [[0, 0, 0, 1]]}}',
            "boxes",
        ),
    ],
)
def test_what_is_not_a_request_is_refused_in_words(
    answering: Answering, tmp_path: Path, body: bytes, problem: str
) -> None:
    token = json.dumps(read_address(tmp_path).token).encode()
    reply = send(tmp_path, body.replace(b"TOKEN", token))
    assert reply["reply"] == "refused"
    assert problem in reply["reason"]
    assert answering.control.refused == 1
    assert answering.heard == []
    assert ask(tmp_path, Status(), Done).said == "heard"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
almost = st.fixed_dictionaries(
    {"ask": st.sampled_from(["status", "stop", "pause", "skip", "propose", "submit", "answer", "?"])},
    optional=dict.fromkeys(
        ("now", "reason", "request", "tile", "boxes", "source", "config", "overrides", "cwd"), json_values
    ),
)


@given(
    body=st.binary(max_size=200) | json_values.map(json.dumps).map(str.encode) | almost,
    frames_before=st.integers(0, 6),
)
@example(body=b"\xff" * 2_000_000, frames_before=0)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_comes_in_ends_the_control(
    answering: Answering, tmp_path: Path, body: Any, frames_before: int
) -> None:
    address = read_address(tmp_path)
    if isinstance(body, dict):
        body = json.dumps({"token": address.token, "request": body}).encode()
    with zmq.Context() as context, context.socket(zmq.DEALER) as channel:
        channel.linger = 0
        channel.connect(address.endpoint)
        channel.send_multipart([b""] * frames_before + [body])
        if len(body) < control.MAX_REQUEST_BYTES:
            assert channel.poll(5000)
            assert json.loads(channel.recv_multipart()[-1])["reply"] in ("done", "refused")
    assert ask(tmp_path, Status(), Done).said == "heard"


def test_a_hanging_run_answers_and_an_error_costs_one_request(tmp_path: Path) -> None:
    def publish(message: object) -> None:
        raise RuntimeError("the bus is broken")

    signals = StopSignals()
    with RunControl("a", tmp_path, signals) as answering:
        with pytest.raises(ControlError, match="takes no orders"):
            ask(tmp_path, Pause(reason="a", request="b"), Done)
        answering.attach(publish, lambda: "the end of scan 7", lambda: ("tcp://127.0.0.1:7742", {"A": 2}))
        with pytest.raises(ControlError, match="an error of the program: RuntimeError"):
            ask(tmp_path, Pause(reason="a", request="b"), Done)
        status = ask(tmp_path, Status(), RunStatus)
        assert status.waits_for == "the end of scan 7"
        assert (status.taps, status.taps_dropped) == ("tcp://127.0.0.1:7742", {"A": 2})
        answering.watch(WorkerJoined(worker="w", host="pc", pid=7, phases=("Fe", "Cu")), 1)
        seen = CliRunner().invoke(app, ["workers", "--run", str(tmp_path), "--json"])
        (worker,) = json.loads(seen.stdout)["workers"]
        assert worker == {"name": "w", "host": "pc", "pid": 7, "phases": ["Fe", "Cu"]}
        seen = CliRunner().invoke(app, ["workers", "--run", str(tmp_path)])
        assert seen.stdout == "w  pc  process 7  phases: Fe, Cu\n"
        seen = CliRunner().invoke(app, ["taps", "--run", str(tmp_path), "--json"])
        assert json.loads(seen.stdout) == {"schema": 1, "taps": status.taps, "dropped": {"A": 2}}
        ask(tmp_path, Stop(), Done)
        ask(tmp_path, Stop(), Done)
        assert signals.count == 1  # a second request is not a second Ctrl-C
        ask(tmp_path, Stop(now=True), Done)
        assert (signals.count, signals.name) == (2, "stop")
        assert ask(tmp_path, Status(), RunStatus).state == "stopping"
