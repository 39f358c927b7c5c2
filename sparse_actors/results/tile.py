"""A tile of a run and the regions that were rescanned in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox, Point, TileIndex
from sparse_actors.messages import Scan

from .picture import Picture


@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle, or within it a mask, that was rescanned or was to be."""

    name: str
    tile: str
    box: PixelBox
    """In the tile, pixels of the analysis scan."""
    stage_mm: Point
    """(x, y) of its middle."""
    pixel_um: tuple[float, float]
    """(width, height) of a pixel."""
    dwell_ns: float
    status: str
    """"recorded", or why not: "lost", "missed", "exposed", "skipped", "planned"."""
    source: str
    """Who wanted it: "detector", "audit" or whoever proposed it."""
    scan: Scan
    _read: Callable[[Scan], NDArray[Any]] = field(repr=False)

    @property
    def image(self) -> NDArray[Any]:
        """The grey levels, (rows, columns), checked; 0 outside of a mask.

        Raises
        ------
        LookupError
            It was not recorded; see `status`.
        JournalError
            The pixels are not those that were recorded.
        """
        if self.status != "recorded":
            raise LookupError(f"region {self.name} of tile {self.tile} has no image: {self.status}")
        return self._read(self.scan)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which pixels of the box were scanned, (rows, columns)."""
        return self.scan.mask()


@dataclass(frozen=True, eq=False)
class Tile:
    """One field of view. What the instrument has no setting for is None."""

    index: TileIndex
    status: str
    """"finished", "skipped" or "unfinished"."""
    stage_mm: Point
    """(x, y) of its middle, as planned."""
    read_back_mm: Point | None
    """(x, y) that the stage said; None: the stage was never there."""
    working_distance_mm: float | None
    brightness_pct: float | None
    contrast_pct: float | None
    fast: Picture | None
    """The fast scan; None where there was none."""
    analysis: Picture | None
    """The rescans at their places, 0 elsewhere; None where nothing was rescanned."""
    regions: tuple[Region, ...]
    _metadata: Path = field(repr=False)

    @property
    def name(self) -> str:
        """Such as "r000c001": first row, second column."""
        return str(self.index)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the driver said of the instrument when the stage had arrived; empty if it did not."""
        try:
            found: dict[str, Any] = json.loads(self._metadata.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found
