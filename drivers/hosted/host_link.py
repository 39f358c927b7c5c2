"""The connection to a host: one call at a time, each with a deadline."""

from __future__ import annotations

import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq

from sparse_actors.errors import CapabilityError, MicroscopeError, StageError

from .host_process import HostProcess
from .vendor_side.microscope_host import (
    MAX_ARRAY_BYTES,
    PROTOCOL_VERSION,
    GarbledError,
    decode,
    encode,
)

LOOK_UP_MS = 20
"""How often a wait looks whether it was aborted, or whether the host is dead."""
ABORT_S = 5.0
"""How long a call may still take once it was aborted."""
END_S = 2.0
"""How long a host that is told to end may take."""
DYING_S = 2.0
"""How long a process that crashes may take, having closed its connection."""

_ERRORS = {"CapabilityError": CapabilityError, "StageError": StageError, "MicroscopeError": MicroscopeError}


class HostLostError(MicroscopeError):
    """The host is dead, hangs or is out of step; it must be started or connected to anew."""


class HostLink:
    """A host and the socket to it; not shared by threads, except `abort`.

    Parameters
    ----------
    command
        Starts the host; empty: it is there already.
    address
        Where it waits, if it is there already.
    token
        Secret of a host that is there already; one that is started gets a new one.
    log_file
        See `HostProcess`.
    start_within_s
        How long it may take until it answers.

    Raises
    ------
    HostLostError
        It did not start, or does not answer.
    CapabilityError
        It cannot be started, has another token, or speaks another version.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        address: str,
        token: str,
        log_file: Path | None,
        start_within_s: float,
    ) -> None:
        self._number = 0
        self._is_aborted = threading.Event()
        self._process: HostProcess | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        """Private, and short: the path of a socket has about 100 characters."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_ARRAY_BYTES)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            if command:
                token = secrets.token_urlsafe(32)
                self._folder = tempfile.TemporaryDirectory(prefix="host-")
                log_file = log_file or Path(self._folder.name) / "output"
                self._process = HostProcess(command, self._bound(self._folder.name), token, log_file)
            else:
                self._socket.connect(address)
            self._greet(address, token, start_within_s)
        except BaseException:
            self.close(0.0)
            raise

    def _bound(self, folder: str) -> str:
        if sys.platform == "win32":
            return f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        address = f"ipc://{folder}/socket"
        self._socket.bind(address)
        return address

    def _greet(self, address: str, token: str, within_s: float) -> None:
        deadline_s = time.monotonic() + within_s
        try:
            self._send("hello", "hello", {"token": token}, deadline_s)
            kind, welcome = self._receive("hello", deadline_s)
        except HostLostError as error:
            if self._process is not None:
                raise
            raise HostLostError(f"no host of a microscope answers at {address}: is it running?") from error
        protocol = welcome.get("protocol")
        if kind != "welcome" or type(protocol) is not int:
            raise HostLostError(f"the host answers {kind!r}, expected 'welcome'")
        if protocol != PROTOCOL_VERSION:
            raise CapabilityError(
                f"the host speaks version {protocol}, this program version {PROTOCOL_VERSION}: "
                f"use the microscope_host.py of this installation"
            )
        if welcome.get("token") != token:
            raise CapabilityError(
                "the host has another token: set SPARSE_ACTORS_HOST_TOKEN as it was started with"
            )
        if welcome.get("busy"):
            raise HostLostError(
                f"the host is still at {welcome['busy']} of another program, which was told to end"
            )

    @property
    def is_open(self) -> bool:
        """Whether it can be called; one that was lost cannot."""
        return not self._socket.closed

    def close(self, patience_s: float = END_S) -> None:
        """End the process, if it was started here, and the connection; safe to call twice."""
        if self._process is not None:
            self._process.end(patience_s)
            self._process = None
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)
            self._context.term()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def abort(self) -> None:
        """Have the host end the call in flight; from any thread."""
        self._is_aborted.set()

    def call(self, method: str, arguments: Sequence[Any], within_s: float) -> Any:
        """Call a method of the driver.

        Raises
        ------
        MicroscopeError, StageError, CapabilityError
            As the driver raised them; its other errors are MicroscopeErrors that begin with their type.
        HostLostError
            The host died, did not answer in time, or answered what is no answer; it is ended.
        """
        self._number += 1
        self._is_aborted.clear()
        call = {
            "id": self._number,
            "method": method,
            "arguments": list(arguments),
            "within_s": float(within_s),
        }
        deadline_s = time.monotonic() + within_s
        try:
            self._send(method, "call", call, deadline_s)
            kind, fields = self._receive(method, deadline_s)
        except BaseException:
            self.close(0.0)
            raise
        if kind == "error":
            name, text = str(fields.get("type")), str(fields.get("text"))
            raise _ERRORS[name](text) if name in _ERRORS else MicroscopeError(f"{name}: {text}")
        return fields.get("value")

    def _send(self, method: str, kind: str, fields: dict[str, Any], deadline_s: float) -> None:
        frames = encode(kind, fields)
        while not self._socket.poll(LOOK_UP_MS, zmq.POLLOUT):  # a host that starts has not connected yet
            self._check(method, deadline_s)
        self._socket.send_multipart(frames)

    def _receive(self, method: str, deadline_s: float) -> tuple[str, dict[str, Any]]:
        """Wait for the answer to the last call; others, which came too late, are passed over."""
        while True:
            if self._is_aborted.is_set():
                self._is_aborted.clear()
                self._send(method, "abort", {"id": self._number}, deadline_s)
                deadline_s = min(deadline_s, time.monotonic() + ABORT_S)
            if self._socket.poll(LOOK_UP_MS):
                answer = self._read(method)
                if answer is not None:
                    return answer
            else:
                self._check(method, deadline_s)

    def _check(self, method: str, deadline_s: float) -> None:
        """Raise HostLostError where the host is dead, gone or late."""
        is_gone = bool(self._monitor.poll(0))
        # The connection of a process that dies ends before the process does.
        how = self._process.exit_text(DYING_S if is_gone else 0.0) if self._process is not None else ""
        if how:
            raise HostLostError(f"the host of the microscope ended in {method}: {how}")
        if is_gone:
            raise HostLostError(f"the host of the microscope closed the connection in {method}")
        if time.monotonic() > deadline_s:
            words = self._process.last_words() if self._process is not None else ""
            raise HostLostError(f"the host of the microscope does not return from {method}{words}")

    def _read(self, method: str) -> tuple[str, dict[str, Any]] | None:
        frames = self._socket.recv_multipart()
        try:
            kind, fields = decode(frames)
        except GarbledError as error:
            raise HostLostError(
                f"the host of the microscope answered {method} with garbage: {error}"
            ) from None
        is_answer = kind == "welcome" if method == "hello" else fields.get("id") == self._number
        # An error without a number is one of a message that it did not understand.
        return (kind, fields) if is_answer or (kind == "error" and fields.get("id") == 0) else None
