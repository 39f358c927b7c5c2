"""Which formats there are, and `export`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparse_actors.errors import ExportError
from sparse_actors.results.run import Run

from .destination import new_output
from .hspy import write_hspy
from .msa import write_msa
from .ome_tiff import write_ome_tiff
from .ome_zarr import write_ome_zarr
from .paper_tiff import write_paper_tree
from .pictures import write_imagej_folder
from .stitching import write_tile_configuration, write_trakem2
from .tables_csv import write_csv


@dataclass(frozen=True, slots=True)
class Format:
    """One format."""

    write: Callable[[Run, Path], None]
    suffix: str = ""
    """Of its file; empty: it is a folder."""


FORMATS = {
    "paper-tiff": Format(write_paper_tree),
    "ome-tiff": Format(write_ome_tiff, ".ome.tif"),
    "ome-zarr": Format(write_ome_zarr, ".ome.zarr"),
    "imagej-tiff": Format(write_imagej_folder),
    "tileconfig": Format(write_tile_configuration),
    "trakem2": Format(write_trakem2),
    "csv": Format(write_csv),
    "hspy": Format(write_hspy, ".hspy"),
    "msa": Format(write_msa),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of it."""

    path: Path
    problems: tuple[str, ...]
    """What is left out, because it could not be read."""


def export(run: Run, to: str, out: Path | None = None) -> Exported:
    """Write a run in another format; what is there after a kill or an error never looks whole.

    Parameters
    ----------
    run
        The run.
    to
        One of `FORMATS`.
    out
        The file or folder to be made; None: `export/` in the run's folder.

    Raises
    ------
    ExportError
        There is no such format, the output exists, or the run has nothing for it.
    OSError
        The disk refused.
    """
    if to not in FORMATS:
        raise ExportError(f"format {to!r}: expected one of {', '.join(FORMATS)}")
    chosen = FORMATS[to]
    path = out or run.path / "export" / (f"{run.name}{chosen.suffix}" if chosen.suffix else to)
    before = len(run.problems)
    with new_output(path) as partial:
        chosen.write(run, partial)
    return Exported(path, run.problems[before:])
