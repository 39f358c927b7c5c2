"""What the fuzzer feeds through sockets: the control, the door of the taps, the port for far workers."""

from __future__ import annotations

import json
import random
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import zmq
from fuzz_inputs import BETWEEN_FRAMES, Target, odd_block, odd_tree
from fuzz_targets import example

from sparse_actors import wire
from sparse_actors.messages import Heartbeat, Message, ProposeRegions, StopRun
from sparse_actors.network.control import Control, Done, read_address
from sparse_actors.network.gate import present
from sparse_actors.network.keys import DAEMON, Keys, read_secret
from sparse_actors.network.router import Router
from sparse_actors.network.tap_door import TapDoor
from sparse_actors.network.taps import TapsDescribed
from sparse_actors.run_requests import REQUESTS

ALIVE_MS = 5000
CHECK_EVERY = 200
"""A peer that does not answer every input is asked whether it is alive after so many."""


def _odd_json(data: bytes, rng: random.Random) -> bytes:
    with suppress(ValueError, RecursionError):
        return json.dumps(odd_tree(json.loads(data), rng)).encode(errors="surrogatepass")
    return data


@contextmanager
def control() -> Iterator[Target]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(Control(folder, REQUESTS, lambda request: Done(type(request).__name__)))
        address = read_address(folder)
        if address is None:
            raise RuntimeError("the control says nothing of where it listens")
        asker = _dealer(stack, address.endpoint)
        box = {"left": 0, "top": 0, "width": 8, "height": 8}
        requests: list[dict[str, Any]] = [
            {"ask": "status"},
            {"ask": "pause", "reason": "lunch"},
            {"ask": "skip", "tile": "r000c001", "reason": "charging"},
            {"ask": "propose", "tile": "r000c001", "boxes_px": [box], "reason": "mine"},
        ]

        def make(rng: random.Random) -> bytes:
            return json.dumps({"token": address.token, "request": rng.choice(requests)}).encode()

        def take(data: bytes) -> bool:
            asker.send_multipart(data.split(BETWEEN_FRAMES)[:2])
            if not asker.poll(ALIVE_MS):
                raise RuntimeError("no answer")
            return b'"refused"' not in asker.recv_multipart()[-1]

        yield Target(make, _odd_json, take)


@contextmanager
def door() -> Iterator[Target]:
    token = b"secret"
    with ExitStack() as stack:
        described = example(TapsDescribed)
        opened = TapDoor(
            "tcp://127.0.0.1:*",
            described,
            token.decode(),
            lambda: [StopRun(reason="a fact")],
            (),
            lambda name: None,
            lambda order: None,
        )
        stack.callback(opened.close)
        knocking = _dealer(stack, opened.endpoint)
        proposal = bytes(wire.encode(example(ProposeRegions))[0])
        requests = ([b"describe"], [b"state"], [b"echo", b"me"], [b"propose", token, proposal])
        inputs = 0

        def take(data: bytes) -> bool:
            nonlocal inputs
            inputs += 1
            knocking.send_multipart(data.split(BETWEEN_FRAMES))
            if inputs % CHECK_EVERY == 0:
                knocking.send(b"describe")
                while True:
                    if not knocking.poll(ALIVE_MS):
                        raise RuntimeError("the door does not answer any more")
                    if knocking.recv_multipart()[0] == b"describe":
                        break
            while knocking.poll(0):
                if knocking.recv_multipart()[0] != b"refused":
                    return True
            return False

        def odd(data: bytes, rng: random.Random) -> bytes:
            *words, last = data.split(BETWEEN_FRAMES)
            return BETWEEN_FRAMES.join((*words, odd_block(last, rng)))

        yield Target(lambda rng: BETWEEN_FRAMES.join(rng.choice(requests)), odd, take)


@contextmanager
def handshake() -> Iterator[Target]:
    """Feed the port for workers of other computers, before a key was shown."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys = Keys(folder / "keys")
        keys.new(DAEMON)
        worker = read_secret(keys.new("bench", keys.daemon().public))
        keys.allow("bench", worker.public, "workers")
        router = Router("tcp://127.0.0.1:*", keys)
        stack.callback(router.close)
        port = int(router.endpoints[1].rpartition(":")[2])
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
        hello = b"\x04\xc8\x05HELLO\x01\x00" + bytes(72) + worker.public + bytes(7) + b"\x01" + bytes(80)
        friend = _dealer(stack, router.endpoints[1], lambda made: present(made, worker))
        inputs = 0

        def take(data: bytes) -> bool:
            nonlocal inputs
            inputs += 1
            with socket.create_connection(("127.0.0.1", port), ALIVE_MS / 1000) as stranger:
                # Closed at once, so that no port stays behind for each of the inputs.
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with suppress(OSError):
                    stranger.sendall(data)
            taken = any(isinstance(message, Message) for _, message, _ in router.received())
            if inputs % CHECK_EVERY == 0:
                friend.send_multipart(wire.encode(Heartbeat()))
                give_up_s = time.monotonic() + ALIVE_MS / 1000
                while not any(isinstance(m, Heartbeat) and user for _, m, user in router.received()):
                    if time.monotonic() > give_up_s:
                        raise RuntimeError("a worker with a key is not heard any more")
                    router.wait(0.05)
            return taken

        yield Target(lambda rng: greeting + hello, lambda data, rng: data, take)


def _dealer(
    stack: ExitStack,
    endpoint: str,
    prepare: Callable[[zmq.Socket[bytes]], None] = lambda made: None,
) -> zmq.Socket[bytes]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stack.callback(context.destroy, linger=0)
    made = context.socket(zmq.DEALER)
    prepare(made)
    made.connect(endpoint)
    return made
