"""What must hold for the X-ray spectra of every microscope driver; part of `MicroscopeContract`."""
# ruff: noqa: S101 - a test suite is made of assertions

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Microscope
from sparse_actors.contracts.spectra import Spectra
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import full_frame


class SpectraContract:
    """Set what follows to what the instrument accepts; without the capability all is skipped."""

    window_px: ClassVar[tuple[int, int]]
    dwell_ns: ClassVar[float]
    is_repeatable: ClassVar[bool]
    patience_s: ClassVar[float]
    live_time_s: ClassVar[float] = 1e-3
    """Long enough for ten counts at every point of the field of view."""
    long_live_time_s: ClassVar[float] = 0.1
    """Makes 256 points last long enough to be aborted."""

    def exposed_spots(self, microscope: Microscope) -> list[tuple[int, int]] | None:
        """Return x, y of every point on which the beam ever rested for a spectrum, in order.

        By the other side: the instrument's own log, or a detector that watches it. None where
        nothing tells it; then it is not checked.
        """
        return None

    @pytest.fixture
    def spectrometer(self, ready: Microscope) -> Microscope:
        """Return the prepared instrument if it gives spectra."""
        if not ready.capabilities.spectra:
            pytest.skip("no spectra")
        return ready

    def _points(self) -> NDArray[np.int64]:
        """Corners, middles of the edges, and points inside; neither sorted nor all different."""
        right, bottom = self.window_px[0] - 1, self.window_px[1] - 1
        corners = [(right, bottom), (0, 0), (right, 0), (0, bottom)]
        edges = [(right // 2, 0), (0, bottom // 2), (right, bottom // 2), (right // 2, bottom)]
        return np.array([*corners, *edges, (7, 3), (3, 7), (7, 3), (right // 2, bottom // 2)], dtype=np.int64)

    def _acquire(self, microscope: Microscope, points: NDArray[Any], live_time_s: float = 0.0) -> Spectra:
        live = np.full(len(points), live_time_s or self.live_time_s)
        return microscope.acquire_spectra(points, live, self.window_px)

    def test_spectra_have_shape_and_type_and_are_new(self, spectrometer: Microscope) -> None:
        """(n, channels) of one unsigned type, also for one point; live times are as asked."""
        axis, types = spectrometer.energy_axis(), set()
        for points in (self._points(), self._points()[:1]):
            first, second = self._acquire(spectrometer, points), self._acquire(spectrometer, points)
            assert first.counts.shape == (len(points), axis.channels)
            assert first.live_time_s == pytest.approx(np.full(len(points), self.live_time_s), rel=0.1)
            assert not np.shares_memory(first.counts, second.counts)
            assert first.counts.sum() > 0
            types |= {first.counts.dtype, second.counts.dtype}
        assert len(types) == 1
        assert spectrometer.energy_axis() == axis

    def test_spectra_come_in_the_order_of_the_points(self, spectrometer: Microscope) -> None:
        """The same points in another order, or one by one, also on edges and in corners."""
        points = self._points()
        together = self._acquire(spectrometer, points).counts
        backwards = self._acquire(spectrometer, points[::-1]).counts[::-1]
        alone = np.vstack([self._acquire(spectrometer, point[np.newaxis]).counts for point in points])
        for counts in (backwards, alone):
            assert counts.shape == together.shape
            if self.is_repeatable:
                np.testing.assert_array_equal(counts, together)

    def test_each_point_has_its_own_live_time(self, spectrometer: Microscope) -> None:
        """Long at one point and short at the next, whichever comes first."""
        points = np.repeat(self._points()[:1], 8, axis=0)
        live = np.tile([self.live_time_s, self.live_time_s / 8], 4)
        found = spectrometer.acquire_spectra(points, live, self.window_px)
        assert found.live_time_s == pytest.approx(live, rel=0.1)
        totals = found.counts.sum(axis=1, dtype=np.int64)
        assert totals[0::2].sum() > 2 * totals[1::2].sum()

    def test_counts_are_those_expected_of_point_and_live_time(self, spectrometer: Microscope) -> None:
        """The same again and again, and in proportion to the live time, as far as Poisson noise allows."""
        points = np.repeat(self._points(), 8, axis=0)
        first, second, eighth = (
            int(self._acquire(spectrometer, points, live_s).counts.sum(dtype=np.int64))
            for live_s in (self.live_time_s, self.live_time_s, self.live_time_s / 8)
        )
        assert first > len(points)
        # Six sigma; repeated points of a simulation may hold the same photons, hence the factor 8.
        sigma = (8 * first) ** 0.5
        assert abs(first - second) < 6 * 2**0.5 * sigma
        assert abs(first / 8 - eighth) < 6 * sigma / 8**0.5 * (1 + 1 / 8) ** 0.5

    @pytest.mark.parametrize(
        ("x", "y"), [(-1, 3), (3, -1), (0, 3), (3, 0)], ids=("left", "top", "right", "bottom")
    )
    def test_points_outside_the_field_are_refused(self, spectrometer: Microscope, x: int, y: int) -> None:
        """Also when all others lie inside; then the beam rests on none of them."""
        width, height = self.window_px
        outside = (width if x == 0 else x, height if y == 0 else y)
        before = self.exposed_spots(spectrometer)
        points = np.vstack([self._points(), np.array([outside])])
        with pytest.raises(CapabilityError):
            self._acquire(spectrometer, points)
        assert self.exposed_spots(spectrometer) == before

    def test_spectra_that_cannot_be_are_refused(self, spectrometer: Microscope) -> None:
        """Live times that are none, too few of them, no point at all, a grid too large."""
        points, limits = self._points()[:2], spectrometer.limits
        too_long_s = 2 * (limits.live_time_max_s or limits.dwell_max_ns * 1e-9)
        for live in ([0.0, 1e-3], [1e-3, -1e-3], [1e-3, np.nan], [np.inf, 1e-3], [1e-3, too_long_s], [1e-3]):
            with pytest.raises(CapabilityError):
                spectrometer.acquire_spectra(points, np.array(live), self.window_px)
        with pytest.raises(CapabilityError):
            spectrometer.acquire_spectra(points[:0], np.zeros(0), self.window_px)
        with pytest.raises(CapabilityError):
            spectrometer.acquire_spectra(points, np.full(2, 1e-3), (limits.max_window_px + 1, 64))

    def test_the_beam_rests_on_the_points_asked_for_and_on_no_other(self, spectrometer: Microscope) -> None:
        """In the order given, each as often as it is listed."""
        before = self.exposed_spots(spectrometer)
        if before is None:
            pytest.skip("nobody tells where the beam was")
        self._acquire(spectrometer, self._points())
        after = self.exposed_spots(spectrometer)
        assert after is not None
        assert after[len(before) :] == [(int(x), int(y)) for x, y in self._points()]

    def test_abort_ends_the_spectra_in_flight(self, spectrometer: Microscope) -> None:
        """From another thread; the call raises, and the next one succeeds."""
        if not spectrometer.capabilities.abort:
            pytest.skip("no abort")
        ended, raised = threading.Event(), list[BaseException]()
        points = np.resize(self._points(), (256, 2))

        def acquire() -> None:
            try:
                self._acquire(spectrometer, points, self.long_live_time_s)
            except BaseException as error:
                raised.append(error)
            ended.set()

        thread = threading.Thread(target=acquire)
        thread.start()
        deadline = time.monotonic() + self.patience_s
        # The thread may not have begun at the first call, so it is called until it ends.
        while not ended.wait(0.01) and time.monotonic() < deadline:
            spectrometer.abort()
        thread.join(self.patience_s)
        assert not thread.is_alive(), "the spectra went on after abort"
        assert [type(error) for error in raised] == [MicroscopeError]
        assert len(self._acquire(spectrometer, points[:3])) == 3

    def test_spectra_leave_everything_else_as_it_was(self, spectrometer: Microscope) -> None:
        """Stage, optics and the next image, although the scan was taken from the signal channel."""
        state = spectrometer.get_state()
        image = spectrometer.scan_area(full_frame(self.window_px), self.dwell_ns, self.window_px)
        self._acquire(spectrometer, self._points())
        assert spectrometer.get_state() == state
        again = spectrometer.scan_area(full_frame(self.window_px), self.dwell_ns, self.window_px)
        assert again.shape == image.shape
        if self.is_repeatable:
            np.testing.assert_array_equal(again, image)

    def test_spectra_need_a_connection(self, spectrometer: Microscope) -> None:
        """A lost connection is an error, not an empty spectrum."""
        spectrometer.disconnect()
        with pytest.raises(MicroscopeError):
            self._acquire(spectrometer, self._points())
        spectrometer.connect()
