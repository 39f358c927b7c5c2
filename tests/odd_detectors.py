"""A detector that does what the first pixel of its image says; run in worker processes only."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparse_actors.contracts.detector import Pois

Image = np.ndarray[Any, Any]


def _nothing(image: Image) -> object:
    return []


def _centre_of_mass(image: Image) -> object:
    if image.flags.writeable or not image.flags.aligned:
        raise ValueError("the image must be read-only and aligned")
    rows, columns = np.indices(image.shape)
    weight = image.astype(np.float64)
    return [((columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum())]


def _process_id(image: Image) -> object:
    return Pois.at([(0, 0)], score=[os.getpid()])


def _other_number_types(image: Image) -> object:
    return Pois(
        xy_px=np.array([[1, 2]], np.float32),
        score=np.ones(1, np.float16),
        boxes_px=np.array([[0, 0, 1, 1]], np.int32),
    )


def _look_around(image: Image) -> object:
    secrets = [name for name in os.environ if "TOKEN" in name]
    if secrets or len(sys.argv) != 3 or os.environ["OMP_NUM_THREADS"] != "1":
        raise ValueError(f"{secrets} {sys.argv}")
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("not the main thread")
    return []


def _raise(error: BaseException) -> Callable[[Image], object]:
    def act(image: Image) -> object:
        raise error

    return act


def _give(result: object) -> Callable[[Image], object]:
    return lambda image: result


def _wait_for_release(image: Image) -> object:
    Path(os.environ["ODD_BEGUN"]).touch()
    while not Path(os.environ["ODD_RELEASE"]).exists():
        threading.Event().wait(0.01)
    return _process_id(image)


def _hang(image: Image) -> object:
    print("hanging", flush=True)
    threading.Event().wait()
    return []


def _hang_with_interpreter_locked(image: Image) -> object:
    print("hanging", flush=True)
    ctypes.PyDLL(None).pause()
    return []


def _exit(image: Image) -> object:
    os._exit(3)


def _kill_itself(image: Image) -> object:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def _crash(image: Image) -> object:
    return ctypes.string_at(0)


GOOD: dict[str, Callable[[Image], object]] = {
    "nothing": _nothing,
    "centre of mass": _centre_of_mass,
    "process id": _process_id,
    "other number types": _other_number_types,
    "look around": _look_around,
    "array": _give(np.zeros((3, 2), np.int16)),
}
BAD: dict[str, Callable[[Image], object]] = {
    "raised ValueError: no": _raise(ValueError("no")),
    "raised SystemExit: 0": _raise(SystemExit(0)),
    "raised KeyboardInterrupt": _raise(KeyboardInterrupt()),
    "raised MemoryError": _raise(MemoryError()),
    "not finite": _give([(float("nan"), 1.0)]),
    "outside": _give([(1.0, 1e300)]),
    "1000000 points": _give(np.zeros((1_000_000, 2))),
    "got NoneType": _give(None),
    "got str": _give("1, 2"),
    "got generator": _give(point for point in ()),
    "got dict": _give({"x": 1}),
    "expected numbers": _give([("left", "top")]),
    "expected numbers (": _give([(1.0, 2.0), (3.0,)]),
    "shape (2, 3)": _give([(1.0, 2.0, 3.0)] * 2),
    "raised RecursionError": lambda image: BAD["raised RecursionError"](image),
    "raised MemoryError: " + "x" * 1900: _raise(MemoryError("x" * 100_000)),
}
FATAL: dict[str, Callable[[Image], object]] = {"exit code 3": _exit}
if sys.platform != "win32":
    FATAL |= {"signal SIGKILL": _kill_itself, "signal SIGSEGV": _crash}
ENDLESS: dict[str, Callable[[Image], object]] = {"hang": _hang}
if sys.platform != "win32":
    ENDLESS |= {"hang with the interpreter locked": _hang_with_interpreter_locked}

BEHAVIOURS = GOOD | BAD | FATAL | ENDLESS | {"wait for release": _wait_for_release}


def image_that_means(behaviour: str, shape: tuple[int, int] = (16, 24)) -> Image:
    """Return an image on which `Odd` behaves so."""
    image = np.zeros(shape, np.uint16)
    image[0, 0] = list(BEHAVIOURS).index(behaviour)
    return image


class Odd:
    """Behaves as the first pixel says; 0 finds nothing."""

    def detect(self, image: Image, scale: int) -> object:
        """Do it."""
        return list(BEHAVIOURS.values())[int(image[0, 0])](image)


class DiesAtOnce:
    """Ends its process before it is ready."""

    def __init__(self) -> None:
        os._exit(7)

    def detect(self, image: Image, scale: int) -> object:
        """Never get here."""
        return []


class Refuses:
    """Says why it does not start."""

    def __init__(self) -> None:
        raise OSError("the weights are missing")

    def detect(self, image: Image, scale: int) -> object:
        """Never get here."""
        return []
