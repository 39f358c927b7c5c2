"""The driver's side of SharkSEM messages, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_actors.drivers.sharksem.fake_commands import COMMANDS, read_arguments
from sparse_actors.drivers.sharksem.link import ConnectionLostError, Link
from sparse_actors.drivers.sharksem.message import Fields, GarbledError, Idle, Message, encode
from sparse_actors.drivers.sharksem.scan_stream import fraction_of_field, program_of

from sparse_actors.errors import CapabilityError


@contextlib.contextmanager
def line() -> Iterator[tuple[Link, socket.socket]]:
    """Both ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mine = socket.create_connection(listener.getsockname())
        theirs = listener.accept()[0]
    link = Link(mine, "line")
    with theirs:
        yield link, theirs
    link.close()


def reply(body: bytes) -> Fields:
    return Fields(Message("Any", 1, body))


def test_a_request_is_the_bytes_of_the_description() -> None:
    name = b"SetViewField\0\0\0\0"
    rest = "08000000 07000000 0104 0000 00000000 04000000 302e3500"
    assert encode("SetViewField", 7, 1 | Idle.OPTICS, [0.5]) == name + bytes.fromhex(rest)


def test_arguments_follow_each_other_without_tags() -> None:
    body = encode("X", 1, 1, [-2, "ab", [1, 7]])[32:]
    assert body == bytes.fromhex("feffffff 03000000 61620000 08000000 01000000 07000000")


@pytest.mark.parametrize(
    "field",
    [
        struct.pack("<I", 24) + b"14.5218".ljust(24, b"\0"),
        struct.pack("<I", 8) + b"14.5218\0",
        struct.pack("<I", 9) + b"14.52180\0".ljust(12, b"\0"),
    ],
    ids=["fixed", "padded", "exact"],
)
def test_all_ways_to_count_a_string_are_read(field: bytes) -> None:
    fields = reply(field + struct.pack("<i", -5))
    assert (fields.number(), fields.integer(), fields.is_at_end) == (14.5218, -5, True)


def test_a_map_has_lines_of_keys_and_values() -> None:
    text = b"det.0.name=SE\ndet.0.detector=13\nnonsense\n\0"
    found = reply(struct.pack("<I", len(text)) + text).mapping()
    assert found == {"det.0.name": "SE", "det.0.detector": "13"}


SHORT, NO_NUMBER = struct.pack("<I", 5) + b"1.5\0", struct.pack("<I", 4) + b"abc\0"


@pytest.mark.parametrize("body", [b"", b"\1\0", SHORT, NO_NUMBER])
def test_a_body_that_holds_no_number_is_told(body: bytes) -> None:
    with pytest.raises(GarbledError, match="Any: "):
        reply(body).number()


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, st.integers(-(2**31), 2**31 - 1), st.text("abc.=", max_size=9))
def test_the_server_reads_what_the_client_writes(number: float, integer: int, text: str) -> None:
    body = encode("X", 1, 1, [number, integer, text])[32:]
    assert read_arguments("fis", body) == [number, integer, text]
    assert read_arguments("fi", body) is None


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=200))
def test_whatever_comes_is_a_message_or_an_error(data: bytes) -> None:
    with line() as (link, theirs):
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionLostError, match=r"closed the line|line is out of step"):
            list(iter(lambda: link.receive(time.monotonic() + 5), None))


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(1, 90), max_size=6))
def test_messages_come_whole_however_they_were_cut(cuts: list[int]) -> None:
    sent = encode("ScData", 3, 0, [1, 2, "pixels"]) + encode("GetWD", 4, 0, [10.5])
    with line() as (link, theirs):
        for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(sent)], strict=True):
            theirs.sendall(sent[first:last])
        found = [link.receive(time.monotonic() + 5) for _ in range(2)]
        assert [(m.name, m.id) for m in found if m] == [("ScData", 3), ("GetWD", 4)]
        assert link.receive(time.monotonic()) is None


def test_names_of_commands_fit_the_header() -> None:
    assert max(map(len, COMMANDS)) <= 15


# -- stream programs ------------------------------------------------------------------------------


def test_a_program_is_the_text_of_the_description() -> None:
    program = program_of(np.array([[0, 0, 4], [3, 1, 1]]), 500, (4, 4))
    assert program.splitlines() == [
        "[HEADER]",
        'TescanStreamFileVersion="1.0"',
        "[BODY]",
        "UNBLANK()",
        "LINE(0.125000000,0.125000000,0.875000000,0.125000000,4,500)",
        "LINE(0.875000000,0.375000000,0.875000000,0.375000000,1,500)",
        "BLANK()",
    ]


def test_points_that_the_protocol_cannot_name_are_refused() -> None:
    assert fraction_of_field(0, 7, (8, 8)) == (0.0625, 0.9375)
    for point, window in (((0, 0), (8, 6)), ((8, 0), (8, 8)), ((0, -1), (8, 8))):
        with pytest.raises(CapabilityError):
            fraction_of_field(*point, window)
