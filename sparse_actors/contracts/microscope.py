"""What a microscope driver implements.

A driver subclasses `Microscope` and overrides the abstract methods and whichever optional ones
the instrument has. A capability is what is overridden: there is no flag that could lie.
Units: px, ns, mm, percent, degrees. Arrays are (rows, columns). All calls come from one thread,
except `abort`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import CapabilityError
from sparse_actors.geometry import PixelBox
from sparse_actors.imaging import ScanTiming

from .spectra import EnergyAxis, Spectra

Image = NDArray[Any]
"""uint8 or uint16 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroscopeState:
    """All that `reset_microscope` restores; None where the instrument has no such setting."""

    x_mm: float
    y_mm: float
    working_distance_mm: float | None = None
    brightness_pct: float | None = None
    contrast_pct: float | None = None
    view_field_mm: float | None = None
    scan_rotation_deg: float | None = None
    beam_on: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """What the scan generator accepts and how long it takes beside the dwell time."""

    dwell_min_ns: float = 1.0
    dwell_max_ns: float = 1e10
    max_window_px: int = 16384
    min_region_px: int = 1
    pixel_type: Literal["uint8", "uint16"] = "uint8"
    timing: ScanTiming = ScanTiming()
    timing_source: Literal["measured", "declared", "unknown"] = "unknown"
    spectrum_overhead_s: float = 0.0
    """What a spectrum takes beside live and dead time: the beam moves and settles."""
    live_time_max_s: float | None = None
    """Longest live time of a spectrum; None: `dwell_max_ns`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an instrument can do; derived from the driver, never written by hand."""

    sub_region: bool
    mask_scan: bool
    point_scan: bool
    park_beam: bool
    beam_blank: bool
    working_distance: bool
    brightness_contrast: bool
    view_field: bool
    scan_rotation: bool
    time_estimate: bool
    abort: bool
    limits: ScanLimits
    spectra: bool = False


