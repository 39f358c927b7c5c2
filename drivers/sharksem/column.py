"""Stage, beam and optics of a microscope under SharkSEM, each read back after it was set."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from sparse_actors.contracts.microscope import Microscope, MicroscopeState
from sparse_actors.errors import CapabilityError, MicroscopeError

from .client import NoReplyError, SharkSemClient
from .link import ConnectionLostError
from .message import Idle
from .scan_stream import fraction_of_field
from .session import BEAM_ALWAYS_OFF, BEAM_ALWAYS_ON, BEAM_ON_IN_SCANS, Session, find_detector
from .stage import StageOptions, move_stage, position_mm

POLL_S = 0.02
VACUUM = {0: "ready", 1: "pumping", 2: "venting", 3: "off", 4: "open", -1: "faulty"}


class SharkSemColumn(Microscope):
    """Connection, stage, beam and optics; a subclass scans.

    Parameters
    ----------
    host, port, detector, channel, stage_signs
        See `SharkSemMicroscope`.
    reply_timeout_s, stage_timeout_s, beam_timeout_s, stage_tolerance_um
        See `SharkSemMicroscope`.
    """

    instrument_options: ClassVar[tuple[str, ...] | None] = ("host", "port")

    def __init__(
        self,
        *,
        host: str,
        port: int,
        detector: str,
        channel: int,
        stage_signs: Sequence[int],
        reply_timeout_s: float,
        stage_timeout_s: float,
        beam_timeout_s: float,
        stage_tolerance_um: float,
    ) -> None:
        if not host or not 1 <= port <= 65534:
            raise ValueError(f"host = {host!r}, port = {port}: expected an address and a port, mostly 8300")
        if len(stage_signs) != 2 or not {*stage_signs} <= {1, -1}:
            raise ValueError(f"stage_signs = {list(stage_signs)}: expected two of 1 or -1, for x and y")
        self._client = SharkSemClient(host, port, reply_timeout_s)
        self._detector_name = detector
        self._channel = channel
        self._stage = StageOptions(
            signs=(stage_signs[0], stage_signs[1]),
            timeout_s=stage_timeout_s,
            tolerance_mm=stage_tolerance_um * 1e-3,
        )
        self._beam_timeout_s = beam_timeout_s
        self._is_connected = False
        self._detector = -1
        self._has_blanker = False
        self._session: Session | None = None
        self._ordered: dict[str, float] = {}
        """What was set last, to recognise the microscope after a lost connection."""

    # -- connection -------------------------------------------------------------------------

    def connect(self) -> None:
        """Open both connections and find the detector; nothing is changed on the microscope."""
        self._client.open()
        try:
            self._detector = find_detector(self._client, self._detector_name, self._channel)
            self._learn_instrument()
        except BaseException:
            self._client.close()
            raise
        self._is_connected = True

    def _learn_instrument(self) -> None:
        """Ask for what stays as it is while connected."""

    def disconnect(self) -> None:
        """Close both connections; settings stay as they are."""
        self._is_connected = False
        self._ordered = {}
        self._client.close()

    def _link(self) -> SharkSemClient:
        """Return the open client; a connection that was lost is opened again.

        Settings live in the microscope, so they outlast the connection; if they do not, somebody
        has used it or it was switched off, and scanning on would record another place.
        """
        if not self._is_connected:
            raise MicroscopeError(f"{self.name} is not connected: call connect")
        if not self._client.is_open:
            self.connect()
            try:
                self._check_as_left()
                self._client.ask("ScStopScan")  # a scan goes on when the program that ordered it is gone
            except MicroscopeError:
                self._client.close()
                raise
        return self._client

    def _check_as_left(self) -> None:
        state = asdict(self._read_state(self._client))
        changed = [
            f"{name} was {value:g} and is {state[name]:g}"
            for name, value in self._ordered.items()
            if abs(state[name] - value) > max(self._stage.tolerance_mm, 0.01 * abs(value))
        ]
        if changed:
            raise MicroscopeError(
                f"the connection was lost, and since then the microscope was changed: {', '.join(changed)}"
            )

    # -- state ------------------------------------------------------------------------------

    def get_state(self) -> MicroscopeState:
        """Read back stage and optics."""
        return self._read_state(self._link())

    def _read_state(self, client: SharkSemClient) -> MicroscopeState:
        x_mm, y_mm = position_mm(client, self._stage)
        gain_black = client.ask("DtGetGainBlack", self._detector)
        contrast_pct, brightness_pct = gain_black.number(), gain_black.number()
        return MicroscopeState(
            x_mm=x_mm,
            y_mm=y_mm,
            working_distance_mm=client.ask("GetWD").number(),
            brightness_pct=brightness_pct,
            contrast_pct=contrast_pct,
            view_field_mm=client.ask("GetViewField").number(),
            beam_on=self._is_beam_on(client),
        )

    def reset_microscope(self, state: MicroscopeState) -> None:
        """Bring back stage, optics and the operator's session, whatever of it still answers."""
        self._ordered = {}  # what was changed meanwhile is brought back too
        if self._client.is_open and not self._client.is_answering():
            self._client.close()
        try:
            client = self._link()
        except MicroscopeError as error:
            raise MicroscopeError(f"nothing was restored, and the beam may be on: {error}") from error
        failures, steps = list[str](), self._ways_back(client, state)
        for number, (what, step) in enumerate(steps):
            try:
                step()
            except MicroscopeError as error:
                if isinstance(error, ConnectionLostError | NoReplyError) and not client.is_answering():
                    left = [*failures, *(name for name, _ in steps[number:])]
                    raise MicroscopeError(f"not restored: {', '.join(left)} ({error})") from error
                failures.append(f"{what} ({error})")
        if failures:
            raise MicroscopeError(f"not restored: {', '.join(failures)}")
        self._session = None
        self._ordered = {}

    def _ways_back(
        self, client: SharkSemClient, state: MicroscopeState
    ) -> list[tuple[str, Callable[[], object]]]:
        """Return what is to be restored and how: first the beam, last what moves or exposes."""
        steps: list[tuple[str, Callable[[], object]]] = [("scan", lambda: client.ask("ScStopScan"))]
        distance_mm, width_mm, is_on = state.working_distance_mm, state.view_field_mm, state.beam_on
        brightness_pct, contrast_pct = state.brightness_pct, state.contrast_pct
        if is_on is not None:
            steps.append(("beam", lambda: self._set_beam(is_on)))
        if distance_mm is not None:
            steps.append(("working distance", lambda: self.set_working_distance(distance_mm)))
        if width_mm is not None:
            steps.append(("view field", lambda: self.set_view_field(width_mm)))
        if brightness_pct is not None and contrast_pct is not None:
            signal = brightness_pct, contrast_pct
            steps.append(("brightness and contrast", lambda: self.set_brightness_contrast(*signal)))
        steps.append(("stage", lambda: self.move_stage(state.x_mm, state.y_mm)))
        if self._session is not None:
            for what, command, arguments in self._session.ways_back():
                steps.append((what, partial(client.ask, command, *arguments)))
        return steps

    def save_metadata(self, path: Path) -> None:
        """Write position, settings, what the microscope tells of itself, and the time as JSON."""
        client = self._link()
        device: dict[str, Any] = {"protocol": ".".join(map(str, client.version))}
        for name, kind in (("common", 0), ("sem", 1)):
            device[name] = client.ask("GetDeviceParams", kind).mapping()
        metadata = {
            "name": self.name,
            "time": datetime.now(UTC).isoformat(),
            "stage_and_optics": asdict(self.get_state()),
            "stage_signs": self._stage.signs,
            "detector": self._detector,
            "device": device,
        }
        path.write_text(json.dumps(metadata, indent=2), encoding="utf-8")

    def move_stage(self, x_mm: float, y_mm: float) -> None:
        """Move x and y, wait until the stage stands, and read back."""
        move_stage(self._link(), x_mm, y_mm, self._stage)
        self._ordered |= {"x_mm": x_mm, "y_mm": y_mm}

    # -- beam -------------------------------------------------------------------------------

    def _is_beam_on(self, client: SharkSemClient) -> bool:
        deadline_s = time.monotonic() + self._beam_timeout_s
        while (found := client.ask("HVGetBeam").integer()) == 1000:  # it is changing
            if time.monotonic() > deadline_s:
                raise MicroscopeError(f"the beam was still changing after {self._beam_timeout_s:g} s")
            time.sleep(POLL_S)
        if found not in (0, 1):
            raise MicroscopeError(f"the high voltage reports a fault (HVGetBeam returned {found})")
        return found == 1

    def _set_beam(self, is_on: bool) -> None:
        client = self._link()
        if self._is_beam_on(client) == is_on:
            return
        client.ask("HVBeamOn" if is_on else "HVBeamOff", timeout_s=self._beam_timeout_s)
        if self._is_beam_on(client) != is_on:
            vacuum = client.ask("VacGetStatus").integer()
            raise MicroscopeError(
                f"the beam does not go {'on' if is_on else 'off'}; the vacuum is {VACUUM.get(vacuum, vacuum)}"
            )

    def set_beam_blank(self, is_blanked: bool) -> None:
        """Keep the beam off the specimen, or on it in scans and, once parked, between them."""
        self._link()
        if not self._has_blanker:
            raise self._cannot("beam_blank")
        self._set_blanker(BEAM_ALWAYS_OFF if is_blanked else BEAM_ON_IN_SCANS)

    def _set_blanker(self, mode: int) -> None:
        client = self._link()
        # One argument: with two, their order depends on the protocol version.
        client.ask("ScSetBlanker", mode)
        found = client.ask("ScGetBlanker").integer()
        if found != mode:
            raise CapabilityError(f"the blanker was set to mode {mode} and is in mode {found}")

    def park_beam(self, x_px: int, y_px: int, window_px: tuple[int, int]) -> None:
        """Hold the beam on one pixel of a square grid, until the next scan or `set_beam_blank`."""
        x, y = fraction_of_field(x_px, y_px, window_px)
        client = self._link()
        if self._has_blanker:
            self._set_blanker(BEAM_ALWAYS_ON)
        client.ask("ScSetBeamPos", x, y, wait=Idle.OPTICS)

    # -- optics -----------------------------------------------------------------------------

    def set_working_distance(self, working_distance_mm: float) -> None:
        """Focus; the view field, which changes a little with it, is set again."""
        self._set_number("SetWD", "GetWD", "working_distance_mm", working_distance_mm, 0.002)
        if "view_field_mm" in self._ordered:
            self.set_view_field(self._ordered["view_field_mm"])

    def get_working_distance(self) -> float:
        """Return the working distance in mm."""
        return self._link().ask("GetWD").number()

    def set_view_field(self, width_mm: float) -> None:
        """Set the width of the field of view; pixels are square."""
        self._set_number("SetViewField", "GetViewField", "view_field_mm", width_mm, 0.01)

    def get_view_field(self) -> float:
        """Return the width of the field of view in mm."""
        return self._link().ask("GetViewField").number()

    def _set_number(self, setter: str, getter: str, name: str, value: float, tolerance: float) -> None:
        """Set a number and read it back once the optics are idle: it is limited without a word."""
        client = self._link()
        client.ask(setter, float(value))
        found = client.ask(getter, wait=Idle.OPTICS).number()
        if not abs(found - value) <= tolerance * abs(value):
            raise CapabilityError(f"{name} = {value:g} is out of reach: the microscope makes it {found:g}")
        self._ordered[name] = value

    def set_brightness_contrast(self, brightness_pct: float, contrast_pct: float) -> None:
        """Set black level and gain of the detector."""
        client = self._link()
        client.ask("DtSetGainBlack", self._detector, float(contrast_pct), float(brightness_pct))
        found = self.get_brightness_contrast()
        if not math.dist(found, (brightness_pct, contrast_pct)) <= 0.5:
            raise CapabilityError(
                f"brightness {brightness_pct:g} %, contrast {contrast_pct:g} %: the microscope makes it "
                f"{found[0]:g} % and {found[1]:g} %"
            )

    def get_brightness_contrast(self) -> tuple[float, float]:
        """Return (brightness, contrast) in percent, once the detector has taken them."""
        found = self._link().ask("DtGetGainBlack", self._detector, wait=Idle.OPTICS)
        contrast_pct = found.number()
        return found.number(), contrast_pct
