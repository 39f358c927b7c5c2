"""What Fiji's Stitching plugin and MIST write: a list of images with their places in px.

A line of Fiji's TileConfiguration.txt is ``name.tif; ; (768.0, 0.0)``, one of MIST's global positions
``file: name.tif; corr: 0.98; position: (768, 0); grid: (1, 0);``.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from .recording import Patch, Recording, decode
from .tiff_header import tiff_header

_NUMBER = r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*"
_FIJI = re.compile(rf"\s*([^;]+?)\s*;[^;]*;\s*\({_NUMBER},{_NUMBER}(?:,{_NUMBER})?\)\s*")
_MIST = re.compile(rf"\s*file:\s*([^;]+?)\s*;.*position:\s*\({_NUMBER},{_NUMBER}\).*")


def read_stitched(path: Path) -> Recording:
    """Read where the images lie; those that are not TIFFs are taken to be as large as the first.

    Raises
    ------
    ValueError
        A line is none of those above, or an image is not there.
    """
    places: list[tuple[Path, int, int]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#") or re.match(r"\s*(dim|multiseries)\s*=", line):
            continue
        match = _MIST.fullmatch(line) or _FIJI.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path} line {number}: {line[:80]!r}; expected 'name; ; (x, y)' of Fiji or "
                "'file: name; ... position: (x, y); ...' of MIST"
            )
        places.append((path.parent / match[1], round(float(match[2])), round(float(match[3]))))
    missing = [file.name for file, _, _ in places if not file.is_file()]
    if missing or not places:
        raise ValueError(
            f"{path} lists {len(places)} images, {len(missing)} of them are not there"
            + (f" (first: {missing[0]})" if missing else "")
        )
    is_tiff = places[0][0].suffix.lower() in (".tif", ".tiff")
    first = tiff_header(places[0][0]) if is_tiff else None
    shape = first.shape if first else decode(places[0][0]).shape[:2]
    patches = []
    for file, x, y in places:
        rows, columns = tiff_header(file).shape if is_tiff else shape
        patches.append(Patch(x, y, columns, rows, file, partial(decode, file)))
    return Recording(tuple(patches), first.pixel_nm if first else None)
