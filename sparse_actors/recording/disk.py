"""The few calls that decide what survives a crash, with the half each operating system needs.

A file's content is safe after `sync_file`; its name is safe after `sync_folder`. A failed sync is
final: the kernel may have dropped the pages and a second sync on the same file would claim success.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

BINARY = getattr(os, "O_BINARY", 0)
"""Windows opens files as text unless told."""
LOCKED_BYTE = 1 << 30
"""Windows locks bytes, and against readers too: this one is behind what a lock file says."""


def sync_file(fd: int) -> None:
    """Return when the content of the open file has reached the disk."""
    if sys.platform == "win32":
        os.fsync(fd)
    elif sys.platform == "darwin":
        # fsync on macOS stops at the drive's cache (man 2 fcntl).
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL):
                raise
            os.fsync(fd)
    else:
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder have reached the disk; NTFS journals names by itself."""
    if sys.platform != "win32":
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_once(fd: int, data: bytes) -> int:
    """Append with one system call; returns how many bytes were taken."""
    return os.write(fd, data)


def write_at(fd: int, data: memoryview, offset: int) -> int:
    """Write at an offset with one system call; returns how many bytes were taken."""
    if sys.platform == "win32":
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)
    return os.pwrite(fd, data, offset)


def write_all_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all bytes at an offset; a disk that takes no more raises OSError."""
    done = 0
    while done < len(data):
        taken = write_at(fd, data[done:], offset + done)
        if taken <= 0:
            raise OSError(errno.EIO, f"the disk took {done} of {len(data)} bytes")
        done += taken


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read at an offset; less at the end of the file."""
    if sys.platform == "win32":
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)
    return os.pread(fd, size, offset)


def reserve_space(fd: int, size: int) -> None:
    """Extend a file and allocate its blocks, so that a full disk shows now and not at an exposure."""
    os.ftruncate(fd, size)
    if sys.platform == "win32" or sys.platform == "darwin":
        return  # NTFS allocates when the file is extended; APFS has no such call in Python.
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name: after a crash it is there whole, or not at all."""
    fd = os.open(temporary, os.O_RDWR | BINARY)
    try:
        sync_file(fd)
    finally:
        os.close(fd)
    temporary.replace(final)
    sync_folder(final.parent)


def lock(path: Path) -> int:
    """Hold a file alone until `unlock` or the death of this process; returns its descriptor.

    Raises
    ------
    BlockingIOError
        Somebody else holds it.
    """
    flags = os.O_RDWR | BINARY | getattr(os, "O_NOFOLLOW", 0)
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT, 0o644)
    try:
        if sys.platform == "win32":
            os.lseek(fd, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BlockingIOError(errno.EAGAIN, f"{path} is held by another process") from None
        raise
    return fd


def unlock(fd: int) -> None:
    """Give up a lock."""
    if sys.platform == "win32":
        with contextlib.suppress(OSError):
            os.lseek(fd, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
    os.close(fd)
