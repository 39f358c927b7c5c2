"""One run at a time on an instrument: a lock of the operating system, which a dead run cannot keep."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import platformdirs

from . import plugins
from .config import MicroscopeTable
from .errors import InstrumentInUseError
from .recording import disk

FOLDER_VARIABLE = "SPARSE_ACTORS_LEASES"
MAX_NOTE_BYTES = 4096


def lease_folder(environ: Mapping[str, str]) -> Path:
    """Return where the lock files are: the same folder for every user of this computer."""
    if named := environ.get(FOLDER_VARIABLE):
        return Path(named)
    if sys.platform == "win32":
        return platformdirs.site_data_path("sparse-actors", appauthor=False) / "leases"
    # Not $TMPDIR, which may be each user's own: all of them share the instruments.
    return Path("/tmp/sparse-actors-leases")  # noqa: S108 - sticky, and its files are opened without links


def lease_file(folder: Path, microscope: MicroscopeTable) -> Path | None:
    """Return the lock file of an instrument; None where every run has its own.

    The instrument is the driver's class with those of its options that tell instruments apart.
    """
    driver = plugins.load("microscope", microscope.driver)
    # A driver need not derive from `Microscope`.
    names: tuple[str, ...] | None = getattr(driver, "instrument_options", ())
    if names is None:
        return None
    _, given = plugins.by_address(microscope.driver, microscope.options)
    options = {name: given.get(name) for name in sorted(names)}
    identity = json.dumps([driver.__module__, driver.__qualname__, options], sort_keys=True, default=str)
    name = re.sub(r"[^A-Za-z0-9_]+", "_", driver.__qualname__)
    return folder / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.lock"


@contextlib.contextmanager
def leased(microscope: MicroscopeTable, who: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Have an instrument alone, until the end of the block or of this process.

    Parameters
    ----------
    microscope
        The instrument.
    who
        What has it from now on, such as the folder of a run; told to whoever is refused.
    environ
        The environment variables.

    Raises
    ------
    InstrumentInUseError
        Somebody has it.
    OSError
        The folder of the leases cannot be written.
    """
    parts = getattr(plugins.load("microscope", microscope.driver), "parts", None)
    if parts is not None:
        with contextlib.ExitStack() as stack:
            for driver, options in parts(microscope.options):
                stack.enter_context(leased(MicroscopeTable(driver=driver, options=options), who, environ))
            yield
        return
    path = lease_file(lease_folder(environ), microscope)
    if path is None:
        yield
        return
    _make_for_everybody(path)
    try:
        fd = disk.lock(path)
    except BlockingIOError:
        raise InstrumentInUseError(
            f"the instrument of driver {microscope.driver!r} is in use {_note(path)}; "
            "`sparse-actors stop` ends that run in order"
        ) from None
    try:
        note = {"who": who, "user": getpass.getuser(), "pid": os.getpid(), "since_s": time.time()}
        os.ftruncate(fd, 0)
        disk.write_all_at(fd, memoryview(json.dumps(note).encode()[:MAX_NOTE_BYTES]), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        disk.unlock(fd)


def _make_for_everybody(path: Path) -> None:
    """Make the lock file and its folder such that every user of this computer can take the lease."""
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o1777)
    if path.exists():
        return
    # Made under another name: nobody may find it before it is open to all.
    fd, temporary = tempfile.mkstemp(dir=path.parent)
    os.close(fd)
    Path(temporary).chmod(0o666)
    with contextlib.suppress(FileExistsError):
        if sys.platform == "win32":
            Path(temporary).rename(path)
        else:
            path.hardlink_to(temporary)
    Path(temporary).unlink(missing_ok=True)


def _note(path: Path) -> str:
    """Say who has the lease, as far as that can be read."""
    try:
        note = json.loads(path.read_bytes()[:MAX_NOTE_BYTES])
        since = datetime.fromtimestamp(note["since_s"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return f"since {since} by {note['who']} (user {note['user']}, process {note['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "by another run"
