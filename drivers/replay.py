"""A microscope whose specimen is a folder of recorded images."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Capabilities, Image, MicroscopeState, ScanLimits
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import CapabilityError
from sparse_actors.geometry import PixelBox
from sparse_actors.imaging import ScanTiming

from .pixel_noise import add_noise, key_of
from .recorded.csv_table import read_table
from .recorded.open_recording import open_recording
from .recorded.recording import Patch, Places, Recording
from .spectrum_image import SpectrumImage, read_spectrum_image
from .virtual_spectrometer import VirtualSpectrometer

DECODED_PATCHES = 24
"""Decoded images kept in memory."""


class ReplayMicroscope(VirtualSpectrometer):
    """Scans recorded images, laid out in one plane by a table, or the one of a spectrum image.

    Stage mm = panorama px * pixel size, the field of view being centred on the stage position. The
    stage moves in whole recorded pixels. Each pixel of a scan is the recorded pixel under its
    centre (the right or lower one where the centre lies on a border): nothing is interpolated or
    averaged. A grid whose pitch equals that of a record returns the recorded values; on a
    coarser grid the declared noise is added. What was recorded on several grids, as a survey is, is
    taken of the coarsest that is fine enough, and of the field of view that is nearest.
    The spectrum of a point is that of the recorded pixel; for a shorter live time each of its photons
    is kept or not, by a hash of the pixel and of the live time, so that the same order gives the same
    spectrum.

    Parameters
    ----------
    recording
        What was recorded, in the place of directory and table: a tree of `export --to paper-tiff`,
        TileConfiguration.txt, positions of MIST, a folder of TIFFs that say where the stage was, a
        picture of HyperSpy or OME-Zarr; see `open_recording`.
    image
        Which picture of a recording that has several.
    mirror_stage
        "x", "y" or "xy": axes of the stage that grow against the image, in a folder of TIFFs.
    directory
        Folder of the images.
    table
        CSV in that folder with columns row, col, x_px, y_px, w, h and file or source_file.
    file_pattern
        Name of an image made of its row and col, such as "r{row}_c{col:02d}.jpg"; empty: by the table.
    pixel_nm
        Size of a recorded pixel, the finest; files that state their own have that.
    noise_grey, noise_dwell_ns
        Standard deviation of the added noise at that dwell time, in grey values of 0-255; it
        falls with the square root of the dwell time.
    seed
        Of the noise.
    pixel_type
        What the images hold; that of a spectrum image is brought to it.
    spectrum_image
        File in the place of directory and table, a field of view of its own; see
        `read_spectrum_image`. Without it there are no spectra.
    recorded_live_time_s
        How long the detector counted at each of its pixels.
    is_spectrum_repeated
        Whether a longer live time gives the recorded photons again, which adds no knowledge;
        otherwise it is refused.
    row_overhead_us, scan_overhead_ms, time_scale, log_file, state_file
        See `VirtualInstrument`.

    Raises
    ------
    ValueError
        The recording or the table cannot be read, or lists an image that is not there.
    """

    name: ClassVar[str] = "Replay of recorded images"

    def __init__(
        self,
        *,
        recording: str = "",
        image: str = "",
        mirror_stage: Literal["", "x", "y", "xy"] = "",
        directory: str = "",
        table: str = "layout.csv",
        file_pattern: str = "",
        pixel_nm: float = 33.0,
        noise_grey: float = 0.0,
        noise_dwell_ns: float = 32_000.0,
        seed: int = 1,
        pixel_type: Literal["uint8", "uint16"] = "uint8",
        spectrum_image: str = "",
        recorded_live_time_s: float = 0.0,
        is_spectrum_repeated: bool = False,
        row_overhead_us: float = 0.0,
        scan_overhead_ms: float = 0.0,
        time_scale: float = 1.0,
        log_file: str = "",
        state_file: str = "",
    ) -> None:
        if not (pixel_nm > 0 and noise_grey >= 0 and noise_dwell_ns > 0):
            raise ValueError("pixel_nm and noise_dwell_ns must be above 0, noise_grey not below 0")
        if sum(map(bool, (recording, directory, spectrum_image))) != 1:
            raise ValueError("give one of recording, directory and spectrum_image")
        if mirror_stage not in ("", "x", "y", "xy"):
            raise ValueError(f"mirror_stage = {mirror_stage!r}: expected x, y, xy or nothing")
        if spectrum_image and not recorded_live_time_s > 0:
            raise ValueError("recorded_live_time_s must be given, above 0, with spectrum_image")
        self._recording: SpectrumImage | None = None
        if spectrum_image:
            self._recording = read_spectrum_image(Path(spectrum_image))
            pixel_nm = self._recording.pixel_nm or pixel_nm
            rows, columns = self._recording.shape
            scanned = self._recording.image
            patch = Patch(0, 0, columns, rows, Path(spectrum_image), lambda: _as_type(scanned, pixel_type))
            found = Recording((patch,))
        elif recording:
            found = open_recording(Path(recording), pixel_nm=pixel_nm, image=image, mirror_stage=mirror_stage)
            pixel_nm = found.pixel_nm or pixel_nm
        else:
            found = Recording(read_table(Path(directory), table, file_pattern))
        self._patches = found.patches
        self._places = Places(found.patches)
        self._recorded_live_time_s = recorded_live_time_s
        self._is_spectrum_repeated = is_spectrum_repeated
        self._pixel_mm = pixel_nm * 1e-6
        first = self._patches[0]
        x_px, y_px = first.field_centre or (first.left + first.width // 2, first.top + first.height // 2)
        super().__init__(
            initial=MicroscopeState(
                x_mm=x_px * self._pixel_mm,
                y_mm=y_px * self._pixel_mm,
                view_field_mm=first.width * self._pixel_mm,
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
        self._noise_grey = noise_grey
        self._noise_dwell_ns = noise_dwell_ns
        self._seed = seed
        self._decoded = lru_cache(maxsize=DECODED_PATCHES)(self._decode)

    def _place(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        return round(x_mm / self._pixel_mm) * self._pixel_mm, round(y_mm / self._pixel_mm) * self._pixel_mm

    def _stage_time_s(self, distance_mm: float) -> float:
        return 0.0

    # -- pixels -----------------------------------------------------------------------------

    def _pitch(self, window_px: tuple[int, int]) -> float:
        """Return recorded pixels per pixel of the grid."""
        pitch = self.get_view_field() / (window_px[0] * self._pixel_mm)
        if pitch < 1 - 1e-6:
            raise CapabilityError(
                f"grid of {pitch * self._pixel_mm * 1e6:.4g} nm: the record has {self._pixel_mm * 1e6:.4g} nm"
            )
        return pitch

    def _recorded(
        self, indices: NDArray[np.int64], axis: Literal[0, 1], window_px: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Return the columns (axis 0) or rows (axis 1) of the panorama under those of the grid."""
        state, pitch = self.get_state(), self._pitch(window_px)
        centre = round((state.x_mm, state.y_mm)[axis] / self._pixel_mm)
        left = centre - math.floor(window_px[axis] * pitch / 2 + 1e-6)
        # The small addition keeps a centre that lies on a border on one side of it.
        recorded: NDArray[np.int64] = left + np.floor((indices + 0.5) * pitch + 1e-6).astype(np.int64)
        return recorded

    def _image(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        columns = self._recorded(np.arange(box.left, box.right), 0, window_px)
        rows = self._recorded(np.arange(box.top, box.bottom), 1, window_px)
        image = np.zeros((box.height, box.width), dtype=self._limits.pixel_type)
        is_recorded = np.zeros(image.shape, dtype=np.bool_)
        for patch in self._under(columns, rows, window_px):
            c = slice(*np.searchsorted(columns, (patch.left, patch.left + patch.width)))
            r = slice(*np.searchsorted(rows, (patch.top, patch.top + patch.height)))
            if c.start < c.stop and r.start < r.stop:
                pixels = self._decoded(patch)
                under = (rows[r] - patch.top) // patch.pitch, (columns[c] - patch.left) // patch.pitch
                image[r, c] = pixels[np.ix_(*under)]
                is_recorded[r, c] = True
        if not is_recorded.all():
            row, column = np.argwhere(~is_recorded)[0]
            raise self._not_recorded(columns[column], rows[row])
        at_rows = np.arange(box.top, box.bottom)[:, np.newaxis]
        return self._noisy(image, np.arange(box.left, box.right), at_rows, dwell_ns, window_px)

    def _values(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        columns = self._recorded(points_px[:, 0], 0, window_px)
        rows = self._recorded(points_px[:, 1], 1, window_px)
        values = np.zeros(len(points_px), dtype=self._limits.pixel_type)
        is_recorded = np.zeros(len(points_px), dtype=np.bool_)
        for patch in self._under(columns, rows, window_px):
            x, y = columns - patch.left, rows - patch.top
            inside = (x >= 0) & (x < patch.width) & (y >= 0) & (y < patch.height)
            if inside.any():
                values[inside] = self._decoded(patch)[y[inside] // patch.pitch, x[inside] // patch.pitch]
                is_recorded |= inside
        if not is_recorded.all():
            missing = int(np.argmin(is_recorded))
            raise self._not_recorded(columns[missing], rows[missing])
        return self._noisy(values, points_px[:, 0], points_px[:, 1], dwell_ns, window_px)

    def _noisy(
        self,
        values: Image,
        columns: NDArray[np.int64],
        rows: NDArray[np.int64],
        dwell_ns: float,
        window_px: tuple[int, int],
    ) -> Image:
        if self._noise_grey == 0 or self._pitch(window_px) < 1 + 1e-6:
            return values
        state, step = self.get_state(), 257 if values.dtype == np.uint16 else 1
        place = (round(state.x_mm / self._pixel_mm), round(state.y_mm / self._pixel_mm))
        noisy = values.astype(np.float32)
        add_noise(
            noisy,
            columns,
            rows,
            shot_grey=0.0,
            read_noise_grey=self._noise_grey * step * math.sqrt(self._noise_dwell_ns / dwell_ns),
            key=key_of(self._seed, *place, *window_px, round(dwell_ns * 1e3)),
        )
        noisy_values: Image = np.rint(np.clip(noisy, 0, 255 * step)).astype(values.dtype)
        return noisy_values

    # -- spectra ----------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What is overridden; spectra only where they were recorded."""
        return replace(super().capabilities, spectra=self._recording is not None)

    def energy_axis(self) -> EnergyAxis:
        """Return the energy axis of the spectrum image."""
        return self._spectra().axis

    def _spectra(self) -> SpectrumImage:
        if self._recording is None:
            raise self._cannot("spectra")
        return self._recording

    def _rest_s(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> float:
        (height, width), longest_s = self._spectra().shape, live_time_s.max()
        if longest_s > self._recorded_live_time_s * (1 + 1e-9) and not self._is_spectrum_repeated:
            raise CapabilityError(
                f"live time {longest_s:g} s: recorded are {self._recorded_live_time_s:g} s; measure shorter, "
                "or set is_spectrum_repeated"
            )
        columns, rows = (self._recorded(points_px[:, axis], axis, window_px) for axis in (0, 1))
        is_outside = (columns < 0) | (columns >= width) | (rows < 0) | (rows >= height)
        if is_outside.any():
            missing = int(np.argmax(is_outside))
            raise self._not_recorded(columns[missing], rows[missing])
        return super()._rest_s(points_px, live_time_s, window_px)

    def _counts(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> NDArray[np.uint32]:
        return self._spectra().exposed(
            self._recorded(points_px[:, 0], 0, window_px),
            self._recorded(points_px[:, 1], 1, window_px),
            live_time_s / self._recorded_live_time_s,
            key_of(self._seed),
        )

    # -- images -----------------------------------------------------------------------------

    def _under(
        self, columns: NDArray[np.int64], rows: NDArray[np.int64], window_px: tuple[int, int]
    ) -> list[Patch]:
        """Return the patches for a scan, the best last."""
        state = self.get_state()
        centre = round(state.x_mm / self._pixel_mm), round(state.y_mm / self._pixel_mm)
        return self._places.of(columns, rows, self._pitch(window_px), centre)

    def _decode(self, patch: Patch) -> Image:
        image = patch.read()
        expected, found = (
            (shape, str(dtype))
            for shape, dtype in ((patch.shape, self._limits.pixel_type), (image.shape, image.dtype))
        )
        if found != expected:
            raise CapabilityError(f"{patch.file} holds {found}, its place and pixel_type say {expected}")
        return image

    def _not_recorded(self, x_px: int, y_px: int) -> CapabilityError:
        x_mm, y_mm = x_px * self._pixel_mm, y_px * self._pixel_mm
        return CapabilityError(
            f"nothing is recorded at panorama px ({x_px}, {y_px}), stage ({x_mm:.4f}, {y_mm:.4f}) mm"
        )

    def _device_parameters(self) -> dict[str, Any]:
        return {
            "is_simulation": True,
            "recorded": [
                "pixel values",
                "their places in the panorama",
                *(["X-ray counts"] if self._recording else []),
            ],
            "simulated": [
                "stage",
                "scan timing",
                "on grids coarser than the record: the recorded pixel under the centre, and noise",
                *(["of a shorter live time: a part of the recorded counts"] if self._recording else []),
            ],
            "recorded_live_time_s": self._recorded_live_time_s,
            "is_spectrum_repeated": self._is_spectrum_repeated,
            "images": len(self._patches),
            "pixel_nm": self._pixel_mm * 1e6,
            "noise_grey": self._noise_grey,
            "noise_dwell_ns": self._noise_dwell_ns,
            "seed": self._seed,
            "row_overhead_us": self._limits.timing.row_overhead_us,
            "scan_overhead_ms": self._limits.timing.scan_overhead_ms,
            "time_scale": self._time_scale,
        }


def _as_type(image: Image, pixel_type: Literal["uint8", "uint16"]) -> Image:
    if image.dtype == pixel_type:
        return image
    # Black and white stay what they are.
    if pixel_type == "uint16":
        return image.astype(np.uint16) * np.uint16(257)
    return (image // np.uint16(257)).astype(np.uint8)
