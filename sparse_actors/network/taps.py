"""Taps: every message of a run for whoever wants to look on, without ever slowing the run.

Three sockets. At the *door* (ROUTER, `taps.listen`) a tap learns of the other two, gets the state of
the run, and may propose regions. *Facts* (PUB) sends all messages but images, *images* (PUB) those
with pixels, spectra and maps. docs/taps.md describes the format.
"""

from __future__ import annotations

import contextlib
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog
import zmq

from sparse_actors import wire
from sparse_actors.errors import ConfigError
from sparse_actors.messages import (
    ClassifySpectra,
    DetectImage,
    FieldMapped,
    InspectRegion,
    Message,
    Overdue,
    PartitionReloaded,
    PartitionScanned,
    PhaseMapUpdated,
    RegionReloaded,
    RegionScanned,
    SpectraMeasured,
    SpectraReloaded,
    TapsDescribed,
)

from .endpoints import tap_problem
from .preview import preview
from .tap_door import TapDoor

IMAGES = (PartitionScanned, RegionScanned, SpectraMeasured, PhaseMapUpdated, FieldMapped)
"""What goes to the socket of images."""
WITHHELD = (
    DetectImage,
    InspectRegion,
    ClassifySpectra,
    PartitionReloaded,
    RegionReloaded,
    SpectraReloaded,
    Overdue,
)
"""Copies of images on their way to workers, and reminders: of no use to others."""

FACTS_WAITING = 10_000
IMAGES_WAITING = 2
"""Messages kept in the daemon; what comes beyond is dropped and counted."""
ECHOES_WAITING = 100
"""Kept beside the messages: a tap that joins must not push out what others wait for."""
FACTS_HWM = 1000
IMAGES_HWM = {"preview": 4, "full": 2}
"""Messages kept for each tap; ZeroMQ hears late of what was taken, fewer previews would lose bursts."""
SEND_BUFFER_BYTES = 1 << 20
PEER_TIMEOUT_MS = 15_000
"""A tap whose computer or process stands still so long is disconnected, and what waits for it freed."""
LINGER_MS = 200
COUNTERS = struct.Struct(">QQQ")
"""Second frame: number on the bus, count of this topic, and how many of it the daemon dropped."""
END = b"end."
ECHO = "echo/"


@dataclass(frozen=True, slots=True)
class _Item:
    topic: bytes
    number: int
    count: int
    dropped: int
    message: Message


