"""HDF5 files of which we write every byte ourselves.

A disk that refuses a write is more than libhdf5 can take: it keeps what it could not write, tries again
when the interpreter ends, and crashes. So it is given a file that takes everything. From the first refusal
on what comes is kept in memory, libhdf5 closes the file in peace, and then the error is raised.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py

from . import disk


class TakesAll(io.RawIOBase):
    """A file that never refuses: on disk as long as that takes the bytes, and in memory from then on.

    Parameters
    ----------
    fd
        A file open for reading and writing; None keeps all in memory. Only what is written takes room
        there, so that a file of many gigabytes can be laid out without its pixels.
    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        self._at = 0
        self.size = 0 if fd is None else os.fstat(fd).st_size
        self.kept: list[tuple[int, bytes]] = []
        """(offset, bytes) of what is not on disk, in the order of writing."""
        self.error: OSError | None = None
        """Why the disk took no more."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset from the beginning, from here, or from the end."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the offset."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what was written, and 0 where nothing was."""
        target = memoryview(buffer).cast("B")
        start, end = self._at, self._at + len(target)
        content = b"" if self._fd is None else disk.read_at(self._fd, len(target), start)
        target[:] = content.ljust(len(target), b"\0")
        for offset, data in self.kept:
            first, last = max(start, offset), min(end, offset + len(data))
            if first < last:
                target[first - start : last - start] = data[first - offset : last - offset]
        self._at = end
        return len(target)

    def write(self, data: Any) -> int:
        """Write all of it."""
        content = memoryview(data).cast("B")
        self._on_disk(lambda fd: disk.write_all_at(fd, content, self._at))
        if self._fd is None or self.error:
            self.kept.append((self._at, bytes(content)))
        self._at += len(content)
        self.size = max(self.size, self._at)
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file."""
        self.size = self._at if size is None else size
        self._on_disk(lambda fd: os.ftruncate(fd, self.size))
        return self.size

    def _on_disk(self, act: Callable[[int], None]) -> None:
        if self._fd is None or self.error:
            return
        try:
            act(self._fd)
        except OSError as error:
            self.error = error

    def check(self) -> None:
        """Raise the error of the disk, if it refused something."""
        if self.error:
            raise self.error


@contextmanager
def written(path: Path, mode: Literal["w", "r+"] = "w") -> Iterator[tuple[Any, Callable[[], None]]]:
    """Open an HDF5 file for writing.

    Yields
    ------
    file, check
        The h5py.File, and what raises the error of a disk that refused: to be called now and then, for
        what is written after that takes up memory.

    Raises
    ------
    OSError
        The disk refused. The file is removed.
    """
    flags = os.O_RDWR | os.O_CREAT | disk.BINARY | (os.O_TRUNC if mode == "w" else 0)
    fd = os.open(path, flags, 0o644)
    target = TakesAll(fd)
    try:
        with h5py.File(target, mode) as file:
            yield file, target.check
        target.check()
    finally:
        os.close(fd)
        if target.error:
            path.unlink()
