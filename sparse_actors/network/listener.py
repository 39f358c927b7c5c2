"""Listens to a run from another program: its state first, then every message as it happens."""

from __future__ import annotations

import itertools
import secrets
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import zmq

from sparse_actors import wire
from sparse_actors.errors import TapError
from sparse_actors.messages import KINDS, Message, ProposeRegions, StateSent, TapsDescribed

ANSWER_S = 10.0
FIRST_ECHO_S = 0.02
STATE_S = 60.0
QUIET_S = 5.0
"""After so long without a message the run is asked whether it goes on."""
FACTS_WAITING, IMAGES_WAITING = 100_000, 2
COUNTERS = struct.Struct(">QQQ")
END = b"end."

M = TypeVar("M", bound=Message)


class Listener(Generic[M]):
    """An iterator over the messages of a run; it ends when the run does. Made by `listen`."""

    def __init__(self, endpoint: str, kinds: Sequence[type[Message]], *, state: bool, wait_s: float) -> None:
        self.lost: Counter[str] = Counter()
        """Messages of each kind that did not come: this program was too slow, or the daemon was."""
        self.dropped: dict[str, int] = {}
        """Of these, what the daemon itself did not send."""
        self._endpoint = endpoint
        self._kinds = tuple(kinds) or (Message,)
        self._counts: dict[bytes, int] = {}
        self._state_number = 0
        self._in_state: set[int] = set()
        self._early: list[list[bytes]] = []
        self._context = zmq.Context()
        self._door = self._context.socket(zmq.DEALER)
        self._door.linger = 0
        self._door.rcvhwm = 0  # the whole state may come at once
        try:
            self._door.connect(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise TapError(f"{endpoint!r} is not an endpoint such as tcp://127.0.0.1:7742: {error}") from None
        self._sockets: list[zmq.Socket[bytes]] = []
        self._poller = zmq.Poller()
        try:
            described = self._describe(wait_s)
            host = endpoint.rpartition(":")[0]
            ports = ((described.facts_port, FACTS_WAITING), (described.images_port, IMAGES_WAITING))
            for port, waiting in ports:
                if port:
                    self._subscribe(f"{host}:{port}", waiting)
            self._await_echo()
            self._wants_state = state
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more; safe to call twice."""
        self._context.destroy(linger=0)

    def __iter__(self) -> Iterator[M]:
        if self._wants_state:
            self._wants_state = False
            yield from self._state()
        facts, is_over = self._sockets[0], False
        while True:
            ready = self._receivable(0 if is_over else QUIET_S)
            if not ready:
                if is_over:
                    return
                self._make_sure_it_goes_on()
            for socket in ready:
                topic, counters, *frames = socket.recv_multipart()
                is_over = is_over or (topic == END and socket is facts)
                message = self._taken(topic, counters, frames)
                if message is not None:
                    yield message

    def propose(self, order: ProposeRegions, token: str) -> Message:
        """Propose regions to the run; returns `RegionsProposed`, or `OrderRefused` with the reason.

        Raises
        ------
        TapError
            The run takes no proposals from this program, or does not answer.
        """
        self._door.send_multipart([b"propose", token.encode(), *wire.encode(order)])
        return self._reply(b"propose", ANSWER_S)

    def _make_sure_it_goes_on(self) -> None:
        """Ask the door; raises TapError if nobody answers, which is how a run ends that was killed."""
        self._describe(ANSWER_S)

    def _describe(self, wait_s: float) -> TapsDescribed:
        self._door.send(b"describe")
        described = self._reply(b"describe", wait_s)
        if not isinstance(described, TapsDescribed):
            raise TapError(f"{self._endpoint} answers with {type(described).__name__}: that is no run")
        return described

    def _subscribe(self, endpoint: str, waiting: int) -> None:
        socket = self._context.socket(zmq.SUB)
        socket.rcvhwm = waiting
        for topic in (
            END,
            *(b"" if kind is Message else f"{kind.__name__}.".encode() for kind in self._kinds),
        ):
            socket.subscribe(topic)
        socket.connect(endpoint)
        self._sockets.append(socket)
        self._poller.register(socket, zmq.POLLIN)

    def _await_echo(self) -> None:
        """Wait until the sockets have heard what is subscribed; until then messages would be missed.

        Ends when every socket has heard the newest echo: none is left on the way that would take the
        place of an image, of which few are kept.
        """
        prefix = f"echo/{secrets.token_hex(8)}-".encode()
        for socket in self._sockets:
            socket.subscribe(prefix)
        give_up_s = time.monotonic() + ANSWER_S
        patience_s = FIRST_ECHO_S
        for number in itertools.count():
            newest = prefix + f"{number}.".encode()
            deaf = set(self._sockets)
            self._door.send_multipart([b"echo", newest[len(b"echo/") : -1]])
            again_s = time.monotonic() + patience_s
            while deaf and (left_s := again_s - time.monotonic()) > 0:
                for socket in self._receivable(left_s):
                    frames = socket.recv_multipart()
                    if frames[0] == newest:
                        deaf.discard(socket)
                    elif not frames[0].startswith(prefix):
                        self._early.append(frames)
            if not deaf:
                break
            if time.monotonic() > give_up_s:
                raise TapError(
                    "the run's sockets for taps are not reached, though its door is: open their ports too"
                )
            patience_s *= 2
        for socket in self._sockets:
            socket.unsubscribe(prefix)

    def _receivable(self, timeout_s: float) -> list[zmq.Socket[bytes]]:
        return [cast("zmq.Socket[bytes]", socket) for socket, _ in self._poller.poll(int(timeout_s * 1000))]

    def _state(self) -> Iterator[M]:
        self._door.send(b"state")
        facts: list[M] = []
        while not isinstance(fact := self._reply(b"state", STATE_S), StateSent):
            if isinstance(fact, self._kinds):
                facts.append(cast("M", fact))
                self._in_state.add(hash(wire.pack(fact)))
        self._state_number = fact.number
        yield from facts  # read at once: the door does not wait for long
        for topic, counters, *frames in self._early:
            message = self._taken(topic, counters, frames)
            if message is not None:
                yield message
        self._early.clear()

    def _taken(self, topic: bytes, counters: bytes, frames: list[bytes]) -> M | None:
        """Return a message that came, unless it is in the state already."""
        if not frames:
            return None  # an echo, or the end
        number, count, dropped = COUNTERS.unpack(counters)
        kind = topic.decode().rstrip(".")
        before = self._counts.get(topic)
        if before is not None and count > before + 1:
            self.lost[kind] += count - before - 1
        self._counts[topic] = count
        self.dropped[kind] = dropped
        if kind not in KINDS:
            return None  # of a later version
        message = wire.decode(frames)
        if number > self._state_number:
            self._in_state.clear()
        elif hash(wire.pack(message)) in self._in_state:
            return None
        return cast("M", message)

    def _reply(self, word: bytes, wait_s: float) -> Message:
        """Return the next answer to a request; late ones to others are passed over."""
        give_up_s = time.monotonic() + wait_s
        while self._door.poll(max(0, int((give_up_s - time.monotonic()) * 1000))):
            came, *frames = self._door.recv_multipart()
            if came == b"refused":
                raise TapError(b" ".join(frames).decode(errors="replace"))
            if came == word:
                return wire.decode(frames)
        raise TapError(
            f"nobody answers at {self._endpoint} within {wait_s:g} s: does the run go on, and is "
            "taps.listen in its configuration this address?"
        )


def listen(endpoint: str, *kinds: type[M], state: bool = True, wait_s: float = ANSWER_S) -> Listener[Any]:
    """Listen to a run that goes on.

    ::

        for message in sparse_actors.listen("tcp://127.0.0.1:7742", PartitionScanned):
            print(message.scan.id, message.image.mean())

    Parameters
    ----------
    endpoint
        `taps.listen` of the run.
    kinds
        Which messages; none for all.
    state
        Begin with the facts of the run so far; images are not among them.
    wait_s
        How long to wait for the run to answer.

    Returns
    -------
    Listener
        Iterate over it; `lost` tells what was missed. It may be used in a `with` statement.

    Raises
    ------
    TapError
        Nobody answers there, or something else than a run.
    """
    return Listener(endpoint, kinds, state=state, wait_s=wait_s)
