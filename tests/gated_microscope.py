"""A simulated microscope that takes so many scans, and waits at the next until a file is there."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from sparse_actors.drivers.simulated import SimulatedMicroscope

from sparse_actors.errors import MicroscopeError


class GatedMicroscope(SimulatedMicroscope):
    """Waits for the file `gate` after `free` scans, having made `gate` + ".waits"; a wait can be aborted."""

    def __init__(self, gate: str, free: int = 3, **options: Any) -> None:
        super().__init__(**options)
        self._gate, self._free = Path(gate), free
        self._is_aborted = threading.Event()

    def scan_area(self, *arguments: Any) -> Any:
        self._free -= 1
        if self._free < 0 and not self._gate.exists():
            self._gate.with_name(self._gate.name + ".waits").touch()
            while not self._gate.exists():
                if self._is_aborted.wait(0.01):
                    raise MicroscopeError("aborted")
        return super().scan_area(*arguments)

    def abort(self) -> None:
        self._is_aborted.set()


class LeasedMicroscope(GatedMicroscope):
    """One that only one run at a time may have."""

    instrument_options = ()


class CrashingMicroscope(SimulatedMicroscope):
    """Takes its process with it, as the library of a vendor can."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        print("out of memory", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class AddressedMicroscope(GatedMicroscope):
    """One of several, told apart by their addresses."""

    instrument_options = ("address",)
