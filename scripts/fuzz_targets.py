"""What the fuzzer feeds in memory: messages, journals, keys, replies of a microscope, configurations."""

from __future__ import annotations

import dataclasses
import json
import random
import socket
import struct
import tempfile
import time
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import msgpack
import numpy as np
from fuzz_inputs import BETWEEN_FRAMES, ODD_TEXTS, Target, odd_block, odd_value
from sparse_actors.drivers.sharksem.link import ConnectionLostError, Link
from sparse_actors.drivers.sharksem.message import Fields, GarbledError, encode

from sparse_actors import wire
from sparse_actors.config import parse_config
from sparse_actors.contracts.classifier import Classes
from sparse_actors.contracts.detector import Pois
from sparse_actors.errors import ConfigError, JournalError, WireError
from sparse_actors.messages import KINDS, Message
from sparse_actors.network.keys import DAEMON, Keys, read_public, read_secret
from sparse_actors.recording.journal import Journal, read_journal

FRAME = struct.Struct("<4sII")
"""Of the journal: marker, length, checksum; see recording/journal.py."""
PLACE = struct.Struct("<QI")
ALIVE_S = 5.0


def example(wanted: Any) -> Any:
    """Return a value of a type that messages have."""
    arguments = typing.get_args(wanted)
    match typing.get_origin(wanted):
        case types.UnionType | typing.Union:
            return example(next(one for one in arguments if one is not type(None)))
        case typing.Literal:
            return arguments[0]
        case np.ndarray:
            kind = next((name for name in ("float64", "int64", "bool") if name in str(wanted)), "uint16")
            return np.zeros((2, 4), kind)
        case origin if origin is tuple:
            return tuple(example(one) for one in arguments if one is not Ellipsis)
        case origin if origin is dict:
            return {}
    if wanted is Pois:
        return Pois.at([(1.0, 2.0), (3.0, 1.0)])
    if wanted is Classes:
        return Classes(labels=np.zeros(2, np.int32), confidence=np.ones(2))
    if dataclasses.is_dataclass(wanted):
        hints = typing.get_type_hints(wanted)
        return wanted(**{one.name: example(hints[one.name]) for one in dataclasses.fields(wanted)})
    return 1 if wanted is Any else wanted(1)


def _odd_frames(data: bytes, rng: random.Random) -> bytes:
    header, *arrays = data.split(BETWEEN_FRAMES)
    if rng.random() < 0.1:
        arrays = rng.choice(([], [*arrays, b"\0" * 8], arrays[::-1], arrays * 20))
    return BETWEEN_FRAMES.join((odd_block(header, rng), *arrays))


def _frames(message: Message) -> bytes:
    return BETWEEN_FRAMES.join(bytes(frame) for frame in wire.encode(message))


@contextmanager
def messages() -> Iterator[Target]:
    examples = [_frames(example(kind)) for kind in KINDS.values() if kind.__name__ != "Order"]

    def take(data: bytes) -> bool:
        try:
            wire.decode(data.split(BETWEEN_FRAMES), may_be_packed=True)
        except WireError:
            return False
        return True

    yield Target(lambda rng: rng.choice(examples), _odd_frames, take)


