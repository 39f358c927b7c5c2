"""One TCP connection that carries SharkSEM messages, and never waits past a deadline."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from sparse_actors.errors import MicroscopeError

from .message import HEADER, GarbledError, Message, decode_header

LOOK_UP_S = 0.02
"""How often a wait looks whether it was aborted."""
READ_BYTES = 1 << 18


class ConnectionLostError(MicroscopeError):
    """The connection ended, or what came can no longer be told apart; it must be opened anew."""


class Link:
    """Sends and receives whole messages over a connected socket.

    Parameters
    ----------
    connection
        Closed by `close`.
    what
        Named in errors, such as "control channel".
    """

    def __init__(self, connection: socket.socket, what: str) -> None:
        self._socket = connection
        self._what = what
        self._buffer = bytearray()
        self._head: tuple[str, int, int] | None = None
        # Without this a small request waits for the acknowledgement of the one before it.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def send(self, message: bytes, deadline_s: float) -> None:
        """Send one message in one write."""
        self._socket.settimeout(max(deadline_s - time.monotonic(), LOOK_UP_S))
        try:
            self._socket.sendall(message)
        except OSError as error:
            # Part of the message may be on its way, so that the next one would be read wrongly.
            raise ConnectionLostError(f"the {self._what} does not take data: {error}") from error

    def receive(self, deadline_s: float, is_aborted: Callable[[], bool] = lambda: False) -> Message | None:
        """Return the next message; None at the deadline (monotonic clock) or when aborted.

        Raises
        ------
        ConnectionLostError
            The server closed the connection, or sent what is no message.
        """
        while True:
            message = self._next()
            if message is not None:
                return message
            remaining_s = deadline_s - time.monotonic()
            if is_aborted() or remaining_s <= 0:
                return None
            self._socket.settimeout(min(remaining_s, LOOK_UP_S))
            try:
                received = self._socket.recv(READ_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                raise ConnectionLostError(f"the {self._what} broke: {error}") from error
            if not received:
                raise ConnectionLostError(f"the microscope closed the {self._what}")
            self._buffer += received

    def _next(self) -> Message | None:
        """Cut a message off the buffer, if a whole one is there."""
        if self._head is None and len(self._buffer) >= HEADER.size:
            try:
                self._head = decode_header(bytes(self._buffer[: HEADER.size]))
            except GarbledError as error:
                raise ConnectionLostError(f"the {self._what} is out of step: {error}") from error
            del self._buffer[: HEADER.size]
        if self._head is None or len(self._buffer) < self._head[2]:
            return None
        name, message_id, size = self._head
        body = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._head = None
        return Message(name, message_id, body)
