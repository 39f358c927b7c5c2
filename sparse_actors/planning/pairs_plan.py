"""Pairs instead of a survey: each tile scanned whole, with the fast settings and then for analysis."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import ClassVar

from sparse_actors.geometry import PartitionId, TileIndex, full_frame
from sparse_actors.imaging import Imaging
from sparse_actors.messages import Scan, ScanId

from .survey_plan import SurveyPlan

DEFAULT_TILES = 10


@dataclass(frozen=True, kw_only=True)
class PairsPlan(SurveyPlan):
    """Whole tiles at every setting, in the order of dose: what is seen later is changed least by it.

    `fast` is the first of the fast settings. `partitions` must be 1 and `halo_px` 0, as nothing is detected.
    """

    has_regions: ClassVar[bool] = False

    more_fast: tuple[Imaging, ...] = ()
    """The other fast settings."""
    chosen: tuple[TileIndex, ...]
    """Of which tiles, in the order of the scan."""

    @classmethod
    def of(
        cls, survey: SurveyPlan, fast: Sequence[Imaging], names: Sequence[str], count: int | None
    ) -> PairsPlan:
        """Plan pairs in the panorama of a survey, with the same optics and limits.

        Parameters
        ----------
        survey
            What is configured.
        fast
            One or more fast settings.
        names, count
            Of which tiles; without names so many, or some, drawn at random by the seed of the run.
        """
        tiles = tuple(survey.panorama.tiles(survey.tile_order))
        if names:
            chosen = tuple(tile for tile in tiles if str(tile) in names)
        else:
            chosen = drawn(tiles, count or min(DEFAULT_TILES, len(tiles)), survey.seed)
        given = {entry.name: getattr(survey, entry.name) for entry in fields(survey)}
        given |= {
            "partitions": 1,
            "halo_px": 0,
            "fast": fast[0],
            "fields": None,
            "audit": None,
            "inspects": False,
        }
        return cls(**given, more_fast=tuple(fast[1:]), chosen=chosen)

    @cached_property
    def all_tiles(self) -> tuple[TileIndex, ...]:
        """The chosen tiles."""
        return self.chosen[: self.until_tile]

    def later_scans(self, tile: TileIndex) -> tuple[Scan, ...]:
        """Return what follows the first fast scan of a tile: the other fast settings, then the analysis."""
        part = PartitionId(tile, 0)
        return tuple(
            Scan(ScanId(part, number), full_frame(imaging.size_px), imaging)
            for number, imaging in enumerate((*self.more_fast, self.analysis))
        )


def drawn(tiles: Sequence[TileIndex], count: int, seed: int) -> tuple[TileIndex, ...]:
    """Return `count` tiles drawn at random, each with the same chance, in the order given."""
    chosen = set(random.Random(seed).sample(sorted(tiles), count))  # noqa: S311  no secret
    return tuple(tile for tile in tiles if tile in chosen)