class _InMemory:
    """A file as the journal reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_bytes(self) -> bytes:
        return self._content


def _odd_record(data: bytes, rng: random.Random) -> bytes:
    """Put an odd value into a record of a journal, with a checksum that is right."""
    begins, at = [], 16
    while at + FRAME.size <= len(data):
        begins.append(at)
        at += FRAME.size + FRAME.unpack_from(data, at)[1]
    if not begins:
        return data
    begin = rng.choice(begins)
    marker, length, _ = FRAME.unpack_from(data, begin)
    block = data[begin + FRAME.size : begin + FRAME.size + length]
    with suppress(ValueError, TypeError, msgpack.UnpackException, RecursionError):
        frames = msgpack.unpackb(block)
        if isinstance(frames, list) and frames and isinstance(frames[0], bytes):
            block = bytes(msgpack.packb([odd_block(frames[0], rng), *frames[1:]]))
    checksum = crc32(block, crc32(PLACE.pack(begin, len(block))))
    whole = FRAME.pack(marker, len(block), checksum) + block
    # What follows would not be at its place any more: it is left out as often as not.
    rest = b"" if rng.random() < 0.5 else data[begin + FRAME.size + length :]
    return data[:begin] + whole + rest


@contextmanager
def journal() -> Iterator[Target]:
    kinds = ("RunStarted", "StorageReserved", "ExposureStarted", "Recorded", "PoisFound", "RegionsPlanned")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "journal"
        written = Journal.create(file)
        for kind in kinds:
            written.append(example(KINDS[kind]))
        written.close()
        content = file.read_bytes()

    def take(data: bytes) -> bool:
        try:
            read_journal(cast("Path", _InMemory(data)))
        except JournalError:
            return False
        return True

    yield Target(lambda rng: content, _odd_record, take)


@contextmanager
def keys() -> Iterator[Target]:
    with tempfile.TemporaryDirectory() as folder:
        kept = Keys(Path(folder) / "keys")
        kept.new(DAEMON)
        secret = kept.new("bench", kept.daemon().public)
        texts = [secret.read_bytes(), secret.with_suffix(".key").read_bytes()]

        def take(data: bytes) -> bool:
            secret.write_bytes(data)
            is_taken = False
            for read in (read_secret, read_public):
                with suppress(ConfigError):
                    read(secret)
                    is_taken = True
            return is_taken

        yield Target(lambda rng: rng.choice(texts), _odd_toml, take)


class _Sent:
    """A connection on which something was sent before it was closed."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, at_most: int) -> bytes:
        data, self._data = self._data[:at_most], self._data[at_most:]
        return data

    def setsockopt(self, *option: int) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        pass


@contextmanager
def sharksem() -> Iterator[Target]:
    """Feed what a SharkSEM server sends: a message as it comes, and then its fields."""
    replies = [
        encode("StgGetPosition", 1, 0, [1.5, -2.25, 0.0]),
        encode("DtEnumDetectors", 2, 0, ["det.count=1\ndet.0.name=SE\n"]),
        encode("ScData", 0, 0, [1, 0, 0, 8, [1, 2, 3, 4]]),
    ]

    def odd(data: bytes, rng: random.Random) -> bytes:
        place = 4 * rng.randrange(max(1, len(data) // 4))
        number = rng.choice((0, 1, 3, 2**20, 2**28, 2**31, 2**32 - 1))
        return data[:place] + number.to_bytes(4, "little") + data[place + 4 :]

    def take(data: bytes) -> bool:
        link = Link(cast("socket.socket", _Sent(data)), "channel")
        is_taken = False
        try:
            while (message := link.receive(time.monotonic() + ALIVE_S)) is not None:
                for names in (("number",) * 3, ("integer", "unsigned", "content"), ("mapping",), ("text",)):
                    fields = Fields(message)
                    with suppress(GarbledError):
                        for name in names:
                            getattr(fields, name)()
                is_taken = True
        except ConnectionLostError:
            pass
        return is_taken

    yield Target(lambda rng: rng.choice(replies), odd, take)


def _odd_toml(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    key, equals, _ = lines[place].partition(b"=")
    value = json.dumps(odd_value(rng), ensure_ascii=False)
    text = f" {rng.choice((value, rng.choice(ODD_TEXTS)))}" if equals else f"[{rng.choice(ODD_TEXTS)}]"
    lines[place] = key + equals + text.encode(errors="replace")
    return b"\n".join(lines)


@contextmanager
def config() -> Iterator[Target]:
    text = (Path(__file__).parents[1] / "config.toml").read_bytes()

    def take(data: bytes) -> bool:
        try:
            parse_config(data.decode(errors="replace"))
        except ConfigError:
            return False
        return True

    yield Target(lambda rng: text, _odd_toml, take)
