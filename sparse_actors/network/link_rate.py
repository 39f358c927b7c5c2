"""How fast the link to a worker is, and whether an image gets there sooner when it is compressed."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sparse_actors.packing import packed, sampled_ratio

WORTHWHILE_RATIO = 1.1
MIN_BYTES = 64 * 1024
"""Below this a message is a matter of latency, which no compression shortens."""
_WEIGHT = 0.3
"""Of the newest measurement in a moving average."""


@dataclass(slots=True)
class Average:
    """A moving average; None before the first value."""

    value: float | None = None

    def take(self, value: float) -> None:
        """Take in a value."""
        self.value = value if self.value is None else self.value + _WEIGHT * (value - self.value)


class LinkRate:
    """Measures one link and compresses what crosses it, when that is faster.

    A link that was not measured yet is taken for a fast one. What comes out is either raw or of a
    form that `wire.decode` knows; the receiver need not be told which will come.
    """

    def __init__(self) -> None:
        self.bytes_per_s = Average()
        self._codec_bytes_per_s = Average(400e6)  # measured with the first image
        self._on_the_way: deque[int] = deque()

    def sent(self, n_bytes: int) -> None:
        """Note the size of a message that was sent and will be acknowledged."""
        self._on_the_way.append(n_bytes)

    def arrived(self, elapsed_s: float) -> None:
        """Take in how long the oldest message on its way took."""
        n_bytes = self._on_the_way.popleft() if self._on_the_way else 0
        if n_bytes >= MIN_BYTES:
            self.bytes_per_s.take(n_bytes / max(elapsed_s, 1e-6))

    def pack(self, array: NDArray[Any]) -> bytes | None:
        """Return an array compressed, or None if it is there sooner as it is."""
        rate = self.bytes_per_s.value
        if rate is None or array.nbytes < MIN_BYTES or not self._is_faster(array, rate):
            return None
        started_s = time.perf_counter()
        block = packed(array)
        self._codec_bytes_per_s.take(array.nbytes / max(time.perf_counter() - started_s, 1e-6))
        return block

    def _is_faster(self, array: NDArray[Any], rate: float) -> bool:
        codec = self._codec_bytes_per_s.value or rate
        if rate >= codec:  # not even something empty would be there sooner
            return False
        ratio = sampled_ratio(array)
        # Unpacking goes on after the last byte came, at about twice the speed of packing.
        return ratio > WORTHWHILE_RATIO and 1.5 / codec + 1 / (ratio * rate) < 1 / rate
