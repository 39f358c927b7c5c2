"""A microscope whose specimen is a folder of recorded images."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Image, MicroscopeState, ScanLimits
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import PixelBox
from sparse_actors.imaging import ScanTiming

from .pixel_noise import add_noise, key_of
from .virtual_instrument import VirtualInstrument

DECODED_PATCHES = 24
"""Decoded images kept in memory."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One recorded image and its place in the panorama, px."""

    left: int
    top: int
    width: int
    height: int
    file: Path


class ReplayMicroscope(VirtualInstrument):
    """Scans recorded images, laid out in one plane by a table.

    Stage mm = panorama px * pixel size, the field of view being centred on the stage position. The
    stage moves in whole recorded pixels. Each pixel of a scan is the recorded pixel under its
    centre (the right or lower one where the centre lies on a border): nothing is interpolated or
    averaged. A grid whose pitch equals the recorded pixel returns the recorded values; on a
    coarser grid the declared noise is added.

    Parameters
    ----------
    directory
        Folder of the images.
    table
        CSV in that folder with columns row, col, x_px, y_px, w, h and file or source_file.
    file_pattern
        Name of an image made of its row and col, such as "r{row}_c{col:02d}.jpg"; empty: by the table.
    pixel_nm
        Size of a recorded pixel.
    noise_grey, noise_dwell_ns
        Standard deviation of the added noise at that dwell time, in grey values of 0-255; it
        falls with the square root of the dwell time.
    seed
        Of the noise.
    pixel_type
        What the images hold.
    row_overhead_us, scan_overhead_ms, time_scale, log_file, state_file
        See `VirtualInstrument`.

    Raises
    ------
    ValueError
        The table cannot be read or lists an image that is not there.
    """

    name: ClassVar[str] = "Replay of recorded images"

    def __init__(
        self,
        *,
        directory: str,
        table: str = "layout.csv",
        file_pattern: str = "",
        pixel_nm: float = 33.0,
        noise_grey: float = 0.0,
        noise_dwell_ns: float = 32_000.0,
        seed: int = 1,
        pixel_type: Literal["uint8", "uint16"] = "uint8",
        row_overhead_us: float = 0.0,
        scan_overhead_ms: float = 0.0,
        time_scale: float = 1.0,
        log_file: str = "",
        state_file: str = "",
    ) -> None:
        if not (pixel_nm > 0 and noise_grey >= 0 and noise_dwell_ns > 0):
            raise ValueError("pixel_nm and noise_dwell_ns must be above 0, noise_grey not below 0")
        self._pixel_mm = pixel_nm * 1e-6
        self._patches = _read_table(Path(directory), table, file_pattern)
        first = self._patches[0]
        x_px, y_px = first.left + first.width // 2, first.top + first.height // 2
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
        for patch in self._patches:
            c = slice(*np.searchsorted(columns, (patch.left, patch.left + patch.width)))
            r = slice(*np.searchsorted(rows, (patch.top, patch.top + patch.height)))
            if c.start < c.stop and r.start < r.stop:
                pixels = self._decoded(patch)
                image[r, c] = pixels[np.ix_(rows[r] - patch.top, columns[c] - patch.left)]
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
        for patch in self._patches:
            x, y = columns - patch.left, rows - patch.top
            inside = (x >= 0) & (x < patch.width) & (y >= 0) & (y < patch.height)
            if inside.any():
                values[inside] = self._decoded(patch)[y[inside], x[inside]]
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

    def _decode(self, patch: Patch) -> Image:
        import cv2  # slow to import, and a check of the configuration does without

        try:
            # Not cv2.imread: on Windows it opens no file whose name is not ASCII.
            coded = np.frombuffer(patch.file.read_bytes(), dtype=np.uint8)
        except OSError as error:
            raise MicroscopeError(f"{patch.file} cannot be read: {error}") from error
        image = cv2.imdecode(coded, cv2.IMREAD_ANYDEPTH)
        expected = ((patch.height, patch.width), self._limits.pixel_type)
        found = (image.shape, str(image.dtype)) if image is not None else "no image"
        if found != expected:
            raise CapabilityError(f"{patch.file} holds {found}, the table and pixel_type say {expected}")
        return np.asarray(image)

    def _not_recorded(self, x_px: int, y_px: int) -> CapabilityError:
        x_mm, y_mm = x_px * self._pixel_mm, y_px * self._pixel_mm
        return CapabilityError(
            f"nothing is recorded at panorama px ({x_px}, {y_px}), stage ({x_mm:.4f}, {y_mm:.4f}) mm"
        )

    def _device_parameters(self) -> dict[str, Any]:
        return {
            "is_simulation": True,
            "recorded": ["pixel values", "their places in the panorama"],
            "simulated": [
                "stage",
                "scan timing",
                "on grids coarser than the record: the recorded pixel under the centre, and noise",
            ],
            "images": len(self._patches),
            "pixel_nm": self._pixel_mm * 1e6,
            "noise_grey": self._noise_grey,
            "noise_dwell_ns": self._noise_dwell_ns,
            "seed": self._seed,
            "row_overhead_us": self._limits.timing.row_overhead_us,
            "scan_overhead_ms": self._limits.timing.scan_overhead_ms,
            "time_scale": self._time_scale,
        }


def _read_table(directory: Path, table: str, file_pattern: str) -> tuple[Patch, ...]:
    path = directory / table
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except OSError as error:
        raise ValueError(f"table = {table!r}: {path} cannot be read: {error}") from error
    patches = []
    for number, line in enumerate(lines, start=2):
        try:
            left, top, width, height = (int(line[name]) for name in ("x_px", "y_px", "w", "h"))
            if file_pattern:
                name = file_pattern.format(row=int(line["row"]), col=int(line["col"]))
            else:
                name = line["file"] if "file" in line else line["source_file"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{path} line {number}: {type(error).__name__} {error}; expected numbers row, col, x_px, "
                "y_px, w, h and a name in file or source_file"
            ) from error
        patches.append(Patch(left, top, width, height, directory / name))
    missing = [patch.file.name for patch in patches if not patch.file.is_file()]
    if missing or not patches:
        raise ValueError(
            f"{path} lists {len(patches)} images, {len(missing)} of them are not there"
            + (f" (first: {missing[0]}); is file_pattern right?" if missing else "")
        )
    return tuple(patches)
