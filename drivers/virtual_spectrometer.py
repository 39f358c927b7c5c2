"""X-ray spectra from an embedded microscope: the beam rests on points and takes its time there."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis, Spectra
from sparse_actors.errors import CapabilityError

from .virtual_instrument import VirtualInstrument


class VirtualSpectrometer(VirtualInstrument):
    """Checks, times and logs the acquisition of spectra; a subclass supplies the counts."""

    # -- what a subclass supplies -----------------------------------------------------------

    @abstractmethod
    def energy_axis(self) -> EnergyAxis:
        """Return the energy axis of every spectrum."""

    @abstractmethod
    def _counts(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> NDArray[np.uint32]:
        """Return the counts (n, channels) at points (n, 2) of x, y."""

    def _rest_s(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> float:
        """Return how long the beam rests on all points, dead time included; raises on a bad one."""
        return float(live_time_s.sum())

    # -- spectra ----------------------------------------------------------------------------

    def acquire_spectra(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> Spectra:
        """Count at one point after the other; takes live, dead and settling time over the time scale."""
        live = np.array(live_time_s, dtype=np.float64)
        points = np.array(points_px, dtype=np.int64)
        self.get_state()
        self._check_spots(points, live, window_px)
        nominal_s = self._rest_s(points, live, window_px) + len(points) * self._limits.spectrum_overhead_s
        counts = self._expose(
            lambda: self._counts(points, live, window_px),
            nominal_s,
            {
                "what": "spectra",
                "spots": len(points),
                "points_px": points.tolist(),
                "live_time_s": live.tolist(),
                "window_px": list(window_px),
            },
        )
        return Spectra(counts=counts, live_time_s=live)

    def _check_spots(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> None:
        if points_px.ndim != 2 or points_px.shape[1] != 2 or len(points_px) == 0:
            raise CapabilityError(f"spectra need points (n, 2), n >= 1, got {points_px.shape}")
        if live_time_s.shape != (len(points_px),) or not np.isfinite(live_time_s).all():
            raise CapabilityError(
                f"spectra at {len(points_px)} points need as many live times, got {live_time_s.shape}"
                " (or one that is no number)"
            )
        box = self._box_around(points_px)
        for live_s in (live_time_s.min(), live_time_s.max()):
            self._check(box, float(live_s) * 1e9, window_px)
