"""Where the recorder puts the pixels, and where readers find them again."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any
from zlib import crc32

from numpy.typing import NDArray

from sparse_actors.errors import JournalError
from sparse_actors.messages import Scan

from . import disk
from .packed import PackedImages
from .run_folder import RunFolder
from .slabs import Slab, pixel_bytes


class RunStore:
    """The images of a run, in slabs and, once it is finished, in the packed files.

    Parameters
    ----------
    folder
        The folder of the run; `data/` is made in it at the first reservation.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(folder)
        self._slabs: dict[str, Slab] = {}
        self._turn = threading.Lock()
        self._packed = PackedImages(self.folder)

    def reserve(self, slab: str, scans: tuple[Scan, ...], pixel_type: str) -> None:
        """Make and sync the slab file; the same slab with the same scans again is no error.

        A slab without a single image, left by a crash before it came into the journal, gives way. One that
        cannot be read is put aside.

        Raises
        ------
        OSError
            The disk has no room.
        JournalError
            The slab exists with images of other scans.
        """
        path = self.folder.slab(slab)
        if not self.folder.data.exists():
            self.folder.create()
        existing = self._readable(path)
        if existing is not None:
            if existing.holds(scans, pixel_type):
                disk.sync_folder(self.folder.data)
                return
            if existing.recorded():
                raise JournalError(f"{path} holds images of other scans than those to be reserved")
        Slab.create(path, scans, pixel_type)
        with self._turn:
            self._slabs.pop(slab, None)

    def write(self, slab: str, scan: Scan, image: NDArray[Any]) -> int:
        """Put the pixels on disk, synced; returns their crc32.

        Raises
        ------
        OSError
            The disk refused. After a failed sync the slab takes nothing more in this process.
        JournalError
            No such scan in the slab, or another shape or pixel type.
        """
        return self._slab(slab).write(scan, image)

    def read(self, slab: str, scan: Scan, crc32: int) -> NDArray[Any]:
        """Return a recorded image, `scan.shape`, read-only and checked.

        Raises
        ------
        JournalError
            The pixels are missing or not those whose checksum is given.
        OSError
            The file that should hold them cannot be read.
        """
        if not self.folder.slab(slab).exists():
            return _checked(self._packed.read(scan), scan, slab, crc32)
        try:
            return _checked(self._slab(slab).read(scan), scan, slab, crc32)
        except (JournalError, OSError):
            # A slab that was damaged, or made anew for another of its scans, after all were packed.
            with contextlib.suppress(JournalError, OSError):
                return _checked(self._packed.read(scan), scan, slab, crc32)
            raise

    def _readable(self, path: Path) -> Slab | None:
        """Return the slab of this name, if there is one that can be read."""
        if not path.exists():
            return None
        try:
            return Slab(path)
        except PermissionError:
            raise
        except (JournalError, OSError):
            path.replace(path.with_name(path.name + ".damaged"))
            return None

    def _slab(self, name: str) -> Slab:
        with self._turn:
            if name not in self._slabs:
                self._slabs[name] = Slab(self.folder.slab(name))
            return self._slabs[name]


def _checked(image: NDArray[Any], scan: Scan, slab: str, crc32: int) -> NDArray[Any]:
    check_pixels(image, crc32, f"scan {scan.id} in slab {slab}")
    image.flags.writeable = False
    return image


def check_pixels(image: NDArray[Any], expected_crc32: int, what: str) -> None:
    """Raise JournalError when the pixels do not have the checksum that was journaled."""
    found = crc32(pixel_bytes(image))
    if found != expected_crc32:
        raise JournalError(f"{what}: checksum {found:#010x} instead of {expected_crc32:#010x}")
