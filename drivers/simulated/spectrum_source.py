"""A simulated spectrometer beside any microscope: it sees one phase, wherever the beam is."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.contracts.spectrum_source import SpectrumSource
from sparse_actors.errors import MicroscopeError

from .spectrum_library import AXIS, STEEL
from .xray_emission import emission


class SimulatedSpectrumSource(SpectrumSource):
    """Counts the photons of one phase of the simulated steel.

    Parameters
    ----------
    phase
        1 to 5, in the order of the simulated specimen.
    seed
        Of the photons.
    count_rate_cps
        Counts per second on the matrix; the numbers are Poisson distributed.
    time_scale
        1 counts in real time, 10 ten times faster, 0 at once.

    Raises
    ------
    ValueError
        An option is out of range.
    """

    name: ClassVar[str] = "Simulated spectrometer"
    instrument_options: ClassVar[tuple[str, ...] | None] = None

    def __init__(
        self, *, phase: int = 1, seed: int = 1, count_rate_cps: float = 100_000.0, time_scale: float = 1.0
    ) -> None:
        if not (1 <= phase <= len(STEEL) and count_rate_cps > 0 and time_scale >= 0):
            raise ValueError(
                f"phase must be 1 to {len(STEEL)}, count_rate_cps above 0, time_scale at least 0"
            )
        of_matrix, of_phase = (
            kind.rate * emission(dict(kind.mass_fractions), AXIS, 0.0)
            for kind in (STEEL[0], STEEL[phase - 1])
        )
        self._rates_cps = of_phase * (count_rate_cps / of_matrix.sum())
        self._seed = seed
        self._time_scale = time_scale
        self._is_connected = False
        self._is_aborted = threading.Event()

    def connect(self) -> None:
        """Open the connection."""
        self._is_connected = True

    def disconnect(self) -> None:
        """Close the connection."""
        self._is_connected = False

    def energy_axis(self) -> EnergyAxis:
        """Return the energy axis of the simulated steel's spectra."""
        return AXIS

    def count(self, live_time_s: float) -> tuple[NDArray[Any], float]:
        """Count for a time."""
        if not self._is_connected:
            raise MicroscopeError(f"{self.name} is not connected: call connect")
        self._is_aborted.clear()
        if self._time_scale and self._is_aborted.wait(live_time_s / self._time_scale):
            raise MicroscopeError("the spectrum was aborted")
        # As of the simulated microscope: the same exposure holds the same photons.
        random = np.random.default_rng([self._seed, round(live_time_s * 1e9)])
        return random.poisson(self._rates_cps * live_time_s).astype(np.uint32), live_time_s

    def abort(self) -> None:
        """End the spectrum in flight."""
        self._is_aborted.set()
