"""Taps over real sockets: state and messages, losses counted, slow ones left behind, proposals, refusals."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zmq
from tapped_run import FIRST, TOKEN, Run, scanned

import sparse_actors
from sparse_actors.errors import ConfigError, ControlError, TapError
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.messages import (
    DetectImage,
    Message,
    MicroscopeIdle,
    OrderRefused,
    PartitionScanned,
    ProposeRegions,
    Recorded,
    RegionScanned,
    RegionsProposed,
    ScanId,
    TileFinished,
)
from sparse_actors.network import taps as taps_module
from sparse_actors.network.preview import preview


@pytest.fixture
def run() -> Iterator[Run]:
    run = Run()
    yield run
    run.taps.close()


def finished(number: int) -> TileFinished:
    return TileFinished(tile=TileIndex(0, number))


def test_a_late_tap_gets_every_fact_once_wherever_it_is(run: Run) -> None:
    facts = [finished(n) for n in range(6)]
    run.say(*facts[:4])
    run.journal += facts[:2]  # the recorder is two behind
    with run.listen(TileFinished) as listener:
        messages = iter(listener)
        assert [next(messages) for _ in range(4)] == facts[:4]
        run.say(*facts[4:])
        assert [next(messages) for _ in range(2)] == facts[4:]
        run.taps.close()
        assert list(messages) == []
        assert not listener.lost


def test_what_comes_while_the_state_is_sent_is_neither_lost_nor_doubled(run: Run) -> None:
    facts = [finished(n) for n in range(400)]
    is_over = threading.Event()

    def work() -> None:
        for fact in facts:
            run.say(fact)
            run.journal.append(fact)
            is_over.wait(0.0005)

    worker = threading.Thread(target=work)
    worker.start()
    with run.listen(TileFinished) as listener:
        messages = iter(listener)
        assert [next(messages) for _ in facts] == facts
    worker.join()


def test_images_come_over_their_own_socket_reduced_unless_asked_for_whole(run: Run) -> None:
    big = scanned(0, 2000, dtype="uint16")
    with run.listen(PartitionScanned) as listener:
        run.say(
            finished(0),
            scanned(1),
            DetectImage(partition=big.scan.id.partition, attempt=1, image=big.image, scale=1),
        )
        messages = iter(listener)
        small = next(messages)
        np.testing.assert_array_equal(small.image, scanned(1).image)
        assert (small.reduced, small.image.flags.writeable) == (1, False)
        run.say(big)
        came = next(messages)
        assert (came.reduced, came.image.shape, came.image.dtype) == (3, (666, 666), np.uint16)
    whole = Run(images="full")
    with whole.listen(PartitionScanned) as listener:
        whole.say(big)
        np.testing.assert_array_equal(next(iter(listener)).image, big.image)
    whole.taps.close()


def test_a_preview_is_the_mean_of_squares() -> None:
    image = np.random.default_rng(1).integers(0, 65536, (1000, 1537), dtype=np.uint16)
    message = scanned(0, 16, RegionScanned)
    object.__setattr__(message, "image", image)
    reduced = preview(message)
    assert isinstance(reduced, RegionScanned)
    expected = image[:999, :1536].reshape(333, 3, 512, 3).mean(axis=(1, 3)).round()
    np.testing.assert_allclose(reduced.image, expected, atol=1)
    object.__setattr__(message, "image", image.ravel())  # of a mask
    np.testing.assert_array_equal(preview(message).image, image.ravel()[::4])  # type: ignore[attr-defined]


def test_a_tap_that_stands_still_loses_images_and_counts_them_while_others_get_all(run: Run) -> None:
    kinds = PartitionScanned
    with run.listen(kinds, state=False) as slow, run.listen(kinds, state=False) as quick:
        has_come = threading.Event()

        def scan() -> None:
            for number in range(10_000):
                run.say(scanned(number, 700 if number < 60 else 16))
                if has_come.wait(0.01):
                    return

        scanner = threading.Thread(target=scan)
        scanner.start()
        count = next(count for count, m in enumerate(quick, start=1) if m.finished_s >= 60)
        got = []
        for message in slow:
            got.append(int(message.finished_s))
            if got[-1] >= 60:
                break
        has_come.set()
        scanner.join()
        assert count + quick.lost["PartitionScanned"] >= 61
        assert quick.lost["PartitionScanned"] < 10 < slow.lost["PartitionScanned"]
        assert got[0] == 0
        assert slow.lost["PartitionScanned"] == got[-1] + 1 - len(got)  # each of them is counted
        assert slow.dropped == {"PartitionScanned": 0}  # the daemon sent them all


def test_what_comes_faster_than_it_can_be_sent_is_dropped_and_counted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, begun = threading.Event(), threading.Event()
    encode = taps_module.wire.encode

    def slowly(message: Message) -> Any:
        begun.set()
        assert gate.wait(10)
        return encode(message)

    with run.listen(PartitionScanned, state=False) as listener:
        monkeypatch.setattr(taps_module.wire, "encode", slowly)
        run.say(scanned(0))
        assert begun.wait(10)
        run.say(*(scanned(number) for number in range(1, 10)))
        assert run.taps.dropped == {"PartitionScanned": 7}
        with zmq.Context() as context, context.socket(zmq.DEALER) as another:
            another.connect(run.taps.endpoint)
            for _ in range(5):  # one that joins pushes out nothing
                another.send_multipart([b"echo", b"another"])
            another.send(b"are they out?")  # refused, after the echoes
            assert another.poll(10_000)
        gate.set()
        messages = iter(listener)
        assert [next(messages).finished_s for _ in range(3)] == [0, 8, 9]  # the newest are kept
        assert listener.lost == {"PartitionScanned": 7}
        assert listener.dropped == {"PartitionScanned": 7}


def test_regions_are_proposed_with_a_token_and_the_answer_comes_back(run: Run) -> None:
    order = ProposeRegions(tile=FIRST, boxes=(PixelBox(0, 0, 8, 8),), source="classes")
    with run.listen(TileFinished) as listener:
        answer = listener.propose(order, TOKEN)
        assert isinstance(answer, RegionsProposed)
        (proposed,) = run.proposed
        assert (proposed.boxes, proposed.source) == (order.boxes, "classes")
        assert proposed.request == answer.request != ""
        run.answer = lambda order: OrderRefused(
            order="ProposeRegions", reason="not yet", request=order.request
        )
        assert listener.propose(order, TOKEN).reason == "not yet"
        with pytest.raises(TapError, match="wrong token"):
            listener.propose(order, "guess")
    assert len(run.proposed) == 2


def test_a_run_that_takes_no_orders_yet_says_so_and_takes_the_next(run: Run) -> None:
    order = ProposeRegions(tile=FIRST, boxes=(PixelBox(0, 0, 8, 8),), source="classes")
    answer = run.answer

    def refuse(order: ProposeRegions) -> Message:
        raise ControlError("it is starting")

    with run.listen(TileFinished) as listener:
        run.answer = refuse
        with pytest.raises(TapError, match="it is starting"):
            listener.propose(replace(order, request="first"), TOKEN)
        run.answer = answer
        assert isinstance(listener.propose(replace(order, request="first"), TOKEN), RegionsProposed)


def test_without_a_token_of_the_run_nothing_is_taken() -> None:
    run = Run(token="")
    order = ProposeRegions(tile=FIRST, boxes=(PixelBox(0, 0, 8, 8),), source="classes")
    with run.listen(TileFinished) as listener, pytest.raises(TapError, match="SPARSE_ACTORS_TAP_TOKEN"):
        listener.propose(order, "")
    run.taps.close()
    assert not run.proposed


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"state", b"please"],
        [b"propose"],
        [b"propose", TOKEN.encode(), b"\xc1"],
        [b"propose", TOKEN.encode(), b"\x81\xa1v\x01"],
        [b"propose", b"\xff\xfe", b""],
        [b"echo", b"x" * 41],
        [b"echo", b"\xff"],
        [b"describe"] * 300,
    ],
)
def test_what_is_no_request_is_refused_and_the_door_stays_open(run: Run, frames: list[bytes]) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(run.taps.endpoint)
        socket.send_multipart(frames)
        assert socket.poll(10_000)
        assert socket.recv_multipart()[0] == b"refused"
    with run.listen(TileFinished) as listener:
        run.say(finished(0))
        assert next(iter(listener)) == finished(0)


def test_only_this_computer_may_listen_as_long_as_there_are_no_keys() -> None:
    for key in ("listen", "images_listen"):
        with pytest.raises(ConfigError, match=rf"taps.{key} = 'tcp://0.0.0.0:7742': expected a"):
            Run(**{key: "tcp://0.0.0.0:7742"})
    taken = Run()
    with pytest.raises(ConfigError, match="in use"):
        Run(listen=taken.taps.endpoint)
    taken.taps.close()


def test_nobody_at_home_is_said_in_words() -> None:
    run = Run()
    endpoint = run.taps.endpoint
    run.taps.close()
    with pytest.raises(TapError, match="nobody answers at"):
        sparse_actors.listen(endpoint, wait_s=0.2)


def test_what_is_no_endpoint_is_said_in_words() -> None:
    with pytest.raises(TapError, match="'scope' is not an endpoint"):
        sparse_actors.listen("scope")


def test_all_messages_of_a_run_can_be_sent(run: Run) -> None:
    recorded = Recorded(
        scan_id=ScanId(PartitionId(FIRST, 0)),
        attempt=1,
        slab="a",
        crc32=1,
        dwell_ns=1,
        started_s=0,
        finished_s=1,
    )
    with run.listen() as listener:
        run.say(recorded, MicroscopeIdle(cause="detection"), scanned(3))
        messages = iter(listener)
        came = {type(next(messages)) for _ in range(3)}  # of which none is in the journal yet
        assert came == {Recorded, MicroscopeIdle, PartitionScanned}
