"""X-ray spectra as they come from an instrument: counts per channel, and the energy of a channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import MicroscopeError


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyAxis:
    """Which energy a channel stands for: offset + scale * channel, at the channel's lower edge."""

    channels: int
    offset_kev: float
    scale_kev: float

    def __post_init__(self) -> None:
        if (
            self.channels < 1
            or not self.scale_kev > 0
            or not np.isfinite([self.offset_kev, self.scale_kev]).all()
        ):
            raise MicroscopeError(f"{self} is no energy axis: channels and scale_kev must be positive")

    @property
    def energies_kev(self) -> NDArray[np.float64]:
        """(channels,): the lower edge of each channel in keV."""
        return self.offset_kev + self.scale_kev * np.arange(self.channels, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectra:
    """Spectra of some points, in the order the points were given."""

    counts: NDArray[Any]
    """(n, channels) of uint16 or uint32."""
    live_time_s: NDArray[np.float64]
    """(n,): how long the detector counted; the beam was there for this and the dead time."""

    def __post_init__(self) -> None:
        counts, live = self.counts, self.live_time_s
        if counts.ndim != 2 or counts.dtype not in (np.uint16, np.uint32):
            raise MicroscopeError(
                f"spectra must be (n, channels) of uint16 or uint32, got {counts.shape} of {counts.dtype}"
            )
        if live.shape != (len(counts),) or live.dtype != np.float64:
            raise MicroscopeError(
                f"live_time_s must be ({len(counts)},) of float64, got {live.shape} of {live.dtype}"
            )
        if not (np.isfinite(live).all() and (live >= 0).all()):
            raise MicroscopeError("live_time_s holds a number that is negative or not finite")
        counts.flags.writeable = live.flags.writeable = False

    def __len__(self) -> int:
        return len(self.counts)
