"""What can go wrong between a client and a SharkSEM server, to be switched on in the fake one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import get_args

from .fake_wire import NumberStyle


@dataclass
class Faults:
    """All off at first. Those of images act on the scans in `on_scans`, or on every one if it is empty."""

    on_scans: set[int] = field(default_factory=set)
    """Numbers of scans, counted from 1 as the server began them."""
    stale_frame: bool = False
    """An image of the scan before comes first."""
    wrong_frame_id: bool = False
    """The image carries the number of another scan."""
    resend_chunk: bool = False
    """The second half of each chunk comes twice."""
    lose_chunk: bool = False
    """One chunk in the middle does not come."""
    stop_image: bool = False
    """Image data end in the middle; the connection stays."""
    cut_data: bool = False
    """The data connection is closed in the middle of an image."""
    half_close: bool = False
    """The server sends no more on the data connection and leaves it open for reading."""
    cut_control: bool = False
    """The control connection is closed in the middle of an image, and the data connection with it."""
    garble_data: bool = False
    """Bytes that are no message come in the middle of an image."""
    foreign_message: bool = False
    """Messages of another kind and another channel come in between."""
    one_byte_at_a_time: bool = False
    """Everything the server sends comes byte by byte."""
    reply_delay_s: float = 0.0
    """Every reply comes this much later."""
    silent: set[str] = field(default_factory=set)
    """Commands that are carried out and not answered."""
    unknown: set[str] = field(default_factory=set)
    """Commands that this server does not know."""
    missing_licences: set[str] = field(default_factory=set)
    """Modules without licence, such as "SharkSEM Advanced"."""
    garble_replies: set[str] = field(default_factory=set)
    """Commands answered with bytes that are no message."""
    wrong_reply_id: set[str] = field(default_factory=set)
    """Commands whose reply carries the id of another request."""
    cut_at: str = ""
    """At such a command both connections are closed, and it is not carried out."""
    hang_after: str = ""
    """From the first such command on nothing is answered and no image data are sent."""
    ignored: set[str] = field(default_factory=set)
    """Commands that are answered and change nothing, as one whose value is silently refused."""
    number_style: NumberStyle = "24 bytes"
    """How strings are counted in replies: servers differ."""

    def acts_on(self, scan: int) -> bool:
        """Whether the faults of images act on a scan."""
        return not self.on_scans or scan in self.on_scans

    def switch_on(self, text: str) -> None:
        """Switch on a fault by its name, with a value where it takes one: "lose_chunk", "silent=SetWD".

        Raises
        ------
        ValueError
            There is no such fault, or its value is none that it takes.
        """
        name, sign, value = text.partition("=")
        known = [f.name for f in fields(self)]
        if name not in known:
            raise ValueError(f"there is no fault {name!r}; known are {', '.join(known)}")
        if name == "number_style" and value not in get_args(NumberStyle):
            raise ValueError(f"fault {text!r}: expected one of {', '.join(get_args(NumberStyle))}")
        now = getattr(self, name)
        if isinstance(now, bool) == bool(sign):
            raise ValueError(f"fault {text!r}: expected {name}" + ("" if isinstance(now, bool) else "=VALUE"))
        if isinstance(now, bool):
            setattr(self, name, True)
        elif isinstance(now, set):
            now.add(int(value) if name == "on_scans" else value)
        else:
            setattr(self, name, type(now)(value))
