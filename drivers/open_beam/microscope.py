"""The driver `open_beam`: an external scan generator moves the beam and reads the signal."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import Image, Microscope, MicroscopeState, ScanLimits
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import PixelBox

from . import commands
from .commands import CODES, Command
from .link import ConnectionLostError, Link

CHUNK_S, CHUNK_PX = 0.02, 8192
"""A scan is ordered in pieces of at most so much time and so many pixels."""
IN_FLIGHT = 3
"""So many pieces are ordered ahead of what came back: the beam never waits, and an abort not for long."""
SYNCHRONIZE_S = 10.0
"""How long data of earlier scans may come before the answer to a synchronization."""

Piece = tuple[bytes, int]
"""Bytes to send, and pixels that come back for them."""


class OpenBeamMicroscope(Microscope):
    """Scans areas, masks and points; stage and optics are another driver's, see `composite`.

    Parameters
    ----------
    host, port
        Of the interface's server, which runs beside the hardware.
    pixel_type
        uint16 (14 bits of signal, in the upper ones), or uint8.
    silence_timeout_s
        How long the interface may send nothing, beyond the dwell times of what it was sent.

    Raises
    ------
    ValueError
        An option is out of range.
    """

    name: ClassVar[str] = "Open Beam Interface"
    instrument_options: ClassVar[tuple[str, ...] | None] = ("host", "port")

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 2224,
        pixel_type: Literal["uint8", "uint16"] = "uint16",
        silence_timeout_s: float = 5.0,
    ) -> None:
        if not (0 < port < 65536 and silence_timeout_s > 0):
            raise ValueError("port must be 1 to 65535, silence_timeout_s above 0")
        self._host, self._port = host, port
        self._silence_s = silence_timeout_s
        self._type = np.dtype(pixel_type)
        self._limits = ScanLimits(
            dwell_min_ns=commands.dwell_ns_of(commands.MIN_DWELL_FIELD),
            dwell_max_ns=commands.dwell_ns_of(commands.MAX_DWELL_FIELD),
            max_window_px=CODES,
            pixel_type=pixel_type,
        )
        self._link: Link | None = None
        self._is_connected = self._is_prepared = False
        self._cookies = itertools.cycle(range(1, 0xFFFF))
        self._abort = threading.Event()

    # -- connection -------------------------------------------------------------------------

    def connect(self) -> None:
        """Open the connection and see that it answers."""
        self.disconnect()
        self._is_connected = True
        try:
            self._opened()
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Close the connection; external control ends with `reset_microscope` only."""
        self._is_connected = self._is_prepared = False
        self._close()

    def _close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _opened(self) -> Link:
        """Return the connection; one that was lost is opened anew."""
        if not self._is_connected:
            raise MicroscopeError(f"{self.name} is not connected: call connect")
        if self._link is None:
            self._link = Link(self._host, self._port, self._silence_s)
            self._synchronize(self._link, is_raster=True)
            if self._is_prepared:
                self._take_control(self._link)
        return self._link

    def _synchronize(self, link: Link, *, is_raster: bool) -> None:
        """Begin anew: all that was sent before is done or dropped when this returns."""
        cookie = next(self._cookies)
        order = commands.synchronize(cookie, is_raster=is_raster, pixel_type=self._type.name)
        link.send(order + commands.simple(Command.FLUSH))
        link.skip_to(commands.reply_to(cookie), self._silence_s, SYNCHRONIZE_S)

    def _take_control(self, link: Link) -> None:
        link.send(
            commands.simple(Command.EXTERNAL_CONTROL, 1)
            + commands.simple(Command.BEAM_SELECT, commands.ELECTRONS)
            + commands.simple(Command.BLANK, 1)
            + commands.simple(Command.FLUSH)
        )

    def get_state(self) -> MicroscopeState:
        """There is no stage here."""
        self._opened()
        raise CapabilityError(f'{self.name} has no stage: take driver = "composite" with it as scan')

    def prepare(self) -> None:
        """Take the beam over, blanked; each scan unblanks it for itself."""
        link = self._opened()
        self._take_control(link)
        self._is_prepared = True

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        """There is no stage here."""
        raise self._cannot("stage")

    def reset_microscope(self, state: MicroscopeState) -> None:
        """Give the beam back to the microscope's own scan; there is nothing else to restore."""
        link = self._opened()
        self._is_prepared = False
        link.send(commands.simple(Command.BLANK, 0) + commands.simple(Command.EXTERNAL_CONTROL, 0))
        self._synchronize(link, is_raster=True)

    def save_metadata(self, path: Path) -> None:
        """Write address and time as JSON."""
        metadata = {
            "name": self.name,
            "time": datetime.now(UTC).isoformat(),
            "server": f"{self._host}:{self._port}",
            "pixel_type": self._type.name,
        }
        path.write_text(json.dumps(metadata, indent=2), encoding="utf-8")

    # -- scanning ---------------------------------------------------------------------------

    @property
    def limits(self) -> ScanLimits:
        """What the commands can say; what a scan takes beside its dwell times is learnt."""
        return self._limits

    def actual_dwell_ns(self, dwell_ns: float) -> float:
        """Return the nearest multiple of 125 ns."""
        return commands.dwell_ns_of(commands.dwell_field(dwell_ns))

    def estimate_time_s(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> float:
        """Return the dwell times: the beam needs none to go from line to line."""
        self._check(box, dwell_ns, window_px)
        return box.area * self.actual_dwell_ns(dwell_ns) * 1e-9

    def scan_area(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan one box: as a raster region where pixels are whole codes apart, else point by point."""
        self._check(box, dwell_ns, window_px)
        field = commands.dwell_field(dwell_ns)
        if CODES % window_px[0]:
            columns, rows = np.meshgrid(np.arange(box.left, box.right), np.arange(box.top, box.bottom))
            points = np.column_stack([columns.ravel(), rows.ravel()])
            image = self._scan(self._point_pieces(commands.codes_of(points, window_px), field), field)
        else:
            step = CODES // window_px[0] * 256
            x, y = (int(code) for code in commands.codes_of(np.array([[box.left, box.top]]), window_px)[0])
            region = commands.raster_region((x, box.width, step), (y, box.height, step))
            image = self._scan(self._raster_pieces(region, box.area, field), field, is_raster=True)
        return image.reshape(box.height, box.width)

    def scan_mask(self, mask: NDArray[np.bool_], dwell_ns: float) -> Image:
        """Scan the True pixels as a stream of points, row by row."""
        return self.scan_points(np.argwhere(mask)[:, ::-1], dwell_ns, (mask.shape[1], mask.shape[0]))

    def scan_points(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Image:
        """Scan single pixels in the order given."""
        if len(points_px) == 0:
            raise CapabilityError("a scan of a mask or of points needs at least one pixel")
        (left, top), (right, bottom) = points_px.min(axis=0).tolist(), points_px.max(axis=0).tolist()
        self._check(PixelBox(left, top, right - left + 1, bottom - top + 1), dwell_ns, window_px)
        field = commands.dwell_field(dwell_ns)
        return self._scan(self._point_pieces(commands.codes_of(points_px, window_px), field), field)

    def park_beam(self, x_px: int, y_px: int, window_px: tuple[int, int]) -> None:
        """Hold the beam on one pixel until it is blanked or scans."""
        self._check(PixelBox(x_px, y_px, 1, 1), self._limits.dwell_min_ns, window_px)
        field = commands.MIN_DWELL_FIELD
        codes = commands.codes_of(np.array([[x_px, y_px]]), window_px)
        self._scan(self._point_pieces(codes, field), field, stays_on=True)

    def set_beam_blank(self, is_blanked: bool) -> None:
        """Take the beam off the specimen, or put it back where it was."""
        self._opened().send(commands.simple(Command.BLANK, is_blanked) + commands.simple(Command.FLUSH))

    def abort(self) -> None:
        """End the scan in flight after the pieces that were ordered."""
        self._abort.set()

    @staticmethod
    def _raster_pieces(region: bytes, pixels: int, field: int) -> Iterator[Piece]:
        per_piece = _pixels_in_a_piece(field)
        for start in range(0, pixels, per_piece):
            count = min(per_piece, pixels - start)
            run = commands.raster_run(count, field)
            yield (run if start else region + run), count

    @staticmethod
    def _point_pieces(codes: NDArray[np.int64], field: int) -> Iterator[Piece]:
        per_piece = _pixels_in_a_piece(field)
        for start in range(0, len(codes), per_piece):
            piece = codes[start : start + per_piece]
            yield commands.vector_points(piece, np.full(len(piece), field)), len(piece)

    def _scan(
        self, pieces: Iterator[Piece], field: int, *, is_raster: bool = False, stays_on: bool = False
    ) -> Image:
        """Order a scan piece by piece and collect its pixels."""
        link = self._opened()
        if not self._is_prepared:
            raise MicroscopeError("the Open Beam Interface has not taken the beam over: call prepare")
        self._abort.clear()
        silence_s = self._silence_s + 2 * CHUNK_S + commands.dwell_ns_of(field) * 1e-9
        try:
            self._synchronize(link, is_raster=is_raster)
            link.send(commands.simple(Command.BLANK, 0))
            data, ordered = bytearray(), list[int]()
            for order, count in pieces:
                link.send(order + commands.simple(Command.FLUSH))
                ordered.append(count)
                if len(ordered) == IN_FLIGHT:
                    data += self._collected(link, ordered.pop(0), silence_s)
            for count in ordered:
                data += self._collected(link, count, silence_s)
            if not stays_on:
                # Not before the last pixel is here: the interface blanks at once, whatever it still scans.
                link.send(commands.simple(Command.BLANK, 1) + commands.simple(Command.FLUSH))
        except ConnectionLostError:
            self._close()
            raise
        return np.frombuffer(bytes(data), dtype=self._type.newbyteorder(">")).astype(self._type)

    def _collected(self, link: Link, pixels: int, silence_s: float) -> bytes:
        size = pixels * self._type.itemsize
        data = link.receive(size, silence_s, self._abort.is_set)
        if len(data) < size:
            self._abort.clear()
            link.send(commands.simple(Command.BLANK, 1) + commands.simple(Command.ABORT))
            self._synchronize(link, is_raster=True)
            raise MicroscopeError("the scan was aborted")
        return data

    def _check(self, box: PixelBox, dwell_ns: float, window_px: tuple[int, int]) -> None:
        limits, (width, height) = self._limits, window_px
        if not (1 <= width <= limits.max_window_px and 1 <= height <= width):
            raise CapabilityError(
                f"grid {width} x {height}: expected up to {limits.max_window_px} px a side, "
                "and no more rows than columns"
            )
        if box.left < 0 or box.top < 0 or box.right > width or box.bottom > height:
            raise CapabilityError(f"box {box} does not lie within the grid {width} x {height}")
        if not limits.dwell_min_ns <= dwell_ns <= limits.dwell_max_ns:
            raise CapabilityError(
                f"dwell {dwell_ns} ns: expected {limits.dwell_min_ns:g} to {limits.dwell_max_ns:g} ns"
            )


def _pixels_in_a_piece(field: int) -> int:
    return max(1, min(CHUNK_PX, math.floor(CHUNK_S * 1e9 / commands.dwell_ns_of(field))))
