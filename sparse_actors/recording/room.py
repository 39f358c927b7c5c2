"""Room on the disk of a run: new images are refused while there is still enough to end in order."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from sparse_actors.messages import Scan

from .store import RunStore


class GuardedStore(RunStore):
    """Refuses new images when the disk is nearly full, while there is room to end in order."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        super().__init__(folder)
        self._folder = folder
        self._min_free_bytes = min_free_bytes

    def reserve(self, slab: str, scans: tuple[Scan, ...], pixel_type: str) -> None:
        """Reserve as RunStore does, if the disk keeps `limits.min_free_disk_gb` free."""
        check_room(self._folder, self._min_free_bytes)
        super().reserve(slab, scans, pixel_type)


def check_room(folder: Path, min_free_bytes: int) -> None:
    """Raise OSError if less than so much is free on the disk of a run."""
    free = shutil.disk_usage(folder).free
    if free < min_free_bytes:
        raise OSError(
            errno.ENOSPC,
            f"only {free / 1e9:.1f} GB free, limits.min_free_disk_gb = {min_free_bytes / 1e9:g}",
            str(folder),
        )
