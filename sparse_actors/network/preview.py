"""Images small enough to be looked at from afar."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from sparse_actors.messages import Message, PartitionScanned, RegionScanned

PREVIEW_PX = 768
"""An image of more rows or columns is reduced."""


def preview(message: Message) -> Message:
    """Return a scan with its image reduced, and by what in `reduced`; other messages as they are.

    Squares of n x n pixels become their mean, with the least n that is enough; what is left at the
    right and at the bottom is cut off. Of a mask, which has no rows, every n^2-th pixel is kept.
    """
    if not isinstance(message, PartitionScanned | RegionScanned):
        return message
    image = message.image
    if image.ndim == 1:
        factor = int(np.ceil(np.sqrt(image.size / PREVIEW_PX**2)))
        return message if factor <= 1 else replace(message, image=image[:: factor**2].copy(), reduced=factor)
    factor = -(-max(image.shape) // PREVIEW_PX)
    if factor == 1:
        return message
    rows, columns = (max(1, n // factor) for n in image.shape)
    high, wide = (min(n, factor) for n in image.shape)
    # Over whole squares INTER_AREA is their mean; it lets other threads work meanwhile.
    squares = image[: rows * high, : columns * wide]
    reduced = cv2.resize(squares, (columns, rows), interpolation=cv2.INTER_AREA)
    return replace(message, image=reduced, reduced=factor)
