"""Messages and connections of the fake server, written apart from those of the driver."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Literal

NumberStyle = Literal["exact", "padded", "24 bytes"]
"""How a string is counted in a reply: without its padding, with it, or in fields of 24 bytes at least."""


class FakeClient:
    """One client: its control connection, and its data connection once there is one."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.data_port = 0
        self.data: socket.socket | None = None

    def close(self) -> None:
        """Close both connections."""
        for connection in (self.control, self.data):
            if connection is not None:
                close(connection)


def pack_field(value: float | str, style: NumberStyle) -> bytes:
    """Return an int as such, and a float or string as text."""
    if isinstance(value, int):
        return struct.pack("<i", value)
    text = (value if isinstance(value, str) else repr(float(value))).encode() + b"\0"
    padded = text + bytes(-len(text) % 4)
    if style == "exact":
        return struct.pack("<I", len(text)) + padded
    if style == "24 bytes":
        padded = padded.ljust(24, b"\0")
    return struct.pack("<I", len(padded)) + padded


def message(name: str, number: int, queue: int, body: bytes) -> bytes:
    """Return a reply or image message."""
    return struct.pack("<16sIIHHI", name.encode(), len(body), number & 0xFFFFFFFF, 0, queue, 0) + body


def read(connection: socket.socket, size: int) -> bytes:
    """Return exactly so many bytes; none if the client is gone."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def close(connection: socket.socket) -> None:
    """Close a connection, also one that another thread reads from."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on a port and the one after it; for port 0 on the first such pair that is free."""
    for _ in range(100):
        first = socket.create_server((host, port))
        try:
            return [first, socket.create_server((host, first.getsockname()[1] + 1))]
        except (OSError, OverflowError):
            first.close()
            if port:
                raise
    raise OSError(f"no two free ports next to each other on {host}")
