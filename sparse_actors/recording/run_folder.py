"""Where things are in the folder of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sparse_actors.errors import JournalError

from . import disk


def dated_folder(out_dir: Path, name: str) -> Path:
    """Return a folder for a new run, named by date, time and the run's name; sorted by name is by time."""
    stamp = datetime.now().astimezone().strftime("%Y-%m-%dT%H%M%S")
    return out_dir / f"{stamp}_{name}"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run; `data/` holds slabs while it runs and packed files afterwards."""

    path: Path

    @property
    def journal(self) -> Path:
        """The truth: every fact, without pixels."""
        return self.path / "journal"

    @property
    def data(self) -> Path:
        """Folder of the pixels."""
        return self.path / "data"

    @property
    def nexus(self) -> Path:
        """The file people open."""
        return self.path / "run.nxs"

    @property
    def hyperspy(self) -> Path:
        """The same data by links, in the layout of HyperSpy."""
        return self.path / "run.hspy"

    @property
    def report(self) -> Path:
        """The page that shows the run to people."""
        return self.path / "report.html"

    @property
    def config_given(self) -> Path:
        """The configuration as given."""
        return self.path / "config.toml"

    @property
    def config_resolved(self) -> Path:
        """The configuration with every default filled in."""
        return self.path / "config.resolved.toml"

    @property
    def log(self) -> Path:
        """One JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def flight(self) -> Path:
        """What every actor was told and answered; see recording.flight."""
        return self.path / "flight"

    @property
    def packed_fast(self) -> Path:
        """All fast images as one compressed stack."""
        return self.data / "fast.h5"

    @property
    def packed_regions(self) -> Path:
        """All rescans, compressed."""
        return self.data / "regions.h5"

    @property
    def packed_spectra(self) -> Path:
        """All spectra, compressed, each field as a spectrum image."""
        return self.data / "spectra.h5"

    def create(self) -> None:
        """Make the folder, safe against a power cut; raises OSError, in words for whoever named it."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"{self.path} cannot be made a folder of a run ({error.strerror}); --out or run.out_dir "
                "names another"
            ) from None
        disk.sync_folder(self.path)
        disk.sync_folder(self.path.absolute().parent)

    def slab(self, name: str) -> Path:
        """Return the file of a slab such as "r000c001-fast"."""
        if not re.fullmatch(r"[A-Za-z0-9_]+-(fast|regions|spectra[0-9]+)", name):
            raise JournalError(f"slab {name[:80]!r}: expected a name such as 'r000c001-fast'")
        return self.data / f"{name}.h5"
