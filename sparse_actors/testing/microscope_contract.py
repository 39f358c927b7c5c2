"""What every microscope driver must do, as tests to inherit.

    class TestMine(MicroscopeContract):
        @pytest.fixture
        def microscope(self) -> Microscope:
            return MyMicroscope()

The instrument must take real time over a scan, or `abort` cannot be tested. Tests of what the
driver does not offer check that it says so.
"""
# ruff: noqa: S101 - a test suite is made of assertions

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from sparse_actors.contracts.microscope import Image, Microscope
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import PixelBox, full_frame

from .spectra_contract import SpectraContract

BOXES: dict[str, Callable[[int, int], PixelBox]] = {
    "inside": lambda width, height: PixelBox(3, 4, 10, 6),
    "left edge": lambda width, height: PixelBox(0, 3, 5, 7),
    "right edge": lambda width, height: PixelBox(width - 5, 3, 5, 7),
    "top edge": lambda width, height: PixelBox(3, 0, 5, 7),
    "bottom edge": lambda width, height: PixelBox(3, height - 7, 5, 7),
    "first row": lambda width, height: PixelBox(0, 0, width, 1),
    "last row": lambda width, height: PixelBox(0, height - 1, width, 1),
    "first column": lambda width, height: PixelBox(0, 0, 1, height),
    "last column": lambda width, height: PixelBox(width - 1, 0, 1, height),
    "first pixel": lambda width, height: PixelBox(0, 0, 1, 1),
    "last pixel": lambda width, height: PixelBox(width - 1, height - 1, 1, 1),
}
"""Boxes on a grid of (width, height)."""


OPTIONAL: dict[str, Callable[[Microscope], object]] = {
    "working_distance": lambda m: m.set_working_distance(10.0),
    "brightness_contrast": lambda m: m.set_brightness_contrast(50.0, 50.0),
    "view_field": lambda m: m.set_view_field(0.1),
    "scan_rotation": lambda m: m.set_scan_rotation(0.0),
    "beam_blank": lambda m: m.set_beam_blank(False),
    "park_beam": lambda m: m.park_beam(0, 0, (8, 8)),
    "mask_scan": lambda m: m.scan_mask(np.ones((8, 8), dtype=np.bool_), 1000.0),
    "point_scan": lambda m: m.scan_points(np.zeros((1, 2), dtype=np.int64), 1000.0, (8, 8)),
    "time_estimate": lambda m: m.estimate_time_s(PixelBox(0, 0, 8, 8), 1000.0, (8, 8)),
    "abort": lambda m: m.abort(),
    "spectra": lambda m: m.acquire_spectra(np.zeros((1, 2), dtype=np.int64), np.array([1e-3]), (8, 8)),
}
"""Each optional capability and a call that needs it."""


