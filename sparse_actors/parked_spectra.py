"""Spectra by two instruments: one parks the beam, the other counts."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contracts.microscope import Microscope
from .contracts.spectra import Spectra
from .contracts.spectrum_source import SpectrumSource
from .errors import CapabilityError, MicroscopeError


class ParkedSpectra:
    """Takes spectra at points, one after the other.

    Parameters
    ----------
    scan
        Parks the beam, and blanks it afterwards if it can.
    source
        Counts.
    """

    def __init__(self, scan: Microscope, source: SpectrumSource) -> None:
        self._scan = scan
        self._source = source
        self._is_aborted = threading.Event()

    def abort(self) -> None:
        """End the spectra in flight; from any thread."""
        self._is_aborted.set()
        self._source.abort()

    def acquire(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> Spectra:
        """Do as `Microscope.acquire_spectra` says."""
        self._check(points_px, live_time_s, window_px)
        self._is_aborted.clear()
        axis, counts, live_s = self._source.energy_axis(), list[NDArray[Any]](), list[float]()
        try:
            for (x, y), wanted_s in zip(points_px.tolist(), live_time_s.tolist(), strict=True):
                if self._is_aborted.is_set():
                    raise MicroscopeError("the spectra were aborted")
                self._scan.park_beam(x, y, window_px)
                spectrum, kept_s = self._source.count(wanted_s)
                if spectrum.shape != (axis.channels,):
                    raise MicroscopeError(
                        f"{self._source.name} returned a spectrum {spectrum.shape}, "
                        f"expected ({axis.channels},)"
                    )
                counts.append(spectrum)
                live_s.append(kept_s)
        finally:
            if self._scan.capabilities.beam_blank:
                self._scan.set_beam_blank(True)
        return Spectra(counts=np.stack(counts), live_time_s=np.array(live_s, dtype=np.float64))

    def _check(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> None:
        n, most_px = len(points_px), self._scan.limits.max_window_px
        if points_px.shape != (n, 2) or n == 0:
            raise CapabilityError(f"spectra need points (n, 2), n >= 1, got {points_px.shape}")
        if not (1 <= min(window_px) and max(window_px) <= most_px):
            raise CapabilityError(f"grid {window_px[0]} x {window_px[1]}: expected 1 to {most_px} px a side")
        if (points_px < 0).any() or (points_px >= np.array(window_px)).any():
            raise CapabilityError(f"a point lies outside the grid {window_px[0]} x {window_px[1]}")
        shortest_s, longest_s = self._source.live_time_range_s
        if live_time_s.shape != (n,) or not ((live_time_s >= shortest_s) & (live_time_s <= longest_s)).all():
            raise CapabilityError(
                f"spectra at {n} points need as many live times of {shortest_s:g} to {longest_s:g} s"
            )
