"""What the embedded microscopes share: an instrument that exists in this process only.

It behaves as a real one does towards its user: it takes its time, refuses what it cannot do,
keeps its settings when the program that drives it dies, and keeps its own log.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Image, Microscope, MicroscopeState, ScanLimits
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import PixelBox

from .instrument_log import InstrumentLog


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentMemory:
    """What the instrument keeps while no program is connected."""

    state: MicroscopeState
    is_blanked: bool = False
    scans: int = 0
    """Scans and acquisitions of spectra begun since the instrument was made."""
    moves: int = 0
    clock_s: float = 0.0
    """Nominal time of all moves, scans and spectra; drift runs on it, whatever `time_scale` is."""
    in_flight: dict[str, Any] | None = None
    """The log line of the scan or spectra begun and not ended."""


class VirtualInstrument(Microscope):
    """Stage, clock, log and state of an embedded microscope; a subclass supplies the pixels.

    Parameters
    ----------
    initial
        Settings of the instrument when it has no `state_file` yet.
    limits
        What `limits` reports; its timing is what a scan takes (eq. 1 of the SPARSE paper).
    time_scale
        How much faster than a real instrument it runs: 1 is real time; 0 does not wait at all.
    log_file
        Where one JSON line for each move, scan and acquisition of spectra is appended; empty for no log.
    state_file
        Where the settings are kept between processes; empty to forget them.
    """

    instrument_options: ClassVar[tuple[str, ...] | None] = None

    def __init__(
        self,
        *,
        initial: MicroscopeState,
        limits: ScanLimits,
        time_scale: float,
        log_file: str,
        state_file: str,
    ) -> None:
        if not (math.isfinite(time_scale) and time_scale >= 0):
            raise ValueError(f"time_scale = {time_scale}: expected 0 (no waiting) or a factor above 0")
        self._limits = limits
        self._time_scale = time_scale
        self._log = InstrumentLog(Path(log_file) if log_file else None)
        self._state_file = Path(state_file) if state_file else None
        self._memory = InstrumentMemory(state=initial)
        self._is_connected = False
        self._abort = threading.Event()

    # -- what a subclass supplies -----------------------------------------------------------

    @abstractmethod
    def _image(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Return the pixels of a box, (rows, columns)."""

    @abstractmethod
    def _values(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Return the pixels at points (n, 2) of x, y; equal to those of `_image`."""

    @abstractmethod
    def _stage_time_s(self, distance_mm: float) -> float:
        """Return how long a move takes, settling included."""

    @abstractmethod
    def _place(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        """Return where the stage comes to stand when sent to a position."""

    @abstractmethod
    def _device_parameters(self) -> dict[str, Any]:
        """Return what `save_metadata` records beside position and settings."""

    def _before_scan(self, number: int) -> None:
        """Raise or hang where a fault was asked for at this scan."""

    # -- connection, state ------------------------------------------------------------------

    def connect(self) -> None:
        """Open the connection and read what the instrument remembers."""
        if self._state_file is not None and self._state_file.exists():
            kept = json.loads(self._state_file.read_text(encoding="utf-8"))
            self._memory = InstrumentMemory(**{**kept, "state": MicroscopeState(**kept["state"])})
        self._is_connected = True
        if self._memory.in_flight is not None:
            self._log.write({**self._memory.in_flight, "finished_s": None, "outcome": "cut off"})
            self._remember(in_flight=None)

    def disconnect(self) -> None:
        """Close the connection; the settings stay as they are."""
        self._is_connected = False

    def get_state(self) -> MicroscopeState:
        """Read back stage and optics."""
        self._require_connection()
        return self._memory.state

    def _require_connection(self) -> None:
        if not self._is_connected:
            raise MicroscopeError(f"{self.name} is not connected, or the connection was lost: call connect")

    def _remember(self, **changes: Any) -> None:
        self._memory = replace(self._memory, **changes)
        if self._state_file is not None:
            self._state_file.parent.mkdir(parents=True, exist_ok=True)
            beside = self._state_file.with_name(self._state_file.name + ".new")
            beside.write_text(json.dumps(asdict(self._memory)), encoding="utf-8")
            os.replace(beside, self._state_file)

    def _set(self, **settings: Any) -> None:
        self._remember(state=replace(self.get_state(), **settings))

    def prepare(self) -> None:
        """Switch the beam on and put it on the specimen."""
        self._set(beam_on=True)
        self._remember(is_blanked=False)

    def reset_microscope(self, state: MicroscopeState) -> None:
        """Bring stage and optics back; the optics first, as they cannot fail."""
        self._require_connection()
        kept = {f.name: getattr(state, f.name) for f in fields(state) if f.name not in ("x_mm", "y_mm")}
        self._set(**kept)
        try:
            self.move_stage(state.x_mm, state.y_mm)
        except MicroscopeError as error:
            raise MicroscopeError(f"optics restored, stage not: {error}") from error

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        """Move, wait for the stage to settle, and read back."""
        state, started = self.get_state(), _Stopwatch()
        if not (math.isfinite(x_mm) and math.isfinite(y_mm)):
            raise CapabilityError(f"stage position ({x_mm}, {y_mm}) mm is not a number")
        x_mm, y_mm = self._place(x_mm, y_mm)
        nominal_s = self._stage_time_s(math.hypot(x_mm - state.x_mm, y_mm - state.y_mm))
        time.sleep(self._remaining_s(nominal_s, started))
        self._set(x_mm=x_mm, y_mm=y_mm)
        self._remember(moves=self._memory.moves + 1, clock_s=self._memory.clock_s + nominal_s)
        entry = {"what": "move", "x_mm": x_mm, "y_mm": y_mm, "nominal_s": nominal_s, "outcome": "done"}
        self._log.write(self._times(started) | entry)

    def set_view_field(self, width_mm: float) -> None:
        """Set the width of the field of view; pixels are square."""
        if not 1e-4 <= width_mm <= 20:
            raise CapabilityError(f"view field {width_mm} mm: expected 0.0001 to 20 mm")
        self._set(view_field_mm=width_mm)

    def get_view_field(self) -> float:
        """Return the width of the field of view in mm."""
        width_mm = self.get_state().view_field_mm
        assert width_mm is not None  # noqa: S101 - every virtual instrument starts with one
        return width_mm

    def set_beam_blank(self, is_blanked: bool) -> None:
        """Take the beam off the specimen, or put it back."""
        self._require_connection()
        self._remember(is_blanked=is_blanked)

    def park_beam(self, x_px: int, y_px: int, window_px: tuple[int, int]) -> None:
        """Hold the beam on one pixel of the grid."""
        self._check(PixelBox(x_px, y_px, 1, 1), self._limits.dwell_min_ns, window_px)

    def save_metadata(self, path: Path) -> None:
        """Write position, settings, device parameters and the time as JSON."""
        metadata = {
            "name": self.name,
            "time": datetime.now(UTC).isoformat(),
            "stage_and_optics": asdict(self.get_state()),
            "beam_blanked": self._memory.is_blanked,
            "scans": self._memory.scans,
            "clock_s": self._memory.clock_s,
            "device": self._device_parameters(),
        }
        path.write_text(json.dumps(metadata, indent=2), encoding="utf-8")

    # -- scanning ---------------------------------------------------------------------------

    @property
    def limits(self) -> ScanLimits:
        """What was declared when the instrument was made."""
        return self._limits

    def estimate_time_s(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> float:
        """Return the nominal time of `scan_area`, by eq. 1."""
        self._check(box, dwell_ns, window_px)
        return self._limits.timing.duration_s(box.area, box.height, dwell_ns)

    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan one box; takes as long as eq. 1 says, divided by the time scale."""
        self._check(box, dwell_ns, window_px)
        return self._scan(
            lambda: self._image(box, dwell_ns, window_px),
            kind="area",
            box=box,
            pixels=box.area,
            rows=box.height,
            dwell_ns=dwell_ns,
            window_px=window_px,
        )

    def scan_mask(self, mask: NDArray[np.bool_], dwell_ns: float) -> Image:
        """Scan the True pixels; every line that has one costs a flyback."""
        points = np.argwhere(mask)[:, ::-1]
        return self._scan_listed("mask", points, dwell_ns, (mask.shape[1], mask.shape[0]))

    def scan_points(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan single pixels in the order given; the beam jumps, so no line costs a flyback."""
        return self._scan_listed("points", points_px, dwell_ns, window_px)

    def _scan_listed(
        self,
        kind: Literal["mask", "points"],
        points_px: NDArray[np.int64],
        dwell_ns: float,
        window_px: tuple[int, int],
    ) -> Image:
        if len(points_px) == 0:
            raise CapabilityError(f"a scan of {kind} needs at least one pixel")
        box = self._box_around(points_px)
        self._check(box, dwell_ns, window_px)
        return self._scan(
            lambda: self._values(points_px, dwell_ns, window_px),
            kind=kind,
            box=box,
            pixels=len(points_px),
            rows=len(np.unique(points_px[:, 1])) if kind == "mask" else 0,
            dwell_ns=dwell_ns,
            window_px=window_px,
        )

    def abort(self) -> None:
        """End the exposure in flight; without one nothing happens."""
        self._abort.set()

    @staticmethod
    def _box_around(points_px: NDArray[np.int64]) -> PixelBox:
        left, top = (int(v) for v in points_px.min(axis=0))
        right, bottom = (int(v) for v in points_px.max(axis=0))
        return PixelBox(left, top, right - left + 1, bottom - top + 1)

    def _check(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> None:
        limits, (width, height) = self._limits, window_px
        if not (1 <= width <= limits.max_window_px and 1 <= height <= limits.max_window_px):
            raise CapabilityError(f"grid {width} x {height}: expected 1 to {limits.max_window_px} px a side")
        if box.left < 0 or box.top < 0 or box.right > width or box.bottom > height:
            raise CapabilityError(f"box {box} does not lie within the grid {width} x {height}")
        if not limits.dwell_min_ns <= dwell_ns <= limits.dwell_max_ns:
            raise CapabilityError(
                f"dwell {dwell_ns} ns: expected {limits.dwell_min_ns:g} to {limits.dwell_max_ns:g} ns"
            )

    def _scan(
        self,
        pixels_of: Callable[[], Image],
        *,
        kind: str,
        box: PixelBox,
        pixels: int,
        rows: int,
        dwell_ns: float,
        window_px: tuple[int, int],
    ) -> Image:
        return self._expose(
            pixels_of,
            self._limits.timing.duration_s(pixels, rows, dwell_ns),
            {
                "what": "scan",
                "kind": kind,
                "box": [box.left, box.top, box.width, box.height],
                "pixels": pixels,
                "rows": rows,
                "dwell_ns": dwell_ns,
                "window_px": list(window_px),
            },
        )

    def _expose(
        self, measured: Callable[[], NDArray[Any]], nominal_s: float, order: dict[str, Any]
    ) -> NDArray[Any]:
        """Put the beam on the specimen for `nominal_s`; the log gets `order` and how it went."""
        state, number = self.get_state(), self._memory.scans + 1
        if not state.beam_on or self._memory.is_blanked:
            raise MicroscopeError("the beam is off or blanked: call prepare before scanning")
        started = _Stopwatch()
        entry = {**order, "number": number, "x_mm": state.x_mm, "y_mm": state.y_mm, "nominal_s": nominal_s}
        self._abort.clear()
        self._remember(scans=number, in_flight=self._times(started) | entry)
        outcome = "failed"
        try:
            self._before_scan(number)
            result = measured()
            if self._abort.wait(self._remaining_s(nominal_s, started)):
                outcome = "aborted"
                raise MicroscopeError(f"{entry['what']} {number} was aborted")
            outcome = "done"
            return result
        finally:
            self._remember(in_flight=None, clock_s=self._memory.clock_s + nominal_s)
            self._log.write(self._times(started) | entry | {"outcome": outcome})

    def _remaining_s(self, nominal_s: float, started: _Stopwatch) -> float:
        """Return what is left to wait; computing the pixels counts as scanning them."""
        if self._time_scale == 0:
            return 0.0
        return max(0.0, nominal_s / self._time_scale - started.elapsed_s())

    def _times(self, started: _Stopwatch) -> dict[str, Any]:
        finished_s = started.unix_s + started.elapsed_s()
        return {"started_s": started.unix_s, "finished_s": finished_s, "time_scale": self._time_scale}


class _Stopwatch:
    """Unix time of the start, and time since on a clock that never steps."""

    def __init__(self) -> None:
        self.unix_s = time.time()
        self._start_s = time.perf_counter()

    def elapsed_s(self) -> float:
        return time.perf_counter() - self._start_s
