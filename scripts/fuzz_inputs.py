"""Damaging input for the fuzzer: bytes, and values within messages."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack

ODD_NUMBERS = (
    0, -1, 1, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, -(2**63),
    2**64 - 1, 1e308, 5e-324, -0.0, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
ODD_TEXTS = (
    "",
    "\0",
    "a" * 5000,
    "../../etc/passwd",
    "\ud7ff\uffff",
    "object",
    ">u2",
    "1e999",
    "${HOME}",
    "%s%n",
)
ODD_BYTES = (
    b"",
    b"\0",
    b"\xff" * 16,
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x81" * 64,
    b"\x91" * 600,
)
BETWEEN_FRAMES = b"\xf0frame\xf0"
MAX_DAMAGES = 4
MAX_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Something that reads what others wrote."""

    make: Callable[[random.Random], bytes]
    """Makes a valid input."""
    odd: Callable[[bytes, random.Random], bytes]
    """Puts an odd value into an input; returns one that it does not understand as it is."""
    take: Callable[[bytes], bool]
    """Whether the input was taken; whatever it raises is a failure."""


def odd_value(rng: random.Random) -> Any:
    """Return a value that nobody expects."""
    choice = rng.randrange(8)
    if choice < 3:
        return rng.choice(ODD_NUMBERS)
    if choice < 5:
        return rng.choice(ODD_TEXTS)
    if choice == 5:
        return rng.choice((None, True, False, [], {}))
    if choice == 6:
        return {"array": rng.choice((0, 1, -1, 10**6, "0", None))}
    nested: Any = []
    for _ in range(rng.choice((3, 90, 600))):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return nested


def odd_tree(value: Any, rng: random.Random) -> Any:
    """Return a tree of lists and dicts with one value in it replaced, left out, doubled or added."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        action = rng.random()
        if action < 0.08:
            del changed[key]
        elif action < 0.14:
            changed[rng.choice(ODD_TEXTS)] = changed.pop(key)
        elif action < 0.2:
            changed["another"] = odd_value(rng)
        else:
            changed[key] = odd_tree(changed[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        action = rng.random()
        if action < 0.1:
            return value[:place] + value[place + 1 :]
        if action < 0.2:
            return value + [value[place]] * rng.choice((1, 2, 100))
        return [*value[:place], odd_tree(value[place], rng), *value[place + 1 :]]
    return odd_value(rng)


def damaged(data: bytes, rng: random.Random, odd: Callable[[bytes, random.Random], bytes]) -> bytes:
    """Damage an input once or a few times: in its values by `odd`, or in its bytes."""
    for _ in range(rng.randint(1, MAX_DAMAGES)):
        data = odd(data, rng) if rng.random() < 0.5 else _damaged_bytes(data, rng)
    return data[:MAX_BYTES]


def _damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return rng.choice(ODD_BYTES)
    place = rng.randrange(len(data))
    end = min(len(data), place + rng.choice((1, 1, 2, 4, 16, 200)))
    match rng.randrange(7):
        case 0:
            return data[:place] + bytes((data[place] ^ (1 << rng.randrange(8)),)) + data[place + 1 :]
        case 1:
            return data[:place] + rng.randbytes(end - place) + data[end:]
        case 2:
            return data[:place] + data[end:]
        case 3:
            return data[:place]
        case 4:
            return data[:end] + data[place:end] * rng.choice((1, 3, 50)) + data[end:]
        case 5:
            return data[:place] + rng.choice(ODD_BYTES) + data[place:]
        case _:
            other = rng.randrange(len(data))
            return data[:place] + data[other : other + end - place] + data[end:]


def odd_block(block: bytes, rng: random.Random) -> bytes:
    """Put an odd value into one block of msgpack."""
    with suppress(ValueError, TypeError, OverflowError, msgpack.UnpackException, RecursionError):
        return bytes(msgpack.packb(odd_tree(msgpack.unpackb(block, strict_map_key=False), rng)))
    return block
