"""A scanning electron microscope over the simulated specimen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Capabilities, Image, MicroscopeState, ScanLimits
from sparse_actors.errors import CapabilityError, MicroscopeError, StageError
from sparse_actors.geometry import PixelBox
from sparse_actors.imaging import ScanTiming

from ..pixel_noise import add_noise, key_of
from ..virtual_instrument import VirtualInstrument
from .specimen import Grid, Specimen

FOCUS_MM = 10.0
"""Working distance at which the stage origin is in focus."""
PROBE_UM = 0.025
"""Standard deviation of the focused beam."""
CONVERGENCE_RAD = 0.005
"""Half angle of the beam: out of focus by d, it widens by CONVERGENCE_RAD * d."""
BLOCK_PX = 96
"""Masks and points are computed in blocks of this side, and only where a pixel is asked for."""


class SimulatedMicroscope(VirtualInstrument):
    """Scans a synthetic dual-phase steel; see `Specimen` for what lies under the beam.

    The same pixel of the same exposure (seed, stage position, grid, dwell time) has the same noise
    each time, so a repeated scan returns the same image.

    Parameters
    ----------
    seed
        Of the specimen and of the noise.
    damage
        Voids and cracks relative to the reference specimen.
    time_scale
        1 runs in real time, 10 ten times faster, 0 as fast as possible.
    row_overhead_us, scan_overhead_ms
        t_row and t_overhead of eq. 1.
    stage_speed_mm_per_s, stage_settle_s
        Time of a move: distance / speed + settling.
    beam_current_na
        More current, less noise.
    shot_noise_grey_us_na
        Variance of the noise per grey value of signal, times dwell time and current.
    read_noise_grey
        Noise that no dwell time removes. The defaults give 2.2 grey at signal 100, 32 us and 3 nA.
    drift_nm_per_s
        Speed (x, y) of the specimen under the beam, on the instrument's clock.
    tilt_deg
        Slope of the specimen along stage x and y: the working distance in focus changes with it.
    pixel_type
        uint8, or uint16 with grey values 257 times as large.
    has_mask_scan
        False for an instrument that scans rectangles only.
    fail_scans
        Numbers of the scans, counted from 1, that raise MicroscopeError.
    stall_scan
        Number of a scan that never ends until `abort`; 0 for none.
    lose_connection_at
        Number of a scan at which the connection is lost until `connect`; 0 for none.
    stage_error_at
        Number of a move that ends halfway; 0 for none.
    log_file, state_file
        See `VirtualInstrument`; empty for none.

    Raises
    ------
    ValueError
        An option is out of range.
    """

    name: ClassVar[str] = "Simulated SEM"

    def __init__(
        self,
        *,
        seed: int = 1,
        damage: float = 1.0,
        time_scale: float = 1.0,
        row_overhead_us: float = 20.0,
        scan_overhead_ms: float = 5.0,
        stage_speed_mm_per_s: float = 1.0,
        stage_settle_s: float = 0.2,
        beam_current_na: float = 3.0,
        shot_noise_grey_us_na: float = 4.3,
        read_noise_grey: float = 0.6,
        drift_nm_per_s: Sequence[float] = (0.0, 0.0),
        tilt_deg: Sequence[float] = (0.0, 0.0),
        pixel_type: Literal["uint8", "uint16"] = "uint8",
        has_mask_scan: bool = True,
        fail_scans: Sequence[int] = (),
        stall_scan: int = 0,
        lose_connection_at: int = 0,
        stage_error_at: int = 0,
        log_file: str = "",
        state_file: str = "",
    ) -> None:
        if not (beam_current_na > 0 and stage_speed_mm_per_s > 0 and damage >= 0):
            raise ValueError(
                "beam_current_na and stage_speed_mm_per_s must be above 0, damage must not be below 0"
            )
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
            limits=ScanLimits(
                pixel_type=pixel_type,
                timing=ScanTiming(row_overhead_us=row_overhead_us, scan_overhead_ms=scan_overhead_ms),
                timing_source="declared",
            ),
            time_scale=time_scale,
            log_file=log_file,
            state_file=state_file,
        )
        self.specimen = Specimen(seed, damage)
        self._seed = seed
        self._stage_speed_mm_per_s = stage_speed_mm_per_s
        self._stage_settle_s = stage_settle_s
        self._beam_current_na = beam_current_na
        self._shot_noise_grey_us_na = shot_noise_grey_us_na
        self._read_noise_grey = read_noise_grey
        self._drift_nm_per_s = (float(drift_nm_per_s[0]), float(drift_nm_per_s[1]))
        self._tilt_deg = (float(tilt_deg[0]), float(tilt_deg[1]))
        self._has_mask_scan = has_mask_scan
        self._fail_scans = frozenset(fail_scans)
        self._stall_scan = stall_scan
        self._lose_connection_at = lose_connection_at
        self._stage_error_at = stage_error_at

    @property
    def capabilities(self) -> Capabilities:
        """What is overridden, less the mask scan when the instrument is made without it."""
        return replace(super().capabilities, mask_scan=self._has_mask_scan)

    def scan_mask(self, mask: NDArray[np.bool_], dwell_ns: float) -> Image:
        """Scan the True pixels, if the instrument is made with mask scans."""
        if not self._has_mask_scan:
            raise self._cannot("mask_scan")
        return super().scan_mask(mask, dwell_ns)

    def connect(self) -> None:
        """Open the connection; compiling what computes the pixels belongs here, not to the first scan."""
        super().connect()
        self._image(PixelBox(0, 0, 2, 2), 1000.0, (2, 2))

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

    # -- stage and faults -------------------------------------------------------------------

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        """Move and read back; ends halfway where that was asked for."""
        start = self.get_state()
        if self._memory.moves + 1 != self._stage_error_at:
            return super().move_stage(x_mm, y_mm)
        super().move_stage((start.x_mm + x_mm) / 2, (start.y_mm + y_mm) / 2)
        end = self.get_state()
        raise StageError(
            f"stage sent to ({x_mm:g}, {y_mm:g}) mm stands at ({end.x_mm:g}, {end.y_mm:g}) mm: move again"
        )

    def _place(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        return x_mm, y_mm

    def _stage_time_s(self, distance_mm: float) -> float:
        return distance_mm / self._stage_speed_mm_per_s + self._stage_settle_s if distance_mm else 0.0

    def _before_scan(self, number: int) -> None:
        if number == self._stall_scan:
            self._abort.wait()
        if number == self._lose_connection_at:
            self.disconnect()
            raise MicroscopeError(f"connection lost in scan {number}: connect again")
        if number in self._fail_scans:
            raise MicroscopeError(f"scan {number} failed: try again")

    # -- pixels -----------------------------------------------------------------------------

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
        return math.hypot(PROBE_UM, CONVERGENCE_RAD * 1e3 * (self.get_working_distance() - focus_mm))

    def _image(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        state = self.get_state()
        shape = (box.height, box.width)
        grey = self.specimen.signal(self._grid(window_px), box.left, box.top, shape, self._probe_um())
        exposure = (
            self._seed,
            round(state.x_mm * 1e6),
            round(state.y_mm * 1e6),
            *window_px,
            round(dwell_ns * 1e3),
        )
        add_noise(
            grey,
            np.arange(box.left, box.right),
            np.arange(box.top, box.bottom)[:, np.newaxis],
            shot_grey=self._shot_noise_grey_us_na / (dwell_ns * 1e-3 * self._beam_current_na),
            read_noise_grey=self._read_noise_grey,
            key=key_of(*exposure),
        )
        brightness_pct, contrast_pct = self.get_brightness_contrast()
        grey *= 2 ** ((contrast_pct - 50) / 10)
        grey += (brightness_pct - 50) * 2.55
        np.clip(grey, 0, 255, out=grey)
        if self._limits.pixel_type == "uint16":
            grey *= 257
        return np.rint(grey, out=grey).astype(self._limits.pixel_type)

    def _values(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        values = np.empty(len(points_px), dtype=self._limits.pixel_type)
        blocks = points_px // BLOCK_PX
        of_block = np.unique(blocks[:, 1] * window_px[0] + blocks[:, 0], return_inverse=True)[1]
        order = np.argsort(of_block, kind="stable")
        for members in np.split(order, np.cumsum(np.bincount(of_block))[:-1]):
            points = points_px[members]
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            box = PixelBox(int(left), int(top), int(right - left + 1), int(bottom - top + 1))
            image = self._image(box, dwell_ns, window_px)
            values[members] = image[points[:, 1] - top, points[:, 0] - left]
        return values

    def _device_parameters(self) -> dict[str, Any]:
        return {
            "is_simulation": True,
            "seed": self._seed,
            "beam_current_na": self._beam_current_na,
            "shot_noise_grey_us_na": self._shot_noise_grey_us_na,
            "read_noise_grey": self._read_noise_grey,
            "drift_nm_per_s": self._drift_nm_per_s,
            "tilt_deg": self._tilt_deg,
            "row_overhead_us": self._limits.timing.row_overhead_us,
            "scan_overhead_ms": self._limits.timing.scan_overhead_ms,
            "time_scale": self._time_scale,
        }
