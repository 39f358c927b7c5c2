"""A server that answers as the Open Beam Interface does, over a specimen of its own; with faults.

python -m sparse_actors.drivers.open_beam.fake_server --port 2224
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .commands import CODES, DWELL_UNIT_NS, PIXEL_SHIFT, Command

Specimen = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]
"""Signal, 0 to 16383, at codes x and y."""
SIZES = {
    Command.SYNCHRONIZE: 3,
    Command.DELAY: 3,
    Command.ARRAY: 3,
    Command.RASTER_REGION: 13,
    Command.RASTER_PIXEL: 3,
    Command.RASTER_PIXEL_RUN: 5,
    Command.VECTOR_PIXEL: 7,
    Command.VECTOR_PIXEL_MIN_DWELL: 5,
}
"""Bytes of the commands that have more than one."""


@dataclass
class Faults:
    """What goes wrong in the scan of that number, counted from 1; 0: never."""

    silent: int = 0
    """No more bytes come."""
    closes: int = 0
    """The connection is closed after half of the pixels."""
    loses_bytes: int = 0
    """The last three bytes are missing."""
    stale: int = 0
    """Pixels of an earlier scan come before the answer to the synchronization."""
    one_byte_at_a_time: bool = False


@dataclass
class Seen:
    """What reached the interface."""

    codes: list[tuple[int, int]] = field(default_factory=list)
    """Where the beam rested, in order."""
    is_blanked: bool = False
    is_external: bool = False
    beam: int = 0


def stripes(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a pattern in which neighbouring pixels differ."""
    return (x * 3 + y * 7 + (x // 700) * (y // 500) * 97) % CODES


class FakeServer:
    """Listens on loopback; one client at a time, in a thread of its own.

    Parameters
    ----------
    specimen
        What is under the beam.
    port
        0 takes a free one; see `port`.
    time_scale
        How much faster than its dwell times it scans; 0 does not wait.
    """

    def __init__(self, specimen: Specimen = stripes, port: int = 0, time_scale: float = 1.0) -> None:
        self.specimen = specimen
        self.faults = Faults()
        self.seen = Seen()
        self.scans = 0
        self._time_scale = time_scale
        self._is_closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="fake open beam", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close every connection and end."""
        self._is_closing.set()
        self._thread.join()
        self._listener.close()

    def wait(self) -> None:
        """Serve until it is stopped."""
        while not self._is_closing.wait(0.2):
            pass

    def _serve(self) -> None:
        while not self._is_closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection, contextlib.suppress(OSError):
                connection.settimeout(0.02)
                _Session(self, connection, self._time_scale, self._is_closing).run()


class _Session:
    """One client: commands are carried out in the order in which they come."""

    def __init__(
        self, server: FakeServer, connection: socket.socket, time_scale: float, is_closing: threading.Event
    ) -> None:
        self._server = server
        self._connection = connection
        self._time_scale = time_scale
        self._is_closing = is_closing
        self._buffer = bytearray()
        self._is_8_bit = self._has_begun = self._is_silent = self._is_over = False
        self._region = np.zeros((0, 2), dtype=np.int64)

    def run(self) -> None:
        while not (self._is_closing.is_set() or self._is_over):
            while (size := self._size()) is not None and not self._is_over:
                command = bytes(self._buffer[:size])
                del self._buffer[:size]
                self._carry_out(command)
            try:
                data = self._connection.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                return
            self._buffer += data

    def _size(self) -> int | None:
        """Return how long the next command is, if all of it is there."""
        if not self._buffer:
            return None
        command = Command(self._buffer[0] >> 4)
        size = SIZES.get(command, 1)
        if command == Command.ARRAY:
            if len(self._buffer) < size:
                return None
            of = Command(self._buffer[0] & 15)
            size += (SIZES[of] - 1) * (struct.unpack_from(">H", self._buffer, 1)[0] + 1)
        return size if len(self._buffer) >= size else None

    def _carry_out(self, command: bytes) -> None:
        kind, flags = Command(command[0] >> 4), command[0] & 15
        seen = self._server.seen
        match kind:
            case Command.SYNCHRONIZE:
                self._is_8_bit, self._has_begun = flags >> 1 == 1, False
                if self._server.faults.stale == self._server.scans + 1:
                    self._send(bytes(range(100)))
                self._send(b"\xff\xff" + command[1:])
            case Command.EXTERNAL_CONTROL:
                seen.is_external = bool(flags & 1)
            case Command.BEAM_SELECT:
                seen.beam = flags
            case Command.BLANK:
                seen.is_blanked = bool(flags & 1)
            case Command.ABORT:
                self._region = self._region[:0]
            case Command.RASTER_REGION:
                x0, columns, x_step, y0, rows, y_step = struct.unpack(">6H", command[1:])
                xs, ys = (
                    (x0 * 256 + np.arange(columns) * x_step) >> 8,
                    (y0 * 256 + np.arange(rows) * y_step) >> 8,
                )
                grid = np.meshgrid(xs, ys)
                self._region = np.column_stack([axis.ravel() for axis in grid])
            case Command.RASTER_PIXEL_RUN:
                last, dwell = struct.unpack(">HH", command[1:])
                codes, self._region = self._region[: last + 1], self._region[last + 1 :]
                self._expose(codes, np.full(len(codes), dwell + 1))
            case Command.ARRAY if flags == Command.VECTOR_PIXEL:
                fields = np.frombuffer(command[3:], dtype=">u2").astype(np.int64).reshape(-1, 3)
                units = np.where(fields[:, 2] >= 2, fields[:, 2] + 1, 1)
                self._expose(fields[:, :2], units)
            case Command.FLUSH:
                pass
            case _:
                raise ConnectionAbortedError(f"{kind.name} is not understood here")

    def _expose(self, codes: NDArray[np.int64], units: NDArray[Any]) -> None:
        server, faults = self._server, self._server.faults
        if not self._has_begun:
            self._has_begun = True
            server.scans += 1
        if self._time_scale:
            self._is_closing.wait(float(units.sum()) * DWELL_UNIT_NS * 1e-9 / self._time_scale)
        server.seen.codes += [(int(x), int(y)) for x, y in codes]
        # A blanked beam, or one that the microscope still steers, gives no signal.
        is_lit = server.seen.is_external and not server.seen.is_blanked and server.seen.beam == 1
        values = server.specimen(codes[:, 0], codes[:, 1]) * is_lit
        pixels = (values << PIXEL_SHIFT).astype(">u2")
        data = (pixels >> 8).astype(np.uint8).tobytes() if self._is_8_bit else pixels.tobytes()
        if faults.silent == server.scans:
            self._is_silent = True
        elif faults.closes == server.scans:
            self._send(data[: len(data) // 2])
            self._is_over = True
            return
        elif faults.loses_bytes == server.scans:
            data = data[:-3]
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self._is_silent:
            return
        size = 1 if self._server.faults.one_byte_at_a_time else len(data)
        for start in range(0, len(data), max(size, 1)):
            part = memoryview(data)[start : start + size]
            while part and not self._is_closing.is_set():
                try:
                    part = part[self._connection.send(part) :]
                except TimeoutError:
                    continue


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=2224, help="0: a free one")
    parser.add_argument(
        "--time-scale", type=float, default=1.0, help="faster than its dwell times; 0: at once"
    )
    given = parser.parse_args()
    with FakeServer(port=given.port, time_scale=given.time_scale) as server:
        started = time.strftime("%H:%M:%S")
        print(f"a fake Open Beam Interface listens since {started} at 127.0.0.1:{server.port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()


if __name__ == "__main__":
    main()
