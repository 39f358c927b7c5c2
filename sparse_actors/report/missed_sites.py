"""Small images of the sites that configurations miss, fast and analysis scan, for the page of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.evaluation.grid import Setting
from sparse_actors.evaluation.judging import sites_of
from sparse_actors.evaluation.matching import Sites
from sparse_actors.evaluation.pairs import Pairs
from sparse_actors.evaluation.sweep import Judged
from sparse_actors.imaging import Imaging

from .pictures import GreyRange, jpeg, resized

SHOWN = 12
"""Missed sites of a configuration that are shown: the largest."""
MOST_PICTURES = 500
AROUND = 3.0
SIDES_PX = (48, 256)
"""Least and largest side of what is shown, analysis pixels."""
SIDE = 96
"""The same in the page."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    tile: str
    site: int
    fast: Imaging
    reference: Setting


def _by_tile(entry: tuple[_Wanted, int]) -> tuple[str, int]:
    return entry[0].tile, entry[1]


class MissedSites:
    """Collects the pictures that the page needs, each once.

    Parameters
    ----------
    pairs, folder
        On which the configurations were judged.
    """

    def __init__(self, pairs: Pairs, folder: Path) -> None:
        self._pairs = pairs
        self._folder = str(folder.absolute())
        self._wanted: dict[_Wanted, int] = {}
        self._images: dict[tuple[str, Imaging | None], NDArray[Any]] = {}

    def of(self, result: Judged) -> dict[str, Any]:
        """Return how many sites a configuration misses, and by numbers of `pictures` which to show.

        `is_known` is False for results of a version that counted only.
        """
        configuration = result.configuration
        missed: list[tuple[int, str, int]] = []
        for entry in result.scores:
            if (is_found := entry.is_found) is None:
                return {"missed": [], "missed_count": None, "is_known": False}
            area_px = self._sites(entry.tile, configuration.reference).area_px
            missed += [(-int(area_px[n]), entry.tile, n) for n in np.flatnonzero(~is_found).tolist()]
        largest = [
            _Wanted(tile, site, configuration.fast, configuration.reference)
            for _, tile, site in sorted(missed)[:SHOWN]
        ]
        for one in largest:
            if len(self._wanted) < MOST_PICTURES:
                self._wanted.setdefault(one, len(self._wanted))
        numbers = [self._wanted[one] for one in largest if one in self._wanted]
        return {"missed": numbers, "missed_count": len(missed), "is_known": True}

    def pictures(self) -> list[dict[str, Any]]:
        """Return tile, area and images of everything that `of` named, tile by tile as they are read."""
        made = {number: self._picture(one) for one, number in sorted(self._wanted.items(), key=_by_tile)}
        return [made[number] for number in range(len(made))]

    def _sites(self, tile: str, reference: Setting) -> Sites:
        return sites_of(self._folder, tile, reference)

    def _picture(self, one: _Wanted) -> dict[str, Any]:
        tile, site, fast = one.tile, one.site, one.fast
        sites = self._sites(tile, one.reference)
        left, top, width, height = sites.found.pois.boxes_px[site].tolist()
        rows, columns = sites.shape
        side = min(int(np.clip(AROUND * max(width, height), *SIDES_PX)), rows, columns)
        x = min(max(0, left + width // 2 - side // 2), columns - side)
        y = min(max(0, top + height // 2 - side // 2), rows - side)
        analysis, coarse = self._image(tile, None), self._image(tile, fast)
        scale = rows // coarse.shape[0]
        square = coarse[y // scale : -(-(y + side) // scale), x // scale : -(-(x + side) // scale)]
        whole = resized(square, square.shape[1] * scale, square.shape[0] * scale)
        return {
            "tile": tile,
            "area_px": int(sites.area_px[site]),
            "side_px": side,
            "fast": self._jpeg(whole[y % scale : y % scale + side, x % scale : x % scale + side]),
            "analysis": self._jpeg(analysis[y : y + side, x : x + side]),
        }

    def _jpeg(self, image: NDArray[Any]) -> str:
        small = resized(image, SIDE, SIDE) if max(image.shape) > SIDE else image
        return jpeg(np.ascontiguousarray(self._greys.eight_bits(small)), 80)

    @cached_property
    def _greys(self) -> GreyRange:
        return GreyRange.of(self._image(self._pairs.tiles[0], None))

    def _image(self, tile: str, setting: Imaging | None) -> NDArray[Any]:
        """Return an image of the pairs; None is the analysis scan. Of other tiles none is kept."""
        if (tile, setting) not in self._images:
            self._images = {key: image for key, image in self._images.items() if key[0] == tile}
            pairs = self._pairs
            self._images[tile, setting] = (
                pairs.analysis(tile) if setting is None else pairs.fast(tile, setting)
            )
        return self._images[tile, setting]
