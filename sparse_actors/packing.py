"""Lossless compression of images for slow links: bytes shuffled, then zstd at level 1.

The noise of a detector cannot be compressed; sorting the bytes of all pixels by significance first is
what gets the rest (facts measured on simulated images: within 1 % of the entropy of single pixels).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from .errors import WireError

METHOD = "shuffle+zstd"
SAMPLE_BYTES = 64 * 1024


def packed(array: NDArray[Any]) -> bytes:
    """Return the bytes of an array, smaller if they can be."""
    return zstandard.ZstdCompressor(level=1).compress(_shuffled(array))


def unpacked(block: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array again; raises WireError unless the block holds exactly its bytes.

    The size is known beforehand and bounds what is unpacked.
    """
    size = math.prod(shape) * dtype.itemsize
    try:
        if zstandard.frame_content_size(block) != size:
            raise WireError(f"packed array {dtype} {shape}: is not of {size} bytes")
        unpacked = zstandard.ZstdDecompressor().decompress(block, max_output_size=size)
    except zstandard.ZstdError as error:
        raise WireError(f"packed array {dtype} {shape}: {error}") from None
    planes = np.frombuffer(unpacked, np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype).reshape(shape)


def sampled_ratio(array: NDArray[Any]) -> float:
    """Return by what factor an array shrinks, from 64 kB out of its middle."""
    flat = array.reshape(-1)
    count = min(flat.size, SAMPLE_BYTES // array.itemsize)
    start = (flat.size - count) // 2
    sample = flat[start : start + count]
    return float(sample.nbytes / len(packed(sample))) if count else 1.0


def _shuffled(array: NDArray[Any]) -> bytes:
    pixels = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(-1, array.itemsize)
    return pixels.T.tobytes()
