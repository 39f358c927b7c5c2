"""A scanning electron microscope over the simulated specimen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Capabilities, Image, ScanLimits
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import MicroscopeError, StageError
from sparse_actors.geometry import PixelBox
from sparse_actors.imaging import ScanTiming

from ..pixel_noise import add_noise, key_of
from .column import PROBE_NM, SimulatedColumn
from .labelled_specimen import LabelledSpecimen
from .specimen import Specimen
from .spectrometer import Spectrometer
from .spectrum_library import STEEL, read_library, steel_library

SPECTRA = -1
"""Stands for the dwell time in the key of what is random at the points of spectra."""
BLOCK_PX = 96
"""Masks and points are computed in blocks of this side, and only where a pixel is asked for."""


class SimulatedMicroscope(SimulatedColumn):
    """Scans a synthetic dual-phase steel; see `Specimen` for what lies under the beam.

    The same pixel of the same exposure (seed, stage position, grid, dwell time) has the same noise
    each time, so a repeated scan returns the same image; a spectrum of the same live time too.

    Parameters
    ----------
    seed
        Of the specimen and of the noise.
    damage
        Voids and cracks relative to the reference specimen.
    artefacts
        Shadows and etch pits relative to the reference specimen: what a fast scan takes for damage.
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
    probe_nm
        Standard deviation of the focused beam; a wide one blurs small features, and coarse scans see them.
    pixel_type
        uint8, or uint16 with grey values 257 times as large.
    has_mask_scan
        False for an instrument that scans rectangles only.
    count_rate_cps
        X-ray counts per second on the matrix.
    background_cps_per_channel
        Counts per second added to every channel.
    ill_share, ill_cps_per_channel
        Part of the points that give a spectrum of pure noise, and its counts per second.
    spectrum_spread
        Relative standard deviation of composition and counts among the 12 spectra of a phase.
    energy_drift_ev_per_h
        How fast the energies read from the spectra rise, on the instrument's clock.
    dead_time_us
        Of a photon: a live time t at n counts per second takes t (1 + n * dead time).
    spectrum_overhead_us
        Time to move the beam to the point of a spectrum and to settle there.
    phase_image, phase_image_um
        Image of labels to put in the place of the steel, and its width; see `LabelledSpecimen`.
    spectra
        Library of spectra (npz) to put in the place of those made here; see `read_library`.
        A live time of 10 s, 750 counts per second, 0.2 of background and 2 of ill noise are the doses of
        the SLADS-EDS paper (section 3.2.1).
    fail_scans
        Numbers of the exposures (scans, and calls for spectra), counted from 1, that raise
        MicroscopeError.
    stall_scan
        Number of an exposure that never ends until `abort`; 0 for none.
    lose_connection_at
        Number of an exposure at which the connection is lost until `connect`; 0 for none.
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
        artefacts: float = 1.0,
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
        probe_nm: float = PROBE_NM,
        pixel_type: Literal["uint8", "uint16"] = "uint8",
        has_mask_scan: bool = True,
        count_rate_cps: float = 100_000.0,
        background_cps_per_channel: float = 0.0,
        ill_share: float = 0.0,
        ill_cps_per_channel: float = 100.0,
        spectrum_spread: float = 0.05,
        energy_drift_ev_per_h: float = 0.0,
        dead_time_us: float = 0.0,
        spectrum_overhead_us: float = 0.0,
        phase_image: str = "",
        phase_image_um: float = 100.0,
        spectra: str = "",
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
        if not (probe_nm > 0 and artefacts >= 0):
            raise ValueError("probe_nm must be above 0, artefacts must not be below 0")
        if not (spectrum_spread >= 0 and dead_time_us >= 0 and spectrum_overhead_us >= 0):
            raise ValueError("spectrum_spread, dead_time_us and spectrum_overhead_us must not be below 0")
        super().__init__(
            drift_nm_per_s=drift_nm_per_s,
            tilt_deg=tilt_deg,
            probe_nm=probe_nm,
            limits=ScanLimits(
                pixel_type=pixel_type,
                timing=ScanTiming(row_overhead_us=row_overhead_us, scan_overhead_ms=scan_overhead_ms),
                timing_source="declared",
                spectrum_overhead_s=spectrum_overhead_us * 1e-6,
            ),
            time_scale=time_scale,
            log_file=log_file,
            state_file=state_file,
        )
        self.specimen = Specimen(seed, damage, artefacts)
        """The steel, also where an image of labels takes its place."""
        self._surface: Specimen | LabelledSpecimen = self.specimen
        phases = len(STEEL)
        if phase_image:
            self._surface = LabelledSpecimen(Path(phase_image), phase_image_um)
            phases = self._surface.highest_label
        self._spectrometer = Spectrometer(
            read_library(Path(spectra)) if spectra else steel_library(seed, spectrum_spread),
            count_rate_cps=count_rate_cps,
            background_cps_per_channel=background_cps_per_channel,
            ill_share=ill_share,
            ill_cps_per_channel=ill_cps_per_channel,
        )
        if phases > self._spectrometer.phases:
            raise ValueError(
                f"the specimen has {phases} phases, there are spectra of {self._spectrometer.phases}: "
                "give phase_image and spectra with the same phases"
            )
        self._spectrum_parameters = {
            "count_rate_cps": count_rate_cps,
            "background_cps_per_channel": background_cps_per_channel,
            "ill_share": ill_share,
            "ill_cps_per_channel": ill_cps_per_channel,
            "spectrum_spread": spectrum_spread,
            "energy_drift_ev_per_h": energy_drift_ev_per_h,
            "dead_time_us": dead_time_us,
            "spectrum_overhead_us": spectrum_overhead_us,
            "phase_image": phase_image,
            "phase_image_um": phase_image_um,
            "spectra": spectra,
            "phases": [] if phase_image or spectra else [phase.name for phase in STEEL],
        }
        self._energy_drift_ev_per_h = energy_drift_ev_per_h
        self._dead_time_s = dead_time_us * 1e-6
        self._seed = seed
        self._stage_speed_mm_per_s = stage_speed_mm_per_s
        self._stage_settle_s = stage_settle_s
        self._beam_current_na = beam_current_na
        self._shot_noise_grey_us_na = shot_noise_grey_us_na
        self._read_noise_grey = read_noise_grey
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
        self._counts(np.zeros((1, 2), dtype=np.int64), np.array([1e-6]), (2, 2))

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

    def _field(self, window_px: tuple[int, int]) -> tuple[int, ...]:
        """Return what names a field of view and its grid to the noise."""
        state = self.get_state()
        return (self._seed, round(state.x_mm * 1e6), round(state.y_mm * 1e6), *window_px)

    def _image(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        shape = (box.height, box.width)
        grey = self._surface.signal(self._grid(window_px), box.left, box.top, shape, self._probe_um())
        add_noise(
            grey,
            np.arange(box.left, box.right),
            np.arange(box.top, box.bottom)[:, np.newaxis],
            shot_grey=self._shot_noise_grey_us_na / (dwell_ns * 1e-3 * self._beam_current_na),
            read_noise_grey=self._read_noise_grey,
            key=key_of(*self._field(window_px), round(dwell_ns * 1e3)),
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

    # -- spectra ----------------------------------------------------------------------------

    def energy_axis(self) -> EnergyAxis:
        """Return the energy axis of the library."""
        return self._spectrometer.axis

    def true_phases(self, box: PixelBox, window_px: tuple[int, int]) -> NDArray[np.int64]:
        """Return the phase (rows, columns) of each pixel of a box, 0 where the spectrum is ill."""
        rows, columns = np.indices((box.height, box.width))
        points = np.column_stack([columns.ravel() + box.left, rows.ravel() + box.top])
        labels = self._spectrometer.labels(self._chosen(points, window_px))
        return labels.reshape(box.height, box.width)

    def _chosen(self, points_px: NDArray[np.int64], window_px: tuple[int, int]) -> NDArray[np.int64]:
        columns, rows = points_px[:, 0], points_px[:, 1]
        phases = self._surface.phases(self._grid(window_px).points(columns, rows))
        return self._spectrometer.choose(phases, columns, rows, self._spectra_key(window_px))

    def _spectra_key(self, window_px: tuple[int, int]) -> np.uint64:
        return key_of(*self._field(window_px), SPECTRA)

    def _rest_s(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> float:
        rates_cps = self._spectrometer.rates_cps(self._chosen(points_px, window_px))
        return float((live_time_s * (1 + rates_cps * self._dead_time_s)).sum())

    def _counts(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> NDArray[np.uint32]:
        return self._spectrometer.count(
            self._chosen(points_px, window_px),
            points_px[:, 0],
            points_px[:, 1],
            live_time_s,
            self._spectra_key(window_px),
            self._energy_drift_ev_per_h * 1e-3 * self._memory.clock_s / 3600,
        )

    def _device_parameters(self) -> dict[str, Any]:
        return {
            "is_simulation": True,
            "seed": self._seed,
            "beam_current_na": self._beam_current_na,
            "shot_noise_grey_us_na": self._shot_noise_grey_us_na,
            "read_noise_grey": self._read_noise_grey,
            "drift_nm_per_s": self._drift_nm_per_s,
            "tilt_deg": self._tilt_deg,
            "probe_nm": self._focused_um * 1e3,
            "row_overhead_us": self._limits.timing.row_overhead_us,
            "scan_overhead_ms": self._limits.timing.scan_overhead_ms,
            "spectrometer": self._spectrum_parameters,
            "time_scale": self._time_scale,
        }
