"""The door of the taps: says where to listen, gives the state of the run, and takes proposals."""

from __future__ import annotations

import hmac
import queue
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import structlog
import zmq

from sparse_actors import wire
from sparse_actors.errors import ConfigError, ControlError, JournalError, WireError
from sparse_actors.messages import (
    Message,
    OrderRefused,
    ProposeRegions,
    RegionsProposed,
    StateSent,
    TapsDescribed,
)

POLL_MS = 50
MAX_REQUEST_BYTES = 1 << 20
MAX_FRAMES = 3
REPLIES_WAITING = 1000
"""Messages that may wait for one tap; it gets no more until it reads."""
PATIENCE_S = 5.0
"""A tap that asked for the state and does not read it is given up after so long."""
LATEST = 2000
"""Facts kept because the recorder may not have journaled them yet."""
MAX_PROPOSALS = 1000
"""Proposals that wait for their answer."""

Frames = list[bytes | memoryview]


class TapDoor:
    """A ROUTER socket and its thread. A request is one to three frames, its replies begin with the same word.

    ===================================  ==============================================================
    ``describe``                         `TapsDescribed`
    ``state``                            the facts of the run one by one, and then `StateSent`
    ``echo``, name                       nothing here; a message with the topic ``echo/<name>.`` from
                                         each of the other sockets
    ``propose``, token, ProposeRegions   `RegionsProposed` or `OrderRefused`
    anything else                        ``refused`` and the reason
    ===================================  ==============================================================

    Parameters
    ----------
    listen
        Endpoint.
    described
        Where the other sockets are.
    token
        Secret for proposals; empty: there are none.
    history
        Reads the facts in the journal.
    journaled
        Kinds that get there in the end.
    echo
        Sends an echo over the other sockets.
    publish
        To the bus; raises ControlError while the run takes no orders.

    Raises
    ------
    ConfigError
        The endpoint is taken.
    """

    def __init__(
        self,
        listen: str,
        described: TapsDescribed,
        token: str,
        history: Callable[[], list[Message]],
        journaled: tuple[type[Message], ...],
        echo: Callable[[str], None],
        publish: Callable[[Message], None],
    ) -> None:
        self._described = described
        self._token = token.encode()
        self._history = history
        self._journaled = journaled
        self._echo = echo
        self._publish = publish
        self._latest: deque[Message] = deque(maxlen=LATEST)
        self._number = 0
        self._lock = threading.Lock()
        self._proposed: dict[str, bytes] = {}
        self._answers: queue.SimpleQueue[RegionsProposed | OrderRefused] = queue.SimpleQueue()
        self._is_closing = threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.sndhwm = self._socket.rcvhwm = REPLIES_WAITING
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        try:
            self._socket.bind(listen)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ConfigError(f"taps.listen = {listen!r}: {error.strerror}") from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="taps door", daemon=True)
        self._thread.start()

    def take(self, message: Message, number: int) -> None:
        """See a message of the bus; returns at once."""
        with self._lock:
            self._number = number
            if isinstance(message, self._journaled):
                self._latest.append(message)
        if isinstance(message, RegionsProposed | OrderRefused) and message.request in self._proposed:
            self._answers.put(message)

    def close(self) -> None:
        """End the thread and close the socket; safe to call twice."""
        self._is_closing.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_closing.is_set():
                if self._socket.poll(POLL_MS):
                    self._turn()
                while not self._answers.empty():
                    answer = self._answers.get()
                    if peer := self._proposed.pop(answer.request, None):
                        self._reply(peer, b"propose", answer)
        except Exception:
            structlog.get_logger().exception("the door of the taps is closed")
        finally:
            self._context.destroy(linger=0)

    def _turn(self) -> None:
        peer, *frames = self._socket.recv_multipart()
        try:
            self._answer(peer, frames)
        except (ControlError, WireError, JournalError, OSError, UnicodeDecodeError) as error:
            self._send(peer, [b"refused", str(error)[:200].encode()])

    def _answer(self, peer: bytes, frames: list[bytes]) -> None:
        match frames:
            case [b"describe"]:
                self._reply(peer, b"describe", self._described)
            case [b"state"]:
                for reply in self._state():
                    if not self._reply(peer, b"state", reply):
                        return
            case [b"echo", name] if len(name) <= 40:
                self._echo(name.decode("ascii"))
            case [b"propose", token, header]:
                self._propose(peer, token, header)
            case _:
                raise WireError(f"{len(frames)} frames: expected describe, state, echo or propose")

    def _state(self) -> Iterator[Message]:
        """Yield every fact of the run once: those in the journal, and those on their way to it."""
        with self._lock:
            latest, number = list(self._latest), self._number
        on_their_way = {wire.pack(fact): fact for fact in latest}
        count = 0
        for fact in self._history():
            on_their_way.pop(wire.pack(fact), None)
            count += 1
            yield fact
        yield from on_their_way.values()
        yield StateSent(facts=count + len(on_their_way), number=number)

    def _propose(self, peer: bytes, token: bytes, header: bytes) -> None:
        if not self._token:
            raise WireError("proposals are not taken: the run was started without SPARSE_ACTORS_TAP_TOKEN")
        if not hmac.compare_digest(token, self._token):
            raise WireError("wrong token: set SPARSE_ACTORS_TAP_TOKEN to that of the run")
        order = wire.decode([header])
        if not isinstance(order, ProposeRegions):
            raise WireError(f"{type(order).__name__} is not taken here, only ProposeRegions")
        if len(self._proposed) >= MAX_PROPOSALS:
            raise WireError(f"{MAX_PROPOSALS} proposals are waiting already")
        order = replace(order, request=order.request or secrets.token_hex(8))
        self._proposed[order.request] = peer
        try:
            self._publish(order)
        except ControlError:
            del self._proposed[order.request]
            raise

    def _reply(self, peer: bytes, word: bytes, message: Message) -> bool:
        return self._send(peer, [word, *wire.encode(message)])

    def _send(self, peer: bytes, frames: Frames) -> bool:
        """Send when the tap has read enough of what came before; False if it is gone or does not read."""
        for _ in range(int(PATIENCE_S * 1000 / POLL_MS)):
            try:
                self._socket.send_multipart([peer, *frames], flags=zmq.NOBLOCK)
            except zmq.Again:
                if self._is_closing.wait(POLL_MS / 1000):
                    return False
            except zmq.ZMQError:
                return False  # gone
            else:
                return True
        return False
