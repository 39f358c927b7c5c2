"""The driver `composite`: stage and optics from one driver, scans from another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import plugins
from .contracts.microscope import Capabilities, Image, Microscope, MicroscopeState, ScanLimits
from .errors import ConfigError, MicroscopeError
from .geometry import PixelBox

PARTS = ("stage", "scan")


class CompositeMicroscope(Microscope):
    """One instrument out of two drivers.

    Parameters
    ----------
    stage
        Table with `driver` and `options`, as in [microscope]: it has the stage, the optics and the beam.
    scan
        Likewise: it moves the beam and reads the signal.

    Raises
    ------
    ConfigError
        A part is not such a table, or its driver does not take its options.
    """

    name: ClassVar[str] = "Composite microscope"

    def __init__(self, *, stage: dict[str, Any], scan: dict[str, Any]) -> None:
        problems = self.problems({"stage": stage, "scan": scan})
        if problems:
            raise ConfigError(*problems)
        self._stage, self._scan = (_built(part) for part in (stage, scan))
        # The record must name the instruments, not this class.
        vars(self)["name"] = f"{self._stage.name}, scanned by {self._scan.name}"

    @staticmethod
    def parts(options: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield driver and options of each part."""
        for name in PARTS:
            part = options[name]
            yield part["driver"], part.get("options", {})

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the parts, with their full keys."""
        found = []
        for name in PARTS:
            part, key = options.get(name), f"microscope.options.{name}"
            if part is None:
                continue  # reported as a missing option
            if not isinstance(part, Mapping) or not {"driver"} <= set(part) <= {"driver", "options"}:
                found.append(f"{key} = {part!r}: expected a table with driver and, perhaps, options")
                continue
            of_part = plugins.check("microscope", str(part["driver"]), part.get("options", {}))
            found += [problem.replace("microscope", key, 1) for problem in of_part]
        return found

    # -- connection -------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect both; neither stays connected where one fails."""
        try:
            self._stage.connect()
            self._scan.connect()
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Disconnect both."""
        try:
            self._scan.disconnect()
        finally:
            self._stage.disconnect()

    def get_state(self) -> MicroscopeState:
        """Return stage and optics."""
        return self._stage.get_state()

    def prepare(self) -> None:
        """Beam on first; then the scan generator takes it."""
        self._stage.prepare()
        self._scan.prepare()

    def reset_microscope(self, state: MicroscopeState) -> None:
        """Give the beam back, then restore stage and optics; both are tried."""
        problems = []
        for part in (self._scan, self._stage):
            try:
                part.reset_microscope(state)
            except Exception as error:
                problems.append(f"{part.name}: {error}")
        if problems:
            raise MicroscopeError("; ".join(problems))

    def save_metadata(self, path: Path) -> None:
        """Write what both say of themselves into one file."""
        told = {}
        for name, part in (("stage", self._stage), ("scan", self._scan)):
            beside = path.with_name(f"{path.stem}.{name}.part")
            try:
                part.save_metadata(beside)
                told[name] = json.loads(beside.read_text(encoding="utf-8"))
            finally:
                beside.unlink(missing_ok=True)
        path.write_text(json.dumps(told, indent=2), encoding="utf-8")

    @property
    def capabilities(self) -> Capabilities:
        """Scans as the one driver can, stage and optics as the other."""
        stage, scan = self._stage.capabilities, self._scan.capabilities
        return replace(
            scan,
            working_distance=stage.working_distance,
            brightness_contrast=stage.brightness_contrast,
            view_field=stage.view_field,
            scan_rotation=stage.scan_rotation,
            spectra=False,
        )

    # -- stage and optics -------------------------------------------------------------------

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        """Move the stage."""
        self._stage.move_stage(x_mm, y_mm)

    def set_working_distance(self, working_distance_mm: float) -> None:
        """Focus."""
        self._stage.set_working_distance(working_distance_mm)

    def get_working_distance(self) -> float:
        """Return the working distance in mm."""
        return self._stage.get_working_distance()

    def set_brightness_contrast(self, brightness_pct: float, contrast_pct: float) -> None:
        """Set black level and gain."""
        self._stage.set_brightness_contrast(brightness_pct, contrast_pct)

    def get_brightness_contrast(self) -> tuple[float, float]:
        """Return (brightness, contrast) in percent."""
        return self._stage.get_brightness_contrast()

    def set_view_field(self, width_mm: float) -> None:
        """Set the width of the field of view."""
        self._stage.set_view_field(width_mm)

    def get_view_field(self) -> float:
        """Return the width of the field of view in mm."""
        return self._stage.get_view_field()

    def set_scan_rotation(self, rotation_deg: float) -> None:
        """Turn the scan."""
        self._stage.set_scan_rotation(rotation_deg)

    # -- scanning ---------------------------------------------------------------------------

    @property
    def limits(self) -> ScanLimits:
        """Limits of the scan generator."""
        return self._scan.limits

    def actual_dwell_ns(self, dwell_ns: float) -> float:
        """Return the dwell time that the scan generator uses."""
        return self._scan.actual_dwell_ns(dwell_ns)

    def estimate_time_s(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> float:
        """Return the estimate of the scan generator."""
        return self._scan.estimate_time_s(box, dwell_ns, window_px)

    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan one box."""
        return self._scan.scan_area(box, dwell_ns, window_px)

    def scan_mask(self, mask: NDArray[np.bool_], dwell_ns: float) -> Image:
        """Scan the True pixels of a mask."""
        return self._scan.scan_mask(mask, dwell_ns)

    def scan_points(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan single pixels in the order given."""
        return self._scan.scan_points(points_px, dwell_ns, window_px)

    def set_beam_blank(self, is_blanked: bool) -> None:
        """Take the beam off the specimen, or put it back."""
        self._scan.set_beam_blank(is_blanked)

    def park_beam(self, x_px: int, y_px: int, window_px: tuple[int, int]) -> None:
        """Hold the beam on one pixel of the grid."""
        self._scan.park_beam(x_px, y_px, window_px)

    def abort(self) -> None:
        """End the scan in flight."""
        self._scan.abort()


def _built(part: Mapping[str, Any]) -> Microscope:
    microscope: Microscope = plugins.build("microscope", part["driver"], part.get("options", {}))
    return microscope
