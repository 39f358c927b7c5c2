"""What the beam does next within a tile: the one decision the daemon and the simulation share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Policy = Literal["paper", "hold_back"]
Step = Literal["fast", "rescan", "wait", "done"]

SAFETY = 1.2
"""How many of the longest detections the rescans held back are to last."""


def next_step(
    fast_left: int, ready_s: Iterable[float], pending: int, detection_s: float, policy: Policy = "hold_back"
) -> Step:
    """Decide between the next fast scan, the next rescan, waiting, and the end of the tile.

    `paper` is figure 3 of the SPARSE paper: rescans that are ready go before the next fast
    scan. When few regions were found, the tile then ends with nothing to do while its last
    partition is detected. `hold_back` keeps rescans back for that time and rescans before the
    last fast scan only what exceeds it. It leaves no more idle time than scanning all partitions
    first would, which is optimal, and rescans earlier, so that there is less drift since the fast scan.

    Parameters
    ----------
    fast_left
        Fast scans not yet made.
    ready_s
        Predicted beam time of each rescan that can be made now; read only as far as needed.
    pending
        Partitions scanned whose regions are not yet known.
    detection_s
        The longest time from the end of a fast scan to its regions, as far as known; 0 before.
    policy
        `paper` or `hold_back`.

    Returns
    -------
    Step
        `wait` only if there is nothing to scan, `done` only if nothing will come either.
    """
    rescans = iter(ready_s)
    first = next(rescans, None)
    if fast_left == 0:
        if first is not None:
            return "rescan"
        return "wait" if pending else "done"
    if first is None:
        return "fast"
    if policy == "paper":
        return "rescan"
    # What remains after the next rescan has to hide a detection.
    kept_s, enough_s = 0.0, SAFETY * detection_s
    for seconds in rescans:
        kept_s += seconds
        if kept_s > enough_s:
            return "rescan"
    return "fast"
