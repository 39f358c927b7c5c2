"""The daemon's side of the workers' socket: bounded, validated, closed without a trace."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from sparse_actors import wire
from sparse_actors.contracts.detector import MAX_POIS
from sparse_actors.errors import ConfigError, WireError
from sparse_actors.messages import Message

from .endpoints import check_listen
from .gate import Gate
from .keys import Keys
from .link_rate import LinkRate

MAX_MESSAGES_PER_TURN = 1000
MAX_EVENTS_PER_TURN = 1000
"""Connections made and ended. ZeroMQ stands still once some 2000 wait to be read: strangers who knock
without end would keep it from serving anybody."""
MAX_INCOMING_BYTES = 1_000_000 + MAX_POIS * 8 * (2 + 1 + 4)
"""Largest frame a worker has reason to send."""
HIGH_WATER_MARK = 16
"""Messages waiting for one peer: a job and some heartbeats."""
HANDSHAKE_MS = 5000
LOCAL_HEARTBEAT_MS, LOCAL_SILENCE_MS = 200, 1000
"""Of the connections to this computer's own workers. Signs of life come from a thread of the system, also
while a detector holds the interpreter; a process that was stopped gives none."""
MAX_SOCKET_PATH = 100
"""Bytes; the systems' limits are 104 and 108."""

