"""The images of a run for the browser, read from the folder of the run when somebody looks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparse_actors.config import Config
from sparse_actors.errors import JournalError
from sparse_actors.geometry import PixelBox, partition_boxes
from sparse_actors.messages import Recorded, Scan, ScanId
from sparse_actors.recording.store import RunStore

from .tiles import TileView

SMALL_PX = 32
"""Width of the image of a tile in the overview."""
LARGEST_OVERVIEW_PX = 4096
SIDES_PX = (128, 512, 1536)
"""Widths of the images of a tile for the map, from afar to near."""
JPEG_QUALITY = 85
READS_OF_A_STORE = 500

Grey = NDArray[np.uint8]


class Pictures:
    """Images of one run; safe to use from several threads.

    Parameters
    ----------
    folder
        Of the run.
    config
        Of the run.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder = folder
        self._turn = threading.Lock()
        self._reads = 0
        self._fast_px = config.fast.size_px
        self._analysis_px = config.analysis.size_px
        self._scale = config.scale
        self._boxes = partition_boxes(config.fast.size_px, config.panorama.partitions)
        self._imaging = config.fast
        panorama = config.panorama.geometry(config.analysis.size_px)
        most = LARGEST_OVERVIEW_PX // max(panorama.columns, panorama.rows)
        width, height = self._analysis_px
        self._small_px = (max(1, min(SMALL_PX, most)), max(1, min(SMALL_PX, most) * height // width))

    def small(self, tile: TileView) -> Grey | None:
        """Return the fast image of a tile for the overview; None if there is none."""
        image = self._fast(tile)
        return None if image is None else cv2.resize(image, self._small_px, interpolation=cv2.INTER_AREA)

    def of_tile(self, tile: TileView, width_px: int, *, with_rescans: bool) -> bytes | None:
        """Return a tile as a JPEG, its rescans in their places; None if nothing of it is scanned."""
        image = self._fast(tile)
        if image is None:
            return None
        height_px = max(1, width_px * self._analysis_px[1] // self._analysis_px[0])
        interpolation = cv2.INTER_AREA if width_px < image.shape[1] else cv2.INTER_LINEAR
        shown = cv2.resize(image, (width_px, height_px), interpolation=interpolation)
        if with_rescans:
            for scan_id, recorded in list(tile.recorded.items()):
                scan = tile.regions.get(scan_id)
                if scan is not None and not scan.mask_boxes:
                    self._paste(shown, scan, recorded)
        return _jpeg(shown)

    def of_region(self, tile: TileView, scan_id: ScanId) -> bytes | None:
        """Return a rescan as a PNG; None if it is not recorded."""
        scan, recorded = tile.regions.get(scan_id), tile.recorded.get(scan_id)
        if scan is None or recorded is None:
            return None
        image = self._read(scan, recorded)
        return None if image is None else _png(image)

    def fast_of_region(self, tile: TileView, scan_id: ScanId) -> bytes | None:
        """Return what the fast scan showed of a region, as a PNG of its fast pixels."""
        scan, image = tile.regions.get(scan_id), self._fast(tile)
        if scan is None or image is None:
            return None
        left, top = scan.box.left // self._scale, scan.box.top // self._scale
        right, bottom = -(-scan.box.right // self._scale), -(-scan.box.bottom // self._scale)
        return _png(image[top:bottom, left:right])

    def _fast(self, tile: TileView) -> Grey | None:
        """Return the fast image of a tile, (rows, columns); partitions that are not scanned are black."""
        found = [(scan_id, recorded) for scan_id, recorded in list(tile.recorded.items()) if scan_id.is_fast]
        if not found:
            return None
        width, height = self._fast_px
        image = np.zeros((height, width), np.uint8)
        for scan_id, recorded in found:
            box = self._boxes[scan_id.partition.index]
            part = self._read(Scan(scan_id, box, self._imaging), recorded)
            if part is not None:
                image[box.slices] = part
        return image

    def _paste(self, shown: Grey, scan: Scan, recorded: Recorded) -> None:
        rescan = self._read(scan, recorded)
        place = _scaled(scan.box, shown.shape[1] / self._analysis_px[0])
        if rescan is not None:
            target = shown[place.slices]
            if target.size:
                target[:] = cv2.resize(rescan, target.shape[::-1], interpolation=cv2.INTER_AREA)

    def _read(self, scan: Scan, recorded: Recorded) -> Grey | None:
        """Return an image with 8 bits, (rows, columns); None if it is not to be had."""
        try:
            values = self._current_store().read(recorded.slab, scan, recorded.crc32)
        except (JournalError, OSError):
            return None
        grey = values if values.dtype == np.uint8 else (values >> 8).astype(np.uint8)
        if not scan.mask_boxes:
            return grey
        image = np.zeros((scan.box.height, scan.box.width), np.uint8)
        image[scan.mask()] = grey
        return image

    def _current_store(self) -> RunStore:
        """Return a store, now and then a new one: it remembers every slab that it opened."""
        with self._turn:
            if self._reads % READS_OF_A_STORE == 0:
                self._store = RunStore(self._folder)
            self._reads += 1
            return self._store


def _scaled(box: PixelBox, factor: float) -> PixelBox:
    left, top = round(box.left * factor), round(box.top * factor)
    right, bottom = round(box.right * factor), round(box.bottom * factor)
    return PixelBox(left, top, max(1, right - left), max(1, bottom - top))


def _jpeg(image: Grey) -> bytes:
    return _encoded(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _png(image: Grey) -> bytes:
    return _encoded(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _encoded(form: str, image: NDArray[Any], options: list[int]) -> bytes:
    is_done, content = cv2.imencode(form, image, options)
    if not is_done:
        raise OSError(f"an image of {image.shape} could not be made a {form}")
    return content.tobytes()
