"""Pairs of a fast and an analysis image of the same tile, read one image at a time.

They come from a run of `sparse-actors pairs`, or from images that were there before (`PairFiles`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from sparse_actors.config import Config, parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.messages import Scan, ScanId
from sparse_actors.planning.merging import MaskForm, mask_form_for
from sparse_actors.recording.run_record import RunRecord

from .pair_files import MANIFEST, PairFiles


class Pairs(Protocol):
    """Tiles, each with an analysis image and a fast image at every setting."""

    @property
    def tiles(self) -> Sequence[str]:
        """Names of the tiles of which every image is there."""

    @property
    def settings(self) -> Sequence[Imaging]:
        """The fast settings. Of images that differ in size, those for an image of `analysis.size_px`."""

    @property
    def config(self) -> Config:
        """The configuration they were made with: microscope, analysis parameters, detector, regions."""

    @property
    def origin(self) -> str:
        """How the fast images came about, in a sentence."""

    @property
    def timing(self) -> ScanTiming:
        """What scans cost beside the dwell time: as configured, else as the driver declares."""

    @property
    def mask_form(self) -> MaskForm:
        """How the microscope is given masks."""

    @property
    def given(self) -> str:
        """The configuration as somebody wrote it."""

    @property
    def manifest(self) -> Path:
        """The file that tells these pairs from others."""

    def analysis(self, tile: str) -> NDArray[Any]:
        """Return the analysis image, (rows, columns) of uint8 or uint16."""

    def fast(self, tile: str, setting: Imaging) -> NDArray[Any]:
        """Return a fast image; each of its sides goes a whole number of times into that of the analysis."""


def open_pairs(path: Path) -> Pairs:
    """Open the pairs in a folder.

    Raises
    ------
    ConfigError
        There are none in it.
    JournalError
        The run in it is damaged.
    """
    if (path / MANIFEST).is_file():
        return PairFiles.open(path)
    if not (path / "journal").exists():
        raise ConfigError(f"{path}: holds no pairs; `sparse-actors pairs` makes them")
    return RecordedPairs(RunRecord.open(path))


@dataclass
class RecordedPairs:
    """The pairs of a run; tiles that are not finished are left out."""

    record: RunRecord

    def __post_init__(self) -> None:
        if not self.record.config.get("pairs"):
            if "pairs" not in self.record.config:
                raise ConfigError(
                    f"{self.record.folder.path}: is a survey; `sparse-actors pairs` makes pairs"
                )
        if not self.tiles:
            raise ConfigError(
                f"{self.record.folder.path}: no tile was scanned at every setting yet; resume it"
            )

    @cached_property
    def config(self) -> Config:
        """The configuration of the last session."""
        return parse_config(self.record.sessions[-1].config_toml)

    @cached_property
    def _scans(self) -> dict[str, dict[Imaging, ScanId]]:
        """The recorded scans of whole fields, by tile and setting."""
        found: dict[str, dict[Imaging, ScanId]] = {}
        for scan_id in self.record.recorded:
            scan: Scan = self.record.scans[scan_id]
            found.setdefault(str(scan_id.partition.tile), {})[scan.imaging] = scan_id
        return found

    @cached_property
    def settings(self) -> tuple[Imaging, ...]:
        """The fast settings, as configured."""
        pairs = self.config.pairs
        given = tuple(scan.imaging() for scan in pairs.fast) if pairs else ()
        return given or (self.config.fast,)

    @cached_property
    def tiles(self) -> tuple[str, ...]:
        """Names of the tiles, by row and column."""
        wanted = {*self.settings, self.config.analysis}
        return tuple(sorted(tile for tile, scans in self._scans.items() if wanted <= scans.keys()))

    @property
    def origin(self) -> str:
        """That they were scanned."""
        name = self.record.microscope.name if self.record.microscope else "the microscope"
        return f"fast images scanned by {name}"

    @property
    def timing(self) -> ScanTiming:
        """As configured, else as the driver declared when it was connected."""
        prepared = self.record.microscope
        return self.config.timing or (prepared.capabilities.limits.timing if prepared else ScanTiming())

    @property
    def mask_form(self) -> MaskForm:
        """The best that the microscope can do."""
        prepared = self.record.microscope
        return mask_form_for(prepared.capabilities) if prepared else "mask"

    @property
    def given(self) -> str:
        """The configuration file of the run."""
        return self.record.folder.config_given.read_text("utf-8")

    @property
    def manifest(self) -> Path:
        """The journal."""
        return self.record.folder.journal

    def analysis(self, tile: str) -> NDArray[Any]:
        """Return the recorded image, checked against the journal."""
        return self.record.image(self._scans[tile][self.config.analysis])

    def fast(self, tile: str, setting: Imaging) -> NDArray[Any]:
        """Return the recorded image, checked against the journal."""
        return self.record.image(self._scans[tile][setting])
