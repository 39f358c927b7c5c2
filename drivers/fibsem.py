"""The driver `fibsem`: microscopes that the package fibsem (openFIBSEM) drives, and its Demo microscope."""

from __future__ import annotations

import importlib
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sparse_actors.contracts.microscope import Image, Microscope, MicroscopeState, ScanLimits
from sparse_actors.errors import CapabilityError, MicroscopeError, StageError
from sparse_actors.geometry import PixelBox

MAX_WINDOW_PX = 6144
"""Of Thermo Fisher's AutoScript; the others take at least as much."""
LEVEL_RAD = 1e-3
"""A scan rotation below this is none."""


class FibsemMicroscope(Microscope):
    """The electron beam of a microscope that fibsem drives.

    Parameters
    ----------
    manufacturer
        As fibsem calls it: "ThermoFisher", "Tescan", or "Demo" for its simulator.
    ip_address
        Of the microscope's computer.
    config_path
        fibsem's own configuration file of the instrument; empty for the one that fibsem comes with.
    pixel_type
        What the instrument's images are made of.
    dwell_range_ns
        [shortest, longest] dwell time that the instrument takes.
    stage_signs
        -1 for an axis, x or y, along which the image moves against the stage.
    stage_tolerance_um
        How far from its target the stage may come to stand.

    Raises
    ------
    ValueError
        An option is out of range.
    """

    name: ClassVar[str] = "Microscope through fibsem"
    instrument_options: ClassVar[tuple[str, ...] | None] = ("manufacturer", "ip_address")

    def __init__(
        self,
        *,
        manufacturer: Literal["ThermoFisher", "Tescan", "Demo"],
        ip_address: str = "localhost",
        config_path: str = "",
        pixel_type: Literal["uint8", "uint16"] = "uint8",
        dwell_range_ns: Sequence[float] = (25.0, 1e6),
        stage_signs: Sequence[int] = (1, 1),
        stage_tolerance_um: float = 5.0,
    ) -> None:
        if len(stage_signs) != 2 or not set(stage_signs) <= {-1, 1}:
            raise ValueError(f"stage_signs = {list(stage_signs)}: expected 1 or -1 for x and for y")
        if len(dwell_range_ns) != 2 or not 0 < dwell_range_ns[0] <= dwell_range_ns[1]:
            raise ValueError(f"dwell_range_ns = {list(dwell_range_ns)}: expected [shortest, longest]")
        if not stage_tolerance_um > 0:
            raise ValueError("stage_tolerance_um must be above 0")
        self._manufacturer, self._ip_address = manufacturer, ip_address
        self._config_path = Path(config_path) if config_path else None
        self._signs = stage_signs[0], stage_signs[1]
        self._tolerance_mm = stage_tolerance_um * 1e-3
        self._limits = ScanLimits(
            dwell_min_ns=dwell_range_ns[0],
            dwell_max_ns=dwell_range_ns[1],
            max_window_px=MAX_WINDOW_PX,
            pixel_type=pixel_type,
        )
        self._microscope: Any = None
        self._structures: Any = None
        self._beam: Any = None

    # -- connection -------------------------------------------------------------------------

    def connect(self) -> None:
        """Open a session of fibsem, which sets the beam shift of the instrument to zero."""
        self.disconnect()
        try:
            utils = importlib.import_module("fibsem.utils")
            self._structures = importlib.import_module("fibsem.structures")
        except ImportError as error:
            raise CapabilityError(
                f'the driver fibsem needs the package fibsem ({error}): pip install "sparse-actors[fibsem]"'
            ) from None
        self._beam = self._structures.BeamType.ELECTRON
        try:
            self._microscope, _ = utils.setup_session(
                session_path=Path(tempfile.gettempdir()),
                config_path=self._config_path,
                setup_logging=False,
                ip_address=self._ip_address,
                manufacturer=self._manufacturer,
            )
        except Exception as error:  # whatever the vendor's library raises
            raise MicroscopeError(
                f"fibsem does not connect to {self._manufacturer} at {self._ip_address}: "
                f"{type(error).__name__}: {error}"
            ) from error
        # The record must name the instrument, not this class.
        vars(self)["name"] = f"{self._manufacturer} (fibsem)"

    def disconnect(self) -> None:
        """Close the session; never raises."""
        microscope, self._microscope = self._microscope, None
        if microscope is not None:
            try:
                microscope.disconnect()
            except Exception:  # noqa: S110 - it is gone in any case
                pass

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of fibsem's microscope; its errors come as ours."""
        if self._microscope is None:
            raise MicroscopeError(f"{self.name} is not connected: call connect")
        try:
            return getattr(self._microscope, method)(*arguments)
        except Exception as error:  # whatever the vendor's library raises
            raise MicroscopeError(f"{method} of fibsem failed: {type(error).__name__}: {error}") from error

    def get_state(self) -> MicroscopeState:
        """Read back stage and optics."""
        x_mm, y_mm = self._position_mm()
        brightness_pct, contrast_pct = self.get_brightness_contrast()
        return MicroscopeState(
            x_mm=x_mm,
            y_mm=y_mm,
            working_distance_mm=self.get_working_distance(),
            brightness_pct=brightness_pct,
            contrast_pct=contrast_pct,
            view_field_mm=self.get_view_field(),
            beam_on=bool(self._ask("is_on", self._beam)),
        )

    def prepare(self) -> None:
        """Switch the beam on and put it on the specimen."""
        rotation_rad = float(self._ask("get_scan_rotation", self._beam))
        # Which way fibsem's angle turns is not known, so a rotated scan cannot be placed on the stage.
        if abs(math.remainder(rotation_rad, math.tau)) > LEVEL_RAD:
            raise CapabilityError(
                f"the scan rotation is {math.degrees(rotation_rad):.2f} deg: "
                "set it to 0 in the microscope's software"
            )
        self._ask("turn_on", self._beam)
        self._ask("unblank", self._beam)

    def reset_microscope(self, state: MicroscopeState) -> None:
        """Bring optics, stage and beam back; what fails does not keep the rest from being restored."""
        self._ask("is_on", self._beam)
        steps: list[Callable[[], object]] = [lambda: self.move_stage(state.x_mm, state.y_mm)]
        if (distance_mm := state.working_distance_mm) is not None:
            steps.append(lambda: self.set_working_distance(distance_mm))
        if (width_mm := state.view_field_mm) is not None:
            steps.append(lambda: self.set_view_field(width_mm))
        if (brightness := state.brightness_pct) is not None and (contrast := state.contrast_pct) is not None:
            steps.append(lambda: self.set_brightness_contrast(brightness, contrast))
        if state.beam_on is False:
            steps.append(lambda: self._ask("turn_off", self._beam))
        problems = []
        for step in steps:
            try:
                step()
            except MicroscopeError as error:
                problems.append(str(error))
        if problems:
            raise MicroscopeError("not restored: " + "; ".join(problems))

    def save_metadata(self, path: Path) -> None:
        """Write position, settings, what fibsem tells of the instrument, and the time as JSON."""
        metadata = {
            "name": self.name,
            "time": datetime.now(UTC).isoformat(),
            "stage_and_optics": asdict(self.get_state()),
            "device": self._ask("get_microscope_state", self._beam).to_dict(),
        }
        path.write_text(json.dumps(metadata, indent=2, default=str), encoding="utf-8")

    # -- stage and optics -------------------------------------------------------------------

    def _position_mm(self) -> tuple[float, float]:
        position = self._ask("get_stage_position")
        return position.x * 1e3 * self._signs[0], position.y * 1e3 * self._signs[1]

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        """Move in x and y; height, rotation and tilt stay."""
        if not (math.isfinite(x_mm) and math.isfinite(y_mm)):
            raise CapabilityError(f"stage position ({x_mm}, {y_mm}) mm is not a number")
        target = self._ask("get_stage_position")
        kept = {axis: getattr(target, axis) for axis in ("z", "r", "t", "coordinate_system")}
        x_m, y_m = x_mm * 1e-3 * self._signs[0], y_mm * 1e-3 * self._signs[1]
        self._ask("move_stage_absolute", self._structures.FibsemStagePosition(x=x_m, y=y_m, **kept))
        found_mm = self._position_mm()
        if math.dist(found_mm, (x_mm, y_mm)) > self._tolerance_mm:
            raise StageError(
                f"stage sent to ({x_mm:g}, {y_mm:g}) mm stands at ({found_mm[0]:g}, {found_mm[1]:g}) mm"
            )

    def set_working_distance(self, working_distance_mm: float) -> None:
        """Focus."""
        self._ask("set_working_distance", working_distance_mm * 1e-3, self._beam)

    def get_working_distance(self) -> float:
        """Return the working distance in mm."""
        return float(self._ask("get_working_distance", self._beam)) * 1e3

    def set_brightness_contrast(self, brightness_pct: float, contrast_pct: float) -> None:
        """Set brightness and contrast of the detector."""
        self._ask("set_detector_brightness", brightness_pct / 100, self._beam)
        self._ask("set_detector_contrast", contrast_pct / 100, self._beam)

    def get_brightness_contrast(self) -> tuple[float, float]:
        """Return (brightness, contrast) in percent."""
        brightness = self._ask("get_detector_brightness", self._beam)
        return float(brightness) * 100, float(self._ask("get_detector_contrast", self._beam)) * 100

    def set_view_field(self, width_mm: float) -> None:
        """Set the width of the field of view."""
        self._ask("set_field_of_view", width_mm * 1e-3, self._beam)

    def get_view_field(self) -> float:
        """Return the width of the field of view in mm."""
        return float(self._ask("get_field_of_view", self._beam)) * 1e3

    def set_beam_blank(self, is_blanked: bool) -> None:
        """Take the beam off the specimen, or put it back."""
        self._ask("blank" if is_blanked else "unblank", self._beam)

    # -- scanning ---------------------------------------------------------------------------

    @property
    def limits(self) -> ScanLimits:
        """What was declared when the driver was made; what a scan takes is learnt."""
        return self._limits

    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan one box as fibsem's reduced area."""
        self._check(box, dwell_ns, window_px)
        width_m = float(self._ask("get_field_of_view", self._beam))
        (width, height), area = window_px, None
        if (box.width, box.height) != window_px:
            area = self._structures.FibsemRectangle(
                left=fraction(box.left, width),
                top=fraction(box.top, height),
                width=fraction(box.width, width),
                height=fraction(box.height, height),
            )
        settings = self._structures.ImageSettings(
            resolution=window_px,
            dwell_time=dwell_ns * 1e-9,
            hfw=width_m,
            beam_type=self._beam,
            save=False,
            autocontrast=False,
            reduced_area=area,
        )
        return np.array(self._ask("acquire_image", settings).data)

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


def fraction(pixels: int, size: int) -> float:
    """Return the fraction of a side that fibsem turns back into so many pixels: it rounds down."""
    share = pixels / size
    while int(share * size) < pixels:
        share = math.nextafter(share, math.inf)
    return share
