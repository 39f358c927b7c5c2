"""The table that says which recorded image lies where in the panorama."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

from .recording import Patch, decode


def read_table(directory: Path, table: str, file_pattern: str) -> tuple[Patch, ...]:
    """Read the table and see that its images are there; see `ReplayMicroscope` for the columns.

    Raises
    ------
    ValueError
        The table cannot be read, or lists an image that is not there.
    """
    path = directory / table
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except OSError as error:
        raise ValueError(f"table = {table!r}: {path} cannot be read: {error}") from error
    patches = []
    for number, line in enumerate(lines, start=2):
        try:
            left, top, width, height = (int(line[name]) for name in ("x_px", "y_px", "w", "h"))
            if file_pattern:
                name = file_pattern.format(row=int(line["row"]), col=int(line["col"]))
            else:
                name = line["file"] if "file" in line else line["source_file"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{path} line {number}: {type(error).__name__} {error}; expected numbers row, col, x_px, "
                "y_px, w, h and a name in file or source_file"
            ) from error
        file_name = directory / name
        patches.append(Patch(left, top, width, height, file_name, partial(decode, file_name)))
    missing = [patch.file.name for patch in patches if not patch.file.is_file()]
    if missing or not patches:
        raise ValueError(
            f"{path} lists {len(patches)} images, {len(missing)} of them are not there"
            + (f" (first: {missing[0]}); is file_pattern right?" if missing else "")
        )
    return tuple(patches)
