"""The instrument behind the fake server: stage, beam, optics, and a specimen under the beam."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pixel_noise import add_noise, key_of
from ..simulated.specimen import Grid, Specimen

FOCUS_MM = 10.0
PROBE_UM, WIDENING_UM_PER_MM = 0.025, 5.0
DAC_STEPS = 65536
"""Of the scan generator, over the view field; noise belongs to a step, whatever grid is scanned."""
STAGE_MM = ((-30.0, 30.0), (-30.0, 30.0), (3.0, 103.0), (-180.0, 180.0), (-10.0, 60.0))
VIEW_FIELD_MM = (0.0001, 10.0)
WORKING_DISTANCE_MM = (2.0, 100.0)
DETECTORS = {"SE": 1, "BSE": 13}
"""Numbers as commands take them; not their places in the list."""
SPEEDS_US = {1: 0.1, 2: 0.32, 3: 1.0, 4: 3.2, 5: 10.0, 6: 32.0}


@dataclass(frozen=True)
class Lattice:
    """Where the beam goes, in view fields from the middle of the field."""

    x: float
    y: float
    """Of the pixel in column 0 and row 0."""
    pitch: float
    left: int
    top: int
    columns: int
    rows: int

    @classmethod
    def of_area(cls, width: int, height: int, box: tuple[int, int, int, int]) -> Lattice:
        """Return left, top, right, bottom (inclusive) on a grid over the field; pixels are square."""
        left, top, right, bottom = box
        return cls(
            (0.5 - width / 2) / width,
            (0.5 - height / 2) / width,
            1 / width,
            left,
            top,
            right - left + 1,
            bottom - top + 1,
        )


@dataclass
class VideoChannel:
    """What a video channel shows."""

    detector: int = 0
    is_enabled: bool = False
    bits: int = 8


@dataclass
class FakeInstrument:
    """Settings of the instrument, in the units of the protocol. Every client sees the same ones."""

    seed: int = 1
    time_scale: float = 1.0
    """How much faster than a real one it is; 0 waits for nothing."""
    row_overhead_us: float = 20.0
    scan_overhead_ms: float = 1.0
    noise_grey: float = 2.2
    """At a signal of 100 and a dwell time of 32 us; it falls with the root of the dwell time."""
    stage: list[float] = field(default_factory=lambda: [0.0, 0.0, 10.0, 0.0, 0.0])
    stage_speed_mm_per_s: float = 1.0
    is_stage_calibrated: bool = True
    working_distance_mm: float = FOCUS_MM
    view_field_mm: float = 0.2
    beam: int = 0
    beam_change_s: float = 0.0
    has_vacuum: bool = True
    blanker: int = 2
    live_scanning: int = 1
    speed: int = 3
    gain_black: dict[int, tuple[float, float]] = field(
        default_factory=lambda: dict.fromkeys(DETECTORS.values(), (50.0, 50.0))
    )
    channels: list[VideoChannel] = field(
        default_factory=lambda: [
            VideoChannel(1, True),
            VideoChannel(13, True),
            VideoChannel(),
            VideoChannel(),
        ]
    )

    def __post_init__(self) -> None:
        self._specimen = Specimen(self.seed)
        self._stage_until_s = self._beam_until_s = 0.0
        self._beam_next = self.beam
        self.scanning = threading.Lock()
        """Held by the scan that runs."""
        self.image(Lattice.of_area(2, 2, (0, 0, 1, 1)), 1000.0, 1, 8)  # compiles what computes pixels

    # -- stage and beam ---------------------------------------------------------------------

    @property
    def is_stage_busy(self) -> bool:
        """Whether the stage moves."""
        return time.monotonic() < self._stage_until_s

    def move(self, *target: float) -> bool:
        """Go to x, y ...; False and no move for a target outside the limits, or before calibration."""
        pairs = zip(target, STAGE_MM, strict=False)
        if not (self.is_stage_calibrated and all(low <= value <= high for value, (low, high) in pairs)):
            return False
        way_mm = float(np.hypot(*(np.array(target[:2]) - self.stage[:2])))
        self._stage_until_s = time.monotonic() + self.scaled_s(way_mm / self.stage_speed_mm_per_s)
        self.stage[: len(target)] = target
        return True

    def beam_state(self) -> int:
        """Return 0 off, 1 on, 1000 changing."""
        if time.monotonic() < self._beam_until_s:
            return 1000
        self.beam = self._beam_next
        return self.beam

    def switch_beam(self, is_on: bool) -> None:
        """Begin to switch; on is ignored without vacuum."""
        if is_on and not self.has_vacuum:
            return
        self._beam_next = int(is_on)
        self._beam_until_s = time.monotonic() + self.beam_change_s

    def scaled_s(self, seconds: float) -> float:
        """Return how long something takes here."""
        return seconds / self.time_scale if self.time_scale else 0.0

    def scan_s(self, pixels: int, lines: int, dwell_ns: float) -> float:
        """Return how long a scan takes on a real one."""
        return pixels * dwell_ns * 1e-9 + lines * self.row_overhead_us * 1e-6 + self.scan_overhead_ms * 1e-3

    # -- signal -----------------------------------------------------------------------------

    def image(
        self, lattice: Lattice, dwell_ns: float, detector: int, bits: int
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return the pixels (rows, columns) of a lattice."""
        field_um = self.view_field_mm * 1e3
        pitch_um = lattice.pitch * field_um
        grid = Grid(
            (self.stage[0] * 1e3 + lattice.x * field_um, self.stage[1] * 1e3 + lattice.y * field_um),
            (pitch_um, 0.0),
            (0.0, pitch_um),
        )
        probe_um = float(np.hypot(PROBE_UM, WIDENING_UM_PER_MM * (self.working_distance_mm - FOCUS_MM)))
        shape = lattice.rows, lattice.columns
        grey = self._specimen.signal(grid, lattice.left, lattice.top, shape, probe_um)
        if detector != DETECTORS["SE"]:
            grey = 255 - grey
        rows, columns = np.indices(shape)
        add_noise(
            grey,
            _dac_steps(lattice.x + (lattice.left + columns) * lattice.pitch),
            _dac_steps(lattice.y + (lattice.top + rows) * lattice.pitch),
            shot_grey=self.noise_grey**2 / 100 * 32000 / dwell_ns,
            read_noise_grey=0.0,
            key=key_of(self.seed, *(round(v * 1e6) for v in self.stage[:2]), round(dwell_ns)),
        )
        gain, black = self.gain_black[detector]
        grey = grey * 2 ** ((gain - 50) / 10) + (black - 50) * 2.55
        full = np.rint(np.clip(grey, 0, 255) * (257 if bits == 16 else 1))
        return full.astype(np.uint16) if bits == 16 else full.astype(np.uint8)


def _dac_steps(fractions: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    # A little is added, as the same place comes out with another rounding from another lattice.
    steps: NDArray[np.int64] = np.floor((fractions + 0.5) * DAC_STEPS + 1e-6).astype(np.int64)
    return steps
