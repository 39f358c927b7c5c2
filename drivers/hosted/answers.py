"""What a host answers, checked before it is believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.microscope import MicroscopeState, ScanLimits
from sparse_actors.errors import MicroscopeError

Record = TypeVar("Record")

RELATIVE = 1e-3
"""Settings of the optics that differ by less are the same."""


def as_record(value: Any, kind: type[Record], method: str) -> Record:
    """Turn a map into a dataclass of the contract.

    Raises
    ------
    MicroscopeError
        An unknown or missing key, a value of the wrong type, or a number that is not finite.
    """
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(value, Mapping) or not set(value) <= known:
        raise MicroscopeError(
            f"{method} of the host returned {value!r}: expected the keys {', '.join(sorted(known))}"
        )
    try:
        record = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise MicroscopeError(f"{method} of the host returned {value!r}: {error}") from None
    if any(isinstance(item, float) and not math.isfinite(item) for item in value.values()):
        raise MicroscopeError(f"{method} of the host returned {value!r}: a number is not finite")
    return record


def as_number(value: Any, method: str) -> float:
    """Return a finite number; raises MicroscopeError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MicroscopeError(f"{method} of the host returned {value!r}: expected a number")
    return float(value)


def as_array(value: Any, shape: tuple[int, ...], types: tuple[str, ...], method: str) -> NDArray[Any]:
    """Return an array of a shape and one of some types; raises MicroscopeError."""
    if not isinstance(value, memoryview):
        raise MicroscopeError(f"{method} of the host returned {type(value).__name__}: expected an array")
    array = np.asarray(value)
    if array.shape != shape or array.dtype.name not in types:
        raise MicroscopeError(
            f"{method} of the host returned {array.shape} of {array.dtype}, "
            f"expected {shape} of {' or '.join(types)}"
        )
    # Its own memory: what came may begin at an odd address, and cannot be written to.
    return array.copy()


def as_limits(value: Any) -> ScanLimits:
    """Return the limits that a driver declares; raises MicroscopeError."""
    return as_record(value, ScanLimits, "limits")


def as_state(value: Any) -> MicroscopeState:
    """Return stage and optics; raises MicroscopeError."""
    return as_record(value, MicroscopeState, "get_state")


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], stage_tolerance_mm: float) -> str:
    """Say in words which settings are not what they were; the beam may have gone off."""
    told = []
    for key, was in expected.items():
        now = found[key]
        if key == "beam_on" or was == now:
            continue
        tolerance = stage_tolerance_mm if key in ("x_mm", "y_mm") else RELATIVE * abs(was or 0.0)
        if was is None or now is None or abs(was - now) > tolerance:
            told.append(f"{key} was {was}, is {now}")
    return ", ".join(told)
