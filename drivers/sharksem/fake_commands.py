"""The commands that the fake server knows: their arguments, what they do, and what they answer."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .fake_instrument import (
    DAC_STEPS,
    DETECTORS,
    SPEEDS_US,
    STAGE_MM,
    VIEW_FIELD_MM,
    WORKING_DISTANCE_MM,
    FakeInstrument,
    Lattice,
)

ADVANCED = "SharkSEM Advanced"
LINE = re.compile(r"LINE\(([-\d.e]+),([-\d.e]+),([-\d.e]+),([-\d.e]+),(\d+),(\d+)\)", re.IGNORECASE)


@dataclass(frozen=True)
class ScanOrder:
    """A scan to run: where the beam goes, piece by piece."""

    frame: int
    pieces: list[Lattice]
    dwell_ns: float
    box: tuple[int, int, int, int] | None
    """left, top, right, bottom (inclusive) of an area on its grid."""

    @property
    def pixels(self) -> int:
        """How many pixels are scanned."""
        return sum(piece.rows * piece.columns for piece in self.pieces)

    @property
    def lines(self) -> int:
        """How often the beam flies back."""
        return sum(piece.rows for piece in self.pieces)


Handler = Callable[..., tuple[Any, ...] | ScanOrder]


@dataclass(frozen=True)
class Command:
    """`types` has a letter for each argument (i, u, f, s); those after | may be missing."""

    types: str
    since: tuple[int, ...]
    handler: Handler
    licence: str = ""


def read_arguments(types: str, body: bytes) -> list[Any] | None:
    """Take a body apart; None if it does not have these arguments."""
    wanted, _, optional = types.partition("|")
    values: list[Any] = []
    for letter in wanted + optional:
        if not body and len(values) >= len(wanted):
            return values
        if len(body) < 4:
            return None
        (word,) = struct.unpack_from("<i" if letter == "i" else "<I", body)
        body = body[4:]
        if letter in "iu":
            values.append(word)
            continue
        if word > len(body):
            return None
        text = body[:word].split(b"\0")[0].decode()
        body = body[(word + 3) // 4 * 4 :]
        try:
            values.append(float(text) if letter == "f" else text)
        except ValueError:
            return None
    return None if body else values


def _map(**entries: object) -> str:
    return "".join(f"{key.replace('__', '.')}={value}\n" for key, value in entries.items())


def _clamped(value: float, limits: tuple[float, float]) -> float:
    return float(min(max(value, limits[0]), limits[1]))


def _scan_xy(sem: FakeInstrument, frame: int, width: int, height: int, *rest: int) -> tuple[int] | ScanOrder:
    left, top, right, bottom, single = rest[:5]
    dwell_ns = rest[5] if len(rest) > 5 else SPEEDS_US[sem.speed] * 1e3
    if not (left <= right < width and top <= bottom < height and dwell_ns > 0 and single == 1):
        return (-1,)  # of the frames in a row that an instrument can make, one is enough here
    box = (left, top, right, bottom)
    return ScanOrder(frame, [Lattice.of_area(width, height, box)], dwell_ns, box)


def _stream(sem: FakeInstrument, frame: int, send_data: int, program: str) -> tuple[int, str] | ScanOrder:
    is_blanked, pieces, dwells = True, [], set()
    head, _, body = program.partition("[BODY]")
    if "[HEADER]" not in head or 'TescanStreamFileVersion="1.0"' not in head or not send_data:
        return (-200, "no header")
    for line in body.split("\n"):
        text = line.split("#")[0].replace(" ", "")
        if not text:
            continue
        if text.upper() in ("BLANK()", "UNBLANK()"):
            is_blanked = text.upper() == "BLANK()"
            continue
        found = LINE.fullmatch(text)
        if found is None:
            return (-201, f"not understood: {line}")
        x1, y1, x2, y2 = (float(found[i]) for i in range(1, 5))
        count, dwell_ns = int(found[5]), int(found[6])
        if (
            not (min(x1, y1, x2, y2) >= 0 and max(x1, y1, x2, y2) <= 1 and 20 <= dwell_ns <= 10**9)
            or y1 != y2
        ):
            return (-202, f"out of range: {line}")
        if not is_blanked:
            dwells.add(dwell_ns)
            pitch = (x2 - x1) / (count - 1) if count > 1 else 1 / DAC_STEPS
            pieces.append(Lattice(x1 - 0.5, y1 - 0.5, pitch, 0, 0, count, 1))
    if not pieces:
        return (-12, "all blanked")
    return ScanOrder(frame, pieces, float(dwells.pop()), None)


def _estimate(sem: FakeInstrument, *a: int) -> tuple[float]:
    columns, rows = a[4] - a[2] + 1, a[5] - a[3] + 1
    return (a[6] * sem.scan_s(columns * rows, rows, a[7]),)


def _limits(sem: FakeInstrument, which: int) -> tuple[float, ...]:
    return tuple(value for pair in STAGE_MM for value in pair)


def _set_gain_black(sem: FakeInstrument, detector: int, gain: float, black: float) -> tuple[()]:
    if detector in sem.gain_black:
        sem.gain_black[detector] = (_clamped(gain, (0, 100)), _clamped(black, (0, 100)))
    return ()


def _enable(sem: FakeInstrument, channel: int, is_on: int, bits: int = 8) -> tuple[()]:
    sem.channels[channel].is_enabled = bool(is_on)
    sem.channels[channel].bits = 8 if bits <= 8 else 16
    return ()


def _set(**settings: Any) -> tuple[()]:
    """Set attributes of `sem`; lets a table of lambdas assign."""
    sem = settings.pop("sem")
    for name, value in settings.items():
        setattr(sem, name, value)
    return ()


def _select(sem: FakeInstrument, channel: int, detector: int) -> tuple[()]:
    if detector in sem.gain_black:
        sem.channels[channel].detector = detector
    return ()


def _move(sem: FakeInstrument, *target: float) -> tuple[()]:
    sem.move(*target)
    return ()


def _enabled(sem: FakeInstrument, channel: int) -> tuple[int, int]:
    return int(sem.channels[channel].is_enabled), sem.channels[channel].bits


def _switch_beam(sem: FakeInstrument, *, is_on: bool) -> tuple[()]:
    sem.switch_beam(is_on)
    return ()


def _detectors(sem: FakeInstrument) -> tuple[str]:
    names = {f"det.{i}.name": name for i, name in enumerate(DETECTORS)}
    numbers = {f"det.{i}.detector": number for i, number in enumerate(DETECTORS.values())}
    return (_map(**names, **numbers),)


def _speeds(sem: FakeInstrument) -> tuple[str]:
    return (_map(**{f"speed.{n}.dwell": dwell_us for n, dwell_us in SPEEDS_US.items()}),)


def _parameters(sem: FakeInstrument, which: int) -> tuple[str]:
    if which == 0:
        return (_map(Device="fake SharkSEM server", SerialNumber=42),)
    return (_map(WD=sem.working_distance_mm * 1e-3, ViewField=sem.view_field_mm * 1e-3, Seed=sem.seed),)


def _set_view_field(sem: FakeInstrument, width_mm: float) -> tuple[()]:
    return _set(sem=sem, view_field_mm=_clamped(width_mm, VIEW_FIELD_MM))


def _set_wd(sem: FakeInstrument, distance_mm: float) -> tuple[()]:
    return _set(sem=sem, working_distance_mm=_clamped(distance_mm, WORKING_DISTANCE_MM))


def _set_speed(sem: FakeInstrument, speed: int) -> tuple[()]:
    return _set(sem=sem, speed=speed if speed in SPEEDS_US else sem.speed)


V2, V3 = (2, 0, 0), (3, 0, 0)
COMMANDS = {
    "DtGetChannels": Command("", V2, lambda sem: (len(sem.channels),)),
    "DtEnumDetectors": Command("", V2, _detectors),
    "DtSelect": Command("ii", V2, _select),
    "DtGetSelected": Command("i", V2, lambda sem, channel: (sem.channels[channel].detector,)),
    "DtEnable": Command("ii|i", V2, _enable),
    "DtGetEnabled": Command("i", V2, _enabled),
    "DtGetGainBlack": Command("i", V2, lambda sem, detector: sem.gain_black.get(detector, (0.0, 0.0))),
    "DtSetGainBlack": Command("iff", V2, _set_gain_black),
    "GUIGetScanning": Command("", V2, lambda sem: (sem.live_scanning,)),
    "GUISetScanning": Command("i", V2, lambda sem, mode: _set(sem=sem, live_scanning=mode)),
    "ScScanXY": Command("uuuuuuui|uu", V2, _scan_xy),
    "ScStream": Command("uis", (3, 1, 16), _stream, ADVANCED),
    "ScEnumSpeeds": Command("", V2, _speeds),
    "ScGetSpeed": Command("", V2, lambda sem: (sem.speed,)),
    "ScSetSpeed": Command("i", V2, _set_speed),
    "ScGetTimeEstEx": Command("uuuuuuiu|u", (3, 2, 16), _estimate),
    "ScSetBeamPos": Command("ff", V2, lambda sem, x, y: ()),
    "ScGetBlanker": Command("|i", V2, lambda sem, index=0: (sem.blanker,)),
    "ScSetBlanker": Command("i", V2, lambda sem, mode: _set(sem=sem, blanker=mode)),
    "StgGetPosition": Command("", V2, lambda sem: tuple(sem.stage)),
    "StgMoveTo": Command("f|ffff", V2, _move),
    "StgMoveToEx": Command("f|ffff", (3, 2, 1), lambda sem, *target: (0 if sem.move(*target) else -4,)),
    "StgIsBusy": Command("", V2, lambda sem: (int(sem.is_stage_busy),)),
    "StgStop": Command("", V2, lambda sem: ()),
    "StgGetLimits": Command("i", V2, _limits),
    "StgWatchdog": Command("f", (2, 0, 22), lambda sem, seconds: ()),
    "GetWD": Command("", V2, lambda sem: (sem.working_distance_mm,)),
    "SetWD": Command("f", V2, _set_wd),
    "GetViewField": Command("", V2, lambda sem: (sem.view_field_mm,)),
    "SetViewField": Command("f", V2, _set_view_field),
    "HVGetBeam": Command("", V2, lambda sem: (sem.beam_state(),)),
    "HVBeamOn": Command("", V2, lambda sem: _switch_beam(sem, is_on=True)),
    "HVBeamOff": Command("", V2, lambda sem: _switch_beam(sem, is_on=False)),
    "VacGetStatus": Command("", V2, lambda sem: (0 if sem.has_vacuum else 1,)),
    "GetDeviceParams": Command("u", V2, _parameters),
}
"""Beside these the server itself knows TcpRegDataPort, TcpGetVersion, IsLicenseValid and ScStopScan."""
