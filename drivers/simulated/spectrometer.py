"""The X-ray detector: which photons arrive from a point while the beam rests on it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..pixel_noise import compiled, hash64
from .spectrum_library import SpectrumLibrary

_S32, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
ILL = 0
"""Label of a point whose spectrum is of no phase."""


class Spectrometer:
    """Photons of a library of spectra, of the background and of ill points.

    At a point the photons arrive independently of each other at a constant rate, so that their
    numbers are Poisson distributed. All that is random at a point is a hash of the point (and for
    its photons of the live time), so that the same order gives the same spectrum.

    Parameters
    ----------
    library
        Spectra of the phases; a point has one of those of its phase.
    count_rate_cps
        Counts per second, the mean of the spectra of phase 1.
    background_cps_per_channel
        Added to every spectrum.
    ill_share
        Part of the points whose spectrum is noise and nothing else.
    ill_cps_per_channel
        Of that noise.
    """

    def __init__(
        self,
        library: SpectrumLibrary,
        *,
        count_rate_cps: float,
        background_cps_per_channel: float,
        ill_share: float,
        ill_cps_per_channel: float,
    ) -> None:
        if not (count_rate_cps > 0 and background_cps_per_channel >= 0 and ill_cps_per_channel > 0):
            raise ValueError(
                "count_rate_cps and ill_cps_per_channel must be above 0, "
                "background_cps_per_channel must not be below 0"
            )
        if not 0 <= ill_share < 1:
            raise ValueError(f"ill_share = {ill_share}: expected 0 or more, and less than 1")
        self.axis = library.axis
        self._ill_share = ill_share
        per_count_cps = count_rate_cps / library.counts[library.phase == 1].sum(axis=1).mean()
        rates_cps = np.vstack(
            [
                np.full(library.axis.channels, ill_cps_per_channel),
                library.counts * per_count_cps + background_cps_per_channel,
            ]
        )
        self._cumulative_cps = np.cumsum(rates_cps, axis=1)
        """(1 + n, channels): counts per second up to and with a channel; the first of ill points."""
        self._label = np.concatenate([[ILL], library.phase])
        self._first = np.searchsorted(self._label, np.arange(self.phases + 2))

    @property
    def phases(self) -> int:
        """Number of phases, 1 ... phases."""
        return int(self._label[-1])

    def choose(
        self, phases: NDArray[np.int64], columns: NDArray[np.int64], rows: NDArray[np.int64], key: np.uint64
    ) -> NDArray[np.int64]:
        """Return which spectrum (n,) each point has; `key` names the field of view and its grid."""
        return _choose(phases, columns, rows, key, self._first, self._ill_share)

    def labels(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the phase of each chosen spectrum, or ILL."""
        return self._label[chosen]

    def rates_cps(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the counts per second (n,) of each chosen spectrum."""
        rates_cps: NDArray[np.float64] = self._cumulative_cps[chosen, -1]
        return rates_cps

    def count(
        self,
        chosen: NDArray[np.int64],
        columns: NDArray[np.int64],
        rows: NDArray[np.int64],
        live_time_s: NDArray[np.float64],
        key: np.uint64,
        shift_kev: float,
    ) -> NDArray[np.uint32]:
        """Return the counts (n, channels); every photon is taken for `shift_kev` more than it has."""
        counts = np.zeros((len(chosen), self.axis.channels), dtype=np.uint32)
        shift = shift_kev / self.axis.scale_kev
        _count(counts, chosen, columns, rows, live_time_s, key, self._cumulative_cps, shift)
        return counts


@compiled
def _choose(
    phases: NDArray[np.int64],
    columns: NDArray[np.int64],
    rows: NDArray[np.int64],
    key: np.uint64,
    first: NDArray[np.int64],
    ill_share: float,
) -> NDArray[np.int64]:
    chosen = np.zeros(len(phases), dtype=np.int64)
    for n in range(len(phases)):
        bits = hash64(key, columns[n], rows[n])
        if phases[n] > 0 and np.int64(bits >> _S32) * 2.0**-32 >= ill_share:
            begin, end = first[phases[n]], first[phases[n] + 1]
            chosen[n] = begin + np.int64(np.int64(bits & _LOW) * 2.0**-32 * (end - begin))
    return chosen


@compiled
def _count(
    counts: NDArray[np.uint32],
    chosen: NDArray[np.int64],
    columns: NDArray[np.int64],
    rows: NDArray[np.int64],
    live_time_s: NDArray[np.float64],
    key: np.uint64,
    cumulative_cps: NDArray[np.float64],
    shift: float,
) -> None:
    """Let photons arrive one by one: exponential waits, and channels by inverting the sum."""
    channels = counts.shape[1]
    for n in range(counts.shape[0]):
        cumulative = cumulative_cps[chosen[n]]
        total_cps = cumulative[channels - 1]
        of_point = hash64(hash64(key, columns[n], rows[n]), int(live_time_s[n] * 1e9), 1)
        arrived_s, photon = 0.0, 0
        while True:
            bits = hash64(of_point, photon, 2)
            photon += 1
            arrived_s -= math.log(1.0 - np.int64(bits >> _S32) * 2.0**-32) / total_cps
            if arrived_s > live_time_s[n]:
                break
            sought = np.int64(bits & _LOW) * 2.0**-32 * total_cps
            channel = np.searchsorted(cumulative, sought, side="right")
            if shift != 0.0:
                below = cumulative[channel - 1] if channel > 0 else 0.0
                part = (sought - below) / (cumulative[channel] - below)
                channel = math.floor(channel + part + shift)
            if 0 <= channel < channels:
                counts[n, channel] += np.uint32(1)