class MicroscopeContract(SpectraContract):
    """Subclass, supply the fixture `microscope`, and set what follows to what the instrument accepts."""

    window_px: ClassVar[tuple[int, int]] = (96, 64)
    """(width, height) of the grid; at least 16 each, and not square, so that swapped axes show."""
    dwell_ns: ClassVar[float] = 1000.0
    long_dwell_ns: ClassVar[float] = 1e7
    """Makes a full frame last long enough to be aborted."""
    positions_mm: ClassVar[tuple[tuple[float, float], tuple[float, float]]] = ((0.0, 0.0), (0.25, -0.125))
    """Two stage positions at which a full frame can be scanned."""
    stage_tolerance_mm: ClassVar[float] = 1e-4
    view_field_mm: ClassVar[float] = 0.05
    is_repeatable: ClassVar[bool] = True
    """False where noise or drift makes two scans of a pixel differ: then values are not compared."""
    patience_s: ClassVar[float] = 30.0

    @pytest.fixture
    def microscope(self) -> Microscope:
        """Return the instrument, not connected."""
        raise NotImplementedError("a subclass supplies the microscope")

    @pytest.fixture
    def ready(self, microscope: Microscope) -> Iterator[Microscope]:
        """Yield the instrument prepared at the first position; afterwards it is restored."""
        microscope.connect()
        found = microscope.get_state()
        try:
            microscope.prepare()
            microscope.move_stage(*self.positions_mm[0])
            if microscope.capabilities.view_field:
                microscope.set_view_field(self.view_field_mm)
            yield microscope
        finally:
            microscope.disconnect()
            microscope.connect()
            microscope.reset_microscope(found)
            microscope.disconnect()

    def _scan(self, microscope: Microscope, box: PixelBox) -> Image:
        return microscope.scan_area(box, self.dwell_ns, self.window_px)

    def _assert_equal(self, found: Image, expected: Image) -> None:
        assert found.shape == expected.shape
        if self.is_repeatable:
            np.testing.assert_array_equal(found, expected)

    # -- connection -------------------------------------------------------------------------

    def test_is_named_and_stays_closed_until_connected(self, microscope: Microscope) -> None:
        """A record must say which instrument it is of, and no call may connect by itself."""
        assert microscope.name
        with pytest.raises(MicroscopeError):
            microscope.get_state()
        with pytest.raises(MicroscopeError):
            self._scan(microscope, full_frame(self.window_px))

    def test_disconnects_twice_and_connects_again(self, microscope: Microscope) -> None:
        """Disconnecting is part of every way out, so it must never fail."""
        microscope.disconnect()
        microscope.connect()
        state = microscope.get_state()
        microscope.disconnect()
        microscope.disconnect()
        microscope.connect()
        assert microscope.get_state() == state
        microscope.disconnect()

    # -- images -----------------------------------------------------------------------------

    def test_full_frame_has_shape_and_type_and_is_new(self, ready: Microscope) -> None:
        """(rows, columns) of the declared pixel type; the caller may keep or change what it got."""
        first = self._scan(ready, full_frame(self.window_px))
        assert first.shape == (self.window_px[1], self.window_px[0])
        assert first.dtype == ready.limits.pixel_type
        assert len(np.unique(first)) > 1
        kept = first.copy()
        second = self._scan(ready, full_frame(self.window_px))
        assert not np.shares_memory(first, second)
        self._assert_equal(second, kept)

    @pytest.mark.parametrize("place", BOXES)
    def test_sub_region_equals_crop(self, ready: Microscope, place: str) -> None:
        """Boxes are half-open and lie on the grid of the full frame, also at its edges and for one pixel."""
        box = BOXES[place](*self.window_px)
        frame = self._scan(ready, full_frame(self.window_px))
        self._assert_equal(self._scan(ready, box), frame[box.slices])

    def test_image_follows_the_stage(self, ready: Microscope) -> None:
        """Another place shows another image, and coming back shows the first again."""
        if not self.is_repeatable:
            pytest.skip("scans of this instrument differ anyway")
        here = self._scan(ready, full_frame(self.window_px))
        ready.move_stage(*self.positions_mm[1])
        assert not np.array_equal(self._scan(ready, full_frame(self.window_px)), here)
        ready.move_stage(*self.positions_mm[0])
        self._assert_equal(self._scan(ready, full_frame(self.window_px)), here)

    def test_what_is_outside_the_limits_is_refused(self, ready: Microscope) -> None:
        """A box that leaves the grid, a grid too large, a dwell time out of range."""
        width, height = self.window_px
        limits = ready.limits
        for box in (
            PixelBox(-1, 0, 4, 4),
            PixelBox(0, -1, 4, 4),
            PixelBox(width - 3, 0, 4, 4),
            PixelBox(0, height - 3, 4, 4),
        ):
            with pytest.raises(CapabilityError):
                self._scan(ready, box)
        with pytest.raises(CapabilityError):
            ready.scan_area(PixelBox(0, 0, 4, 4), self.dwell_ns, (limits.max_window_px + 1, height))
        for dwell_ns in (limits.dwell_min_ns / 2, limits.dwell_max_ns * 2):
            with pytest.raises(CapabilityError):
                ready.scan_area(PixelBox(0, 0, 4, 4), dwell_ns, self.window_px)

    def test_actual_dwell_is_one_the_instrument_keeps(self, ready: Microscope) -> None:
        """What it makes of a dwell time lies within its limits and is not changed again."""
        actual_ns = ready.actual_dwell_ns(self.dwell_ns)
        assert ready.limits.dwell_min_ns <= actual_ns <= ready.limits.dwell_max_ns
        assert ready.actual_dwell_ns(actual_ns) == actual_ns

    def test_mask_equals_the_image_at_its_pixels(self, ready: Microscope) -> None:
        """Row-major order of the True pixels, over the whole field of view."""
        if not ready.capabilities.mask_scan:
            pytest.skip("no mask scan")
        width, height = self.window_px
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[0, 0] = mask[-1, -1] = mask[2:9, 3:14] = mask[5:12, 10 : width - 2] = True
        frame = self._scan(ready, full_frame(self.window_px))
        values = ready.scan_mask(mask, self.dwell_ns)
        assert values.dtype == frame.dtype
        self._assert_equal(values, frame[mask])

    def test_points_equal_the_image_in_the_order_given(self, ready: Microscope) -> None:
        """Also when they are not sorted and one comes twice."""
        if not ready.capabilities.point_scan:
            pytest.skip("no point scan")
        width, height = self.window_px
        points = np.array([(width - 1, height - 1), (0, 0), (3, 7), (7, 3), (3, 7)], dtype=np.int64)
        frame = self._scan(ready, full_frame(self.window_px))
        values = ready.scan_points(points, self.dwell_ns, self.window_px)
        self._assert_equal(values, frame[points[:, 1], points[:, 0]])

    # -- stage and optics -------------------------------------------------------------------

    def test_stage_is_read_back(self, ready: Microscope) -> None:
        """The position is in millimetres and is that of the stage, not of the order."""
        for position_mm in self.positions_mm:
            ready.move_stage(*position_mm)
            state = ready.get_state()
            assert (state.x_mm, state.y_mm) == pytest.approx(position_mm, abs=self.stage_tolerance_mm)

    def test_optics_are_read_back(self, ready: Microscope) -> None:
        """Set, get and the state agree, each in its unit."""
        can = ready.capabilities
        if can.working_distance:
            ready.set_working_distance(10.25)
            assert ready.get_working_distance() == pytest.approx(10.25, abs=0.01)
            assert ready.get_state().working_distance_mm == pytest.approx(10.25, abs=0.01)
        if can.brightness_contrast:
            ready.set_brightness_contrast(40.0, 60.0)
            assert ready.get_brightness_contrast() == pytest.approx((40.0, 60.0), abs=0.5)
            state = ready.get_state()
            assert (state.brightness_pct, state.contrast_pct) == pytest.approx((40.0, 60.0), abs=0.5)
        if can.view_field:
            ready.set_view_field(self.view_field_mm / 2)
            assert ready.get_view_field() == pytest.approx(self.view_field_mm / 2, rel=0.01)

    @pytest.mark.parametrize("capability", OPTIONAL)
    def test_capabilities_tell_the_truth(self, ready: Microscope, capability: str) -> None:
        """What is offered works; what is not raises CapabilityError and is never emulated."""
        if getattr(ready.capabilities, capability):
            OPTIONAL[capability](ready)
        else:
            with pytest.raises(CapabilityError):
                OPTIONAL[capability](ready)

    def test_time_estimate_grows_with_the_scan(self, ready: Microscope) -> None:
        """Merging compares scans by it."""
        if not ready.capabilities.time_estimate:
            pytest.skip("no time estimate")
        small = ready.estimate_time_s(PixelBox(0, 0, 8, 8), self.dwell_ns, self.window_px)
        large = ready.estimate_time_s(full_frame(self.window_px), self.dwell_ns, self.window_px)
        assert 0 < small < large

    # -- ways out ---------------------------------------------------------------------------

    def test_abort_ends_the_scan_in_flight(self, ready: Microscope) -> None:
        """From another thread; the scan raises, and the next one succeeds."""
        if not ready.capabilities.abort:
            pytest.skip("no abort")
        ended = threading.Event()
        raised: list[BaseException] = []

        def scan() -> None:
            try:
                ready.scan_area(full_frame(self.window_px), self.long_dwell_ns, self.window_px)
            except BaseException as error:
                raised.append(error)
            ended.set()

        thread = threading.Thread(target=scan)
        thread.start()
        deadline = time.monotonic() + self.patience_s
        # The thread may not have begun the scan at the first call, so it is called until it ends.
        while not ended.wait(0.01) and time.monotonic() < deadline:
            ready.abort()
        thread.join(self.patience_s)
        assert not thread.is_alive(), "the scan went on after abort"
        assert [type(error) for error in raised] == [MicroscopeError]
        assert self._scan(ready, PixelBox(0, 0, 4, 4)).shape == (4, 4)

    @pytest.mark.parametrize("steps", range(7))
    def test_reset_restores_whatever_was_done(self, microscope: Microscope, steps: int) -> None:
        """After a failure at any step of a run the state is as it was found."""
        microscope.connect()
        can, found = microscope.capabilities, microscope.get_state()
        run: list[Callable[[], object]] = [microscope.prepare]
        run.append(lambda: microscope.move_stage(*self.positions_mm[1]))
        if can.working_distance:
            run.append(lambda: microscope.set_working_distance(11.0))
        if can.brightness_contrast:
            run.append(lambda: microscope.set_brightness_contrast(30.0, 35.0))
        if can.view_field:
            run.append(lambda: microscope.set_view_field(self.view_field_mm))
        if can.spectra:
            run.append(lambda: self._acquire(microscope, self._points()))
        for step in run[:steps]:
            step()
        microscope.reset_microscope(found)
        assert microscope.get_state() == found
        microscope.disconnect()

    def test_reset_without_connection_says_so(self, microscope: Microscope) -> None:
        """It cannot restore anything, and pretending so would leave the beam on."""
        microscope.connect()
        found = microscope.get_state()
        microscope.disconnect()
        with pytest.raises(MicroscopeError):
            microscope.reset_microscope(found)

    def test_metadata_is_json_with_the_stage_position(self, ready: Microscope, tmp_path: Path) -> None:
        """An object that any program reads; the numbers of the position are found in it."""
        ready.save_metadata(tmp_path / "metadata.json")
        text = (tmp_path / "metadata.json").read_text(encoding="utf-8")
        metadata = json.loads(text)
        assert isinstance(metadata, dict)
        state = ready.get_state()
        assert {state.x_mm, state.y_mm} <= set(_numbers(metadata))


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)):
        yield float(value)
