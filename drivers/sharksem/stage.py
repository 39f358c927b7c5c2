"""Moving the stage of a microscope under SharkSEM, which ignores in silence what it cannot reach."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from sparse_actors.errors import CapabilityError, StageError

from .client import SharkSemClient

POLL_S = 0.02
SETTLES_S = 1.0
"""The position is refreshed every 500 ms, so the last may be read twice as late."""
WATCHDOG_SINCE, CODE_SINCE = (2, 0, 22), (3, 2, 1)
SOFT_LIMITS = 1
MOVE_ERRORS = {
    -1: "no such axis",
    -2: "the stage is not calibrated",
    -3: "it would collide",
    -4: "the move failed",
    -5: "the stage is disabled",
    -6: "the stage is moving already",
}


@dataclass(frozen=True, slots=True)
class StageOptions:
    """How a stage lies to the image, and what is expected of it."""

    signs: tuple[int, int]
    """-1 for an axis, x or y, that the microscope counts against the image."""
    timeout_s: float
    tolerance_mm: float


def position_mm(client: SharkSemClient, options: StageOptions) -> tuple[float, float]:
    """Return x and y along the image."""
    position = client.ask("StgGetPosition")
    return options.signs[0] * position.number(), options.signs[1] * position.number()


def move_stage(client: SharkSemClient, x_mm: float, y_mm: float, options: StageOptions) -> None:
    """Move x and y alone, wait until the stage stands, and read back.

    Raises
    ------
    CapabilityError
        The target lies outside the limits that the operator set.
    StageError
        The stage does not go, does not come to rest, or stands elsewhere.
    """
    if not (math.isfinite(x_mm) and math.isfinite(y_mm)):
        raise CapabilityError(f"stage position ({x_mm}, {y_mm}) mm is not a number")
    target = (options.signs[0] * float(x_mm), options.signs[1] * float(y_mm))
    limits = client.ask("StgGetLimits", SOFT_LIMITS)
    for axis, value_mm in zip("xy", target, strict=True):
        low_mm, high_mm = limits.number(), limits.number()
        if not low_mm <= value_mm <= high_mm:
            raise CapabilityError(
                f"stage {axis} = {value_mm:g} mm (as the microscope counts): its limits are "
                f"{low_mm:g} to {high_mm:g} mm"
            )
    if client.version >= WATCHDOG_SINCE:
        # The stage stops by itself if nobody asks for it any more.
        client.ask("StgWatchdog", options.timeout_s)
    if client.version >= CODE_SINCE:
        code = client.ask("StgMoveToEx", *target, timeout_s=options.timeout_s).integer()
        if code != 0:
            reason = MOVE_ERRORS.get(code, f"code {code}")
            raise StageError(f"the stage does not go to ({x_mm:g}, {y_mm:g}) mm: {reason}")
    else:
        client.ask("StgMoveTo", *target)
    deadline_s = time.monotonic() + options.timeout_s
    while client.ask("StgIsBusy").integer():
        if time.monotonic() > deadline_s:
            client.ask("StgStop")
            raise StageError(f"the stage still moved after {options.timeout_s:g} s and was stopped")
        time.sleep(POLL_S)
    settled_s = time.monotonic() + SETTLES_S
    while math.dist(found := position_mm(client, options), (x_mm, y_mm)) > options.tolerance_mm:
        if time.monotonic() > settled_s:
            raise StageError(
                f"stage sent to ({x_mm:g}, {y_mm:g}) mm stands at ({found[0]:g}, {found[1]:g}) mm: the "
                "microscope ignores targets that it holds for unsafe, and all of them before calibration"
            )
        time.sleep(POLL_S)
