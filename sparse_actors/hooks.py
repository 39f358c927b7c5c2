"""Tells people that a run started, paused, failed or finished: by a command, a webhook, a mail."""

from __future__ import annotations

import json
import queue
import smtplib
import socket
import ssl
import string
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from .config_sharing import HooksTable
from .messages import Message, RunPaused, RunStarted
from .own_group import own_group

MAX_WAITING = 100
PAUSES_S = (1.0, 5.0)
"""Between the tries of a webhook or a mail."""
CLOSE_S = 30.0
"""How long the end of a run waits for what is not told yet."""
MAX_SAID = 500
_END = None


class HookError(Exception):
    """Something was not told."""


class Hooks:
    """Tells in a thread of its own; a run never waits for it but at its end, and not for long.

    Parameters
    ----------
    table
        Whom to tell what.
    run, folder
        Name and folder of the run.
    environ
        Variables that `${NAME}` in addresses stands for, so that secrets are not in the configuration.
    pauses_s
        Between tries.
    """

    def __init__(
        self,
        table: HooksTable,
        run: str,
        folder: Path,
        environ: Mapping[str, str],
        pauses_s: tuple[float, ...] = PAUSES_S,
    ) -> None:
        self._table = table
        self._about = {"run": run, "folder": str(folder), "host": socket.gethostname()}
        self._environ = environ
        self._pauses_s = pauses_s
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MAX_WAITING)
        self._is_closing = threading.Event()
        ways: list[tuple[bool, Callable[[dict[str, Any]], None]]] = [
            (bool(table.command), self._run_command),
            (bool(table.webhook), self._post),
            (bool(table.mail_to), self._mail),
        ]
        self._ways = [way for is_wanted, way in ways if is_wanted]
        self._thread: threading.Thread | None = None
        if self._ways and table.on:
            self._thread = threading.Thread(target=self._keep_telling, name="hooks", daemon=True)
            self._thread.start()

    def watch(self, message: Message, number: int) -> None:
        """Tap of the bus; the end of a run is told by `tell` when it is known how it ended."""
        match message:
            case RunStarted(session=session):
                self.tell("started", "" if session == 0 else f"taken up again, session {session + 1}")
            case RunPaused(reason=reason):
                self.tell("paused", reason)
            case _:
                pass

    def tell(self, event: str, reason: str, **more: Any) -> None:
        """Tell of an event, if that is wanted; returns at once."""
        if self._thread is None or event not in self._table.on:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._waiting.put_nowait({"event": event, "time": now, **self._about, "reason": reason, **more})
        except queue.Full:
            structlog.get_logger().warning("hook left out: too many wait", hook_event=event)

    def close(self, patience_s: float = CLOSE_S) -> None:
        """Wait until everything is told, at most so long."""
        if self._thread is None:
            return
        try:
            self._waiting.put(_END, timeout=patience_s)
        except queue.Full:
            return
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._is_closing.set()
            structlog.get_logger().warning("hooks given up: not told in time")

    def _keep_telling(self) -> None:
        structlog.contextvars.bind_contextvars(actor="hooks")
        while (event := self._waiting.get()) is not _END:
            for way in self._ways:
                self._try(way, event)

    def _try(self, way: Callable[[dict[str, Any]], None], event: dict[str, Any]) -> None:
        problem = ""
        for pause_s in (*self._pauses_s, 0.0):
            try:
                way(event)
                return
            except HookError as error:
                problem = str(error)
                break
            except (OSError, smtplib.SMTPException, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
            if self._is_closing.wait(pause_s):
                break
        structlog.get_logger().warning("hook failed", hook_event=event["event"], problem=problem[:MAX_SAID])

    def _run_command(self, event: dict[str, Any]) -> None:
        """Give the event to a command as JSON on its standard input; a command is not tried again."""
        try:
            done = subprocess.run(
                list(self._table.command),
                input=json.dumps(event).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self._table.timeout_s,
                check=False,
                **own_group(),
            )
        except subprocess.TimeoutExpired:
            raise HookError(f"the command took longer than {self._table.timeout_s:g} s") from None
        except OSError as error:
            raise HookError(f"the command cannot be started: {error}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace")[-MAX_SAID:]
            raise HookError(f"the command ended with exit code {done.returncode}: {said}")

    def _post(self, event: dict[str, Any]) -> None:
        request = urllib.request.Request(  # noqa: S310 - http or https, by the pattern of the key
            self._expanded(self._table.webhook),
            data=json.dumps(event).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=self._table.timeout_s):  # noqa: S310 - as above
                pass
        except urllib.error.HTTPError as error:
            error.close()
            is_lasting = 400 <= error.code < 500 and error.code != 429
            raise (HookError if is_lasting else OSError)(f"the webhook answered {error.code}") from None

    def _mail(self, event: dict[str, Any]) -> None:
        mail = EmailMessage()
        mail["Subject"] = f"{event['run']}: {event['event']}"
        mail["From"] = self._table.mail_from
        mail["To"] = ", ".join(self._table.mail_to)
        mail.set_content("".join(f"{name}: {value}\n" for name, value in event.items() if value))
        server = urlsplit(self._expanded(self._table.mail_server))
        host, is_tls = server.hostname or "", server.scheme == "smtps"
        context = ssl.create_default_context()
        timeout_s = self._table.timeout_s
        connection = (
            smtplib.SMTP_SSL(host, server.port or 465, timeout=timeout_s, context=context)
            if is_tls
            else smtplib.SMTP(host, server.port or 25, timeout=timeout_s)
        )
        with connection as smtp:
            smtp.ehlo()
            if not is_tls and smtp.has_extn("starttls"):
                smtp.starttls(context=context)
                smtp.ehlo()
                is_tls = True
            if server.username:
                if not is_tls and not _is_loopback(host):
                    raise HookError(f"{host} offers no encryption: the password is not sent")
                smtp.login(unquote(server.username), unquote(server.password or ""))
            smtp.send_message(mail)

    def _expanded(self, address: str) -> str:
        try:
            return string.Template(address).substitute(self._environ)
        except KeyError as error:
            raise HookError(f"the environment variable {error} is not set") from None
        except ValueError:
            raise HookError("expected ${NAME} for an environment variable, $$ for a dollar sign") from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
