"""Grey levels of the fast images of a run, live, in the terminal.

    python scripts/tap_histogram.py tcp://127.0.0.1:7742

Black that piles up at the left or white at the right says that brightness or contrast is wrong.
"""

import sys

import numpy as np

import sparse_actors
from sparse_actors.messages import PartitionScanned

BINS, BARS = 64, " ▁▂▃▄▅▆▇█"


def histogram(image: np.ndarray) -> np.ndarray:
    """Return the counts of an image's grey levels in BINS bins over the range of its type."""
    top = np.iinfo(image.dtype).max + 1
    return np.histogram(image, bins=BINS, range=(0, top))[0]


def bars(counts: np.ndarray) -> str:
    """Return counts as one line, the largest as a full block."""
    heights = np.ceil(counts / max(1, counts.max()) * (len(BARS) - 1)).astype(int)
    return "".join(BARS[height] for height in heights)


def main(endpoint: str) -> None:
    """Add up what comes, and forget the past slowly, so that a change shows."""
    counts = np.zeros(BINS)
    with sparse_actors.listen(endpoint, PartitionScanned, state=False) as messages:
        for message in messages:
            counts = 0.9 * counts + histogram(message.image)
            print(f"{message.scan.id!s:14} |{bars(counts)}| lost {messages.lost.total()}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
