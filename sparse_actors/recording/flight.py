"""The flight recorder: what every actor was told and what it answered, to go through a run again.

The journal holds facts, in the order in which they were written. This file holds for each actor the messages
in the order in which it took them, with all that it said to each: enough to build the same actor again and
see whether it decides the same. Pixels and counts are left out; their shapes are kept.

File: frames ``length u32 | crc32 u32 | payload``, little-endian. Every frame is written with one call and
nothing waits for the disk: the end of the process loses nothing, a power cut the last frames.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import numpy as np

from sparse_actors.errors import JournalError
from sparse_actors.messages import (
    After,
    ClassifySpectra,
    DetectImage,
    Effect,
    InspectRegion,
    Message,
    PartitionReloaded,
    PartitionScanned,
    RegionReloaded,
    RegionScanned,
    SpectraMeasured,
    SpectraReloaded,
)
from sparse_actors.wire import decode, encode

PIXELS = {
    PartitionScanned: "image",
    RegionScanned: "image",
    PartitionReloaded: "image",
    RegionReloaded: "image",
    DetectImage: "image",
    InspectRegion: "image",
    SpectraMeasured: "counts",
    SpectraReloaded: "counts",
    ClassifySpectra: "counts",
}
"""What is left out: no actor that decides looks at pixels or counts."""

_FRAME = struct.Struct("<II")


class Told(msgspec.Struct):
    """A message as an actor got it."""

    header: bytes
    arrays: list[bytes | int]
    """Their bytes, or how many were left out."""

    @classmethod
    def of(cls, message: Message) -> Told:
        """Take a message down."""
        header, *arrays = encode(message)
        left_out = _pixels(message)
        return cls(bytes(header), [len(a) if i == left_out else bytes(a) for i, a in enumerate(arrays)])

    def message(self) -> Message:
        """Return it again, zeros where something was left out."""
        return decode([self.header, *(bytes(a) if isinstance(a, int) else a for a in self.arrays)])


class Said(msgspec.Struct):
    """What an actor answered: a message, without its arrays."""

    header: bytes
    checksums: list[int]
    """crc32 of its arrays; 0 for pixels."""
    after_s: float = -1.0
    """For a reminder to itself, in how many seconds."""

    @classmethod
    def of(cls, effect: Effect) -> Said:
        """Take an answer down."""
        message, after_s = (effect.message, effect.seconds) if isinstance(effect, After) else (effect, -1.0)
        header, *arrays = encode(message)
        left_out = _pixels(message)
        checksums = [0 if i == left_out else crc32(array) for i, array in enumerate(arrays)]
        return cls(bytes(header), checksums, after_s)

    def __str__(self) -> str:
        header: dict[str, Any] = msgspec.msgpack.decode(self.header)
        after = f" in {self.after_s:g} s" if self.after_s >= 0 else ""
        fields = ", ".join(f"{name}={value}" for name, value in header["fields"].items())
        return f"{header['kind']}({fields}){after}"


class Session(msgspec.Struct, tag=True):
    """The program began: what the configuration in the journal does not tell."""

    number: int
    known_times: Mapping[str, Any] | None
    until_tile: int | None


class Step(msgspec.Struct, tag=True):
    """An actor took one message, or was built."""

    actor: str
    history: int | None
    """Built from so many records of the journal; None: it took a message."""
    told: Told | None
    said: list[Said]
    error: str = ""
    """What it raised; then it said nothing."""


class FlightRecorder:
    """Writes the file; may be called from any thread.

    A disk that refuses ends the recording and nothing else: `problem` says so.

    Parameters
    ----------
    path
        Of the file; what is there already is kept.
    history
        Reads the journal.
    """

    def __init__(self, path: Path, history: Callable[[], list[Message]]) -> None:
        whole = _whole_bytes(path) if path.exists() else 0
        self._file = path.open("ab", buffering=0)
        self._file.truncate(whole)
        self._history = history
        self._built_from: dict[str, int] = {}
        self._turn = threading.Lock()
        self.problem = ""

    def begin(self, session: Session) -> None:
        """Say that the program began."""
        self._write(session)

    def history(self, actor: str) -> list[Message]:
        """Return the journal for an actor that is being built, and remember how much it was."""
        facts = self._history()
        self._built_from[actor] = len(facts)
        return facts

    def stepped(self, actor: str, message: Message | None, said: Iterable[Effect], error: str = "") -> None:
        """Take down what an actor said to a message, or (None) when it was built."""
        built_from = self._built_from.pop(actor, 0) if message is None else None
        told = None if message is None else Told.of(message)
        self._write(Step(actor, built_from, told, [Said.of(effect) for effect in said], error))

    def close(self) -> None:
        """Write what is left; safe to call twice."""
        with self._turn:
            self._file.close()

    def _write(self, entry: Session | Step) -> None:
        payload = msgspec.msgpack.encode(entry)
        with self._turn:
            if self.problem or self._file.closed:
                return
            try:
                self._file.write(_FRAME.pack(len(payload), crc32(payload)) + payload)
            except OSError as error:
                self.problem = f"the flight recorder stopped ({error}); the run is not affected"


def read_flight(path: Path) -> Iterator[Session | Step]:
    """Yield what was recorded, in order, up to the first frame that is not whole.

    Raises
    ------
    JournalError
        A whole frame is not understood.
    """
    for payload in _payloads(path):
        try:
            yield msgspec.msgpack.decode(payload, type=Session | Step)
        except msgspec.DecodeError as error:
            raise JournalError(f"{path}: {error}; another version of sparse-actors wrote it") from None


def _pixels(message: Message) -> int | None:
    """Return which of the arrays of a message, in the order of its fields, holds pixels or counts."""
    name = PIXELS.get(type(message))
    if name is None:
        return None
    values = {entry.name: getattr(message, entry.name) for entry in fields(message)}
    return [name for name, value in values.items() if isinstance(value, np.ndarray)].index(name)


def _whole_bytes(path: Path) -> int:
    return sum(_FRAME.size + len(payload) for payload in _payloads(path))


def _payloads(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while len(start := file.read(_FRAME.size)) == _FRAME.size:
            length, checksum = _FRAME.unpack(start)
            payload = file.read(length)
            if len(payload) < length or crc32(payload) != checksum:
                return
            yield payload
