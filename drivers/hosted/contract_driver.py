"""Hosts a driver of this Python, so that its crash is not the crash of the run.

python -m sparse_actors.drivers.hosted.contract_driver MODULE:CLASS [--options JSON] --bind ADDRESS
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sparse_actors.contracts.microscope import Microscope, MicroscopeState
from sparse_actors.geometry import PixelBox

from .vendor_side.microscope_host import OPTIONAL, serve

CAPABILITY_OF = {
    "set_working_distance": "working_distance",
    "set_brightness_contrast": "brightness_contrast",
    "set_view_field": "view_field",
    "set_scan_rotation": "scan_rotation",
    "set_beam_blank": "beam_blank",
    "park_beam": "park_beam",
    "scan_mask": "mask_scan",
    "scan_points": "point_scan",
    "energy_axis": "spectra",
    "acquire_spectra": "spectra",
    "estimate_time_s": "time_estimate",
    "abort": "abort",
}
"""What an instrument must be capable of for a method; the others are always there."""


class ContractDriver:
    """A driver of the contract as a host wants it: boxes as lists, states as maps, arrays as buffers."""

    def __init__(self, microscope: Microscope) -> None:
        self._microscope = microscope
        for name in (
            "connect",
            "disconnect",
            "prepare",
            "move_stage",
            "park_beam",
            "abort",
            "actual_dwell_ns",
        ):
            setattr(self, name, getattr(microscope, name))
        for name in OPTIONAL:
            if name.startswith("set_"):
                setattr(self, name, getattr(microscope, name))

    @property
    def name(self) -> str:
        """As the microscope calls itself."""
        return self._microscope.name

    @property
    def methods(self) -> list[str]:
        """What this instrument can, once it is connected."""
        can = self._microscope.capabilities
        return [name for name in OPTIONAL if getattr(can, CAPABILITY_OF.get(name, "sub_region"))]

    @property
    def limits(self) -> dict[str, Any]:
        """As the instrument reports them."""
        return asdict(self._microscope.limits)

    def get_state(self) -> dict[str, Any]:
        """Stage and optics."""
        return asdict(self._microscope.get_state())

    def reset_microscope(self, state: dict[str, Any]) -> None:
        """Bring stage and optics back."""
        self._microscope.reset_microscope(MicroscopeState(**state))

    def metadata(self) -> Any:
        """Return what the driver writes of itself."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "metadata.json"
            self._microscope.save_metadata(file)
            return json.loads(file.read_text(encoding="utf-8"))

    def estimate_time_s(self, box: list[int], dwell_ns: float, window_px: list[int]) -> float:
        """Return the instrument's own estimate."""
        return self._microscope.estimate_time_s(_box(box), dwell_ns, _size(window_px))

    def scan_area(self, box: list[int], dwell_ns: float, window_px: list[int]) -> Any:
        """Scan one box."""
        return self._microscope.scan_area(_box(box), dwell_ns, _size(window_px))

    def scan_mask(self, mask: memoryview, dwell_ns: float) -> Any:
        """Scan the True pixels."""
        return self._microscope.scan_mask(np.array(mask), dwell_ns)

    def scan_points(self, points_px: memoryview, dwell_ns: float, window_px: list[int]) -> Any:
        """Scan single pixels."""
        return self._microscope.scan_points(np.array(points_px), dwell_ns, _size(window_px))

    def energy_axis(self) -> dict[str, Any]:
        """Return the energy axis of the spectra."""
        return asdict(self._microscope.energy_axis())

    def acquire_spectra(
        self, points_px: memoryview, live_time_s: memoryview, window_px: list[int]
    ) -> list[Any]:
        """Count X-rays; returns counts and live times."""
        points, live_s = np.array(points_px), np.array(live_time_s)
        spectra = self._microscope.acquire_spectra(points, live_s, _size(window_px))
        return [spectra.counts, spectra.live_time_s]


def _box(box: list[int]) -> PixelBox:
    left, top, width, height = box
    return PixelBox(left, top, width, height)


def _size(window_px: list[int]) -> tuple[int, int]:
    width, height = window_px
    return width, height


def main() -> None:
    """Serve the driver that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("driver", help="MODULE:CLASS of a microscope driver")
    parser.add_argument("--options", default="{}", metavar="JSON", help="what its class takes")
    known, rest = parser.parse_known_args()
    module, _, name = known.driver.partition(":")
    microscope = getattr(importlib.import_module(module), name)(**json.loads(known.options))
    serve(ContractDriver(microscope), rest)


if __name__ == "__main__":
    main()
