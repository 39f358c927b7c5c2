"""A TCP link, on one computer, that a test can cut, heal, break and slow down."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

CHUNK_BYTES = 64 * 1024


class CuttableLink:
    """Passes bytes between its own port and another one.

    Parameters
    ----------
    port
        Of the daemon, on loopback.
    bytes_per_s
        Highest rate in each direction; None for no limit.

    Attributes
    ----------
    endpoint : str
        Where to connect instead of to the port, "tcp://127.0.0.1:...".
    bytes_passed : int
        In both directions together.
    """

    def __init__(self, port: int, bytes_per_s: float | None = None) -> None:
        self._to_port = port
        self._bytes_per_s = bytes_per_s
        self._flows = threading.Event()
        self._flows.set()
        self._is_closed = False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.bytes_passed = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._start(self._accept)

    def cut(self) -> None:
        """Pass nothing any more and tell nobody, as a cable that is pulled."""
        self._flows.clear()

    def heal(self) -> None:
        """Pass on what was held back."""
        self._flows.set()

    def break_off(self) -> None:
        """Close all connections at once."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close everything and wait for the threads."""
        self._is_closed = True
        self._flows.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.break_off()
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._to_port))
            except OSError:
                near.close()
                continue
            self._sockets += near, far
            self._start(self._pass, near, far)
            self._start(self._pass, far, near)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(CHUNK_BYTES):
                self._flows.wait()
                self.bytes_passed += len(block)
                if self._bytes_per_s:
                    threading.Event().wait(len(block) / self._bytes_per_s)
                target.sendall(block)
        for end in source, target:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _start(self, run: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=run, args=arguments, name="link", daemon=True)
        self._threads.append(thread)
        thread.start()


@contextlib.contextmanager
def cuttable_link(port: int, bytes_per_s: float | None = None) -> Iterator[CuttableLink]:
    """Open a link and close it."""
    opened = CuttableLink(port, bytes_per_s)
    try:
        yield opened
    finally:
        opened.close()
