"""Hooks tell a command, a web server and a mail server; what cannot be told is logged and ends nothing."""

from __future__ import annotations

import email
import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kills
import pytest
from aiosmtpd.controller import Controller
from structlog.testing import capture_logs

from sparse_actors.app import run_survey
from sparse_actors.config import parse_config
from sparse_actors.config_sharing import HooksTable
from sparse_actors.errors import ConfigError
from sparse_actors.hooks import Hooks

APPEND = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"


def tell(table: HooksTable, *events: tuple[str, str], environ: dict[str, str] | None = None) -> list[Any]:
    """Tell of events and wait until that is done; returns what was logged."""
    with capture_logs() as logged:
        hooks = Hooks(table, "steel", Path("/runs/steel"), environ or {}, pauses_s=(0.0, 0.0))
        for event, reason in events:
            hooks.tell(event, reason)
        hooks.close()
    return logged


class Web:
    """A web server that gives the answers it is told, then 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.answers: list[int] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.got.append((self.path, json.loads(body)))
                self.send_response(web.answers.pop(0) if web.answers else 200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_command_gets_what_is_wanted_as_json_and_no_shell_reads_it(tmp_path: Path) -> None:
    told = tmp_path / "told; rm -rf"
    table = HooksTable(on=("failed", "paused"), command=(sys.executable, "-c", APPEND, str(told)))
    assert tell(table, ("started", ""), ("paused", "$(touch x)"), ("failed", "no beam")) == []
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(e["event"], e["reason"]) for e in events] == [("paused", "$(touch x)"), ("failed", "no beam")]
    assert {"run": "steel", "folder": "/runs/steel"}.items() <= events[0].items()


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ((sys.executable, "-c", "import time; time.sleep(60)"), "longer than 0.5 s"),
        ((sys.executable, "-c", "raise SystemExit('oh')"), "exit code 1: oh"),
        (("not/there",), "cannot be started"),
    ],
)
def test_a_command_that_hangs_or_fails_is_logged(command: tuple[str, ...], problem: str) -> None:
    (line,) = tell(HooksTable(command=command, timeout_s=0.5), ("failed", "a"))
    assert problem in line["problem"]
    assert line["log_level"] == "warning"


def test_a_webhook_is_tried_again_and_its_secret_comes_from_the_environment(web: Web) -> None:
    web.answers = [503, 429]
    table = HooksTable(webhook=f"{web.address}/${{KEY}}")
    assert tell(table, ("finished", "all done"), environ={"KEY": "s3cret"}) == []
    assert [path for path, _ in web.got] == ["/s3cret"] * 3
    assert web.got[-1][1]["reason"] == "all done"


def test_a_webhook_that_refuses_is_not_asked_again(web: Web) -> None:
    web.answers = [404]
    (line,) = tell(HooksTable(webhook=web.address), ("finished", ""))
    assert line["problem"] == "the webhook answered 404"
    assert len(web.got) == 1
    (line,) = tell(HooksTable(webhook="http://127.0.0.1/${KEY}"), ("finished", ""))
    assert "'KEY' is not set" in line["problem"]


def test_a_server_that_does_not_answer_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        table = HooksTable(webhook=f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout_s=0.3)
        (line,) = tell(table, ("finished", ""))
    assert "timed out" in line["problem"].lower()


def test_a_mail_reaches_its_addresses() -> None:
    letters: list[Any] = []

    class Inbox:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            letters.append(envelope)
            return "250 OK"

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    post = Controller(Inbox(), hostname="127.0.0.1", port=port)
    post.start()
    try:
        table = HooksTable(
            mail_to=("a@lab.example", "b@lab.example"),
            mail_from="sem@lab.example",
            mail_server=f"smtp://127.0.0.1:{port}",
        )
        assert tell(table, ("failed", "no beam")) == []
    finally:
        post.stop()
    (letter,) = letters
    assert letter.rcpt_tos == ["a@lab.example", "b@lab.example"]
    mail = email.message_from_bytes(letter.content)
    assert mail["Subject"] == "steel: failed"
    assert "reason: no beam" in mail.get_payload()


def test_a_password_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        def __init__(self, host: str, port: int, timeout: float) -> None: ...
        def __enter__(self) -> Plain:
            return self

        def __exit__(self, *error: object) -> None: ...
        def ehlo(self) -> None: ...
        def has_extn(self, name: str) -> bool:
            return False

        def login(self, user: str, password: str) -> None:
            pytest.fail("sent")

    monkeypatch.setattr("smtplib.SMTP", Plain)
    table = HooksTable(
        mail_to=("a@lab.example",), mail_from="b@lab.example", mail_server="smtp://u:${P}@mail.example"
    )
    (line,) = tell(table, ("failed", ""), environ={"P": "secret"})
    assert "the password is not sent" in line["problem"]


def test_a_run_tells_how_it_went_and_logs_who_did_what(tmp_path: Path, web: Web) -> None:
    text = kills.CONFIG.format(time_scale=0, log=str(tmp_path / "log"), state=str(tmp_path / "state"))
    config = parse_config(text, ["workers.local=1", f'hooks.webhook="{web.address}/"'])
    assert run_survey(config, out=tmp_path / "run").outcome == "completed"
    assert [(body["event"], body["run"]) for _, body in web.got] == [
        ("started", "killed"),
        ("finished", "killed"),
    ]
    assert web.got[-1][1]["outcome"] == "completed"
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    by_event = {line["event"]: line for line in lines}
    reached = [line["tile"] for line in lines if line["event"] == "TileReached"]
    assert reached == ["r000c000", "r000c001"]
    assert by_event["TileReached"]["actor"] == "microscope"
    assert by_event["WorkerJoined"]["actor"] == "workers"
    assert by_event["RunFinished"]["actor"] == "scheduler"
    numbers = [line["message"] for line in lines]
    assert numbers == sorted(numbers)
    assert {line["run"] for line in lines} == {"killed"}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ('hooks.webhook="file:///etc/passwd"', "hooks.webhook"),
        ('hooks.on=["stopped"]', "hooks.on"),
        ('hooks.mail_to=["a@b"]', "hooks.mail_server is missing"),
        ('hooks.command="rm -rf /"', "hooks.command"),
    ],
)
def test_hooks_that_cannot_be_are_refused(tmp_path: Path, change: str, key: str) -> None:
    text = kills.CONFIG.format(time_scale=0, log="", state="")
    with pytest.raises(ConfigError, match=key):
        parse_config(text, [change])
