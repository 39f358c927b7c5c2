"""Two hosts on one machine: network namespaces, joined by a link that delays, loses and cuts packets.

The link is a pair of tunnel devices and a thread that carries packets between them. It imposes the delay,
the loss and the rate that it is told; what Python cannot carry in time is slower still.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MAX_PACKET_BYTES = 65_536


def why_not() -> str:
    """Say why this machine cannot have two hosts, or nothing. Makes a namespace of its own to find out."""
    if sys.platform != "linux" or not shutil.which("ip"):
        return "network namespaces are a matter of Linux with iproute2"
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        return "network namespaces need root and /dev/net/tun"
    name = f"sa-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "network namespaces cannot be made here"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


class TwoHosts:
    """A scope at 10.99.0.1 and a bench at 10.99.0.2.

    Parameters
    ----------
    delay_s, loss, bits_per_s
        Of the link, each way; `loss` is the part of the packets.
    seed
        Of which packets are lost.
    """

    scope_address = "10.99.0.1"

    def __init__(self, *, delay_s: float, loss: float, bits_per_s: float, seed: int) -> None:
        self._delay_s, self._loss, self._bits_per_s = delay_s, loss, bits_per_s
        self._random = random.Random(seed)
        self._names = {side: f"sa-{os.getpid()}-{side}" for side in ("scope", "bench")}
        self._devices: dict[str, int] = {}
        self._is_closed = False
        self._passes = {"scope": True, "bench": True}
        self.packets = self.lost = 0
        for number, (side, name) in enumerate(self._names.items(), 1):
            _ip("netns", "add", name)
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            self._devices[side] = device
            link = f"sa{os.getpid() % 10**7}{side[0]}"
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", link.encode(), _IFF_TUN | _IFF_NO_PI))
            _ip("link", "set", link, "netns", name)
            _ip("-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", link)
            _ip("-n", name, "link", "set", link, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        self._thread = threading.Thread(target=self._carry, name="link between hosts", daemon=True)
        self._thread.start()

    def on(self, side: str, command: list[str]) -> list[str]:
        """Return the command line that runs a command on one of the hosts."""
        return ["ip", "netns", "exec", self._names[side], *command]

    def cut(self, *sides: str) -> None:
        """Let no packet of these hosts through; one alone makes the link half-open."""
        for side in sides:
            self._passes[side] = False

    def heal(self) -> None:
        """Let all through again."""
        self._passes = dict.fromkeys(self._passes, True)

    def close(self) -> None:
        """Remove what was made."""
        self._is_closed = True
        thread = getattr(self, "_thread", None)
        if thread:
            thread.join()
        for device in self._devices.values():
            os.close(device)
        for name in self._names.values():
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)

    def _carry(self) -> None:
        other = {
            self._devices["scope"]: self._devices["bench"],
            self._devices["bench"]: self._devices["scope"],
        }
        side_of = {device: side for side, device in self._devices.items()}
        free_s = dict.fromkeys(other, 0.0)
        under_way: list[tuple[float, int, int, bytes]] = []
        while not self._is_closed:
            wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.05
            readable, _, _ = select.select(list(other), [], [], min(wait_s, 0.05))
            for device in readable:
                with contextlib.suppress(OSError):
                    packet = os.read(device, _MAX_PACKET_BYTES)
                    self.packets += 1
                    if not self._passes[side_of[device]] or self._random.random() < self._loss:
                        self.lost += 1
                        continue
                    free_s[device] = (
                        max(time.monotonic(), free_s[device]) + 8 * len(packet) / self._bits_per_s
                    )
                    due_s = free_s[device] + self._delay_s
                    heapq.heappush(under_way, (due_s, self.packets, other[device], packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(under_way)
                with contextlib.suppress(OSError):
                    os.write(device, packet)


@contextlib.contextmanager
def two_hosts(**link: float) -> Iterator[TwoHosts]:
    """Make two hosts and remove them."""
    hosts = TwoHosts.__new__(TwoHosts)
    try:
        hosts.__init__(**link)  # type: ignore[misc, arg-type]
        yield hosts
    finally:
        hosts.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
