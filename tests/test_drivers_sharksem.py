"""The microscope contract on SharkSEM, and what the other side saw of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sparse_actors.drivers.sharksem import SharkSemMicroscope
from sparse_actors.drivers.sharksem.fake_faults import Faults
from sparse_actors.drivers.sharksem.fake_instrument import FakeInstrument
from sparse_actors.drivers.sharksem.fake_server import FakeServer

from sparse_actors.contracts.microscope import Microscope
from sparse_actors.errors import CapabilityError, MicroscopeError, StageError
from sparse_actors.geometry import PixelBox, full_frame
from sparse_actors.testing.microscope_contract import MicroscopeContract

WINDOW = (96, 64)
SQUARE = (80, 80)


class TestProtocol3(MicroscopeContract):
    @pytest.fixture
    def microscope(self) -> Iterator[Microscope]:
        with FakeServer(instrument=FakeInstrument(time_scale=100)) as server:
            yield SharkSemMicroscope(host="127.0.0.1", port=server.port)


class TestProtocol2(MicroscopeContract):
    """Older commands, 16 bits, another way to count strings, and a stage that lies mirrored."""

    @pytest.fixture
    def microscope(self) -> Iterator[Microscope]:
        instrument, faults = FakeInstrument(time_scale=100), Faults(number_style="exact")
        with FakeServer(instrument=instrument, faults=faults, version="2.0.16") as server:
            options = {"pixel_type": "uint16", "stage_signs": [-1, 1], "detector": "BSE", "channel": 2}
            yield SharkSemMicroscope(host="127.0.0.1", port=server.port, **options)  # type: ignore[arg-type]


class TestStreams(MicroscopeContract):
    window_px = SQUARE

    @pytest.fixture
    def microscope(self) -> Iterator[Microscope]:
        faults = Faults(number_style="padded")
        with FakeServer(instrument=FakeInstrument(time_scale=100), faults=faults) as server:
            yield SharkSemMicroscope(host="127.0.0.1", port=server.port, masks="stream")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(instrument=FakeInstrument(time_scale=0)) as server:
        yield server


@pytest.fixture
def ready(server: FakeServer) -> Iterator[SharkSemMicroscope]:
    microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port, reply_timeout_s=0.4)
    microscope.connect()
    microscope.prepare()
    yield microscope
    microscope.disconnect()


def asked(server: FakeServer, name: str) -> list[tuple[object, ...]]:
    return [arguments for command, arguments in server.asked if command == name]


# -- what is scanned ------------------------------------------------------------------------------


def test_only_the_pixels_asked_for_are_scanned(server: FakeServer, ready: SharkSemMicroscope) -> None:
    boxes = [PixelBox(0, 0, 1, 1), PixelBox(10, 20, 33, 7), PixelBox(95, 0, 1, 64), full_frame(WINDOW)]
    for box in boxes:
        ready.scan_area(box, 1000, WINDOW)
    assert [scan.box for scan in server.scans] == [
        (box.left, box.top, box.right - 1, box.bottom - 1) for box in boxes
    ]
    assert server.exposed_pixels == sum(box.area for box in boxes)
    assert len(asked(server, "ScStopScan")) == len(boxes) + 1


def test_only_the_pixels_of_a_mask_are_scanned(server: FakeServer) -> None:
    microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port, masks="stream")
    microscope.connect()
    microscope.prepare()
    mask = np.random.default_rng(1).random((80, 80)) < 0.3
    microscope.scan_mask(mask, 1000)
    assert server.exposed_pixels == mask.sum()
    with pytest.raises(CapabilityError, match="square"):
        microscope.scan_mask(mask[:60], 1000)
    microscope.disconnect()


def test_scans_are_numbered_anew_and_one_channel_is_read(
    server: FakeServer, ready: SharkSemMicroscope
) -> None:
    for _ in range(3):
        ready.scan_area(PixelBox(0, 0, 9, 9), 1000, WINDOW)
    assert len({scan.frame for scan in server.scans}) == 3
    assert [channel.is_enabled for channel in server.instrument.channels] == [True, False, False, False]


def test_speeds_take_the_place_of_dwell_times_in_the_oldest_protocol() -> None:
    with FakeServer(instrument=FakeInstrument(time_scale=0), version="2.0.2") as server:
        microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port)
        microscope.connect()
        assert microscope.limits.dwell_min_ns == 100
        assert microscope.actual_dwell_ns(3000) == 3200
        microscope.prepare()
        microscope.scan_area(full_frame(WINDOW), 3000, WINDOW)
        assert server.scans[0].dwell_ns == 3200
        assert not microscope.capabilities.time_estimate
        state = microscope.get_state()
        microscope.reset_microscope(state)
        assert server.instrument.speed == 3
        microscope.disconnect()


@pytest.mark.parametrize("version", ["1.0.9", "4.0.0"])
def test_other_protocols_are_refused(version: str) -> None:
    with FakeServer(instrument=FakeInstrument(time_scale=0), version=version) as server:
        microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port)
        with pytest.raises(MicroscopeError, match=f"SharkSEM {version}; this driver speaks 2 and 3"):
            microscope.connect()


def test_timing_is_what_the_instrument_reckons_with(ready: SharkSemMicroscope) -> None:
    limits = ready.limits
    assert limits.timing_source == "declared"
    assert limits.timing.row_overhead_us == pytest.approx(20.0)
    assert limits.timing.scan_overhead_ms == pytest.approx(1.0)
    box = PixelBox(3, 5, 40, 30)
    assert ready.estimate_time_s(box, 3200, WINDOW) == pytest.approx(limits.timing.duration_s(1200, 30, 3200))


def test_both_connections_send_at_once(ready: SharkSemMicroscope) -> None:
    for link in (ready._client._control, ready._client._data):
        assert link is not None
        assert link._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- what the microscope does not do --------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (lambda m: m.set_view_field(50.0), "view_field_mm = 50 is out of reach: the microscope makes it 10"),
        (
            lambda m: m.set_working_distance(1.0),
            "working_distance_mm = 1 is out of reach: the microscope makes it 2",
        ),
        (lambda m: m.set_brightness_contrast(120.0, 50.0), "makes it 100 % and 50 %"),
        (lambda m: m.move_stage(40.0, 0.0), "x = 40 mm .*: its limits are -30 to 30 mm"),
        (lambda m: m.move_stage(float("nan"), 0.0), "not a number"),
        (lambda m: m.park_beam(3, 3, WINDOW), "square"),
        (lambda m: m.park_beam(80, 3, SQUARE), "outside"),
    ],
)
def test_what_it_would_limit_in_silence_is_an_error(ready: SharkSemMicroscope, setting, reason: str) -> None:
    with pytest.raises(CapabilityError, match=reason):
        setting(ready)


@pytest.mark.parametrize("version", ["3.2.20", "2.0.16"])
def test_a_move_that_is_ignored_or_fails_is_told(version: str) -> None:
    with FakeServer(instrument=FakeInstrument(time_scale=0), version=version) as server:
        microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port)
        microscope.connect()
        server.instrument.is_stage_calibrated = False
        with pytest.raises(StageError, match=r"not go .*failed" if version > "3" else r"stands at \(0, 0\)"):
            microscope.move_stage(1.0, 2.0)
        microscope.disconnect()


def test_the_beam_is_waited_for_and_its_refusal_is_explained(server: FakeServer) -> None:
    server.instrument.beam_change_s = 0.1
    microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port)
    microscope.connect()
    microscope.prepare()
    assert microscope.get_state().beam_on is True
    microscope.reset_microscope(microscope.get_state())
    server.instrument.switch_beam(False)
    server.instrument.has_vacuum = False
    with pytest.raises(MicroscopeError, match="the vacuum is pumping"):
        microscope.prepare()
    microscope.disconnect()


def test_unknown_detector_lists_those_there_are(server: FakeServer) -> None:
    microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port, detector="EBSD")
    with pytest.raises(MicroscopeError, match=r"detector = 'EBSD': the microscope has BSE, SE"):
        microscope.connect()


def test_masks_need_licence_and_version(server: FakeServer) -> None:
    microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port, masks="stream")
    server.faults.missing_licences = {"SharkSEM Advanced"}
    with pytest.raises(CapabilityError, match="licence SharkSEM Advanced"):
        microscope.connect()
    server.version = "3.1.2"
    with pytest.raises(CapabilityError, match=r"3\.1\.16"):
        microscope.connect()


def test_options_that_make_no_sense_are_refused() -> None:
    for options in ({"port": 0}, {"host": ""}, {"stage_signs": [1, 2]}, {"reply_timeout_s": 0.0}):
        with pytest.raises(ValueError, match=r"expected|above 0"):
            SharkSemMicroscope(**{"host": "sem", "port": 8300, **options})  # type: ignore[arg-type]


# -- the operator's session -----------------------------------------------------------------------


def test_the_operators_session_comes_back(server: FakeServer) -> None:
    sem = server.instrument
    sem.channels[1].bits, sem.blanker, sem.live_scanning = 16, 1, 2
    before = [(c.detector, c.is_enabled, c.bits) for c in sem.channels]
    microscope = SharkSemMicroscope(host="127.0.0.1", port=server.port, detector="BSE")
    microscope.connect()
    found = microscope.get_state()
    microscope.prepare()
    assert (sem.live_scanning, sem.blanker) == (0, 2)
    microscope.prepare()  # made sure of once more, it must not take its own session for the operator's
    microscope.set_beam_blank(True)
    microscope.reset_microscope(found)
    assert [(c.detector, c.is_enabled, c.bits) for c in sem.channels] == before
    assert (sem.live_scanning, sem.blanker, sem.beam_state()) == (2, 1, 0)
    microscope.disconnect()


def test_metadata_holds_what_the_microscope_tells_of_itself(
    ready: SharkSemMicroscope, tmp_path: Path
) -> None:
    ready.save_metadata(tmp_path / "m.json")
    device = json.loads((tmp_path / "m.json").read_text())["device"]
    assert device["protocol"] == "3.2.20"
    assert device["common"]["Device"] == "fake SharkSEM server"