_CONNECTIONS = zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class Router:
    """A ROUTER socket on a private endpoint, and on a further one if wanted.

    All methods but `wake` belong to one thread at a time.

    Parameters
    ----------
    listen
        Further endpoint, such as "tcp://127.0.0.1:5555", or "".
    keys
        Encrypt `listen` and let in only who is on the list of workers; None lets anybody connect.
    heartbeat_s, silence_s
        Period of the signs of life on `listen`, and the silence after which a connection is closed.

    Raises
    ------
    ConfigError
        `listen` is not a free port of an address of this computer, or the daemon has no key.
    """

    def __init__(
        self, listen: str, keys: Keys | None = None, heartbeat_s: float = 1.0, silence_s: float = 5.0
    ) -> None:
        check_listen(listen, keys)
        self._keys = keys
        self._someone_left = False
        with contextlib.ExitStack() as stack:
            context = zmq.Context()
            # Last in, first out: the context is gone before the directory of its socket is removed.
            directory = private_directory(stack)
            stack.callback(context.destroy, linger=0)
            self._socket = _limited_socket(context)
            self._monitor = self._socket.get_monitor_socket(_CONNECTIONS)
            self._socket.heartbeat_ivl, self._socket.heartbeat_timeout = LOCAL_HEARTBEAT_MS, LOCAL_SILENCE_MS
            self._handshaking: dict[int, None] = {}
            self._socket.bind("tcp://127.0.0.1:*" if directory is None else f"ipc://{directory / 'workers'}")
            self.endpoints = [self._socket.getsockopt_string(zmq.LAST_ENDPOINT)]
            """Where workers connect: the private endpoint, then `listen`."""
            if listen:
                # These options hold for what is bound after them, not for this computer's own workers.
                self._socket.heartbeat_ivl = int(1000 * heartbeat_s)
                self._socket.heartbeat_timeout = int(1000 * silence_s)
                if keys is not None:
                    gate = Gate(context, keys)
                    stack.callback(gate.close)
                    gate.guard(self._socket, "workers")
                try:
                    self._socket.bind(listen)
                except zmq.ZMQError as error:
                    raise ConfigError(f"[workers] listen = {listen!r}: {error.strerror}") from None
                self.endpoints.append(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
            self._wake_sender, self._wake_receiver = socket.socketpair()
            for end in self._wake_sender, self._wake_receiver:
                end.setblocking(False)
                stack.callback(end.close)
            self._poller = zmq.Poller()
            for source in self._socket, self._monitor, self._wake_receiver:
                self._poller.register(source, zmq.POLLIN)
            self._closing = stack.pop_all()

    def wake(self) -> None:
        """End a `wait`, from any thread."""
        # A full buffer means that a wake-up is under way already.
        with contextlib.suppress(BlockingIOError):
            self._wake_sender.send(b"\0")

    def wait(self, timeout_s: float) -> None:
        """Wait until something can be received, `wake`, or the timeout."""
        self._poller.poll(int(timeout_s * 1000))
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(4096)

    def send(self, peer: bytes, message: Message, link: LinkRate | None = None) -> bool:
        """Send without waiting; False when the peer is gone or does not read.

        Over a link that is measured, arrays are compressed when they get there sooner.
        """
        frames = wire.encode(message, link.pack) if link else wire.encode(message)
        try:
            self._socket.send_multipart([peer, *frames], flags=zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        if link:
            link.sent(sum(map(len, frames)))
        return True

    def received(self) -> Iterator[tuple[bytes, Message | WireError, str]]:
        """Yield what has come, at most MAX_MESSAGES_PER_TURN.

        A peer, its message or what is wrong with it, and the name of the key that it showed.
        """
        for _ in range(MAX_EVENTS_PER_TURN):
            if not self._monitor.poll(0):
                break
            if self._is_stranger_gone():
                yield b"", WireError("a peer that does not speak ZMTP 3 or may not connect"), ""
        for _ in range(MAX_MESSAGES_PER_TURN):
            try:
                peer, key, frames = self._receive_frames()
            except zmq.Again:
                return
            user = self.users().get(bytes.fromhex(key), "") if key else ""
            try:
                if key and not user:
                    raise WireError("a peer whose key was revoked")
                yield peer, wire.decode(frames), user
            except WireError as error:
                yield peer, error, user

    def users(self) -> dict[bytes, str]:
        """Return who may be connected now: the name of each key."""
        return self._keys.allowed("workers") if self._keys else {}

    def someone_left(self) -> bool:
        """Whether a connection ended since the last call; which one, only a message to it tells."""
        left, self._someone_left = self._someone_left, False
        return left

    def close(self) -> None:
        """Close everything and remove the private directory."""
        self._closing.close()

    def _is_stranger_gone(self) -> bool:
        """Follow the connections; whether one ended that never shook hands."""
        event = recv_monitor_message(self._monitor)
        descriptor = int(event["value"])
        if event["event"] == zmq.EVENT_ACCEPTED:
            self._handshaking[descriptor] = None
        elif event["event"] == zmq.EVENT_DISCONNECTED:
            self._someone_left = True
            return self._handshaking.pop(descriptor, 0) is None
        elif self._handshaking:
            # A success does not say whose it is: most likely that of the oldest.
            del self._handshaking[next(iter(self._handshaking))]
        return False

    def _receive_frames(self) -> tuple[bytes, str, list[memoryview]]:
        peer = self._socket.recv(zmq.NOBLOCK)
        frames: list[memoryview] = []
        key = ""
        while self._socket.getsockopt(zmq.RCVMORE):
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            if not frames and self._keys:
                with contextlib.suppress(zmq.ZMQError):  # EINVAL: it came by the private endpoint
                    key = str(frame.get("User-Id"))
            if len(frames) < wire.MAX_ARRAYS + 2:  # One more than `decode` accepts.
                frames.append(frame.buffer)
        return peer, key, frames


def _limited_socket(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    router = context.socket(zmq.ROUTER)
    router.linger = 0
    router.sndhwm = router.rcvhwm = HIGH_WATER_MARK
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.MAXMSGSIZE, MAX_INCOMING_BYTES)
    router.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    router.setsockopt(zmq.IPV6, 1)
    return router


def private_directory(stack: contextlib.ExitStack) -> Path | None:
    """Make a directory that only this user can enter, for a socket; None where there are none."""
    if sys.platform == "win32":
        return None
    directory = Path(tempfile.mkdtemp(prefix="sparse-actors-"))
    if len(bytes(directory)) + len("/workers") > MAX_SOCKET_PATH:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="sparse-actors-", dir="/tmp"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory
