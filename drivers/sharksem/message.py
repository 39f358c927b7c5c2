"""One SharkSEM message: a header of 32 bytes and a body, little-endian throughout.

Written from public descriptions of the protocol (library manual 3.2.20); docs/sharksem.md says what
of it was never tried on an instrument.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

from sparse_actors.errors import MicroscopeError

HEADER = struct.Struct("<16sIIHHI")
"""Name, size of the body, id, flags, queue, reserved."""
ALWAYS_REPLY = 0x0001
MAX_BODY_BYTES = 256 * 2**20
"""More than any image chunk or reply: a larger size means that the stream is out of step."""

Argument = int | float | str | Sequence[int]


class Idle(IntFlag):
    """Subsystems for which the server waits before it carries out a command."""

    NOTHING = 0
    SCAN = 0x0100
    STAGE = 0x0200
    OPTICS = 0x0400
    PROCEDURE = 0x0800


class GarbledError(MicroscopeError):
    """Bytes from the server that are no SharkSEM message."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came; its fields are read from the body one after the other with `Fields`."""

    name: str
    id: int
    body: bytes


def encode(name: str, message_id: int, flags: int, arguments: Sequence[Argument]) -> bytes:
    """Return header and body, to be sent in one write."""
    body = b"".join(_encode_argument(argument) for argument in arguments)
    return HEADER.pack(name.encode("ascii"), len(body), message_id, flags, 0, 0) + body


def _encode_argument(argument: Argument) -> bytes:
    match argument:
        case int():
            return struct.pack("<I", argument & 0xFFFFFFFF)
        case float():
            # Floats travel as decimal text; repr is the shortest that reads back the same.
            return _encode_bytes(repr(argument).encode("ascii") + b"\0")
        case str():
            return _encode_bytes(argument.encode("utf-8") + b"\0")
        case _:
            return _encode_bytes(struct.pack(f"<{len(argument)}I", *argument))


def _encode_bytes(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content + bytes(-len(content) % 4)


def decode_header(header: bytes) -> tuple[str, int, int]:
    """Return name, id and size of the body.

    Raises
    ------
    GarbledError
        These 32 bytes are no header; nothing that follows them can be trusted.
    """
    raw, size, message_id, _, _, reserved = HEADER.unpack(header)
    name = raw.rstrip(b"\0")
    if not (name.isalnum() and name.isascii()) or reserved or size > MAX_BODY_BYTES:
        raise GarbledError(f"expected the header of a SharkSEM message, got {header.hex(' ')}")
    return name.decode("ascii"), message_id, size


class Fields:
    """Reads the body of a message from left to right.

    Parameters
    ----------
    message
        What came.

    Raises
    ------
    GarbledError
        Every method: the body ends too early, or a number is none.
    """

    def __init__(self, message: Message) -> None:
        self._message = message
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        """Whether the body ends here; parameters at the end may be missing."""
        return self._at >= len(self._message.body)

    def integer(self) -> int:
        """Read a signed integer."""
        return int.from_bytes(self._take(4), "little", signed=True)

    def unsigned(self) -> int:
        """Read an unsigned integer."""
        return int.from_bytes(self._take(4), "little")

    def content(self) -> bytes:
        """Read an array of bytes, and skip the padding after it."""
        size = self.unsigned()
        content = self._take(size)
        self._at = min(self._at + -size % 4, len(self._message.body))
        return content

    def text(self) -> str:
        """Read a string: servers differ in how much padding they count, so it ends at the first NUL."""
        return self.content().split(b"\0", 1)[0].decode("utf-8", errors="replace")

    def number(self) -> float:
        """Read a float, which travels as decimal text."""
        text = self.text()
        try:
            return float(text)
        except ValueError:
            raise GarbledError(f"{self._message.name}: expected a number, got {text!r}") from None

    def mapping(self) -> dict[str, str]:
        """Read lines of key=value; other lines are skipped."""
        pairs = (line.partition("=") for line in self.text().splitlines())
        return {key.strip(): value.strip() for key, sign, value in pairs if sign}

    def _take(self, size: int) -> bytes:
        taken = self._message.body[self._at : self._at + size]
        if len(taken) < size:
            raise GarbledError(
                f"{self._message.name}: the message of {len(self._message.body)} bytes ends within a field"
            )
        self._at += size
        return taken
