"""Finds out what kind of recording a path is."""

from __future__ import annotations

from pathlib import Path

from .chunked import read_hspy, read_ome_zarr
from .csv_table import read_table
from .paper_tree import read_paper_tree
from .recording import Recording
from .stitched import read_stitched
from .tiff_folder import read_tiff_folder


def open_recording(path: Path, *, pixel_nm: float, image: str, mirror_stage: str) -> Recording:
    """Open what was recorded, without its pixels.

    Parameters
    ----------
    path
        A file `.hspy`; a folder of OME-Zarr; `TileConfiguration.txt` of Fiji or positions of MIST, or a
        folder with one of these; the tree of the SPARSE paper; a folder with `layout.csv`; or a folder of
        TIFFs that say where the stage was.
    pixel_nm
        Where the files do not say it.
    image
        Which picture of a file that has several.
    mirror_stage
        See `read_tiff_folder`.

    Raises
    ------
    ValueError
        It is none of these, or damaged.
    """
    if path.suffix == ".hspy" and path.is_file():
        return read_hspy(path, image)
    if path.suffix == ".txt" and path.is_file():
        return read_stitched(path)
    if not path.is_dir():
        found = "a file of another kind" if path.exists() else "nothing"
        raise ValueError(
            f"recording = {str(path)!r}: there is {found}; expected a folder, .hspy or .txt with places"
        )
    if any((path / name).exists() for name in (".zattrs", ".zgroup", "zarr.json")):
        return read_ome_zarr(path, image)
    if any(path.glob("tile_*/")):
        return read_paper_tree(path, pixel_nm)
    # What was registered is better than what the stage said, in either program.
    lists = ("TileConfiguration.registered.txt", "*global-positions*.txt", "TileConfiguration.txt")
    for pattern in lists:
        if files := sorted(path.glob(pattern)):
            return read_stitched(files[0])
    if (path / "layout.csv").exists():
        return Recording(read_table(path, "layout.csv", ""))
    return read_tiff_folder(path, mirror_stage)
