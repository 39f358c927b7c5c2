"""Serves one microscope to sparse-actors from a process, and a Python, of its own.

Needs Python 3.8 or newer, pyzmq and msgpack, and nothing else of sparse-actors. A driver is a class with
the methods of the contract, in plain Python (docs/hosted.md):

    from microscope_host import MicroscopeError, serve

    class Mine:
        name = "My microscope"

        def connect(self): ...

    if __name__ == "__main__":
        serve(Mine())

The driver is called from the main thread only, except `abort`.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import queue
import sys
import threading
import traceback
from typing import Any

import msgpack
import zmq

WIRE_VERSION = 1
"""Of the frames: a msgpack header and one raw frame for each array."""
PROTOCOL_VERSION = 1
"""Of the calls below."""
TOKEN_VARIABLE = "SPARSE_ACTORS_HOST_TOKEN"  # noqa: S105 - the name of a variable, not a secret
MAX_HEADER_BYTES = 1 << 24
MAX_ARRAY_BYTES = 1 << 30
MAX_ARRAYS = 16
POLL_S = 0.2
"""A wait without an end would not see Ctrl-C on Windows."""
LEAVE_S = 5.0
"""How long a call in flight has to end once there is nobody to tell."""

REQUIRED = (
    "connect",
    "disconnect",
    "get_state",
    "prepare",
    "scan_area",
    "move_stage",
    "reset_microscope",
)
OPTIONAL = (
    "set_working_distance",
    "set_brightness_contrast",
    "set_view_field",
    "set_scan_rotation",
    "set_beam_blank",
    "park_beam",
    "scan_mask",
    "scan_points",
    "energy_axis",
    "acquire_spectra",
    "estimate_time_s",
    "actual_dwell_ns",
    "metadata",
    "abort",
)

_FORMATS: dict[str, Any] = {
    "bool": "?",
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "int32": "i",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}
_TYPES = {(memoryview(b"").cast(code).itemsize, code): name for name, code in _FORMATS.items()}
# Which letter stands for how many bytes depends on the system.
_TYPES.update({(8, "l"): "int64", (4, "l"): "int32", (4, "L"): "uint32"})


class MicroscopeError(Exception):
    """The instrument refused or failed; the order may be tried again."""


class StageError(MicroscopeError):
    """The stage did not arrive where it was sent."""


class CapabilityError(MicroscopeError):
    """The instrument cannot do this at all; trying again is of no use."""


class GarbledError(Exception):
    """Frames that are not a message."""


# -- the wire ----------------------------------------------------------------------------------


def encode(kind: str, fields: dict[str, Any]) -> list[Any]:
    """Return [header, array, array ...]; whatever has a buffer, such as a NumPy array, is sent as it is.

    Raises
    ------
    TypeError
        A value that cannot be sent.
    """
    arrays: list[Any] = []
    described: list[list[Any]] = []

    def take(value: Any) -> Any:
        if value is None or isinstance(value, (str, bytes, bool, int, float)):
            return value
        if isinstance(value, dict):
            return {str(key): take(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [take(item) for item in value]
        try:
            array: Any = memoryview(value)
        except TypeError:
            raise TypeError(f"{type(value).__name__} cannot be sent") from None
        if array.ndim == 0:  # a number of NumPy
            return array.tolist()
        if (array.itemsize, array.format) not in _TYPES:
            raise TypeError(f"an array of format {array.format!r} cannot be sent: only {', '.join(_FORMATS)}")
        arrays.append(array)
        described.append([_TYPES[array.itemsize, array.format], list(array.shape)])
        return {"array": len(arrays) - 1}

    header = {"v": WIRE_VERSION, "kind": kind, "fields": take(fields), "arrays": described}
    packed = msgpack.packb(header)
    return [packed, *(array if array.c_contiguous else array.tobytes() for array in arrays)]


def decode(frames: list[Any]) -> tuple[str, dict[str, Any]]:
    """Return kind and fields; arrays stand in them as views of their type and shape.

    Raises
    ------
    GarbledError
        Anything that is not a complete message of this version.
    """
    try:
        header = _header(frames)
        if len(header["arrays"]) != len(frames) - 1:
            raise ValueError(f"the header does not describe the {len(frames) - 1} arrays that came")
        arrays = [_array(header["arrays"][i], frame) for i, frame in enumerate(frames[1:])]
        return str(header["kind"]), _placed(dict(header["fields"]), arrays)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, msgpack.UnpackException) as error:
        raise GarbledError(f"{type(error).__name__} {str(error)[:200]}") from None


def _header(frames: list[Any]) -> Any:
    if not 1 <= len(frames) <= 1 + MAX_ARRAYS or len(frames[0]) > MAX_HEADER_BYTES:
        raise ValueError(f"expected a header and at most {MAX_ARRAYS} arrays")
    header = msgpack.unpackb(frames[0], strict_map_key=True, max_ext_len=0)
    if not isinstance(header, dict) or header.get("v") != WIRE_VERSION:
        raise ValueError(f"not a message of wire version {WIRE_VERSION}")
    return header


def _array(described: list[Any], frame: Any) -> Any:
    name, shape = described
    code = _FORMATS[name]
    count = 1
    for side in shape:
        if type(side) is not int or not 1 <= side <= MAX_ARRAY_BYTES:
            raise ValueError(f"array shape {str(shape)[:80]} is not a list of sizes")
        count *= side
    size = count * memoryview(b"").cast(code).itemsize
    if not 1 <= len(shape) <= 4 or size != len(frame):
        raise ValueError(f"array {name} {str(shape)[:80]} needs {size} bytes, got {len(frame)}")
    return memoryview(frame).cast("B").cast(code, tuple(shape))


def _placed(value: Any, arrays: list[Any]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"array"}:
            return arrays[value["array"]]
        return {key: _placed(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_placed(item, arrays) for item in value]
    return value


# -- the host ----------------------------------------------------------------------------------


def serve(driver: Any, arguments: Any = None) -> None:
    """Serve a driver until the program that started this one is gone, or Ctrl-C.

    Parameters
    ----------
    driver
        Object with the methods in `REQUIRED` and any of those in `OPTIONAL`, a `name`, and perhaps `limits`.
    arguments
        Of the command line; None: those of this process.

    Raises
    ------
    TypeError
        The driver lacks a method.
    """
    missing = [name for name in REQUIRED if not callable(getattr(driver, name, None))]
    if missing:
        raise TypeError(f"{type(driver).__name__} lacks the methods {', '.join(missing)}")
    parser = argparse.ArgumentParser(description=f"serves {driver.name} to sparse-actors")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--bind", metavar="ADDRESS", help="wait there; ipc://FILE or tcp://127.0.0.1:PORT")
    where.add_argument("--connect", metavar="ADDRESS", help="go there; ends when standard input does")
    given = parser.parse_args(arguments)
    faulthandler.enable()
    _Host(driver, given.bind or given.connect, is_bound=given.bind is not None).run()


class _Host:
    """The main thread calls the driver; another one has the socket, and hears `abort` at any time."""

    def __init__(self, driver: Any, address: str, *, is_bound: bool) -> None:
        self._driver = driver
        self._has_parent = not is_bound
        self._token = os.environ.get(TOKEN_VARIABLE, "")
        self._calls: queue.Queue[Any] = queue.Queue()
        self._busy = ""
        self._client = b""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 1000
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_ARRAY_BYTES)
        self._results = self._context.socket(zmq.PAIR)
        self._results.bind("inproc://results")
        self._answers = self._context.socket(zmq.PAIR)
        self._answers.connect("inproc://results")
        if is_bound:
            self._socket.bind(address)
            endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
            print(f"{driver.name} is served at {endpoint}; Ctrl-C ends it", flush=True)
        else:
            self._socket.connect(address)

    def run(self) -> None:
        """Call the driver as asked until there is nobody to ask."""
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        if self._has_parent:
            threading.Thread(target=self._watch_parent, name="parent", daemon=True).start()
        try:
            while True:
                try:
                    call = self._calls.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                if call is None:
                    return
                self._answers.send_multipart(self._answer(*call), copy=False)
        except KeyboardInterrupt:
            pass
        finally:
            self._driver.disconnect()

    def _answer(
        self, client: bytes, number: int, method: str, arguments: list[Any], within_s: float
    ) -> list[Any]:
        if self._has_parent:
            # Ends this process also where the vendor's code hangs and lets no other thread run.
            faulthandler.dump_traceback_later(within_s + LEAVE_S, exit=True)
        try:
            value = self._driver_method(method)(*arguments)
            return [client, *encode("result", {"id": number, "value": value})]
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            return [client, *_error(number, error)]
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _driver_method(self, name: str) -> Any:
        if name == "describe":
            return self._describe
        method = getattr(self._driver, name, None) if name in REQUIRED + OPTIONAL else None
        if not callable(method):
            raise CapabilityError(f"{self._driver.name} has no {name}")
        return method

    def _describe(self) -> dict[str, Any]:
        """Say what the driver is and can, once it is connected."""
        offered = [name for name in OPTIONAL if callable(getattr(self._driver, name, None))]
        methods = getattr(self._driver, "methods", offered)
        limits = dict(getattr(self._driver, "limits", {}))
        return {"name": self._driver.name, "methods": list(methods), "limits": limits}

    # -- the thread that has the socket -----------------------------------------------------

    def _listen(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._results, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._results in ready:
                result = self._results.recv_multipart(copy=False)
                self._busy = ""
                self._socket.send_multipart(result, copy=False)
            if self._socket in ready:
                client, *frames = self._socket.recv_multipart()
                try:
                    reply = self._take(client, *decode(frames))
                except Exception as error:  # whatever came, this thread goes on
                    reply = _error(0, error)
                if reply:
                    self._socket.send_multipart([client, *reply])

    def _take(self, client: bytes, kind: str, fields: dict[str, Any]) -> list[Any]:
        """Take a message; returns what is to be answered at once."""
        if kind == "hello":
            welcome = {"protocol": PROTOCOL_VERSION, "token": self._token, "busy": self._busy}
            if fields.get("token") != self._token:
                return encode("welcome", {**welcome, "token": ""})
            # Whoever comes last has the microscope: the one before may have been killed.
            self._client = client
            if self._busy:
                self._abort()
            return encode("welcome", welcome)
        number = fields.get("id")
        if client != self._client:
            return _error(number, MicroscopeError("another program has taken this microscope over"))
        if kind == "abort":
            self._abort()
            return []
        if kind != "call" or type(number) is not int:
            raise GarbledError(f"unknown message {kind[:40]!r}")
        if self._busy:
            return _error(number, MicroscopeError(f"the host is still at {self._busy}"))
        method, arguments = str(fields.get("method")), fields.get("arguments")
        within_s = fields.get("within_s")
        if not isinstance(arguments, list) or not isinstance(within_s, float):
            raise GarbledError("a call needs a list of arguments and a time within_s")
        self._busy = method
        self._calls.put((client, number, method, arguments, within_s))
        return []

    def _abort(self) -> None:
        """End what is in flight, if the driver can."""
        if callable(getattr(self._driver, "abort", None)):
            try:
                self._driver.abort()
            except Exception:
                traceback.print_exc()

    def _watch_parent(self) -> None:
        """Leave when standard input ends: the system closes it whatever becomes of the parent."""
        while sys.stdin.buffer.read(1 << 16):
            pass
        self._calls.put(None)
        self._abort()
        threading.Event().wait(LEAVE_S)
        os._exit(1)


def _error(number: Any, error: BaseException) -> list[Any]:
    names = [kind.__name__ for kind in type(error).__mro__]
    known = [name for name in ("CapabilityError", "StageError", "MicroscopeError") if name in names]
    return encode("error", {"id": number, "type": (known or names)[0], "text": str(error)})
