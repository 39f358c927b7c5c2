"""What a spectrometer beside the microscope implements: it counts while somebody else holds the beam.

EDS hardware is mostly another vendor's than the microscope. The driver `composite` parks the beam by its
`scan` part on one point after the other, and lets the source count there. All calls come from one thread,
except `abort`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from numpy.typing import NDArray

from .spectra import EnergyAxis


class SpectrumSource(ABC):
    """One spectrometer. See the module docstring for threads."""

    name: ClassVar[str] = ""
    """Vendor and model, as it stands in the record."""
    instrument_options: ClassVar[tuple[str, ...] | None] = ()
    """As of `Microscope`."""
    live_time_range_s: tuple[float, float] = (1e-6, 1e4)
    """Shortest and longest time that it counts."""
    overhead_s: float = 0.0
    """What a spectrum takes beside live and dead time: starting, stopping and reading it."""

    @abstractmethod
    def connect(self) -> None:
        """Open the connection; raises MicroscopeError with the remedy if it fails."""

    @abstractmethod
    def disconnect(self) -> None:
        """Close the connection; safe to call twice and after a failed `connect`."""

    @abstractmethod
    def energy_axis(self) -> EnergyAxis:
        """Return the energy axis of every spectrum; it stays while connected."""

    @abstractmethod
    def count(self, live_time_s: float) -> tuple[NDArray[Any], float]:
        """Count X-rays for a time, dead time not counted.

        Returns
        -------
        counts
            (channels,) of uint16 or uint32, of the same type at all calls; a new array at every call.
        live_time_s
            How long the detector counted.

        Raises
        ------
        MicroscopeError
            It failed or was aborted, and may be tried again.
        """

    @abstractmethod
    def abort(self) -> None:
        """End the spectrum in flight from another thread; that call then raises MicroscopeError."""
