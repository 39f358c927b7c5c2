"""The driver `hosted`: a microscope driver that runs in another process, and perhaps in another Python."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Capabilities, Image, Microscope, MicroscopeState, ScanLimits
from sparse_actors.contracts.spectra import EnergyAxis, Spectra
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import PixelBox

from .answers import as_array, as_number, as_record
from .host_link import HostLink
from .host_session import HostSession
from .vendor_side.microscope_host import TOKEN_VARIABLE

ADDRESSES = ("ipc://", "tcp://127.0.0.1:", "tcp://localhost:", "tcp://[::1]:")
SLOWEST = 2.0
"""A scan may take so many times longer than dwell times and overheads say."""
ROW_S = 1e-3
"""Granted to every line of a scan, as not every driver says what one takes."""
DEAD_TIME = 5.0
"""A spectrum may take so many times longer than its live time."""


class HostedMicroscope(Microscope):
    """Passes every call on to a host process, with a deadline; the host is started again when it dies.

    Parameters
    ----------
    command
        Program and arguments that start the host, such as ["C:/Phenom/python38/python.exe", "phenom.py"].
    address
        In place of `command`: where a host that somebody else starts waits, ipc://FILE or
        tcp://127.0.0.1:PORT. Such a host is connected to again, not started.
    log_file
        File that what a started host prints is appended to; empty: the last lines stand in errors only.
    start_timeout_s
        How long the host may take to start, and its driver to connect.
    reply_timeout_s
        How long any call may take, and a scan beyond the time of the beam.
    stage_timeout_s
        How long a move, preparing and resetting may take.
    stage_tolerance_um
        How far from its last position the stage may be found after the host was started again.

    Raises
    ------
    ValueError
        An option is out of range, or both `command` and `address` are given, or none.
    """

    name: ClassVar[str] = "Hosted microscope"
    instrument_options: ClassVar[tuple[str, ...] | None] = ("address", "command")

    def __init__(
        self,
        *,
        command: Sequence[str] = (),
        address: str = "",
        log_file: str = "",
        start_timeout_s: float = 60.0,
        reply_timeout_s: float = 10.0,
        stage_timeout_s: float = 120.0,
        stage_tolerance_um: float = 5.0,
    ) -> None:
        if bool(command) == bool(address):
            raise ValueError("give either command, which starts the host, or address, where it waits")
        if address and not address.startswith(ADDRESSES):
            raise ValueError(
                f"address = {address!r}: expected ipc://FILE or tcp://127.0.0.1:PORT, on this computer"
            )
        if not min(start_timeout_s, reply_timeout_s, stage_timeout_s, stage_tolerance_um) > 0:
            raise ValueError("timeouts and stage_tolerance_um must be above 0")
        self._command = tuple(command)
        self._address = address
        self._log_file = Path(log_file) if log_file else None
        self._start_timeout_s = start_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._stage_timeout_s = stage_timeout_s
        self._stage_tolerance_mm = stage_tolerance_um * 1e-3
        self._session: HostSession | None = None
        self._limits = ScanLimits()
        self._methods: frozenset[str] = frozenset()

    def _host(self) -> HostSession:
        if self._session is None:
            raise MicroscopeError(f"{self.name} is not connected: call connect")
        return self._session

    def _host_with(self, method: str) -> HostSession:
        host = self._host()
        if method not in self._methods:
            raise self._cannot(method)
        return host

    # -- connection -------------------------------------------------------------------------

    def connect(self) -> None:
        """Start the host, or find it, and let its driver connect."""
        self.disconnect()
        session = HostSession(
            lambda: HostLink(
                command=self._command,
                address=self._address,
                token=os.environ.get(TOKEN_VARIABLE, ""),
                log_file=self._log_file,
                start_within_s=self._start_timeout_s,
            ),
            start_timeout_s=self._start_timeout_s,
            reply_timeout_s=self._reply_timeout_s,
            stage_timeout_s=self._stage_timeout_s,
            stage_tolerance_mm=self._stage_tolerance_mm,
        )
        self._session = session
        self._limits, self._methods = session.limits, session.methods
        # The record must name the instrument, not this class.
        vars(self)["name"] = session.name or self.name

    def disconnect(self) -> None:
        """Let the driver disconnect, and end a host that was started here."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def get_state(self) -> MicroscopeState:
        """Read back stage and optics."""
        return self._host().state()

    def prepare(self) -> None:
        """Make ready to scan."""
        self._host().prepare()

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        """Move and wait until the stage stands."""
        self._host().change("move_stage", x_mm, y_mm, keys=("x_mm", "y_mm"), within_s=self._stage_timeout_s)

    def reset_microscope(self, state: MicroscopeState) -> None:
        """Bring stage and optics back, in a new host if the last one died."""
        self._host().reset(state)

    def save_metadata(self, path: Path) -> None:
        """Write stage position, what the driver says of the instrument, and the time as JSON."""
        device = self._host().call("metadata") if "metadata" in self._methods else {}
        metadata = {
            "name": self.name,
            "time": datetime.now(UTC).isoformat(),
            "stage_and_optics": asdict(self.get_state()),
            "device": device,
        }
        path.write_text(json.dumps(metadata, indent=2, default=str), encoding="utf-8")

    # -- what the instrument can do ---------------------------------------------------------

    @property
    def limits(self) -> ScanLimits:
        """What the driver in the host declares."""
        return self._limits

    @property
    def capabilities(self) -> Capabilities:
        """What the driver in the host offers."""
        has = self._methods.__contains__
        return Capabilities(
            sub_region=True,
            mask_scan=has("scan_mask"),
            point_scan=has("scan_points"),
            park_beam=has("park_beam"),
            beam_blank=has("set_beam_blank"),
            working_distance=has("set_working_distance"),
            brightness_contrast=has("set_brightness_contrast"),
            view_field=has("set_view_field"),
            scan_rotation=has("set_scan_rotation"),
            time_estimate=has("estimate_time_s"),
            abort=has("abort"),
            limits=self._limits,
            spectra=has("acquire_spectra") and has("energy_axis"),
        )

    def actual_dwell_ns(self, dwell_ns: float) -> float:
        """Return the dwell time as the driver in the host says, or as it is."""
        if self._session is None or "actual_dwell_ns" not in self._methods:
            return dwell_ns
        return as_number(self._session.call("actual_dwell_ns", dwell_ns), "actual_dwell_ns")

    def estimate_time_s(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> float:
        """Return the instrument's own estimate."""
        host = self._host_with("estimate_time_s")
        return as_number(host.call("estimate_time_s", _listed(box), dwell_ns, window_px), "estimate_time_s")

    # -- optics -----------------------------------------------------------------------------

    def set_working_distance(self, working_distance_mm: float) -> None:
        """Focus."""
        host = self._host_with("set_working_distance")
        host.change("set_working_distance", working_distance_mm, keys=("working_distance_mm",))

    def get_working_distance(self) -> float:
        """Return the working distance in mm."""
        self._host_with("set_working_distance")
        return as_number(self.get_state().working_distance_mm, "get_state")

    def set_brightness_contrast(self, brightness_pct: float, contrast_pct: float) -> None:
        """Set black level and gain."""
        host = self._host_with("set_brightness_contrast")
        keys = ("brightness_pct", "contrast_pct")
        host.change("set_brightness_contrast", brightness_pct, contrast_pct, keys=keys)

    def get_brightness_contrast(self) -> tuple[float, float]:
        """Return (brightness, contrast) in percent."""
        self._host_with("set_brightness_contrast")
        state = self.get_state()
        return as_number(state.brightness_pct, "get_state"), as_number(state.contrast_pct, "get_state")

    def set_view_field(self, width_mm: float) -> None:
        """Set the width of the field of view."""
        self._host_with("set_view_field").change("set_view_field", width_mm, keys=("view_field_mm",))

    def get_view_field(self) -> float:
        """Return the width of the field of view in mm."""
        self._host_with("set_view_field")
        return as_number(self.get_state().view_field_mm, "get_state")

    def set_scan_rotation(self, rotation_deg: float) -> None:
        """Turn the scan."""
        host = self._host_with("set_scan_rotation")
        host.change("set_scan_rotation", rotation_deg, keys=("scan_rotation_deg",))

    def set_beam_blank(self, is_blanked: bool) -> None:
        """Take the beam off the specimen, or put it back."""
        self._host_with("set_beam_blank").call("set_beam_blank", is_blanked)

    def park_beam(self, x_px: int, y_px: int, window_px: tuple[int, int]) -> None:
        """Hold the beam on one pixel of the grid."""
        self._host_with("park_beam").call("park_beam", int(x_px), int(y_px), window_px)

    # -- scanning ---------------------------------------------------------------------------

    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan one box."""
        return self._scanned(
            "scan_area",
            (_listed(box), dwell_ns, window_px),
            box.area,
            box.height,
            dwell_ns,
            (box.height, box.width),
        )

    def scan_mask(self, mask: NDArray[np.bool_], dwell_ns: float) -> Image:
        """Scan the True pixels of a mask."""
        self._host_with("scan_mask")
        pixels, rows = int(mask.sum()), int(mask.any(axis=1).sum())
        if not pixels:
            raise CapabilityError("a scan of a mask needs at least one pixel")
        return self._scanned("scan_mask", (mask, dwell_ns), pixels, rows, dwell_ns, (pixels,))

    def scan_points(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan single pixels in the order given."""
        self._host_with("scan_points")
        count = len(points_px)
        if not count:
            raise CapabilityError("a scan of points needs at least one pixel")
        points = np.ascontiguousarray(points_px, dtype=np.int64)
        return self._scanned("scan_points", (points, dwell_ns, window_px), count, count, dwell_ns, (count,))

    def _scanned(
        self,
        method: str,
        arguments: tuple[Any, ...],
        pixels: int,
        rows: int,
        dwell_ns: float,
        shape: tuple[int, ...],
    ) -> Image:
        nominal_s = self._limits.timing.duration_s(pixels, rows, dwell_ns)
        within_s = SLOWEST * nominal_s + rows * ROW_S + self._reply_timeout_s
        value = self._host().call(method, *arguments, within_s=within_s)
        return as_array(value, shape, (self._limits.pixel_type,), method)

    def abort(self) -> None:
        """End what is in flight; a host that does not obey is killed."""
        self._host_with("abort").abort()

    # -- spectra ----------------------------------------------------------------------------

    def energy_axis(self) -> EnergyAxis:
        """Return the energy axis of the spectra."""
        return as_record(self._host_with("energy_axis").call("energy_axis"), EnergyAxis, "energy_axis")

    def acquire_spectra(
        self, points_px: NDArray[np.int64], live_time_s: NDArray[np.float64], window_px: tuple[int, int]
    ) -> Spectra:
        """Count X-rays at one point after the other."""
        host = self._host_with("acquire_spectra")
        points = np.ascontiguousarray(points_px, dtype=np.int64)
        live_s = np.ascontiguousarray(live_time_s, dtype=np.float64)
        n = len(points)
        if (
            points.shape != (n, 2)
            or live_s.shape != (n,)
            or n == 0
            or not (np.isfinite(live_s) & (live_s > 0)).all()
        ):
            raise CapabilityError(
                f"{live_s.size} live times for {n} points: expected one above 0 for each of 1 or more"
            )
        overhead_s = n * self._limits.spectrum_overhead_s
        within_s = DEAD_TIME * float(live_s.sum()) + SLOWEST * overhead_s + self._reply_timeout_s
        answer = host.call("acquire_spectra", points, live_s, window_px, within_s=within_s)
        if not isinstance(answer, list) or len(answer) != 2:
            raise MicroscopeError(
                f"acquire_spectra of the host returned {answer!r}: expected counts and live times"
            )
        counts, live = answer
        channels = self.energy_axis().channels
        return Spectra(
            counts=as_array(counts, (n, channels), ("uint16", "uint32"), "acquire_spectra"),
            live_time_s=as_array(live, (n,), ("float64",), "acquire_spectra"),
        )


def _listed(box: PixelBox) -> list[int]:
    return [box.left, box.top, box.width, box.height]