class _Outlet:
    """A PUB socket, the messages waiting for it, and the thread that sends them."""

    def __init__(self, name: str, waiting: int, hwm: int, make: Callable[[Message], Message]) -> None:
        self._make = make
        self._waiting: deque[_Item] = deque()
        self._echoes: deque[bytes] = deque(maxlen=ECHOES_WAITING)
        self._most = waiting
        self._changed = threading.Condition()
        self._is_closing = False
        self._counts: Counter[bytes] = Counter()
        self.dropped: Counter[bytes] = Counter()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.sndhwm = hwm
        self._socket.linger = LINGER_MS
        self._socket.setsockopt(zmq.SNDBUF, SEND_BUFFER_BYTES)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, PEER_TIMEOUT_MS // 3)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, PEER_TIMEOUT_MS)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 1024)
        self._thread = threading.Thread(target=self._run, name=f"taps {name}", daemon=True)

    def start(self, endpoint: str) -> int:
        """Open the socket; returns its port. Raises ConfigError."""
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ConfigError(f"taps: {endpoint!r}: {error.strerror}") from None
        self._thread.start()
        return _port(self._socket)

    def offer(self, topic: bytes, number: int, message: Message) -> None:
        """Take a message without waiting; the oldest waiting gives way."""
        with self._changed:
            self._counts[topic] += 1
            if len(self._waiting) >= self._most:
                self.dropped[self._waiting.popleft().topic] += 1
            self._waiting.append(_Item(topic, number, self._counts[topic], self.dropped[topic], message))
            self._changed.notify()

    def echo(self, topic: bytes) -> None:
        """Send a bare topic, which tells the tap that asked for it that its subscription is heard."""
        with self._changed:
            self._echoes.append(topic)
            self._changed.notify()

    def close(self) -> None:
        """Say that this is the end, and close."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._send(item)
            self._socket.send_multipart([END, COUNTERS.pack(0, 0, 0)])
        except Exception:
            structlog.get_logger().exception("taps ended")
        finally:
            self._context.destroy(linger=LINGER_MS)

    def _next(self) -> _Item | bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._echoes or self._waiting or self._is_closing)
            if self._echoes:
                return self._echoes.popleft()
            return self._waiting.popleft() if self._waiting else None

    def _send(self, item: _Item | bytes) -> None:
        if isinstance(item, bytes):
            self._socket.send_multipart([item, COUNTERS.pack(0, 0, 0)])
            return
        frames = wire.encode(self._make(item.message))
        counters = COUNTERS.pack(item.number, item.count, item.dropped)
        self._socket.send_multipart([item.topic, counters, *frames], copy=False)


class Taps:
    """What other programs see of a run.

    Parameters
    ----------
    listen
        Endpoint of the door, such as "tcp://127.0.0.1:7742"; facts go to the port after it.
    images_listen
        Endpoint for images; empty: no images are sent.
    images
        "preview": reduced to at most `preview.PREVIEW_PX` on a side; "full": as they are.
    token
        Secret of those that may propose regions; empty: nobody may.
    history
        Reads the facts of the run that are in its journal.
    journaled
        Kinds that get there in the end.
    publish
        To the bus, for what is proposed; raises ControlError while the run takes no orders.

    Raises
    ------
    ConfigError
        An endpoint cannot be listened at, or others than this computer could reach it.
    """

    def __init__(
        self,
        *,
        listen: str,
        images_listen: str,
        images: Literal["preview", "full"],
        token: str,
        history: Callable[[], list[Message]],
        journaled: tuple[type[Message], ...],
        publish: Callable[[Message], None],
    ) -> None:
        for key, endpoint in (("listen", listen), ("images_listen", images_listen)):
            if problem := tap_problem(key, endpoint):
                raise ConfigError(problem)
        self._facts = _Outlet("facts", FACTS_WAITING, FACTS_HWM, lambda message: message)
        self._images: _Outlet | None = None
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            facts_port = self._facts.start(_next_port(listen))
            stack.callback(self._facts.close)
            images_port = 0
            if images_listen:
                make = preview if images == "preview" else lambda message: message
                self._images = _Outlet("images", IMAGES_WAITING, IMAGES_HWM[images], make)
                images_port = self._images.start(images_listen)
                stack.callback(self._images.close)
            described = TapsDescribed(facts_port=facts_port, images_port=images_port, images=images)
            self._door = TapDoor(listen, described, token, history, journaled, self._echo, publish)
            self.endpoint = self._door.endpoint
            """Where taps knock."""
            stack.callback(self._door.close)
            self._closing = stack.pop_all()

    @property
    def dropped(self) -> dict[str, int]:
        """How many messages of each kind were not sent, because they came faster than they could be."""
        outlets = [self._facts] if self._images is None else [self._facts, self._images]
        counts = sum((outlet.dropped for outlet in outlets), Counter[bytes]())
        return {topic.decode().rstrip("."): count for topic, count in counts.items()}

    def take(self, message: Message, number: int) -> None:
        """Tap of the bus: returns at once."""
        if isinstance(message, WITHHELD):
            return
        topic = f"{type(message).__name__}.".encode()
        if not isinstance(message, IMAGES):
            self._facts.offer(topic, number, message)
        elif self._images is not None:
            self._images.offer(topic, number, message)
        self._door.take(message, number)

    def _echo(self, name: str) -> None:
        for outlet in (self._facts, self._images):
            if outlet is not None:
                outlet.echo(f"{ECHO}{name}.".encode())

    def close(self) -> None:
        """Tell the taps that the run is over, and close all; safe to call twice."""
        self._closing.close()
        if dropped := self.dropped:
            structlog.get_logger().warning("taps: messages were not sent, they came too fast", **dropped)


def _next_port(endpoint: str) -> str:
    host, _, port = endpoint.rpartition(":")
    return f"{host}:{port if port == '*' else int(port) + 1}"


def _port(opened: zmq.Socket[bytes]) -> int:
    return int(opened.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
