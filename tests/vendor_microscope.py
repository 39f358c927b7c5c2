"""A vendor's microscope in plain Python 3.8, with faults; run as the command of a host.

python vendor_microscope.py STATE_FILE FAULT=SCAN[,FAULT=SCAN ...] --connect ADDRESS
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from typing import Any

import microscope_host
from microscope_host import CapabilityError, MicroscopeError, StageError, serve

SETTINGS = {"x_mm": 0.0, "y_mm": 0.0, "view_field_mm": 0.1, "beam_on": False, "scans": 0}


class Vendor:
    """Keeps its settings in a file, as an instrument keeps them when the program that drives it dies."""

    name = "Vendor's microscope"

    def __init__(self, state_file: str, faults: dict[str, int]) -> None:
        self._file = state_file
        self._faults = faults
        self._is_aborted = threading.Event()
        self._settings: dict[str, Any] | None = None
        self._has_channel = False  # of this session: not kept by the instrument
        self.limits = {"dwell_min_ns": 10.0, "dwell_max_ns": 1e9, "max_window_px": 4096}

    def connect(self) -> None:
        self._settings = dict(SETTINGS)
        if os.path.exists(self._file):
            with open(self._file, encoding="utf-8") as file:
                self._settings.update(json.load(file))

    def disconnect(self) -> None:
        self._settings = None

    def _set(self, **changes: Any) -> dict[str, Any]:
        if self._settings is None:
            raise MicroscopeError("not connected")
        self._settings.update(changes)
        with open(self._file, "w", encoding="utf-8") as file:
            json.dump(self._settings, file)
        return self._settings

    def get_state(self) -> dict[str, Any]:
        settings = dict(self._set())
        del settings["scans"]
        return settings

    def prepare(self) -> None:
        self._set(beam_on=True)
        self._has_channel = True

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        if abs(x_mm) > 50:
            raise StageError("out of reach")
        self._set(x_mm=x_mm, y_mm=y_mm)

    def set_view_field(self, width_mm: float) -> None:
        self._set(view_field_mm=width_mm)

    def reset_microscope(self, state: dict[str, Any]) -> None:
        self._set(**{key: state[key] for key in ("x_mm", "y_mm", "view_field_mm", "beam_on")})

    def metadata(self) -> dict[str, Any]:
        return {"serial": "0815"}

    def scan_area(self, box: list[int], dwell_ns: float, window_px: list[int]) -> Any:
        left, top, width, height = box
        if left < 0 or top < 0 or left + width > window_px[0] or top + height > window_px[1]:
            raise CapabilityError("outside")
        if max(window_px) > 4096 or not 10 <= dwell_ns <= 1e9:
            raise CapabilityError("out of range")
        if not self._has_channel:
            raise MicroscopeError("no channel selected")
        number = self._set()["scans"] + 1
        self._set(scans=number)
        for fault, at in self._faults.items():
            if at == number:
                getattr(self, fault)()
        self._is_aborted.clear()
        if dwell_ns > 1e6 and self._is_aborted.wait(60):
            raise MicroscopeError("aborted")
        shift = round(1000 * self._set()["x_mm"])
        rows = [
            bytes((7 * (left + column) + 13 * (top + row) + shift) % 200 for column in range(width))
            for row in range(height)
        ]
        return memoryview(b"".join(rows)).cast("B", (height, width))

    def abort(self) -> None:
        self._is_aborted.set()

    # -- faults -----------------------------------------------------------------------------

    def die(self) -> None:
        os.abort()

    def die_and_forget(self) -> None:
        self._set(x_mm=1.5)
        os.abort()

    def hang(self) -> None:
        threading.Event().wait()

    def hang_hard(self) -> None:
        """Hold the interpreter, as the code of a vendor can."""
        re.match("(a+)+b", "a" * 60)

    def raise_own_error(self) -> None:
        raise KeyError("lens 3")

    def return_nonsense(self) -> None:
        real = microscope_host.encode

        def once(kind: str, fields: dict[str, Any]) -> list[Any]:
            microscope_host.encode = real
            return [b"\xc1 no message"]

        microscope_host.encode = once


if __name__ == "__main__":
    microscope_host.LEAVE_S = 0.5
    faults = dict(fault.split("=") for fault in sys.argv[2].split(",") if fault)
    if "version" in faults:
        microscope_host.PROTOCOL_VERSION = int(faults.pop("version"))
    serve(Vendor(sys.argv[1], {name: int(at) for name, at in faults.items()}), sys.argv[3:])
