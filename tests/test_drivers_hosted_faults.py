"""Hosts that die, hang and talk nonsense."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sparse_actors.drivers.hosted import HostedMicroscope, host_link
from sparse_actors.drivers.hosted.vendor_side import microscope_host

from sparse_actors.errors import CapabilityError, MicroscopeError, StageError
from sparse_actors.geometry import PixelBox
from sparse_actors.own_group import own_group

VENDOR = Path(__file__).with_name("vendor_microscope.py")
PYTHON = os.environ.get("SPARSE_ACTORS_HOST_PYTHON", sys.executable)
"""Of the hosts; set it to an old one that has pyzmq and msgpack to try that."""
BOX, WINDOW = PixelBox(2, 3, 12, 8), (64, 48)

Make = Callable[..., HostedMicroscope]


def command(folder: Path, faults: str = "") -> list[str]:
    return [PYTHON, str(VENDOR), str(folder / "state.json"), faults]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[HostedMicroscope] = []

    def make(faults: str = "", **options: Any) -> HostedMicroscope:
        options = {"command": command(tmp_path, faults), "reply_timeout_s": 30.0} | options
        made.append(HostedMicroscope(**options))
        return made[-1]

    yield make
    for microscope in made:
        microscope.disconnect()


def ready(microscope: HostedMicroscope) -> HostedMicroscope:
    microscope.connect()
    microscope.prepare()
    microscope.move_stage(0.25, 0.5)
    return microscope


def scan(microscope: HostedMicroscope, dwell_ns: float = 100.0) -> np.ndarray[Any, Any]:
    return microscope.scan_area(BOX, dwell_ns, WINDOW)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("die", "ended in scan_area: .*; it printed: Fatal Python error: Aborted$"),
        ("return_nonsense", "answered scan_area with garbage"),
        ("hang", "does not return from scan_area"),
        ("hang_hard", "does not return from scan_area"),
    ],
)
def test_a_host_that_is_lost_is_started_again_and_the_next_scan_succeeds(
    make: Make, fault: str, message: str
) -> None:
    limit_s = 0.5 if fault.startswith("hang") else 30.0
    microscope = make(f"{fault}=2", reply_timeout_s=limit_s, start_timeout_s=30.0)
    ready(microscope)
    first = scan(microscope)
    started_s = time.monotonic()
    with pytest.raises(MicroscopeError, match=message):
        scan(microscope)
    if fault.startswith("hang"):
        assert time.monotonic() - started_s < 10
    np.testing.assert_array_equal(scan(microscope), first)
    state = microscope.get_state()
    assert (state.x_mm, state.y_mm, state.beam_on) == (0.25, 0.5, True)


def test_a_microscope_that_is_not_as_it_was_is_not_scanned_until_it_is_set_anew(make: Make) -> None:
    microscope = ready(make("die_and_forget=1"))
    found = microscope.get_state()
    with pytest.raises(MicroscopeError, match="ended in scan_area"):
        scan(microscope)
    for _ in range(2):
        with pytest.raises(MicroscopeError, match=r"not as it was: x_mm was 0\.25, is 1\.5$"):
            scan(microscope)
    microscope.reset_microscope(found)
    assert microscope.get_state() == found
    microscope.prepare()
    assert scan(microscope).shape == (8, 12)


def test_errors_come_with_their_type_and_text(make: Make) -> None:
    microscope = ready(make("raise_own_error=1"))
    with pytest.raises(MicroscopeError, match=r"^KeyError: 'lens 3'$"):
        scan(microscope)
    with pytest.raises(StageError, match=r"^out of reach$"):
        microscope.move_stage(99.0, 0.0)
    with pytest.raises(CapabilityError, match=r"^outside$"):
        microscope.scan_area(PixelBox(60, 0, 8, 8), 100.0, WINDOW)
    with pytest.raises(CapabilityError, match="has no set_working_distance"):
        microscope.set_working_distance(5.0)


@pytest.mark.parametrize("at", [microscope_host.PROTOCOL_VERSION + 1, 0])
def test_another_version_is_refused(make: Make, at: int) -> None:
    with pytest.raises(CapabilityError, match=f"speaks version {at}, this program version"):
        make(f"version={at}").connect()


def test_a_program_that_is_not_there_or_no_host_is_said(make: Make, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match=r"cannot be started: .*no-such-python"):
        make(command=[str(tmp_path / "no-such-python")]).connect()
    words = [sys.executable, "-c", "raise SystemExit('no licence')"]
    with pytest.raises(MicroscopeError, match="ended in hello: exit code 1; it printed: no licence"):
        make(command=words).connect()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(MicroscopeError, match=f"no host of a microscope answers at {address}: is it running"):
        make(command=(), address=address, start_timeout_s=0.2).connect()


def test_abort_ends_a_scan_and_a_host_that_does_not_obey(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_link, "ABORT_S", 0.3)
    microscope = ready(make("hang=2"))
    for message in ("^aborted$", "does not return from scan_area"):
        raised: list[BaseException] = []

        def long_scan(raised: list[BaseException] = raised) -> None:
            try:
                scan(microscope, 1e8)
            except MicroscopeError as error:
                raised.append(error)

        thread = threading.Thread(target=long_scan)
        thread.start()
        deadline_s = time.monotonic() + 30
        while thread.is_alive() and time.monotonic() < deadline_s:
            microscope.abort()
            thread.join(0.01)
        with pytest.raises(MicroscopeError, match=message):
            raise raised[0]


def test_what_a_host_prints_is_kept(make: Make, tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    log.write_text("before\n")
    microscope = ready(make("raise_own_error=1", log_file=str(log)))
    with pytest.raises(MicroscopeError):
        scan(microscope)
    text = log.read_text()
    assert text.startswith("before\n")
    assert "KeyError: 'lens 3'" in text


@pytest.mark.parametrize("fault", ["", "hang", "hang_hard"])
def test_a_host_ends_when_the_program_that_started_it_is_killed(tmp_path: Path, fault: str) -> None:
    code = (
        "import sys; from sparse_actors.drivers.hosted import HostedMicroscope\n"
        "from sparse_actors.geometry import PixelBox\n"
        "m = HostedMicroscope(command=sys.argv[1:], reply_timeout_s=1.0); m.connect(); m.prepare()\n"
        "print(m._session._link._process._process.pid, flush=True)\n"
        f"m.scan_area(PixelBox(0, 0, 8, 8), {100.0 if fault else 1e8}, (8, 8))\n"
    )
    words = [sys.executable, "-c", code, *command(tmp_path, fault and f"{fault}=1")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **own_group()) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        daemon.kill()
    deadline_s = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < deadline_s, "the host is still there"
        threading.Event().wait(0.05)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
