"""The panoramas of a run, as far as there are any."""

from __future__ import annotations

from pathlib import Path

from sparse_actors.errors import ExportError
from sparse_actors.results.picture import Picture
from sparse_actors.results.run import Run

from .tiff_files import write_imagej


def pictures_of(run: Run) -> list[Picture]:
    """Return the panorama of the fast scans and that of the rescans.

    Raises
    ------
    ExportError
        There is neither.
    """
    found = [picture for picture in (run.panorama_fast, run.panorama_analysis) if picture is not None]
    if not found:
        raise ExportError(f"{run.path}: there are no images in this run")
    return found


def write_imagej_folder(run: Run, folder: Path) -> None:
    """Write each panorama as a TIFF of ImageJ: `fast_scans.tif`, `analysis_scans.tif`."""
    folder.mkdir()
    for picture in pictures_of(run):
        write_imagej(folder / f"{picture.name.replace(' ', '_')}.tif", picture)
