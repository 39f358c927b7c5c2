"""The journal: an append-only file of messages, the truth about a run.

File: ``magic (8 bytes) | format version u32 | crc32 of these u32``, then one frame a message:
``marker (4 bytes) | length u32 | crc32 u32 | payload``, all little-endian. The checksum covers the
frame's place in the file, its length and its payload, so that a frame is valid at its own place only
and a copy of it inside another payload is not mistaken for a record.

A record that was appended survives the death of the process, one that was synced a power cut. Before
a record is appended the one before it is synced: a power cut can tear the last record only. Damage
that has a whole record behind it is therefore never a torn write, and is refused.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from pathlib import Path
from zlib import crc32

from sparse_actors.errors import JournalError, WireError
from sparse_actors.messages import Message
from sparse_actors.wire import MAX_HEADER_BYTES, pack, unpack

from . import disk

MAGIC = b"SPARSEJ\n"
FORMAT_VERSION = 1
MARKER = b"\xf5rec"

_HEADER = struct.Struct("<8sII")
_FRAME = struct.Struct("<4sII")
_PLACE = struct.Struct("<QI")


class Journal:
    """The journal of a run, open for writing by this process alone.

    Made by `create` or `open`. `append` and `sync` may be called from any thread.
    """

    def __init__(self, path: Path, lock_fd: int, end: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | disk.BINARY)
        self._lock_fd = lock_fd
        self._end = end
        self._synced_end = end
        self._turn = threading.Lock()
        self._broken: str | None = None

    @classmethod
    def create(cls, path: Path) -> Journal:
        """Start the journal of a new run; raises JournalError if there is one already."""
        lock_fd = _locked(path)
        try:
            if path.exists():
                raise JournalError(f"{path} exists already; resume that run or choose another folder")
            temporary = path.with_name(path.name + ".tmp")
            temporary.write_bytes(_header(FORMAT_VERSION))
            disk.publish(temporary, path)
            return cls(path, lock_fd, _HEADER.size)
        except BaseException:
            disk.unlock(lock_fd)
            raise

    @classmethod
    def open(cls, path: Path) -> tuple[Journal, list[Message], str | None]:
        """Take a journal up again.

        Returns
        -------
        journal, messages, warning
            The warning says what was cut off when the last record was not whole.

        Raises
        ------
        JournalError
            Damage before the last record, an unknown format or message, or another process that
            has the journal open. Nothing is changed on disk.
        """
        lock_fd = _locked(path)
        try:
            content = path.read_bytes()
            messages, end = _parsed(content, path)
            warning = None
            if end < len(content):
                lost = len(content) - end
                warning = f"{path}: cut at byte {end}, {lost} bytes of an incomplete last record are lost"
                _cut(path, end)
            return cls(path, lock_fd, end), messages, warning
        except BaseException:
            disk.unlock(lock_fd)
            raise

    def append(self, message: Message) -> None:
        """Write one record with one call of the operating system; it survives the death of this process.

        Raises
        ------
        OSError
            The disk did not take it; the journal is as before.
        JournalError
            The message could not be read back, or is too large.
        """
        payload = _readable(message)
        with self._turn:
            self._sync()
            frame = _framed(payload, self._end)
            try:
                taken = disk.write_once(self._fd, frame)
                if taken != len(frame):
                    raise OSError(errno.EIO, f"the disk took {taken} of the {len(frame)} bytes of a record")
            except OSError:
                self._undo()
                raise
            self._end += len(frame)

    def sync(self) -> None:
        """Return when all records are safe against a power cut; OSError when the disk refuses."""
        with self._turn:
            self._sync()

    def close(self) -> None:
        """Sync, close and let others open the journal; safe to call twice."""
        with self._turn:
            if self._fd < 0:
                return
            try:
                if self._broken is None:
                    self._sync()
            finally:
                os.close(self._fd)
                disk.unlock(self._lock_fd)
                self._fd = self._lock_fd = -1
                self._broken = "it is closed"

    def _sync(self) -> None:
        if self._broken is not None:
            raise OSError(errno.EIO, f"the journal takes no more records: {self._broken}")
        if self._synced_end == self._end:
            return
        try:
            disk.sync_file(self._fd)
        except OSError as error:
            self._broken = f"a sync failed ({error})"
            raise
        self._synced_end = self._end

    def _undo(self) -> None:
        try:
            os.ftruncate(self._fd, self._end)
        except OSError as error:
            self._broken = f"a half-written record could not be removed ({error})"


def read_journal(path: Path) -> list[Message]:
    """Read the whole records of a journal without changing it, also while a daemon writes it.

    Raises
    ------
    JournalError
        As `Journal.open`.
    """
    return inspect_journal(path)[0]


def read_new(path: Path, offset: int = 0) -> tuple[list[Message], int]:
    """Read what a journal has more since it was read up to `offset`; returns it and where to go on.

    A record that is not whole yet is left for the next time.

    Raises
    ------
    JournalError, OSError
        As `read_journal`, of what is new.
    """
    if offset == 0:
        return _parsed(path.read_bytes(), path)
    with path.open("rb") as file:
        file.seek(offset)
        return _parsed(file.read(), path, offset)


def inspect_journal(path: Path) -> tuple[list[Message], str | None]:
    """Read as `read_journal`, and say where an incomplete last record begins: being written, or torn."""
    content = path.read_bytes()
    messages, end = _parsed(content, path)
    if end == len(content):
        return messages, None
    return messages, f"{path}: the last {len(content) - end} bytes, from byte {end}, are not a whole record"


def _readable(message: Message) -> bytes:
    """Pack a message, and make sure that a later session can read it."""
    payload = pack(message)
    if len(payload) > MAX_HEADER_BYTES:
        raise JournalError(f"{type(message).__name__} of {len(payload)} bytes is too large for the journal")
    try:
        unpack(payload)
    except WireError as error:
        raise JournalError(f"a message that could not be read back is not journaled: {error}") from None
    return payload


def _header(version: int) -> bytes:
    start = _HEADER.pack(MAGIC, version, 0)[:-4]
    return start + struct.pack("<I", crc32(start))


def _framed(payload: bytes, offset: int) -> bytes:
    checksum = crc32(payload, crc32(_PLACE.pack(offset, len(payload))))
    return _FRAME.pack(MARKER, len(payload), checksum) + payload


def _payload(content: bytes, offset: int, base: int = 0) -> bytes | None:
    """Return the payload of a valid frame at `offset`, else None; content begins at `base` of the file."""
    start = offset + _FRAME.size
    if start > len(content):
        return None
    marker, length, checksum = _FRAME.unpack_from(content, offset)
    if marker != MARKER or length > len(content) - start:
        return None
    payload = content[start : start + length]
    return payload if crc32(payload, crc32(_PLACE.pack(base + offset, length))) == checksum else None


def _parsed(content: bytes, path: Path, base: int = 0) -> tuple[list[Message], int]:
    """Return the messages and the end of the last whole record, in the file of which content is the rest."""
    messages: list[Message] = []
    offset = 0
    if base == 0:
        _check_header(content, path)
        offset = _HEADER.size
    while offset < len(content):
        payload = _payload(content, offset, base)
        if payload is None:
            _refuse_damaged_middle(content, offset, path, base)
            break
        try:
            messages.append(unpack(payload))
        except WireError as error:
            raise JournalError(
                f"{path}: the record at byte {base + offset} is whole but not understood ({error}); "
                "a newer version of sparse-actors wrote it: use that version"
            ) from None
        offset += _FRAME.size + len(payload)
    return messages, base + offset


def _check_header(content: bytes, path: Path) -> None:
    if len(content) < _HEADER.size or content[:8] != MAGIC:
        raise JournalError(f"{path}: byte 0 does not begin a journal of sparse-actors")
    _, version, _ = _HEADER.unpack_from(content)
    if content[: _HEADER.size] != _header(version):
        raise JournalError(f"{path}: the file header at byte 0 is damaged")
    if version != FORMAT_VERSION:
        raise JournalError(
            f"{path}: journal format {version}, this version of sparse-actors reads {FORMAT_VERSION}; "
            "use the version that wrote it"
        )


def _refuse_damaged_middle(content: bytes, offset: int, path: Path, base: int) -> None:
    later = content.find(MARKER, offset + 1)
    while later >= 0:
        if _payload(content, later, base) is not None:
            raise JournalError(
                f"{path}: the record at byte {base + offset} is damaged although whole records follow from "
                f"byte {base + later}; nothing was changed. Restore the journal from a copy, or check "
                "the disk"
            )
        later = content.find(MARKER, later + 1)


def _locked(path: Path) -> int:
    try:
        return disk.lock(path.with_name(path.name + ".lock"))
    except BlockingIOError:
        raise JournalError(f"{path} is open in another process; only one daemon may record a run") from None


def _cut(path: Path, end: int) -> None:
    fd = os.open(path, os.O_RDWR | disk.BINARY)
    try:
        os.ftruncate(fd, end)
        disk.sync_file(fd)
    finally:
        os.close(fd)
