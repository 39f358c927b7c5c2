"""Where an export goes: it gets its name when it is whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparse_actors.errors import ExportError
from sparse_actors.recording import disk


@contextmanager
def new_output(path: Path) -> Iterator[Path]:
    """Yield a path to write a file or folder to, which is named `path` once the block ended well.

    Until then it lies in a hidden folder beside it, "....partial", which is removed at an error; after a
    kill that folder is left, and nothing that looks whole.

    Raises
    ------
    ExportError
        There is something of that name: nothing is overwritten.
    """
    _refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        written = partial / path.name
        yield written
        for file in [written, *written.rglob("*")]:
            if file.is_file():
                _sync(file)
            else:
                disk.sync_folder(file)
        _refuse_existing(path)
        written.rename(path)
        disk.sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ExportError(f"{path} exists, and nothing is overwritten: remove it, or give another --out")


def _sync(file: Path) -> None:
    fd = os.open(file, os.O_RDWR | disk.BINARY)
    try:
        disk.sync_file(fd)
    finally:
        os.close(fd)
