"""A small socket on which a run, or the daemon, is asked and answers.

A request and its reply are one JSON object each, checked against their types. Where it listens and
the secret that a request must show stand in a file that only its owner can read: `control.json` in the
folder of the run or the queue. The wire format is in docs/daemon.md.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
import zmq

from sparse_actors.errors import ControlError, NobodyAnswersError, SparseActorsError

from .router import private_directory

FILE_NAME = "control.json"
SOCKET_NAME = "control"
MAX_REQUEST_BYTES = 1_000_000
"""A whole configuration fits in."""
MAX_REPLY_BYTES = 64_000_000
MAX_FRAMES = 4
HIGH_WATER_MARK = 64
HANDSHAKE_MS = 5000
POLL_MS = 1000
CLOSE_S = 5.0
ANSWER_S = 5.0
"""Whoever is asked answers at once: it decides and leaves the work to others."""

T = TypeVar("T")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What `control.json` says."""

    endpoint: str
    token: str
    pid: int


class Refused(msgspec.Struct, frozen=True, tag_field="reply", tag="refused"):
    """The reply to what is not a valid request, or cannot be done."""

    reason: str


class Done(msgspec.Struct, frozen=True, tag_field="reply", tag="done"):
    """The reply to an order that was taken."""

    said: str
    """What happens now, in words."""


class Control:
    """Answers requests in a thread of its own until it is closed; a context manager.

    Whatever comes in costs its sender the request and nothing else: it is refused and counted.

    Parameters
    ----------
    folder
        Where `control.json` is written, and removed at the end.
    requests
        The tagged structs of msgspec that are requests, as one union.
    answer
        Called in the thread of the control with each valid request; returns the reply, another such
        struct. An error made on purpose becomes a `Refused`.
    """

    def __init__(self, folder: Path, requests: Any, answer: Callable[[Any], msgspec.Struct]) -> None:
        self._file = folder / FILE_NAME
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(requests, strict=True)
        self._answer = answer
        self._token = secrets.token_urlsafe(32)
        self.refused = 0
        """How many requests were not valid."""
        with contextlib.ExitStack() as stack:
            context = zmq.Context()
            # Last in, first out: the context is gone before the directory of its socket is removed.
            directory = private_directory(stack)
            stack.callback(context.destroy, linger=0)
            self._socket = _limited(context.socket(zmq.ROUTER), MAX_REQUEST_BYTES)
            self._socket.bind(
                "tcp://127.0.0.1:*" if directory is None else f"ipc://{directory / SOCKET_NAME}"
            )
            endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
            self._wake_sender, self._wake_receiver = socket.socketpair()
            stack.callback(self._wake_sender.close)
            stack.callback(self._wake_receiver.close)
            _remove_stale_socket(self._file)
            address = Address(endpoint=endpoint, token=self._token, pid=os.getpid())
            _write_privately(self._file, msgspec.json.encode(address))
            stack.callback(self._file.unlink, missing_ok=True)
            self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
            self._closing = stack.pop_all()

    def __enter__(self) -> Control:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._wake_sender.send(b"\0")
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self._closing.close()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_receiver, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(POLL_MS))
            if self._wake_receiver.fileno() in ready:
                return
            if self._socket in ready:
                self._turn()

    def _turn(self) -> None:
        try:
            *envelope, body = self._receive()
        except zmq.Again:
            return
        reply = msgspec.json.encode(self._replied(body))
        # A peer that is gone, or does not read, goes without.
        with contextlib.suppress(zmq.ZMQError):
            self._socket.send_multipart([*envelope, reply], flags=zmq.NOBLOCK)

    def _receive(self) -> list[bytes]:
        frames = [self._socket.recv(zmq.NOBLOCK)]
        while self._socket.getsockopt(zmq.RCVMORE):
            frame = self._socket.recv(zmq.NOBLOCK)
            if len(frames) < MAX_FRAMES:
                frames.append(frame)
        return frames

    def _replied(self, body: bytes) -> msgspec.Struct:
        try:
            request = self._request(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self.refused += 1
            return Refused(f"not a request: {str(error)[:300]}")
        try:
            return self._answer(request)
        except (SparseActorsError, OSError) as error:
            return Refused(str(error))
        except Exception as error:
            structlog.get_logger().exception("a request failed", request=type(request).__name__)
            return Refused(f"an error of the program: {type(error).__name__}: {error}")

    def _request(self, body: bytes) -> Any:
        outer = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        token = msgspec.json.decode(outer.get("token", b'""'), type=str)
        if not hmac.compare_digest(token.encode(errors="replace"), self._token.encode()):
            raise ValueError("it does not show the token of control.json")
        return self._decoder.decode(outer.get("request", b"null"))


def read_address(folder: Path) -> Address | None:
    """Return where the run or the daemon of a folder answers, if it says so; it may have died since."""
    try:
        return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=Address)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.MsgspecError as error:
        raise ControlError(f"{folder / FILE_NAME} is damaged: {error}") from None


def ask(folder: Path, request: msgspec.Struct, reply: type[T], timeout_s: float = ANSWER_S) -> T:
    """Ask the run or the daemon of a folder.

    Raises
    ------
    NobodyAnswersError
        There is nobody, or no answer in time.
    ControlError
        The request was refused.
    """
    address = read_address(folder)
    if address is None:
        raise NobodyAnswersError(f"nobody answers for {folder}")
    body = json.dumps({"token": address.token}).encode()[:-1]
    body += b', "request": ' + msgspec.json.encode(request) + b"}"
    with contextlib.ExitStack() as stack:
        context = zmq.Context()
        stack.callback(context.destroy, linger=0)
        channel = _limited(context.socket(zmq.DEALER), MAX_REPLY_BYTES)
        channel.connect(address.endpoint)
        channel.send(body)
        if not channel.poll(int(timeout_s * 1000)):
            raise NobodyAnswersError(f"nobody answers for {folder} (process {address.pid} did)")
        answer = channel.recv()
    try:
        found: Refused | T = msgspec.json.decode(answer, type=Refused | reply)
    except msgspec.MsgspecError as error:
        raise ControlError(f"the answer for {folder} was not understood: {error}") from None
    if isinstance(found, Refused):
        raise ControlError(found.reason)
    return found


def _limited(opened: zmq.Socket[bytes], max_bytes: int) -> zmq.Socket[bytes]:
    opened.linger = 0
    opened.sndhwm = opened.rcvhwm = HIGH_WATER_MARK
    opened.setsockopt(zmq.MAXMSGSIZE, max_bytes)
    opened.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    return opened


def _remove_stale_socket(file: Path) -> None:
    """Remove the socket that a process left which was killed, with its folder."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        endpoint = msgspec.json.decode(file.read_bytes(), type=Address).endpoint
        path = Path(endpoint.removeprefix("ipc://"))
        if path.name == SOCKET_NAME and path.is_socket():
            path.unlink()
            path.parent.rmdir()


def _write_privately(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, as a whole; one that a dead process left is replaced."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    temporary.replace(path)
