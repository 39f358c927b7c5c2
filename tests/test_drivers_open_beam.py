"""The Open Beam Interface: its bytes, its faults, and the microscope contract on it and a simulated stage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sparse_actors.drivers.open_beam import OpenBeamMicroscope, commands
from sparse_actors.drivers.open_beam.fake_server import FakeServer, stripes
from sparse_actors.drivers.simulated.spectrum_source import SimulatedSpectrumSource

from sparse_actors import plugins
from sparse_actors.config import MicroscopeTable
from sparse_actors.contracts.microscope import Microscope
from sparse_actors.errors import CapabilityError, ConfigError, InstrumentInUseError, MicroscopeError
from sparse_actors.geometry import PixelBox, full_frame
from sparse_actors.lease import leased
from sparse_actors.testing.microscope_contract import MicroscopeContract

WINDOW = (128, 64)


# -- the contract, with stage and optics of another driver -----------------------------------------


class OnASimulatedStage(MicroscopeContract):
    long_dwell_ns = 8e6
    pixel_type = "uint16"

    @pytest.fixture
    def microscope(self, tmp_path: Path) -> Iterator[Microscope]:
        state_file = tmp_path / "state.json"

        def specimen(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
            state = json.loads(state_file.read_text())["state"]
            return stripes(x + round(state["x_mm"] * 1e5), y + round(state["y_mm"] * 1e5))

        with FakeServer(specimen, time_scale=100) as self.server:
            scan = {"port": self.server.port, "pixel_type": self.pixel_type}
            options = {
                "stage": {
                    "driver": "simulated",
                    "options": {"time_scale": 0.0, "state_file": str(state_file)},
                },
                "scan": {"driver": "open_beam", "options": scan},
                "spectra": {"driver": "simulated", "options": {"time_scale": 100.0}},
            }
            microscope = plugins.build("microscope", "composite", options)
            assert microscope.name.endswith("spectra by Simulated spectrometer")
            yield microscope
            microscope.disconnect()

    def exposed_spots(self, microscope: Microscope) -> list[tuple[int, int]]:
        """Of the scan generator: it knows nothing of spectra, and rests the beam where it was told."""
        width, height = self.window_px
        points = np.array([(x, y) for y in range(height) for x in range(width)])
        codes = commands.codes_of(points, self.window_px).tolist()
        pixel_at = {tuple(code): tuple(point) for code, point in zip(codes, points.tolist(), strict=True)}
        return [pixel_at[code] for code in self.server.seen.codes]


@pytest.mark.long
class TestPointByPoint(OnASimulatedStage):
    """Pixels of this grid are no whole codes apart."""

    window_px = (96, 64)


class TestRasterRegions(OnASimulatedStage):
    window_px = WINDOW
    pixel_type = "uint8"


# -- bytes ----------------------------------------------------------------------------------------


def test_bytes_are_those_of_the_interface() -> None:
    assert commands.synchronize(0x1234, is_raster=True, pixel_type="uint8") == bytes.fromhex("03 1234")
    assert commands.synchronize(1, is_raster=False, pixel_type="uint16") == bytes.fromhex("00 0001")
    assert commands.reply_to(0x1234) == bytes.fromhex("ffff 1234")
    assert commands.raster_region((1, 2, 256), (3, 4, 512)) == bytes.fromhex(
        "a0 0001 0002 0100 0003 0004 0200"
    )
    assert commands.raster_run(65536, 7) == bytes.fromhex("c0 ffff 0007")
    points = np.array([[10, 7], [11, 8]])
    assert commands.vector_points(points, np.array([2, 3])) == bytes.fromhex(
        "8e 0001 000a00070002 000b00080003"
    )
    assert commands.simple(commands.Command.BLANK, 1) == b"\x51"


@given(st.integers(2, 65535))
def test_dwell_times_are_multiples_of_125_ns(field: int) -> None:
    dwell_ns = commands.dwell_ns_of(field)
    assert dwell_ns == 125 * (field + 1)
    assert commands.dwell_field(dwell_ns) == field


@given(st.integers(1, 4096), st.data())
def test_pixels_lie_at_their_centres_and_on_finer_grids_at_the_same_place(
    width: int, data: st.DataObject
) -> None:
    height = data.draw(st.integers(1, width))
    points = np.array([[0, 0], [width - 1, height - 1], [width // 2, height // 2]])
    codes = commands.codes_of(points, (width, height))
    assert codes.min() >= 0
    assert codes.max() < commands.CODES
    pitch = commands.CODES / width
    middle = np.array([width, height]) / 2
    expected = commands.CODES / 2 + (points + 0.5 - middle) * pitch
    assert np.abs(codes + 0.5 - expected).max() <= 1
    if 4 * width <= commands.CODES:
        # Four pixels of the finer grid around each centre.
        finer = commands.codes_of(4 * points + 2, (4 * width, 4 * height))
        assert np.abs(finer - codes - pitch / 8).max() <= 1.5


# -- scans ----------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(time_scale=0) as server:
        yield server


@pytest.fixture
def ready(server: FakeServer) -> Iterator[OpenBeamMicroscope]:
    microscope = OpenBeamMicroscope(port=server.port, silence_timeout_s=0.3)
    microscope.connect()
    microscope.prepare()
    yield microscope
    microscope.disconnect()


def scan(microscope: OpenBeamMicroscope, window_px: tuple[int, int] = WINDOW) -> NDArray[np.uint16]:
    return microscope.scan_area(full_frame(window_px), 1000, window_px)


def test_only_the_pixels_asked_for_are_scanned(server: FakeServer, ready: OpenBeamMicroscope) -> None:
    boxes = [PixelBox(5, 6, 7, 8), PixelBox(127, 63, 1, 1), full_frame(WINDOW)]
    for box in boxes:
        server.seen.codes.clear()
        ready.scan_area(box, 1000, WINDOW)
        points = [(x, y) for y in range(box.top, box.bottom) for x in range(box.left, box.right)]
        assert server.seen.codes == [tuple(c) for c in commands.codes_of(np.array(points), WINDOW).tolist()]
    server.seen.codes.clear()
    mask = np.random.default_rng(3).random((64, 128)) < 0.2
    values = ready.scan_mask(mask, 1000)
    assert len(server.seen.codes) == mask.sum()
    np.testing.assert_array_equal(values, scan(ready)[mask])


@pytest.mark.parametrize("width", [512, 500])
def test_large_scans_go_in_pieces_both_ways(ready: OpenBeamMicroscope, width: int) -> None:
    window = (width, 100)
    image = scan(ready, window)
    points = np.array([(x, y) for y in range(100) for x in range(width)])
    x, y = commands.codes_of(points, window).T
    np.testing.assert_array_equal(image.ravel(), stripes(x, y) << 2)


def test_the_beam_is_on_the_specimen_in_scans_and_where_it_is_parked(
    server: FakeServer, ready: OpenBeamMicroscope
) -> None:
    scan(ready)
    ready.park_beam(3, 4, WINDOW)
    assert server.seen.codes[-1] == tuple(commands.codes_of(np.array([[3, 4]]), WINDOW)[0].tolist())
    ready._synchronize(ready._opened(), is_raster=True)  # all that was sent before has been carried out
    assert not server.seen.is_blanked
    ready.set_beam_blank(True)
    with pytest.raises(CapabilityError, match='driver = "composite"'):
        ready.get_state()
    ready._synchronize(ready._opened(), is_raster=True)
    assert server.seen.is_blanked
    assert server.seen.is_external


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("silent", r"was silent for 0\.3"),
        ("loses_bytes", r"was silent for 0\.3"),
        ("closes", "closed the connection"),
    ],
)
def test_a_scan_that_is_spoilt_raises_and_the_next_one_succeeds(
    server: FakeServer, ready: OpenBeamMicroscope, fault: str, message: str
) -> None:
    image = scan(ready)
    setattr(server.faults, fault, 2)
    with pytest.raises(MicroscopeError, match=message):
        scan(ready)
    np.testing.assert_array_equal(scan(ready), image)


@pytest.mark.parametrize(("fault", "value"), [("stale", 2), ("one_byte_at_a_time", True)])
def test_odd_deliveries_are_understood(
    server: FakeServer, ready: OpenBeamMicroscope, fault: str, value: int
) -> None:
    image = scan(ready)
    setattr(server.faults, fault, value)
    np.testing.assert_array_equal(scan(ready), image)


def test_a_server_that_is_gone_is_said(server: FakeServer, ready: OpenBeamMicroscope) -> None:
    server.stop()
    for message in ("connection", f"no connection to an Open Beam Interface at 127.0.0.1:{server.port}"):
        with pytest.raises(MicroscopeError, match=message):
            scan(ready)


# -- two drivers as one ----------------------------------------------------------------------------


def test_parts_are_checked_with_their_keys() -> None:
    options = {
        "stage": {"driver": "simulatd"},
        "scan": {"driver": "open_beam", "options": {"prt": 1}},
    }
    problems = plugins.check("microscope", "composite", options)
    assert problems[0].startswith("microscope.options.stage.driver = ")
    assert problems[1].startswith("microscope.options.scan.options.prt")
    assert "expected a table" in plugins.check("microscope", "composite", {"stage": {"x": 1}, "scan": {}})[0]
    with pytest.raises(ConfigError, match=r"microscope\.options\.stage\.driver"):
        plugins.build("microscope", "composite", options)


def test_each_part_is_leased(tmp_path: Path) -> None:
    stage = {"driver": "sharksem", "options": {"host": "127.0.0.1", "port": 8300}}
    composite = MicroscopeTable(
        driver="composite",
        options={"stage": stage, "scan": {"driver": "open_beam", "options": {"port": 2224}}},
    )
    environ = {"SPARSE_ACTORS_LEASES": str(tmp_path)}
    with (
        leased(composite, "a run", environ),
        pytest.raises(InstrumentInUseError, match="by a run"),
        leased(MicroscopeTable.model_validate(stage), "another", environ),
    ):
        pass
    with leased(MicroscopeTable.model_validate(stage), "another", environ):
        pass


def test_spectra_need_a_source_and_one_that_counts_right() -> None:
    parts = {"stage": {"driver": "simulated"}, "scan": {"driver": "simulated"}}
    with pytest.raises(CapabilityError, match="has no spectra"):
        plugins.build("microscope", "composite", parts).energy_axis()
    problems = plugins.check("microscope", "composite", parts | {"spectra": {"driver": "simulatd"}})
    assert problems[0].startswith("microscope.options.spectra.driver = ")
    options = {"phse": 1}
    problems = plugins.check(
        "microscope", "composite", parts | {"spectra": {"driver": "simulated", "options": options}}
    )
    assert problems[0].startswith("microscope.options.spectra.options.phse")
    wrong = {"driver": "test_drivers_open_beam:ShortSpectra"}
    microscope = plugins.build("microscope", "composite", parts | {"spectra": wrong})
    microscope.connect()
    microscope.prepare()
    with pytest.raises(MicroscopeError, match=r"returned a spectrum \(3,\), expected \(2048,\)"):
        microscope.acquire_spectra(np.zeros((1, 2), dtype=np.int64), np.array([0.1]), (8, 8))
    microscope.disconnect()


class ShortSpectra(SimulatedSpectrumSource):
    def count(self, live_time_s: float) -> tuple[NDArray[np.uint32], float]:
        return np.zeros(3, dtype=np.uint32), live_time_s


def test_what_fails_in_one_part_does_not_keep_the_other_from_being_restored(server: FakeServer) -> None:
    options = {
        "stage": {"driver": "simulated", "options": {"time_scale": 0.0}},
        "scan": {"driver": "open_beam", "options": {"port": server.port, "silence_timeout_s": 0.3}},
    }
    microscope = plugins.build("microscope", "composite", options)
    microscope.connect()
    found = microscope.get_state()
    microscope.prepare()
    microscope.move_stage(0.5, 0.5)
    server.stop()
    with pytest.raises(MicroscopeError, match=r"^Open Beam Interface: "):
        microscope.reset_microscope(found)
    assert microscope.get_state() == found
    microscope.disconnect()
