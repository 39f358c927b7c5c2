"""The wire: every message survives it, and nothing but WireError comes out of broken bytes."""

import dataclasses
import json
import types
import typing
from typing import Any

import hypothesis.extra.numpy as hnp
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sparse_actors import wire
from sparse_actors.contracts.classifier import MAX_PHASES, Classes
from sparse_actors.contracts.detector import Pois
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import WireError
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.imaging import Imaging
from sparse_actors.messages import KINDS, DetectImage, DetectionReturned, Heartbeat, Message, Order

# -- every message, from its annotations -----------------------------------------------------------

integers = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | integers | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
images = hnp.arrays(
    st.sampled_from([np.uint8, np.uint16, np.float32, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    elements={"allow_nan": False, "allow_infinity": False},
)


@st.composite
def pois(draw: st.DrawFn) -> Pois:
    n = draw(st.integers(0, 4))
    finite = {"allow_nan": False, "allow_infinity": False}
    return Pois(
        xy_px=draw(hnp.arrays(np.float64, (n, 2), elements=finite)),
        score=draw(hnp.arrays(np.float64, n, elements=finite)),
        boxes_px=draw(hnp.arrays(np.int64, (n, 4))),
    )


@st.composite
def classes(draw: st.DrawFn) -> Classes:
    n = draw(st.integers(0, 4))
    return Classes(
        labels=draw(hnp.arrays(np.int32, n, elements=st.integers(0, MAX_PHASES))),
        confidence=draw(hnp.arrays(np.float64, n, elements=st.floats(0, 1))),
    )


SPECIAL: dict[Any, st.SearchStrategy[Any]] = {
    Pois: st.deferred(pois),
    Classes: st.deferred(classes),
    EnergyAxis: st.builds(
        EnergyAxis, channels=st.integers(1, 5000), offset_kev=numbers, scale_kev=st.floats(1e-6, 1.0)
    ),
    PixelBox: st.builds(PixelBox, integers, integers, st.integers(1, 2**40), st.integers(1, 2**40)),
    Imaging: st.builds(
        Imaging,
        size_px=st.tuples(st.integers(1, 2**40), st.integers(1, 2**40)),
        dwell_ns=st.floats(1e-3, 1e11),
    ),
    int: integers,
    float: numbers,
    bool: st.booleans(),
    str: st.text(max_size=20),
    type(None): st.none(),
    Any: plain,
}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation in SPECIAL:
        return SPECIAL[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is np.ndarray or annotation is np.ndarray:
        return images
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, arguments))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(values(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*map(values, arguments))
    if origin in (frozenset, set):
        return st.frozensets(values(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    assert dataclasses.is_dataclass(annotation), f"no strategy for {annotation}"
    hints = typing.get_type_hints(annotation)
    fields = {f.name: values(hints[f.name]) for f in dataclasses.fields(annotation)}
    return st.builds(annotation, **fields)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)
        )
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


SENDABLE = [kind for kind in KINDS.values() if kind is not Order]


@pytest.mark.parametrize("kind", SENDABLE, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_went(kind: type[Message]) -> None:
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values(kind))
    def check(message: Message) -> None:
        assert same(wire.decode(wire.encode(message)), message)
        assert same(wire.unpack(wire.pack(message)), message)

    check()


def test_arrays_that_come_are_read_only_aligned_and_not_copied() -> None:
    message = DetectImage(
        partition=PartitionId(TileIndex(1, 2), 3),
        attempt=1,
        image=np.arange(12, dtype=np.uint16).reshape(3, 4),
        scale=2,
    )
    header, pixels = wire.encode(message)
    received = wire.decode([header, pixels])
    assert np.shares_memory(received.image, message.image)
    assert not received.image.flags.writeable
    # A socket's buffer may begin at an odd address, where compiled detectors do not expect pixels.
    shifted = memoryview(b"\0" + bytes(pixels))[1:]
    odd = wire.decode([header, shifted]).image
    assert odd.flags.aligned
    assert not odd.flags.writeable
    assert np.array_equal(odd, message.image)


# -- what is not a message -------------------------------------------------------------------------

PARTITION = {"tile": {"row": 0, "column": 0}, "index": 0}
RETURNED = DetectionReturned(
    partition=PartitionId(TileIndex(0, 0), 0),
    attempt=1,
    pois=Pois.at([(1.0, 2.0), (3.0, 4.0)]),
    worker="local-1",
    elapsed_s=0.5,
)
FRAMES = [bytes(frame) for frame in wire.encode(RETURNED)]


def refused(frames: list[bytes]) -> str:
    with pytest.raises(WireError) as caught:
        wire.decode(frames)
    return str(caught.value)


def header(**changes: Any) -> bytes:
    return msgpack.packb(msgpack.unpackb(FRAMES[0]) | changes)


def nested(depth: int, *, as_map: bool = False) -> bytes:
    return (b"\x81\xa1a" if as_map else b"\x91") * depth + b"\xc0"


def test_a_header_cut_at_any_byte_is_refused() -> None:
    for length in range(len(FRAMES[0])):
        refused([FRAMES[0][:length], *FRAMES[1:]])


def test_a_block_cut_at_any_byte_is_refused() -> None:
    block = wire.pack(RETURNED)
    for length in range(len(block)):
        with pytest.raises(WireError):
            wire.unpack(block[:length])


def test_a_flipped_byte_gives_a_message_or_wire_error() -> None:
    block = wire.pack(RETURNED)
    for place in range(len(block)):
        for bit in range(8):
            damaged = bytearray(block)
            damaged[place] ^= 1 << bit
            try:
                assert isinstance(wire.unpack(bytes(damaged)), Message)
            except WireError:
                pass


ROOTS = {
    "nothing": b"",
    "never used byte": b"\xc1",
    "nil": b"\xc0",
    "true": b"\xc3",
    "int": b"\x01",
    "uint64": b"\xcf" + b"\xff" * 8,
    "nan": msgpack.packb(float("nan")),
    "text": msgpack.packb("hello"),
    "bin": msgpack.packb(b"hello"),
    "list": msgpack.packb([1, 2]),
    "empty map": b"\x80",
    "timestamp": msgpack.packb(msgpack.Timestamp(1)),
    "ext": msgpack.packb(msgpack.ExtType(5, b"x")),
    "bad utf-8": b"\x81\xa1\xff\x01",
    "array32 of 4e9": b"\xdd\xff\xff\xff\xff",
    "map32 of 4e9": b"\xdf\xff\xff\xff\xff",
    "bin32 of 4e9": b"\xc6\xff\xff\xff\xff",
    "str32 of 4e9": b"\xdb\xff\xff\xff\xff",
    "ext32 of 4e9": b"\xc9\xff\xff\xff\xff\x01",
    "int key": msgpack.packb({1: 2}),
    "nil key": b"\x81\xc0\x01",
    "nan key": b"\x81" + msgpack.packb(float("nan")) + b"\x01",
    "bin key": msgpack.packb({b"v": 1}),
    "two objects": FRAMES[0] + FRAMES[0],
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
} | {
    f"{what} {depth} deep": nested(depth, as_map=what == "maps")
    for what in ("lists", "maps")
    for depth in (100, 600, 1100, 100_000)
}


@pytest.mark.parametrize("name", ROOTS)
def test_a_header_that_is_none_is_refused(name: str) -> None:
    refused([ROOTS[name]])
    with pytest.raises(WireError):
        wire.unpack(ROOTS[name])


ODD_VALUES = [
    None,
    True,
    -1,
    0,
    2**63,
    2**64 - 1,
    -(2**63),
    0.5,
    -0.0,
    float("nan"),
    float("inf"),
    1e308,
    "",
    "x" * 1000,
    b"\xff",
    [],
    {},
    [[]],
    {"array": 0},
    {"array": -1},
    {"array": 99},
    {"array": True},
    {"array": {"array": 0}},
    {"row": 1},
    [1] * 1000,
    msgpack.unpackb(nested(400)),
]


def replaced(tree: Any) -> typing.Iterator[Any]:
    """Yield the tree with each of its values in turn replaced by each odd value, or left out."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield {k: v for k, v in tree.items() if k != key}
            for other in (*ODD_VALUES, *replaced(value)):
                yield tree | {key: other}
    elif isinstance(tree, list):
        for place, value in enumerate(tree):
            yield tree[:place] + tree[place + 1 :]
            for other in (*ODD_VALUES, *replaced(value)):
                yield [*tree[:place], other, *tree[place + 1 :]]


def test_any_value_replaced_gives_a_message_or_wire_error() -> None:
    tried = accepted = 0
    for tree in replaced(msgpack.unpackb(FRAMES[0])):
        tried += 1
        try:
            message = wire.decode([msgpack.packb(tree), *FRAMES[1:]])
        except WireError:
            continue
        accepted += 1
        assert isinstance(message, Message)
        json.dumps(str(message), allow_nan=False)
    assert tried > 500
    assert accepted < tried / 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    fields = msgpack.unpackb(FRAMES[0])["fields"]
    assert "not finite" in refused([header(fields=fields | {"elapsed_s": value}), *FRAMES[1:]])
    xy = np.array([[1.0, value], [3.0, 4.0]])
    assert "not finite" in refused([FRAMES[0], xy.tobytes(), *FRAMES[2:]])


@pytest.mark.parametrize(
    "described",
    [
        ["object", [2, 2]],
        ["V8", [2, 2]],
        [">f8", [2, 2]],
        ["<f8", [2, 2]],
        ["complex128", [2]],
        ["uint64", [2, 2]],
        ["[('a', '<f8')]", [2, 2]],
        ["float64", [2, 2, 1, 1, 1]],
        ["float64", [-2, -2]],
        ["float64", [2**62, 4, 1]],
        ["float64", [2**64 - 1, 2]],
        ["float64", [True, 4]],
        ["float64", [2.0, 2.0]],
        ["float64", [2, 3]],
        ["float64", 4],
        ["float64", []],
        ["float64", [2, 2], [8, 16]],
        ["float64"],
        [],
        None,
        msgpack.unpackb(nested(450)),
    ],
    ids=lambda described: str(described)[:40],
)
def test_arrays_that_are_described_wrongly_are_refused(described: Any) -> None:
    arrays = msgpack.unpackb(FRAMES[0])["arrays"]
    refused([header(arrays=[described, *arrays[1:]]), *FRAMES[1:]])


def test_frames_missing_left_over_or_many_are_refused() -> None:
    refused([])
    refused(FRAMES[:1])
    refused(FRAMES[:-1])
    refused([*FRAMES, b""])
    assert "10000 frames" in refused([b"\0"] * 10_000)
    refused([FRAMES[0], FRAMES[1][:-1], *FRAMES[2:]])


def test_a_block_larger_than_a_header_may_be_is_refused_unread() -> None:
    assert "more than a header" in refused([bytes(wire.MAX_HEADER_BYTES + 1)])


def test_other_versions_and_kinds_are_refused() -> None:
    for version in (0, 2, "1", True, None, 1.0):
        assert "version" in refused([header(v=version), *FRAMES[1:]])
    for kind in ("Message", "Nothing", "", None, 1, ["PoisFound"], msgpack.unpackb(nested(450))):
        refused([header(kind=kind), *FRAMES[1:]])


@pytest.mark.parametrize("depth", [100, 500, 900, 1020])
@pytest.mark.parametrize("field", ["v", "kind", "fields", "arrays", "options", "array description"])
def test_deep_nesting_anywhere_gives_a_message_or_wire_error(field: str, depth: int) -> None:
    options: dict[str, Any] = {"detector": "d", "heartbeat_s": 1, "silence_s": 1, "deadline_s": 1}
    content = {"v": 1, "kind": "WorkerWelcome", "fields": options | {"options": {}}, "arrays": []}
    if field == "options":
        content["fields"] = options | {"options": {"a": "@@"}}
    elif field == "array description":
        content["arrays"] = ["@@"]
    else:
        content[field] = "@@"
    block = msgpack.packb(content).replace(b"\xa2@@", nested(depth))
    try:
        assert isinstance(wire.decode([block, b""] if field == "array description" else [block]), Message)
    except WireError:
        pass


def test_unknown_fields_are_ignored() -> None:
    block = msgpack.packb({"v": 1, "kind": "Heartbeat", "fields": {"new": 1}, "arrays": [], "id": 7})
    assert wire.decode([block]) == Heartbeat()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=64), max_size=4))
@example([b""])
def test_random_bytes_are_refused(frames: list[bytes]) -> None:
    refused(frames)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), fields=anything, arrays=anything, data=st.data())
def test_random_fields_give_a_message_or_wire_error(
    kind: str, fields: Any, arrays: Any, data: st.DataObject
) -> None:
    known = {f.name: data.draw(anything) for f in dataclasses.fields(KINDS[kind])}
    for content in (fields, known):
        try:
            block = msgpack.packb({"v": 1, "kind": kind, "fields": content, "arrays": arrays})
            assert isinstance(wire.decode([block]), Message)
        except WireError:
            pass