class Microscope(ABC):
    """One instrument. See the module docstring for units and threads."""

    name: ClassVar[str] = ""
    """Vendor and model, as it stands in the record."""
    instrument_options: ClassVar[tuple[str, ...] | None] = ()
    """Names of the options that tell one instrument from another, such as its address.

    Two runs never use one instrument at a time. Empty: there is one such instrument at this computer.
    None: every run has an instrument of its own, as a simulated one is.
    """

    @abstractmethod
    def connect(self) -> None:
        """Open the connection; raises MicroscopeError with the remedy if it fails."""

    @abstractmethod
    def disconnect(self) -> None:
        """Close the connection; safe to call twice and after a failed `connect`."""

    @abstractmethod
    def get_state(self) -> MicroscopeState:
        """Read back stage and optics from the instrument."""

    @abstractmethod
    def prepare(self) -> None:
        """Make ready to scan: beam on, signal channel selected.

        `get_state` is called before, and its result goes to `reset_microscope` at the end.
        """

    @abstractmethod
    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan one box of the field of view and nothing else.

        Parameters
        ----------
        box
            Half-open box on the grid `window_px`.
        dwell_ns
            Time on each pixel; see `actual_dwell_ns` for what the instrument makes of it.
        window_px
            (width, height) of the grid over the whole field of view.

        Returns
        -------
        Image
            (box.height, box.width) of `limits.pixel_type`; a new array at every call.

        Raises
        ------
        MicroscopeError
            The scan failed and may be tried again.
        CapabilityError
            The box, dwell or grid is outside `limits`.
        """

    @abstractmethod
    def move_stage(self, x_mm: float, y_mm: float) -> None:
        """Move and wait until the stage stands; raises StageError if the read-back disagrees."""

    @abstractmethod
    def reset_microscope(self, state: MicroscopeState) -> None:
        """Bring stage and optics back to `state`.

        Called on every way out, also after a partial `prepare` or a lost connection: do what
        can be done, then raise MicroscopeError naming what could not.
        """

    @abstractmethod
    def save_metadata(self, path: Path) -> None:
        """Write stage position, device parameters and the time as JSON to `path`."""

    # -- optional: override to have the capability ------------------------------------------

    def set_working_distance(self, working_distance_mm: float) -> None:
        """Focus."""
        raise self._cannot("working_distance")

    def get_working_distance(self) -> float:
        """Return the working distance in mm."""
        raise self._cannot("working_distance")

    def set_brightness_contrast(self, brightness_pct: float, contrast_pct: float) -> None:
        """Set black level (brightness) and gain (contrast) of the signal channel."""
        raise self._cannot("brightness_contrast")

    def get_brightness_contrast(self) -> tuple[float, float]:
        """Return (brightness, contrast) in percent."""
        raise self._cannot("brightness_contrast")

    def set_view_field(self, width_mm: float) -> None:
        """Set the width of the field of view."""
        raise self._cannot("view_field")

    def get_view_field(self) -> float:
        """Return the width of the field of view in mm."""
        raise self._cannot("view_field")

    def set_scan_rotation(self, rotation_deg: float) -> None:
        """Turn the scan, counter-clockwise from stage +x to +y."""
        raise self._cannot("scan_rotation")

    def set_beam_blank(self, is_blanked: bool) -> None:
        """Take the beam off the specimen, or put it back."""
        raise self._cannot("beam_blank")

    def park_beam(self, x_px: int, y_px: int, window_px: tuple[int, int]) -> None:
        """Hold the beam on one pixel of the grid, for an external spectrometer."""
        raise self._cannot("park_beam")

    def scan_mask(self, mask: NDArray[np.bool_], dwell_ns: float) -> Image:
        """Scan the True pixels of a mask over the whole field of view, shape (rows, columns).

        Returns the values as one row, in row-major order of the True pixels.
        """
        raise self._cannot("mask_scan")

    def scan_points(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan single pixels (n, 2) of x, y in the order given; returns (n,) values."""
        raise self._cannot("point_scan")

    def energy_axis(self) -> EnergyAxis:
        """Return the energy axis of every spectrum this instrument gives; it stays while connected."""
        raise self._cannot("spectra")

    def acquire_spectra(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> Spectra:
        """Count X-rays with the beam at rest on one point after the other.

        Parameters
        ----------
        points_px
            (n, 2) of x, y on the grid `window_px`, n >= 1, in the order in which the beam goes
            there. A point that is listed twice is measured twice.
        live_time_s
            (n,): how long the detector counts at each point, within the limits of `limits`.
            The beam rests there for it and the dead time; getting there takes
            `limits.spectrum_overhead_s`.
        window_px
            (width, height) of the grid over the whole field of view.

        Returns
        -------
        Spectra
            n spectra in the order of the points, on `energy_axis()`; new arrays at every call, of
            one type (uint16 or uint32) at all calls. `live_time_s` is what the detector kept.

        Raises
        ------
        MicroscopeError
            The acquisition failed or was aborted: none of its spectra is given, and all of it may
            be tried again.
        CapabilityError
            A point, live time or grid is outside `limits`; nothing is exposed.
        """
        raise self._cannot("spectra")

    def estimate_time_s(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> float:
        """Return the instrument's own estimate for `scan_area`."""
        raise self._cannot("time_estimate")

    def abort(self) -> None:
        """End the scan or spectra in flight from another thread; that call then raises MicroscopeError."""
        raise self._cannot("abort")

    # -- derived ----------------------------------------------------------------------------

    @property
    def limits(self) -> ScanLimits:
        """Limits of the scan generator; override with what the instrument reports."""
        return ScanLimits()

    def actual_dwell_ns(self, dwell_ns: float) -> float:
        """Return the dwell time the instrument uses when asked for `dwell_ns`."""
        return dwell_ns

    @property
    def capabilities(self) -> Capabilities:
        """What this driver overrides."""
        return Capabilities(
            sub_region=True,
            mask_scan=self._has("scan_mask"),
            point_scan=self._has("scan_points"),
            park_beam=self._has("park_beam"),
            beam_blank=self._has("set_beam_blank"),
            working_distance=self._has("set_working_distance"),
            brightness_contrast=self._has("set_brightness_contrast"),
            view_field=self._has("set_view_field"),
            scan_rotation=self._has("set_scan_rotation"),
            time_estimate=self._has("estimate_time_s"),
            abort=self._has("abort"),
            limits=self.limits,
            spectra=self._has("acquire_spectra") and self._has("energy_axis"),
        )

    def _has(self, method: str) -> bool:
        mine: Callable[..., Any] = getattr(type(self), method)
        return mine is not getattr(Microscope, method)

    def _cannot(self, capability: str) -> CapabilityError:
        return CapabilityError(f"{self.name or type(self).__name__} has no {capability}")
