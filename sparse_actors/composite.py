"""The driver `composite`: stage and optics from one driver, scans from another, spectra from a third."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import plugins
from .contracts.microscope import Capabilities, Image, Microscope, MicroscopeState, ScanLimits
from .contracts.spectra import EnergyAxis, Spectra
from .contracts.spectrum_source import SpectrumSource
from .errors import ConfigError, MicroscopeError
from .geometry import PixelBox
from .parked_spectra import ParkedSpectra

PARTS: dict[str, plugins.Kind] = {
    "stage": "microscope",
    "scan": "microscope",
    "spectra": "spectrum source",
}


class CompositeMicroscope(Microscope):
    """One instrument out of two drivers, or three.

    Parameters
    ----------
    stage
        Table with `driver` and `options`, as in [microscope]: it has the stage, the optics and the beam.
    scan
        Likewise: it moves the beam and reads the signal.
    spectra
        Likewise, a spectrum source: it counts X-rays while `scan` parks the beam.

    Raises
    ------
    ConfigError
        A part is not such a table, or its driver does not take its options.
    """

    name: ClassVar[str] = "Composite microscope"

    def __init__(
        self, *, stage: dict[str, Any], scan: dict[str, Any], spectra: dict[str, Any] | None = None
    ) -> None:
        problems = self.problems({"stage": stage, "scan": scan, "spectra": spectra})
        if problems:
            raise ConfigError(*problems)
        self._stage: Microscope = _built("microscope", stage)
        self._scan: Microscope = _built("microscope", scan)
        self._source: SpectrumSource | None = None
        if spectra is not None:
            self._source = _built("spectrum source", spectra)
            self._spectra = ParkedSpectra(self._scan, self._source)
        # The record must name the instruments, not this class.
        counted = f", spectra by {self._source.name}" if self._source else ""
        vars(self)["name"] = f"{self._stage.name}, scanned by {self._scan.name}{counted}"

    @staticmethod
    def parts(options: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield driver and options of each part that is a microscope."""
        for name, kind in PARTS.items():
            if kind == "microscope":
                yield options[name]["driver"], options[name].get("options", {})

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the parts, with their full keys."""
        found = []
        for name, kind in PARTS.items():
            part, key = options.get(name), f"microscope.options.{name}"
            if part is None:
                continue  # left out, or reported as a missing option
            if not isinstance(part, Mapping) or not {"driver"} <= set(part) <= {"driver", "options"}:
                found.append(f"{key} = {part!r}: expected a table with driver and, perhaps, options")
                continue
            of_part = plugins.check(kind, str(part["driver"]), part.get("options", {}))
            above = "microscope" if kind == "microscope" else key  # what their keys begin with
            found += [problem.replace(above, key, 1) for problem in of_part]
        return found

    # -- connection -------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect all; none stays connected where one fails."""
        try:
            self._stage.connect()
            self._scan.connect()
            if self._source is not None:
                self._source.connect()
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Disconnect all."""
        with ExitStack() as stack:
            stack.callback(self._stage.disconnect)
            stack.callback(self._scan.disconnect)
            if self._source is not None:
                stack.callback(self._source.disconnect)

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
            spectra=self._source is not None and scan.park_beam,
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
        """Limits of the scan generator, and of the spectrum source."""
        if self._source is None:
            return self._scan.limits
        return replace(
            self._scan.limits,
            spectrum_overhead_s=self._source.overhead_s,
            live_time_max_s=self._source.live_time_range_s[1],
        )

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

    def energy_axis(self) -> EnergyAxis:
        """Return the energy axis of the spectrum source."""
        return self._with_source().energy_axis()

    def acquire_spectra(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> Spectra:
        """Park the beam on one point after the other, and count there."""
        self._with_source()
        return self._spectra.acquire(points_px, live_time_s, window_px)

    def _with_source(self) -> SpectrumSource:
        if self._source is None or not self._scan.capabilities.park_beam:
            raise self._cannot("spectra")
        return self._source

    def abort(self) -> None:
        """End the scan or the spectra in flight."""
        if self._source is not None:
            self._spectra.abort()
        self._scan.abort()


def _built(kind: plugins.Kind, part: Mapping[str, Any]) -> Any:
    return plugins.build(kind, part["driver"], part.get("options", {}))
