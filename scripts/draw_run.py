"""Draw a finished run: the fast panorama, the regions that were rescanned, and some of them magnified.

    python scripts/draw_run.py RUN picture.jpg

A small example of reading `run.nxs` with h5py alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import h5py
import numpy as np

WIDTH_PX = 1100
GALLERY = 7
REGION_COLOUR = (60, 190, 255)  # blue, green, red
MARGIN_PX = 8


def overview(file: h5py.File) -> np.ndarray:
    """Return the fast panorama in colour, WIDTH_PX wide, with the rescanned regions outlined."""
    fast = file["entry/panorama_fast/data"][...]
    analysis_width = file["entry/panorama_analysis/data"].shape[1]
    height = round(fast.shape[0] * WIDTH_PX / fast.shape[1])
    picture = cv2.cvtColor(
        cv2.resize(fast, (WIDTH_PX, height), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR
    )
    rescanned = (file["entry/panorama_analysis/data"][...] > 0).astype(np.uint8)
    outline, _ = cv2.findContours(rescanned, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    scale = WIDTH_PX / analysis_width
    cv2.drawContours(
        picture, [np.round(line * scale).astype(np.int32) for line in outline], -1, REGION_COLOUR, 2
    )
    return picture


def gallery(file: h5py.File) -> np.ndarray:
    """Return the rescans with the darkest sites, side by side."""
    images = [
        np.asarray(image)
        for tile in file["entry/regions"].values()
        if isinstance(tile, h5py.Group)
        for image in tile.values()
    ]
    images.sort(key=lambda image: float((image < 55).sum()), reverse=True)
    side = (WIDTH_PX - (GALLERY - 1) * MARGIN_PX) // GALLERY
    cells = [cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC) for image in images[:GALLERY]]
    gap = np.full((side, MARGIN_PX), 255, dtype=np.uint8)
    row = np.hstack([part for cell in cells for part in (cell, gap)][:-1])
    row = np.pad(row, ((0, 0), (0, WIDTH_PX - row.shape[1])), constant_values=255)
    return cv2.cvtColor(row, cv2.COLOR_GRAY2BGR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    with h5py.File(arguments.run / "run.nxs", locking=False) as file:
        top, bottom = overview(file), gallery(file)
    gap = np.full((MARGIN_PX, WIDTH_PX, 3), 255, dtype=np.uint8)
    cv2.imwrite(str(arguments.picture), np.vstack([top, gap, bottom]))


if __name__ == "__main__":
    main()
