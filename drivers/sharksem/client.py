"""A SharkSEM client: commands on one connection, images on another."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable

import numpy as np

from sparse_actors.contracts.microscope import Image
from sparse_actors.errors import MicroscopeError

from .link import ConnectionLostError, Link
from .message import ALWAYS_REPLY, Argument, Fields, GarbledError, Idle, encode

QUIET_S = 0.1
"""Image data come about every 50 ms; after twice that nothing more is in flight."""


class NoReplyError(MicroscopeError):
    """The server passes over in silence what it does not know, does not allow, or cannot do."""


class SharkSemClient:
    """Both connections to one server. Used from one thread.

    Parameters
    ----------
    host, port
        Where the server takes commands; images come from the port after it.
    reply_timeout_s
        How long a reply may take.
    """

    def __init__(self, host: str, port: int, reply_timeout_s: float) -> None:
        self._host = host
        self._port = port
        self._reply_timeout_s = reply_timeout_s
        self._control: Link | None = None
        self._data: Link | None = None
        # Counted on over connections, so that no reply or image is taken for one of another connection.
        self._ids = itertools.count(1)
        self._frames = itertools.count(1)
        self.version: tuple[int, ...] = ()
        """Of the protocol, such as (3, 2, 20)."""

    @property
    def is_open(self) -> bool:
        """Whether both connections stand, as far as is known."""
        return self._control is not None and self._data is not None

    def open(self) -> None:
        """Connect, register the data connection, and ask for the protocol version.

        Raises
        ------
        MicroscopeError
            Nobody answers, or something that does not speak SharkSEM 2 or 3.
        """
        self.close()
        try:
            self._control = Link(self._connect(self._port, None), "control channel")
            # The server tells the data connections of its clients apart by the port they come from,
            # so the port is chosen and told before the connection is made.
            data = socket.socket(self._family, socket.SOCK_STREAM)
            try:
                data.bind((self._own_address, 0))
                if self.ask("TcpRegDataPort", data.getsockname()[1]).integer() != 0:
                    raise MicroscopeError(f"{self._where} refuses a data connection")
                self._connect(self._port + 1, data)
            except BaseException:
                data.close()
                raise
            self._data = Link(data, "data channel")
            self.version = self._ask_version()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close both connections, which also ends what is still ordered; safe to call twice."""
        for link in (self._data, self._control):
            if link is not None:
                link.close()
        self._control = self._data = None

    def ask(
        self, name: str, *arguments: Argument, wait: Idle = Idle.NOTHING, timeout_s: float | None = None
    ) -> Fields:
        """Send a command and return the fields of its reply; every command is made to reply.

        Parameters
        ----------
        name
            Of the command.
        arguments
            int, float, str, or a list of unsigned integers, as the command has them.
        wait
            What must be idle before the server carries it out.
        timeout_s
            For the reply, if it may take longer than usual.

        Raises
        ------
        NoReplyError
            None came in time; the connection stands.
        ConnectionLostError
            The connection broke.
        """
        if self._control is None:
            raise ConnectionLostError(f"there is no connection to {self._where}")
        timeout_s = self._reply_timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + timeout_s
        message_id = next(self._ids) & 0xFFFFFFFF
        try:
            self._control.send(encode(name, message_id, ALWAYS_REPLY | wait, arguments), deadline_s)
            while True:
                reply = self._control.receive(deadline_s)
                if reply is None:
                    raise NoReplyError(
                        f"no reply to {name} within {timeout_s:g} s: the microscope is busy or hangs, does "
                        "not know the command, or has no licence for it"
                    )
                if reply.id == message_id and reply.name == name:
                    return Fields(reply)
                # A reply that was given up may still come; one to nothing that was asked may not.
                if reply.id >= message_id:
                    raise ConnectionLostError(
                        f"expected the reply {message_id} to {name}, got {reply.id} to {reply.name}"
                    )
        except ConnectionLostError:
            self.close()
            raise

    def is_answering(self) -> bool:
        """Whether the server still answers; asks for its version, which every one knows."""
        try:
            return bool(self.ask("TcpGetVersion"))
        except (NoReplyError, ConnectionLostError):
            return False

    def next_frame(self) -> int:
        """Return a number for a scan that no scan had before."""
        return next(self._frames) & 0xFFFFFFFF

    def collect(
        self,
        frame: int,
        channel: int,
        pixels: int,
        bits: int,
        *,
        duration_s: float,
        silence_s: float,
        is_aborted: Callable[[], bool],
    ) -> Image:
        """Receive the pixels of one scan, whatever else comes in between.

        Parameters
        ----------
        frame, channel, pixels, bits
            What was ordered: number of the scan, video channel, number of pixels, 8 or 16 bits each.
        duration_s
            How long it may take in all.
        silence_s
            How long nothing of it may come.
        is_aborted
            Looked at while waiting.

        Returns
        -------
        Image
            (pixels,) of uint8 or uint16.

        Raises
        ------
        MicroscopeError
            Aborted, late, or with a gap; it may be scanned again.
        ConnectionLostError
            The connection broke.
        """
        if self._data is None:
            raise ConnectionLostError(f"there is no connection to {self._where}")
        image = np.empty(pixels, dtype=np.uint8 if bits == 8 else "<u2")
        have, others = 0, set[int]()
        heard_s = time.monotonic()
        end_s = heard_s + duration_s
        try:
            while have < pixels:
                message = self._data.receive(min(heard_s + silence_s, end_s), is_aborted)
                if message is None:
                    if is_aborted():
                        raise MicroscopeError("the scan was aborted")
                    raise MicroscopeError(
                        f"{have} of {pixels} pixels of scan {frame} came in time"
                        + (f", and pixels of {_few(others)}" if others else "")
                    )
                if message.name != "ScData":
                    continue
                fields = Fields(message)
                number, of_channel = fields.unsigned(), fields.integer()
                first, came_bits, content = fields.unsigned(), fields.integer(), fields.content()
                if number != frame or of_channel != channel:
                    # The end of an earlier scan, or a channel that somebody else enabled.
                    others.add(number)
                    continue
                count = len(content) * 8 // bits
                if came_bits != bits or len(content) * 8 % bits or first + count > pixels:
                    raise GarbledError(
                        f"scan {frame}: expected {pixels} pixels of {bits} bits, got {len(content)} bytes of "
                        f"{came_bits} bits from pixel {first} on"
                    )
                if first > have:
                    raise MicroscopeError(f"pixels {have} to {first - 1} of scan {frame} were lost")
                image[first : first + count] = np.frombuffer(content, dtype=image.dtype)
                # What comes again replaces what came before, and goes on from there.
                have = first + count
                heard_s = time.monotonic()
        except ConnectionLostError:
            self.close()
            raise
        return image.astype(image.dtype.newbyteorder("="), copy=False)

    def drain(self, at_most_s: float) -> None:
        """Read away image data until none comes; the server drops clients that do not read."""
        end_s = time.monotonic() + at_most_s
        try:
            while self._data is not None and time.monotonic() < end_s:
                if self._data.receive(time.monotonic() + QUIET_S) is None:
                    return
        except ConnectionLostError:
            self.close()
            raise

    # -- opening ----------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}"

    def _connect(self, port: int, prepared: socket.socket | None) -> socket.socket:
        try:
            if prepared is None:
                found = socket.create_connection((self._host, port), timeout=self._reply_timeout_s)
                self._family, self._own_address = found.family, str(found.getsockname()[0])
                self._peer_address = str(found.getpeername()[0])
                return found
            prepared.settimeout(self._reply_timeout_s)
            prepared.connect((self._peer_address, port))
            return prepared
        except OSError as error:
            raise MicroscopeError(
                f"no connection to a SharkSEM server at {self._host}:{port} ({error}): is the microscope's "
                "software running with remote control licensed and enabled, is the address right, and are "
                f"ports {self._port} and {self._port + 1} open?"
            ) from error

    def _ask_version(self) -> tuple[int, ...]:
        text = self.ask("TcpGetVersion").text()
        try:
            version = tuple(int(part) for part in text.split("."))
        except ValueError:
            raise MicroscopeError(
                f"{self._where} has protocol version {text!r}, expected 3.2.20 or alike"
            ) from None
        if not (2,) <= version < (4,):
            raise MicroscopeError(f"{self._where} speaks SharkSEM {text}; this driver speaks 2 and 3")
        return version


def _few(frames: set[int]) -> str:
    some = ", ".join(str(frame) for frame in sorted(frames)[:3])
    return f"scan {some}" + (" and others" if len(frames) > 3 else "")
