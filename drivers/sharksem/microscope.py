"""The driver `sharksem`: a TESCAN microscope scans what it is asked for, and nothing else."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Capabilities, Image, ScanLimits
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import PixelBox
from sparse_actors.imaging import ScanTiming

from .client import NoReplyError
from .column import SharkSemColumn
from .link import ConnectionLostError
from .message import Fields, Idle
from .scan_stream import STREAM_SINCE, program_of
from .session import (
    BEAM_ALWAYS_OFF,
    BEAM_ON_IN_SCANS,
    DWELL_SINCE,
    Session,
    has_blanker,
    select_channel,
    speeds_ns,
)

ESTIMATE_SINCE = (3, 2, 16)
DWELL_MIN_NS, DWELL_MAX_NS = 20.0, 1e9
"""As documented for stream programs; for scans of areas no limits are known."""
UNKNOWN_FLYBACK_S = 1e-3
"""Granted to every line before a scan counts as late."""


class SharkSemMicroscope(SharkSemColumn):
    """A TESCAN microscope whose software serves SharkSEM 2 or 3.

    Parameters
    ----------
    host, port
        Computer and port of the microscope's software, mostly 8300; images come from the port after it.
    detector
        Name of the signal detector, as the microscope lists it; empty for the one the channel shows.
    channel
        Video channel to use; all others are switched off during a run.
    pixel_type
        uint8, or uint16.
    masks
        "stream" scans masks and points as stream programs (protocol 3.1.16 and licence SharkSEM
        Advanced); "none" scans rectangles only.
    stage_signs
        -1 for an axis, x or y, along which the image moves against the stage.
    reply_timeout_s
        How long the microscope may take to answer a command.
    silence_timeout_s
        How long no image data may come during a scan.
    stage_timeout_s, beam_timeout_s
        How long a move of the stage and switching the beam may take.
    stage_tolerance_um
        How far from its target the stage may come to stand.
    min_region_px
        Fewer pixels than this are not scanned at once; small scans are slow on some instruments.

    Raises
    ------
    ValueError
        An option is out of range.
    """

    name: ClassVar[str] = "TESCAN SEM (SharkSEM)"

    def __init__(
        self,
        *,
        host: str,
        port: int,
        detector: str = "",
        channel: int = 0,
        pixel_type: Literal["uint8", "uint16"] = "uint8",
        masks: Literal["none", "stream"] = "none",
        stage_signs: Sequence[int] = (1, 1),
        reply_timeout_s: float = 10.0,
        silence_timeout_s: float = 10.0,
        stage_timeout_s: float = 120.0,
        beam_timeout_s: float = 100.0,
        stage_tolerance_um: float = 5.0,
        min_region_px: int = 1,
    ) -> None:
        super().__init__(
            host=host,
            port=port,
            detector=detector,
            channel=channel,
            stage_signs=stage_signs,
            reply_timeout_s=reply_timeout_s,
            stage_timeout_s=stage_timeout_s,
            beam_timeout_s=beam_timeout_s,
            stage_tolerance_um=stage_tolerance_um,
        )
        if not min(reply_timeout_s, silence_timeout_s, stage_timeout_s, beam_timeout_s, min_region_px) > 0:
            raise ValueError("timeouts and min_region_px must be above 0")
        self._limits = ScanLimits(
            dwell_min_ns=DWELL_MIN_NS,
            dwell_max_ns=DWELL_MAX_NS,
            pixel_type=pixel_type,
            min_region_px=min_region_px,
        )
        self._masks = masks
        self._silence_timeout_s = silence_timeout_s
        self._bits = 8 if pixel_type == "uint8" else 16
        self._speeds_ns: dict[int, float] = {}
        """Dwell times by speed, where a scan cannot have one of its own."""
        self._has_estimate = False
        self._has_mask_scan = False
        self._abort = threading.Event()

    # -- what this instrument can do --------------------------------------------------------

    def _learn_instrument(self) -> None:
        client = self._client
        limits = self._limits
        self._has_blanker = has_blanker(client)
        if client.version < DWELL_SINCE:
            self._speeds_ns = speeds_ns(client)
            dwells_ns = self._speeds_ns.values()
            limits = replace(limits, dwell_min_ns=min(dwells_ns), dwell_max_ns=max(dwells_ns))
        self._has_estimate = client.version >= ESTIMATE_SINCE
        if self._has_estimate:
            limits = replace(limits, timing=self._declared_timing(), timing_source="declared")
        self._has_mask_scan = self._masks == "stream"
        if self._has_mask_scan:
            if client.version < STREAM_SINCE:
                raise CapabilityError('masks = "stream" needs SharkSEM 3.1.16 or later')
            if not client.ask("IsLicenseValid", "SharkSEM Advanced").integer():
                raise CapabilityError('masks = "stream" needs the licence SharkSEM Advanced')
        self._limits = limits

    @property
    def limits(self) -> ScanLimits:
        """What the scan generator accepts; its timing is what the microscope itself reckons with."""
        return self._limits

    @property
    def capabilities(self) -> Capabilities:
        """What is overridden, less what version, licence and options of this instrument leave out."""
        return replace(
            super().capabilities,
            mask_scan=self._has_mask_scan,
            point_scan=self._has_mask_scan,
            time_estimate=self._has_estimate,
            beam_blank=self._has_blanker,
        )

    def actual_dwell_ns(self, dwell_ns: float) -> float:
        """Return whole nanoseconds, or the nearest of the instrument's speeds."""
        if not self._speeds_ns:
            return float(round(dwell_ns))
        return self._speeds_ns[self._speed_for(dwell_ns)]

    def _speed_for(self, dwell_ns: float) -> int:
        return min(self._speeds_ns, key=lambda n: abs(math.log(self._speeds_ns[n] / dwell_ns)))

    def estimate_time_s(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> float:
        """Return the microscope's own estimate."""
        self._link()
        if not self._has_estimate:
            raise self._cannot("time_estimate")
        self._check(box, dwell_ns, window_px)
        return self._estimate_s(box, dwell_ns, window_px)

    def _estimate_s(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> float:
        area = (*window_px, box.left, box.top, box.right - 1, box.bottom - 1)
        return self._client.ask("ScGetTimeEstEx", *area, 1, round(dwell_ns)).number()

    def _declared_timing(self) -> ScanTiming:
        """Solve eq. 1 of the SPARSE paper for t_row and t_overhead with two of the estimates."""
        low, high, side, dwell_ns = 64, 192, 256, 1000
        short_s, tall_s = (
            self._estimate_s(PixelBox(0, 0, low, rows), dwell_ns, (side, side)) for rows in (low, high)
        )
        row_s = (tall_s - short_s) / (high - low)
        return ScanTiming(
            row_overhead_us=max(row_s - low * dwell_ns * 1e-9, 0.0) * 1e6,
            scan_overhead_ms=max(short_s - low * row_s, 0.0) * 1e3,
        )

    # -- scanning ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Stop the operator's live scan, switch the beam on, select detector and channel."""
        client = self._link()
        if self._session is None:
            self._session = Session.read(client, has_blanker=self._has_blanker)
        client.ask("GUISetScanning", 0)
        client.ask("ScStopScan")
        self._set_beam(True)
        if self._session.blanker == BEAM_ALWAYS_OFF:
            self._set_blanker(BEAM_ON_IN_SCANS)
        select_channel(client, self._channel, self._detector, self._bits)

    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan one box; the microscope leaves the rest of the field alone."""
        client = self._link()
        self._check(box, dwell_ns, window_px)
        # Bounds are inclusive.
        area = [*window_px, box.left, box.top, box.right - 1, box.bottom - 1, 1]
        if self._speeds_ns:
            client.ask("ScSetSpeed", self._speed_for(dwell_ns))
        else:
            area.append(round(dwell_ns))

        def start(frame: int) -> Fields:
            return client.ask("ScScanXY", frame, *area, wait=Idle.STAGE | Idle.OPTICS | Idle.PROCEDURE)

        return self._expose(start, box.area, box.height, dwell_ns).reshape(box.height, box.width)

    def scan_mask(self, mask: NDArray[np.bool_], dwell_ns: float) -> Image:
        """Scan the True pixels as a stream of lines, on a square grid."""
        height, width = mask.shape
        edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
        rows, first = np.nonzero(edges == 1)
        end = np.nonzero(edges == -1)[1]
        return self._stream(np.column_stack([first, rows, end - first]), dwell_ns, (width, height))

    def scan_points(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan single pixels of a square grid as a stream, in the order given."""
        runs = np.column_stack([points_px, np.ones(len(points_px), dtype=np.int64)])
        return self._stream(runs, dwell_ns, window_px)

    def _stream(self, runs: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        client = self._link()
        if not self._has_mask_scan:
            raise self._cannot("mask_scan")
        if len(runs) == 0:
            raise CapabilityError("a scan of a mask or of points needs at least one pixel")
        left, top = (int(v) for v in runs[:, :2].min(axis=0))
        right, bottom = int((runs[:, 0] + runs[:, 2]).max()), int(runs[:, 1].max()) + 1
        self._check(PixelBox(left, top, right - left, bottom - top), dwell_ns, window_px)
        program = program_of(runs, round(dwell_ns), window_px)

        def start(frame: int) -> Fields:
            return client.ask("ScStream", frame, 1, program, wait=Idle.STAGE | Idle.OPTICS | Idle.PROCEDURE)

        return self._expose(start, int(runs[:, 2].sum()), len(runs), dwell_ns)

    def abort(self) -> None:
        """End the scan in flight; the thread that scans notices it within a few hundredths of a second."""
        self._abort.set()

    def _expose(self, start: Callable[[int], Fields], pixels: int, lines: int, dwell_ns: float) -> Image:
        """Start a scan, receive its pixels, and stop it: every scan must be stopped, finished or not."""
        client = self._client
        nominal_s = self._limits.timing.duration_s(pixels, lines, self.actual_dwell_ns(dwell_ns))
        self._abort.clear()
        frame = client.next_frame()
        try:
            code = start(frame).integer()
        except NoReplyError:
            self._stop_scan()
            raise
        if code != 0:
            # Nothing was started, and a scan that runs is not ours to stop.
            raise MicroscopeError(
                f"the microscope refuses the scan (code {code}): another program scans, the beam is off, or "
                "it does not accept this area or dwell time"
            )
        try:
            image = client.collect(
                frame,
                self._channel,
                pixels,
                self._bits,
                duration_s=1.5 * nominal_s + lines * UNKNOWN_FLYBACK_S + self._silence_timeout_s,
                silence_s=self._silence_timeout_s + dwell_ns * 1e-9,
                is_aborted=self._abort.is_set,
            )
            # Carried out when the scan generator is idle, so that the next scan finds it so.
            client.ask("ScStopScan", wait=Idle.SCAN)
        except BaseException:
            self._stop_scan()
            raise
        return image

    def _stop_scan(self) -> None:
        """End the scan at once and read away what is under way; what fails here follows another failure."""
        try:
            if self._client.is_open:
                self._client.ask("ScStopScan")
                self._client.drain(at_most_s=self._silence_timeout_s)
        except (NoReplyError, ConnectionLostError):
            self._client.close()

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
