"""A simulated microscope that hangs in one of its methods until it is let go."""

from __future__ import annotations

import threading
from typing import Any

from sparse_actors.drivers.simulated import SimulatedMicroscope

LET_GO = threading.Event()


class HangingMicroscope(SimulatedMicroscope):
    """Hangs in the method of that name; 'scan_area' can be aborted, and 'spectra', the others cannot."""

    def __init__(self, hangs_in: str, **options: Any) -> None:
        super().__init__(**options)
        self._hangs_in = hangs_in
        self._is_aborted = threading.Event()

    def _hang(self, name: str) -> None:
        while name == self._hangs_in and not LET_GO.wait(0.01):
            if name in ("scan_area", "spectra") and self._is_aborted.is_set():
                self._is_aborted.clear()
                raise RuntimeError("aborted")

    def connect(self) -> None:
        self._hang("connect")
        super().connect()

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        self._hang("move_stage")
        super().move_stage(x_mm, y_mm)

    def scan_area(self, *arguments: Any) -> Any:
        self._hang("scan_area")
        return super().scan_area(*arguments)

    def acquire_spectra(self, *arguments: Any) -> Any:
        self._hang("acquire_spectra")
        self._hang("spectra")
        return super().acquire_spectra(*arguments)

    def reset_microscope(self, state: Any) -> None:
        self._hang("reset_microscope")
        super().reset_microscope(state)

    def abort(self) -> None:
        self._is_aborted.set()
