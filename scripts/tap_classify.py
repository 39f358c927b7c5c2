"""Look for something else than the detector does, and have it rescanned: bright spots, here.

    SPARSE_ACTORS_TAP_TOKEN=... python scripts/tap_classify.py tcp://127.0.0.1:7742

The run must have been started with the same SPARSE_ACTORS_TAP_TOKEN. Replace `candidates` by your classifier.
"""

import os
import sys

import numpy as np
from scipy import ndimage

import sparse_actors
from sparse_actors.geometry import PixelBox
from sparse_actors.messages import PartitionScanned, ProposeRegions, RegionsProposed

MARGIN_PX, LEAST_PX, MOST = 8, 12, 20
"""Around a spot; pixels that make one; of one image."""


def candidates(image: np.ndarray) -> list[tuple[slice, slice]]:
    """Return where an image is brighter than its mean by four standard deviations."""
    labels, _ = ndimage.label(image > image.mean() + 4 * image.std())
    sizes = np.bincount(labels.ravel())
    found = ndimage.find_objects(labels)
    return [place for n, place in enumerate(found, start=1) if sizes[n] >= LEAST_PX][:MOST]


def boxes(message: PartitionScanned, field_px: int) -> tuple[PixelBox, ...]:
    """Return the candidates of a fast image as boxes on the analysis grid, inside the field of view."""
    scale = field_px // message.scan.imaging.size_px[0]
    origin, n = message.scan.box, message.reduced
    proposed = []
    for rows, columns in candidates(message.image):
        left = max(0, (origin.left + columns.start * n) * scale - MARGIN_PX)
        top = max(0, (origin.top + rows.start * n) * scale - MARGIN_PX)
        right = min(field_px, (origin.left + columns.stop * n) * scale + MARGIN_PX)
        bottom = min(field_px, (origin.top + rows.stop * n) * scale + MARGIN_PX)
        proposed.append(PixelBox(left, top, right - left, bottom - top))
    return tuple(proposed)


def main(endpoint: str, field_px: int) -> None:
    """Propose what is found in every fast image, and say what becomes of it."""
    token = os.environ["SPARSE_ACTORS_TAP_TOKEN"]
    with sparse_actors.listen(endpoint, PartitionScanned, state=False) as messages:
        for message in messages:
            if proposed := boxes(message, field_px):
                tile = message.scan.id.partition.tile
                order = ProposeRegions(tile=tile, boxes=proposed, source="bright spots")
                answer = messages.propose(order, token)
                taken = isinstance(answer, RegionsProposed)
                print(message.scan.id, len(proposed), "taken" if taken else answer.reason, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3072)
