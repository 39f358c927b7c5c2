"""The TCP connection to the server of the Open Beam Interface: bytes in order, and never past a deadline."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable

from sparse_actors.errors import MicroscopeError

LOOK_UP_S = 0.02
"""How often a wait looks whether it was aborted."""
READ_BYTES = 1 << 18


class ConnectionLostError(MicroscopeError):
    """The connection ended or is out of step; it must be opened anew."""


class Link:
    """Sends while it receives, so that neither side waits for the other to read.

    Parameters
    ----------
    host, port
        Of the server.
    timeout_s
        How long connecting may take.

    Raises
    ------
    ConnectionLostError
        Nobody is there.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise ConnectionLostError(
                f"no connection to an Open Beam Interface at {host}:{port}: {error}; is its server running?"
            ) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._received = bytearray()
        self._unsent = bytearray()

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Put bytes on their way; what the socket does not take now goes with the next wait."""
        self._unsent += data
        self._push()

    def receive(self, size: int, silence_s: float, is_aborted: Callable[[], bool] = lambda: False) -> bytes:
        """Return so many bytes; fewer when aborted.

        Raises
        ------
        ConnectionLostError
            Nothing came for `silence_s`, or the server closed the connection.
        """
        self._fill(lambda: len(self._received) >= size, silence_s, is_aborted)
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def skip_to(self, mark: bytes, silence_s: float, within_s: float) -> None:
        """Pass over everything up to and with a mark; what belongs to an aborted scan lies before it."""
        deadline_s = time.monotonic() + within_s

        def is_found() -> bool:
            if time.monotonic() > deadline_s:
                raise ConnectionLostError("the Open Beam Interface sends data that nobody asked for")
            del self._received[: max(0, self._position(mark))]
            return self._received.startswith(mark)

        self._fill(is_found, silence_s)
        del self._received[: len(mark)]

    def _position(self, mark: bytes) -> int:
        """Return where the mark begins, or may begin with what is still to come."""
        at = self._received.find(mark)
        return at if at >= 0 else len(self._received) - len(mark) + 1

    def _fill(
        self, is_enough: Callable[[], bool], silence_s: float, is_aborted: Callable[[], bool] = lambda: False
    ) -> None:
        heard_s = time.monotonic()
        while not is_enough() and not is_aborted():
            self._push()
            writers = [self._socket] if self._unsent else []
            readable, _, _ = select.select([self._socket], writers, [], LOOK_UP_S)
            if readable:
                self._read()
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > silence_s:
                raise ConnectionLostError(f"the Open Beam Interface was silent for {silence_s:.3g} s")

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise ConnectionLostError(f"the connection to the Open Beam Interface broke: {error}") from error
        if not data:
            raise ConnectionLostError("the Open Beam Interface closed the connection")
        self._received += data

    def _push(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ConnectionLostError(f"the connection to the Open Beam Interface broke: {error}") from error
