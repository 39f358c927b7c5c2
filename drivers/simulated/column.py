"""The electron column of the simulated microscope: its settings, and where and how sharp the beam is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparse_actors.contracts.microscope import MicroscopeState, ScanLimits
from sparse_actors.errors import CapabilityError

from ..virtual_spectrometer import VirtualSpectrometer
from .specimen import Grid

FOCUS_MM = 10.0
"""Working distance at which the stage origin is in focus."""
PROBE_NM = 25.0
"""Standard deviation of the focused beam."""
CONVERGENCE_RAD = 0.005
"""Half angle of the beam: out of focus by d, it widens by CONVERGENCE_RAD * d."""


class SimulatedColumn(VirtualSpectrometer):
    """Focus, black level and gain, scan rotation; a drifting and tilted specimen under the beam.

    Parameters
    ----------
    drift_nm_per_s, tilt_deg, probe_nm
        See `SimulatedMicroscope`.
    limits, time_scale, log_file, state_file
        See `VirtualInstrument`.
    """

    def __init__(
        self,
        *,
        drift_nm_per_s: Sequence[float],
        tilt_deg: Sequence[float],
        probe_nm: float,
        limits: ScanLimits,
        time_scale: float,
        log_file: str,
        state_file: str,
    ) -> None:
        if len(drift_nm_per_s) != 2 or len(tilt_deg) != 2:
            raise ValueError("drift_nm_per_s and tilt_deg are pairs (x, y)")
        super().__init__(
            initial=MicroscopeState(
                x_mm=0.0,
                y_mm=0.0,
                working_distance_mm=FOCUS_MM,
                brightness_pct=50.0,
                contrast_pct=50.0,
                view_field_mm=0.1,
                scan_rotation_deg=0.0,
                beam_on=False,
            ),
            limits=limits,
            time_scale=time_scale,
            log_file=log_file,
            state_file=state_file,
        )
        self._drift_nm_per_s = (float(drift_nm_per_s[0]), float(drift_nm_per_s[1]))
        self._focused_um = probe_nm * 1e-3
        self._tilt_deg = (float(tilt_deg[0]), float(tilt_deg[1]))

    # -- optics -----------------------------------------------------------------------------

    def set_working_distance(self, working_distance_mm: float) -> None:
        """Focus at a distance of 1 to 100 mm."""
        if not 1 <= working_distance_mm <= 100:
            raise CapabilityError(f"working distance {working_distance_mm} mm: expected 1 to 100 mm")
        self._set(working_distance_mm=working_distance_mm)

    def get_working_distance(self) -> float:
        """Return the working distance in mm."""
        return float(self.get_state().working_distance_mm or FOCUS_MM)

    def set_brightness_contrast(self, brightness_pct: float, contrast_pct: float) -> None:
        """Set black level and gain; 50 and 50 leave the signal as it is."""
        if not (0 <= brightness_pct <= 100 and 0 <= contrast_pct <= 100):
            raise CapabilityError(
                f"brightness {brightness_pct} %, contrast {contrast_pct} %: expected 0 to 100"
            )
        self._set(brightness_pct=brightness_pct, contrast_pct=contrast_pct)

    def get_brightness_contrast(self) -> tuple[float, float]:
        """Return (brightness, contrast) in percent."""
        state = self.get_state()
        return float(state.brightness_pct or 0.0), float(state.contrast_pct or 0.0)

    def set_scan_rotation(self, rotation_deg: float) -> None:
        """Turn the scan, from stage +x to +y."""
        self._set(scan_rotation_deg=rotation_deg)

    # -- the beam on the specimen -----------------------------------------------------------

    def _grid(self, window_px: tuple[int, int]) -> Grid:
        """Return where the pixels of a grid lie on the specimen, drift included."""
        state = self.get_state()
        width, height = window_px
        pitch_um = self.get_view_field() * 1e3 / width
        angle = math.radians(state.scan_rotation_deg or 0.0)
        right = (pitch_um * math.cos(angle), pitch_um * math.sin(angle))
        down = (-right[1], right[0])
        # The beam stands in the middle of a pixel, hence half a pixel less than half a field.
        half_x, half_y = (width - 1) / 2, (height - 1) / 2
        drift_um = [v * 1e-3 * self._memory.clock_s for v in self._drift_nm_per_s]
        return Grid(
            origin=(
                state.x_mm * 1e3 + drift_um[0] - half_x * right[0] - half_y * down[0],
                state.y_mm * 1e3 + drift_um[1] - half_x * right[1] - half_y * down[1],
            ),
            per_column=right,
            per_row=down,
        )

    def _probe_um(self) -> float:
        """Return the width of the beam on the specimen: focus, and distance from it."""
        state = self.get_state()
        slope_x, slope_y = (math.tan(math.radians(angle)) for angle in self._tilt_deg)
        focus_mm = FOCUS_MM + slope_x * state.x_mm + slope_y * state.y_mm
        return math.hypot(self._focused_um, CONVERGENCE_RAD * 1e3 * (self.get_working_distance() - focus_mm))
