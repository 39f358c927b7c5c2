"""Whatever the server does, a call returns the right pixels or a plain error, in time."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sparse_actors.drivers.sharksem import SharkSemMicroscope
from sparse_actors.drivers.sharksem.fake_faults import Faults
from sparse_actors.drivers.sharksem.fake_instrument import FakeInstrument
from sparse_actors.drivers.sharksem.fake_server import FakeServer

from sparse_actors.contracts.microscope import Image
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import PixelBox, full_frame

WINDOW = (96, 64)
DEADLINE_S = 5.0
"""More than any time-out set here, and less than any that is the default."""


def driver(server: FakeServer, **options: object) -> SharkSemMicroscope:
    chosen = {"reply_timeout_s": 0.6, "silence_timeout_s": 0.6, **options}
    return SharkSemMicroscope(host="127.0.0.1", port=server.port, **chosen)  # type: ignore[arg-type]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(instrument=FakeInstrument(time_scale=0)) as server:
        yield server


@pytest.fixture
def ready(server: FakeServer) -> Iterator[SharkSemMicroscope]:
    microscope = driver(server)
    microscope.connect()
    microscope.prepare()
    yield microscope
    microscope.disconnect()


@pytest.fixture
def patient(server: FakeServer) -> Iterator[SharkSemMicroscope]:
    """With time-outs that a busy computer does not reach."""
    microscope = driver(server, reply_timeout_s=20.0, silence_timeout_s=20.0)
    microscope.connect()
    microscope.prepare()
    yield microscope
    microscope.disconnect()


def frame(microscope: SharkSemMicroscope) -> Image:
    return microscope.scan_area(full_frame(WINDOW), 1000, WINDOW)


def settings(sem: FakeInstrument) -> tuple[Any, ...]:
    """All that must be as before."""
    channels = [(c.detector, c.is_enabled, c.bits) for c in sem.channels]
    optics = sem.working_distance_mm, sem.view_field_mm, dict(sem.gain_black)
    return list(sem.stage), optics, sem.beam_state(), sem.blanker, sem.live_scanning, channels


def fails_in_time(call: Callable[[], object], reason: str) -> None:
    started_s = time.monotonic()
    with pytest.raises(MicroscopeError, match=reason):
        call()
    assert time.monotonic() - started_s < DEADLINE_S


HARMLESS = {
    "stale_frame": Faults(stale_frame=True),
    "resend_chunk": Faults(resend_chunk=True),
    "foreign_message": Faults(foreign_message=True),
    "one_byte_at_a_time": Faults(one_byte_at_a_time=True),
    "reply_delay": Faults(reply_delay_s=0.1),
    "exact": Faults(number_style="exact"),
    "padded": Faults(number_style="padded"),
}


@pytest.mark.parametrize("fault", HARMLESS)
def test_what_a_client_must_bear_changes_no_pixel(
    server: FakeServer, patient: SharkSemMicroscope, fault: str
) -> None:
    expected = frame(patient)
    server.faults = HARMLESS[fault]
    np.testing.assert_array_equal(frame(patient), expected)
    server.faults = Faults()
    np.testing.assert_array_equal(frame(patient), expected)


HARMFUL = {
    "wrong_frame_id": (Faults(wrong_frame_id=True), r"0 of 6144 pixels of scan \d+ came in time, and"),
    "lose_chunk": (Faults(lose_chunk=True), r"pixels \d+ to \d+ of scan \d+ were lost"),
    "stop_image": (Faults(stop_image=True), r"\d+ of 6144 pixels of scan \d+ came in time$"),
    "cut_data": (Faults(cut_data=True), "closed the data channel"),
    "half_close": (Faults(half_close=True), "closed the data channel"),
    "cut_control": (Faults(cut_control=True), "closed the data channel"),
    "garble_data": (Faults(garble_data=True), "data channel is out of step: expected the header"),
    "garble_replies": (Faults(garble_replies={"ScScanXY"}), "control channel is out of step"),
    "wrong_reply_id": (Faults(wrong_reply_id={"ScScanXY"}), r"expected the reply \d+ to ScScanXY, got \d+"),
    "silent": (Faults(silent={"ScScanXY"}), "no reply to ScScanXY within 0.6 s"),
    "silent stop": (Faults(silent={"ScStopScan"}), "no reply to ScStopScan within 0.6 s"),
    "unknown": (Faults(unknown={"ScScanXY"}), "does not know the command, or has no licence"),
    "hang in the scan": (Faults(hang_after="ScStopScan"), "no reply to ScStopScan"),
    "hang": (Faults(hang_after="ScScanXY"), "no reply to ScScanXY"),
}


@pytest.mark.parametrize("fault", HARMFUL)
def test_what_spoils_a_scan_is_told_in_time_and_the_next_one_is_right(
    server: FakeServer, ready: SharkSemMicroscope, fault: str
) -> None:
    expected = frame(ready)
    server.faults, reason = replace(HARMFUL[fault][0]), HARMFUL[fault][1]
    fails_in_time(lambda: frame(ready), reason)
    server.faults = Faults()
    server.resume()
    np.testing.assert_array_equal(frame(ready), expected)


def test_a_reply_that_came_too_late_is_not_taken_for_the_next(
    server: FakeServer, ready: SharkSemMicroscope
) -> None:
    server.faults.reply_delay_s = 0.7
    fails_in_time(lambda: ready.get_working_distance(), "no reply to GetWD")
    server.faults.reply_delay_s = 0.0
    assert ready.get_view_field() == server.instrument.view_field_mm
    assert ready.get_working_distance() == server.instrument.working_distance_mm


def test_a_scan_answered_after_0_8_s_is_complete(server: FakeServer, patient: SharkSemMicroscope) -> None:
    expected = frame(patient)
    server.faults.reply_delay_s = 0.8
    np.testing.assert_array_equal(frame(patient), expected)


def test_a_scan_that_was_aborted_stops_exposing(server: FakeServer, patient: SharkSemMicroscope) -> None:
    server.instrument.time_scale = 1.0
    scans, errors = len(server.scans), list[str]()

    def scan() -> None:
        try:
            patient.scan_area(full_frame(WINDOW), 1e7, WINDOW)  # one minute
        except MicroscopeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=scan)
    thread.start()
    deadline_s = time.monotonic() + DEADLINE_S
    while len(server.scans) == scans and time.monotonic() < deadline_s:
        time.sleep(0.001)
    patient.abort()
    thread.join(DEADLINE_S)
    assert errors == ["the scan was aborted"]
    assert not server.is_scanning
    assert server.exposed_pixels < 1000
    server.instrument.time_scale = 0.0
    assert frame(patient).shape == (64, 96)


def test_pixels_of_another_size_are_no_image(server: FakeServer, ready: SharkSemMicroscope) -> None:
    server.instrument.channels[0].bits = 16
    fails_in_time(lambda: frame(ready), "expected 6144 pixels of 8 bits, got 4098 bytes of 16 bits")
    server.faults.ignored = {"DtEnable"}
    fails_in_time(ready.prepare, "video channel 0 was set to detector 1 at 8 bits and is at .* 16 bits")


def test_an_instrument_without_blanker_has_none(server: FakeServer) -> None:
    server.faults.unknown = {"ScGetBlanker", "ScSetBlanker"}
    microscope = driver(server)
    microscope.connect()
    found = microscope.get_state()
    microscope.prepare()
    assert not microscope.capabilities.beam_blank
    with pytest.raises(CapabilityError, match="beam_blank"):
        microscope.set_beam_blank(True)
    microscope.park_beam(3, 4, (64, 64))
    assert ("ScSetBeamPos", (3.5 / 64, 4.5 / 64)) in server.asked
    microscope.reset_microscope(found)
    microscope.disconnect()


def test_a_scan_that_outlived_its_connection_is_stopped(
    server: FakeServer, patient: SharkSemMicroscope
) -> None:
    sem, server.faults = server.instrument, Faults(cut_control=True, on_scans={1})
    sem.time_scale = 1.0
    with pytest.raises(MicroscopeError, match="closed the data channel"):
        patient.scan_area(full_frame(WINDOW), 3e5, WINDOW)  # 1.8 s
    sem.time_scale = 0.0
    assert server.is_scanning
    assert frame(patient).shape == (64, 96)
    assert server.exposed_pixels < 2 * 96 * 64


# -- connecting -----------------------------------------------------------------------------------


def test_a_closed_port_names_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    microscope = SharkSemMicroscope(host="127.0.0.1", port=port)
    fails_in_time(microscope.connect, rf"127\.0\.0\.1:{port} .*remote control licensed and enabled")


def test_something_else_on_the_port_is_told_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        microscope = SharkSemMicroscope(host="127.0.0.1", port=listener.getsockname()[1], reply_timeout_s=0.3)
        fails_in_time(microscope.connect, "no reply to TcpRegDataPort")


def test_a_data_connection_that_was_not_registered_gets_nothing(server: FakeServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port + 1), timeout=DEADLINE_S) as stranger:
        assert stranger.recv(1) == b""


# -- restoring ------------------------------------------------------------------------------------


COMMANDS = (
    *("GUISetScanning", "ScStopScan", "HVBeamOn", "HVGetBeam", "ScSetBlanker", "DtSelect", "DtEnable"),
    *("StgMoveToEx", "StgIsBusy", "SetWD", "DtSetGainBlack", "SetViewField", "ScScanXY"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_command_fails_the_microscope_is_restored(server: FakeServer, command: str) -> None:
    sem = server.instrument
    sem.blanker = 1
    before = settings(sem)
    microscope = driver(server, reply_timeout_s=20.0)
    microscope.connect()
    found = microscope.get_state()
    server.faults.cut_at = command
    with pytest.raises(MicroscopeError, match="closed the"):
        run_through(microscope)
    server.faults.cut_at = ""
    microscope.reset_microscope(found)
    assert settings(sem) == before
    microscope.disconnect()


def run_through(microscope: SharkSemMicroscope) -> None:
    microscope.prepare()
    microscope.set_view_field(0.1)
    microscope.move_stage(0.5, 0.25)
    microscope.set_working_distance(10.5)
    microscope.set_brightness_contrast(45.0, 55.0)
    frame(microscope)


def test_reset_restores_what_still_answers_and_names_the_rest(
    server: FakeServer, ready: SharkSemMicroscope
) -> None:
    found = replace(ready.get_state(), beam_on=False)
    ready.set_working_distance(12.0)
    ready.move_stage(1.0, 1.0)
    server.faults.unknown = {"SetViewField"}
    with pytest.raises(
        MicroscopeError, match=r"not restored: view field \(no reply to SetViewField"
    ) as failed:
        ready.reset_microscope(found)
    assert "stage" not in str(failed.value)
    sem = server.instrument
    assert (sem.working_distance_mm, sem.stage[:2], sem.beam_state(), sem.live_scanning) == (10, [0, 0], 0, 1)
    server.faults.unknown = set()
    ready.reset_microscope(found)


def test_reset_of_a_server_that_hangs_does_not_try_everything(
    server: FakeServer, ready: SharkSemMicroscope
) -> None:
    found = ready.get_state()
    server.faults.hang_after = "SetWD"
    fails_in_time(
        lambda: ready.reset_microscope(found), "not restored: working distance, view field, .*stage"
    )


def test_reset_opens_a_lost_connection_again(server: FakeServer, ready: SharkSemMicroscope) -> None:
    found = replace(ready.get_state(), beam_on=False)
    ready.move_stage(1.0, 2.0)
    server.drop_clients()
    ready.reset_microscope(found)
    assert server.instrument.stage[:2] == [0.0, 0.0]
    assert server.instrument.beam_state() == 0


def test_reset_after_the_end_of_the_server_says_that_nothing_was_restored(
    server: FakeServer, ready: SharkSemMicroscope
) -> None:
    found = ready.get_state()
    server.stop()
    fails_in_time(
        lambda: ready.reset_microscope(found), "nothing was restored, and the beam may be on|not restored"
    )


def test_a_microscope_that_was_changed_while_the_connection_was_lost_is_not_used_on(
    server: FakeServer, ready: SharkSemMicroscope
) -> None:
    ready.set_view_field(0.1)
    ready.move_stage(0.5, 0.5)
    server.drop_clients()
    server.instrument.view_field_mm = 0.2
    fails_in_time(lambda: frame(ready), "the microscope closed the control channel")
    for _ in range(2):
        fails_in_time(lambda: frame(ready), re.escape("view_field_mm was 0.1 and is 0.2"))


# -- two clients ----------------------------------------------------------------------------------


def test_two_clients_get_their_own_images_and_never_stop_each_other(
    server: FakeServer, patient: SharkSemMicroscope
) -> None:
    first, second = patient, driver(server, reply_timeout_s=20.0, silence_timeout_s=20.0)
    second.connect()
    second.prepare()
    expected = frame(first)
    np.testing.assert_array_equal(frame(second), expected)
    server.instrument.time_scale = 1.0
    images: list[Image] = []
    scans = len(server.scans)
    thread = threading.Thread(
        target=lambda: images.append(first.scan_area(full_frame(WINDOW), 5e4, WINDOW))  # 0.3 s
    )
    thread.start()
    deadline_s = time.monotonic() + DEADLINE_S
    while len(server.scans) == scans and time.monotonic() < deadline_s:
        time.sleep(0.001)
    fails_in_time(lambda: second.scan_area(PixelBox(0, 0, 9, 9), 1000, WINDOW), "another program scans")
    assert second.get_view_field() == first.get_view_field()
    thread.join(DEADLINE_S)
    assert images[0].shape == (64, 96)
    second.disconnect()


# -- faults by name -------------------------------------------------------------------------------


def test_faults_are_switched_on_by_name() -> None:
    faults = Faults()
    for text in (
        "lose_chunk",
        "reply_delay_s=0.8",
        "silent=SetWD",
        "silent=GetWD",
        "on_scans=7",
        "cut_at=SetWD",
    ):
        faults.switch_on(text)
    assert faults == Faults(
        lose_chunk=True, reply_delay_s=0.8, silent={"SetWD", "GetWD"}, on_scans={7}, cut_at="SetWD"
    )


@pytest.mark.parametrize(
    "text", ["nonsense", "lose_chunk=1", "silent", "reply_delay_s=soon", "number_style=x"]
)
def test_a_fault_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"known are|expected|could not convert|invalid literal"):
        Faults().switch_on(text)
