"""A server that speaks SharkSEM from a simulated specimen, to rehearse with and to test against.

    python -m sparse_actors.drivers.sharksem.fake_server --port 8300

It is written from the description of the protocol alone and shares no code of messages with the
driver, so that a field misread on one side shows.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .fake_commands import COMMANDS, ScanOrder, read_arguments
from .fake_faults import Faults
from .fake_instrument import FakeInstrument
from .fake_wire import FakeClient, close, listen, message, pack_field, read

CHUNK_S = 0.05
"""Image data are sent this often."""
WAIT_SCAN, WAIT_STAGE = 0x0100, 0x0200
GARBAGE = bytes(range(200, 248))


class FakeServer:
    """Listens from `start` to `stop`; as a context manager from entering to leaving the block.

    Parameters
    ----------
    host, port
        Where to listen for commands; images go out on the port after it. 0: any two free ports.
    instrument
        What the clients share; kept over connections.
    faults
        What goes wrong; may be changed while it runs.
    version
        Of the protocol; commands that came later are unknown.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        instrument: FakeInstrument | None = None,
        faults: Faults | None = None,
        version: str = "3.2.20",
    ) -> None:
        self.instrument = instrument or FakeInstrument()
        self.faults = faults or Faults()
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        """Every command understood, with its arguments, in the order of coming."""
        self.scans: list[ScanOrder] = []
        """Every scan begun."""
        self.exposed_pixels = 0
        """Pixels scanned, also those of scans that were stopped."""
        self.sent_bytes = 0
        self._host = host
        self.version = version
        self._clients: list[FakeClient] = []
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self.is_scanning = self._is_stopping = self._has_hung = False
        self._stop_scan = threading.Event()
        self._listeners = listen(host, port)
        self.port: int = self._listeners[0].getsockname()[1]

    # -- life -------------------------------------------------------------------------------

    def start(self) -> FakeServer:
        """Begin to answer."""
        self._spawn(self._accept)
        return self

    def stop(self) -> None:
        """Drop every client and end every thread."""
        with self._changed:
            self._is_stopping = True
            self._stop_scan.set()
            self._changed.notify_all()
        for client in list(self._clients):
            client.close()
        for thread in list(self._threads):
            thread.join()
        for listener in self._listeners:
            listener.close()

    def __enter__(self) -> FakeServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while not self._is_stopping:
            for listener in select.select(self._listeners, [], [], CHUNK_S)[0]:
                connection, peer = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if listener is self._listeners[0]:
                    client = FakeClient(connection)
                    self._clients.append(client)
                    self._spawn(self._serve, client)
                elif owner := next((c for c in self._clients if c.data_port == peer[1]), None):
                    with self._changed:
                        owner.data = connection
                        self._changed.notify_all()
                else:
                    connection.close()  # it was not registered

    def drop_clients(self) -> None:
        """Close all connections, as when the microscope's software is restarted."""
        for client in list(self._clients):
            client.close()

    def resume(self) -> None:
        """Go on after having hung."""
        self._has_hung = False

    # -- commands ---------------------------------------------------------------------------

    def _serve(self, client: FakeClient) -> None:
        with contextlib.suppress(OSError):
            while header := read(client.control, 32):
                name = header[:16].split(b"\0")[0].decode("latin-1")
                size, number, flags, queue, _ = struct.unpack("<IIHHI", header[16:])
                body = read(client.control, size) if size else b""
                if name == self.faults.cut_at:
                    break
                self._hold(flags)
                with self._changed:
                    answer = self._carry_out(client, name, body)
                if answer is not None and (flags & 1 or answer):
                    self._reply(client, name, number, queue, answer)
        client.close()
        self._clients.remove(client)

    def _hold(self, flags: int) -> None:
        """Wait until what the flags name is idle."""
        with self._changed:
            if flags & WAIT_SCAN:
                self._changed.wait_for(lambda: not self.is_scanning or self._is_stopping)
            while flags & WAIT_STAGE and self.instrument.is_stage_busy and not self._is_stopping:
                self._changed.wait(0.005)

    def _carry_out(self, client: FakeClient, name: str, body: bytes) -> tuple[Any, ...] | None:
        """Return what to answer; None for what is passed over in silence."""
        version = tuple(int(part) for part in self.version.split("."))
        faults = self.faults
        if name == faults.hang_after:
            self._has_hung = True
        own = {"TcpRegDataPort": "u", "TcpGetVersion": "", "IsLicenseValid": "s", "ScStopScan": ""}
        command = COMMANDS.get(name)
        types = own[name] if name in own else command.types if command else None
        if name == "ScScanXY" and version < (2, 0, 6):
            types = "uuuuuuui"  # a dwell time of its own came later
        arguments = None if types is None else read_arguments(types, body)
        if arguments is None or self._has_hung or name in faults.unknown:
            return None
        if command and (version < command.since or command.licence in faults.missing_licences):
            return None
        self.asked.append((name, tuple(arguments)))
        if name == "TcpRegDataPort":
            client.data_port = arguments[0]
            return (0,)
        if name == "TcpGetVersion":
            return (self.version,)
        if name == "IsLicenseValid":
            return (int(arguments[0] not in faults.missing_licences),)
        if name == "ScStopScan":
            self._stop_scan.set()
            self._changed.wait_for(lambda: not self.is_scanning)
            return ()
        if name in faults.ignored or command is None:
            return ()
        try:
            result = command.handler(self.instrument, *arguments)
        except (IndexError, KeyError):
            return None
        return self._begin(client, result) if isinstance(result, ScanOrder) else result

    def _reply(self, client: FakeClient, name: str, number: int, queue: int, answer: tuple[Any, ...]) -> None:
        if self.faults.reply_delay_s:
            time.sleep(self.faults.reply_delay_s)
        if name in self.faults.silent:
            return
        if name in self.faults.garble_replies:
            client.control.sendall(GARBAGE)
            return
        if name in self.faults.wrong_reply_id:
            number += 1000
        body = b"".join(pack_field(value, self.faults.number_style) for value in answer)
        self._send(client.control, message(name, number, queue, body))

    def _send(self, connection: socket.socket, message: bytes) -> None:
        if self.faults.one_byte_at_a_time:
            for at in range(len(message)):
                connection.sendall(message[at : at + 1])
        else:
            connection.sendall(message)
        self.sent_bytes += len(message)

    # -- scans ------------------------------------------------------------------------------

    def _begin(self, client: FakeClient, order: ScanOrder) -> tuple[Any, ...]:
        if self.is_scanning or self.instrument.live_scanning:
            return (-1,) if order.box else (-10, "a scan is running")
        self.is_scanning = True
        self._stop_scan.clear()
        self.scans.append(order)
        self._spawn(self._scan, client, order, len(self.scans))
        return (0,) if order.box else (0, "")

    def _scan(self, client: FakeClient, order: ScanOrder, number: int) -> None:
        with self._changed:  # it has connected, but that may not have been noticed here
            self._changed.wait_for(lambda: client.data or not client.data_port, timeout=10)
        started_s = time.monotonic()
        try:
            with contextlib.suppress(OSError):
                self._expose(client, order, number, started_s)
        finally:
            with self._changed:
                self.is_scanning = False
                self._changed.notify_all()

    def _expose(self, client: FakeClient, order: ScanOrder, number: int, started_s: float) -> None:
        sem, faults = self.instrument, self.faults if self.faults.acts_on(number) else Faults()
        is_lit = sem.beam_state() == 1 and sem.blanker != 1
        images = {
            i: is_lit
            * np.concatenate([sem.image(p, order.dwell_ns, c.detector, c.bits).ravel() for p in order.pieces])
            for i, c in enumerate(sem.channels)
            if c.is_enabled
        }
        frame = order.frame + 7 if faults.wrong_frame_id else order.frame
        if faults.stale_frame:
            for channel, image in images.items():
                self._send_chunk(client, order.frame - 1, channel, 0, 255 - image)
        duration_s = sem.scaled_s(sem.scan_s(order.pixels, order.lines, order.dwell_ns))
        step = max(1, min(int(CHUNK_S * 1e9 / order.dwell_ns), order.pixels // 3)) | 1
        middle = order.pixels // step // 2 * step
        for first in range(0, order.pixels, step):
            end = min(first + step, order.pixels)
            due_s = started_s + duration_s * end / order.pixels
            is_stopped = self._stop_scan.wait(max(due_s - time.monotonic(), 0.0))
            self.exposed_pixels += 0 if is_stopped else end - first
            if is_stopped or self._has_hung or (faults.stop_image and first >= middle):
                return
            if first == middle and not self._disturb(client, faults):
                continue
            for channel, image in images.items():
                self._send_chunk(client, frame, channel, first, image[first:end])
                if faults.resend_chunk:
                    half = first + (end - first) // 2
                    self._send_chunk(client, frame, channel, half, image[half:end])
                if faults.foreign_message and client.data is not None:
                    self._send_chunk(client, frame, channel + 1, first, 255 - image[first:end])
                    # Camera, bits, size and pixels, in numbers that would do for an image as well.
                    camera = struct.pack("<iiIII", frame, channel, first, 8 * image.itemsize, 4) + b"\7" * 4
                    self._send(client.data, message("CameraData", 0, 0, camera))

    def _disturb(self, client: FakeClient, faults: Faults) -> bool:
        """Do what goes wrong in the middle of an image; False if its chunk is not to be sent."""
        if client.data is not None:
            if faults.garble_data:
                client.data.sendall(GARBAGE)
            if faults.cut_data:
                close(client.data)
            if faults.half_close:
                client.data.shutdown(socket.SHUT_WR)
        if faults.cut_control:
            client.close()
        return not faults.lose_chunk

    def _send_chunk(self, client: FakeClient, frame: int, channel: int, first: int, image: Any) -> None:
        pixels = image.astype(image.dtype.newbyteorder("<")).tobytes()
        head = struct.pack("<IiIiI", frame, channel, first, 8 * image.itemsize, len(pixels))
        if client.data is not None:
            with contextlib.suppress(OSError):  # the scan goes on when its client is gone
                self._send(client.data, message("ScData", 0, 0, head + pixels + bytes(-len(pixels) % 4)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A SharkSEM server with a simulated specimen.")
    names = ", ".join(f.name for f in dataclasses.fields(Faults))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8300, help="for commands; 0: any free one")
    parser.add_argument("--seed", type=int, default=1, help="of the specimen and its noise")
    parser.add_argument("--time-scale", type=float, default=1.0, help="times faster; 0: no waiting")
    parser.add_argument("--protocol", default="3.2.20", help="protocol version")
    parser.add_argument("--beam-change-s", type=float, default=0.0, help="how long the beam is switching")
    parser.add_argument("--fault", action="append", default=[], help=f"NAME or NAME=VALUE of {names}")
    chosen = parser.parse_args(arguments)
    faults = Faults()
    try:
        for text in chosen.fault:
            faults.switch_on(text)
    except ValueError as error:
        parser.error(str(error))
    instrument = FakeInstrument(
        seed=chosen.seed, time_scale=chosen.time_scale, beam_change_s=chosen.beam_change_s
    )
    server = FakeServer(
        chosen.host, chosen.port, instrument=instrument, faults=faults, version=chosen.protocol
    )
    with server, contextlib.suppress(KeyboardInterrupt):
        print(f"SharkSEM {server.version} on {chosen.host}:{server.port}", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
