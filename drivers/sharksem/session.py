"""What the operator had set in the microscope's own software, beside stage and optics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sparse_actors.errors import MicroscopeError

from .client import NoReplyError, SharkSemClient

BEAM_ALWAYS_ON, BEAM_ALWAYS_OFF, BEAM_ON_IN_SCANS = 0, 1, 2
"""Modes of the blanker."""
DWELL_SINCE = (2, 0, 6)
"""From here on a scan has a dwell time of its own; before, it went by the speed set."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A video channel: detector (its number, not its place in the list), whether it is on, bits a pixel."""

    detector: int
    is_enabled: bool
    bits: int


@dataclass(frozen=True, slots=True)
class Session:
    """Live scanning, video channels, blanker and speed."""

    live_scanning: int
    channels: tuple[Channel, ...]
    blanker: int | None
    """None: there is none."""
    speed: int | None
    """None: scans have dwell times."""

    @classmethod
    def read(cls, client: SharkSemClient, *, has_blanker: bool) -> Session:
        """Ask the microscope."""
        channels = []
        for number in range(client.ask("DtGetChannels").integer()):
            detector = client.ask("DtGetSelected", number).integer()
            enabled = client.ask("DtGetEnabled", number)
            is_on = enabled.integer() != 0
            channels.append(Channel(detector, is_on, 8 if enabled.is_at_end else enabled.integer()))
        return cls(
            live_scanning=client.ask("GUIGetScanning").integer(),
            channels=tuple(channels),
            blanker=client.ask("ScGetBlanker").integer() if has_blanker else None,
            speed=client.ask("ScGetSpeed").integer() if client.version < DWELL_SINCE else None,
        )

    def ways_back(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield what is to be set again, the command for it and its arguments; live scanning last."""
        for number, channel in enumerate(self.channels):
            if channel.detector >= 0:
                yield f"detector of channel {number}", "DtSelect", (number, channel.detector)
            yield f"video channel {number}", "DtEnable", (number, int(channel.is_enabled), channel.bits)
        if self.blanker is not None:
            yield "blanker", "ScSetBlanker", (self.blanker,)
        if self.speed is not None:
            yield "scan speed", "ScSetSpeed", (self.speed,)
        yield "live scanning", "GUISetScanning", (self.live_scanning,)


def select_channel(client: SharkSemClient, channel: int, detector: int, bits: int) -> None:
    """Route a detector to one channel, and switch all others off: what nobody reads is not sent."""
    for number in range(client.ask("DtGetChannels").integer()):
        if number != channel:
            client.ask("DtEnable", number, 0, 8)
    client.ask("DtSelect", channel, detector)
    client.ask("DtEnable", channel, 1, bits)
    enabled = client.ask("DtGetEnabled", channel)
    found = enabled.integer(), 8 if enabled.is_at_end else enabled.integer()
    selected = client.ask("DtGetSelected", channel).integer()
    if found != (1, bits) or selected != detector:
        raise MicroscopeError(
            f"video channel {channel} was set to detector {detector} at {bits} bits and is at detector "
            f"{selected}, {'on' if found[0] else 'off'}, {found[1]} bits"
        )


def find_detector(client: SharkSemClient, name: str, channel: int) -> int:
    """Return the number of a detector by its name; without a name, that of the one the channel shows."""
    channels = client.ask("DtGetChannels").integer()
    if not 0 <= channel < channels:
        raise MicroscopeError(f"channel = {channel}: the microscope has channels 0 to {channels - 1}")
    listed = client.ask("DtEnumDetectors").mapping()
    # det.<i>.detector is the number that commands take; it differs from the place <i> in the list.
    numbers = {
        label: int(listed[key.removesuffix("name") + "detector"])
        for key, label in listed.items()
        if key.startswith("det.") and key.endswith(".name")
    }
    if name:
        if name not in numbers:
            raise MicroscopeError(f"detector = {name!r}: the microscope has {', '.join(sorted(numbers))}")
        return numbers[name]
    selected = client.ask("DtGetSelected", channel).integer()
    if selected not in numbers.values():
        raise MicroscopeError(
            f"channel {channel} shows no detector: select one in the microscope's software or set the option "
            f"detector to one of {', '.join(sorted(numbers))}"
        )
    return selected


def has_blanker(client: SharkSemClient) -> bool:
    """Whether a blanker answers."""
    try:
        return bool(client.ask("ScGetBlanker"))
    except NoReplyError:
        return False


def speeds_ns(client: SharkSemClient) -> dict[int, float]:
    """Return the dwell times (ns) by speed; the microscope lists them in microseconds."""
    listed = client.ask("ScEnumSpeeds").mapping()
    speeds = {
        int(key.split(".")[1]): float(value) * 1e3
        for key, value in listed.items()
        if key.startswith("speed.") and key.endswith(".dwell")
    }
    if not speeds:
        raise MicroscopeError("the microscope lists no scan speeds")
    return speeds
