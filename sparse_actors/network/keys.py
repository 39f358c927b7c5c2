"""Key pairs, and the lists of those who may connect: small files in a folder that only its owner can enter.

    NAME.secret             the pair of this computer or of one of its workers, readable by its owner only
    NAME.key                its public half, to be carried to the other side
    allowed/SERVICE/*.key   the public keys that may connect to a service of this computer

A list is read again whenever it changes, so that it takes effect on what is running.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs
import zmq
from zmq.utils import z85

from sparse_actors.errors import ConfigError

FOLDER_VARIABLE = "SPARSE_ACTORS_KEYS"
DAEMON = "daemon"
"""Name of the pair that the daemon shows to whoever connects."""
MAX_FILE_BYTES = 4096

Service = Literal["workers", "control", "taps"]
SERVICES: tuple[Service, ...] = get_args(Service)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """One side's keys (32 bytes each), and the public key of the daemon that it talks to."""

    name: str
    public: bytes
    secret: bytes = field(repr=False)
    daemon: bytes = b""
    """Empty in the daemon's own pair."""


class Keys:
    """The keys in one folder.

    Parameters
    ----------
    folder
        Made with the first key; `keys_folder` tells which.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lists: dict[Service, tuple[int, dict[bytes, str]]] = {}

    def new(self, name: str, daemon: bytes = b"") -> Path:
        """Make a pair; returns the file of the secret half, beside which is that of the public one.

        Raises
        ------
        ConfigError
            The name cannot be a file's, or the pair is there already.
        """
        _check_name(name)
        public, secret = (z85.decode(half) for half in zmq.curve_keypair())
        self._make_folder(self.folder)
        path = self.folder / f"{name}.secret"
        lines = [
            f"# The secret key of {name}: it stays on this computer, readable by its owner only.",
            f'name = "{name}"',
            f'public = "{public.hex()}"',
            f'secret = "{secret.hex()}"',
            *([f'daemon = "{daemon.hex()}"'] if daemon else []),
        ]
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigError(f"{path} is there already: a key is never replaced; remove it first") from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        _write_public(self.folder / f"{name}.key", name, public)
        return path

    def daemon(self) -> KeyPair:
        """Return the daemon's own pair; raises ConfigError with the command that makes it."""
        path = self.folder / f"{DAEMON}.secret"
        if not path.exists():
            raise ConfigError(f"there is no {path}; make it by: sparse-actors keys new {DAEMON}")
        return read_secret(path)

    def allow(self, name: str, public: bytes, service: Service) -> None:
        """Let the holder of a key connect to a service; replaces the key of that name."""
        _check_name(name)
        for key, other in self.allowed(service).items():
            if key == public and other != name:
                raise ConfigError(f"this key is allowed already, as {other!r}")
        folder = self._make_folder(self.folder / "allowed" / service)
        _write_public(folder / f"{name}.key", name, public)

    def revoke(self, name: str) -> list[Service]:
        """Take a name off every list; returns those that it was on."""
        _check_name(name)
        found: list[Service] = []
        for service in SERVICES:
            path = self.folder / "allowed" / service / f"{name}.key"
            if path.exists():
                path.unlink()
                found.append(service)
        return found

    def allowed(self, service: Service) -> dict[bytes, str]:
        """Return who may connect to a service now: name by public key. What cannot be read is not on it."""
        folder = self.folder / "allowed" / service
        try:
            changed = folder.stat()
        except OSError:
            return {}
        if not _is_private_to_write(changed):
            return {}
        known = self._lists.get(service)
        if known is None or known[0] != changed.st_mtime_ns:
            names: dict[bytes, str] = {}
            for path in sorted(folder.glob("*.key")):
                try:
                    names[read_public(path)[1]] = path.stem
                except (ConfigError, OSError):
                    continue
            known = self._lists[service] = (changed.st_mtime_ns, names)
        return known[1]

    def _make_folder(self, folder: Path) -> Path:
        for part in (self.folder, *(p for p in (folder.parent, folder) if p.is_relative_to(self.folder))):
            if not part.exists():
                part.mkdir(mode=0o700, parents=True)
        return folder


def keys_folder(environ: Mapping[str, str]) -> Path:
    """Return where keys are kept: $SPARSE_ACTORS_KEYS, by default beside the user's configuration."""
    named = environ.get(FOLDER_VARIABLE)
    return Path(named) if named else platformdirs.user_config_path("sparse-actors", appauthor=False) / "keys"


def read_secret(path: Path) -> KeyPair:
    """Read a pair; raises ConfigError if anybody but its owner could.

    On Windows the access rights of the file are those of its folder and are not checked.
    """
    try:
        with path.open("rb") as file:
            if problem := _secrecy_problem(os.fstat(file.fileno())):
                raise ConfigError(f"{path} {problem}; the key must be thought known: make a new one")
            text = file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be read: {error.strerror}") from None
    entries = _entries(path, text)
    daemon = entries.get("daemon", "")
    return KeyPair(
        name=_name(path, entries),
        public=_key(path, entries, "public"),
        secret=_key(path, entries, "secret"),
        daemon=_key(path, entries, "daemon") if daemon else b"",
    )


def read_public(path: Path) -> tuple[str, bytes]:
    """Read a public key and its name; raises ConfigError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be read: {error.strerror}") from None
    entries = _entries(path, text)
    if "secret" in entries:
        raise ConfigError(f"{path} holds a secret key, which is to stay where it was made: use the .key file")
    return _name(path, entries), _key(path, entries, "public")


def parse_key(text: str) -> bytes:
    """Turn a public key as it is printed (64 hexadecimal digits) into bytes; raises ConfigError."""
    if not _KEY.fullmatch(text):
        raise ConfigError(f"key {text[:80]!r}: expected 64 hexadecimal digits or a .key file")
    return bytes.fromhex(text)


def _secrecy_problem(found: os.stat_result) -> str:
    if sys.platform == "win32":
        return ""
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"can be read by others (mode {stat.S_IMODE(found.st_mode):o}, expected 600)"
    return ""


def _is_private_to_write(found: os.stat_result) -> bool:
    """Whether nobody else can put a key on a list."""
    if sys.platform == "win32":
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _write_public(path: Path, name: str, public: bytes) -> None:
    # Renamed into place: a list is never read with half a key, and its folder shows that it changed.
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f'name = "{name}"\npublic = "{public.hex()}"\n')
    Path(partial).replace(path)


def _entries(path: Path, text: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is not a key file of `sparse-actors keys new`") from None


def _name(path: Path, entries: dict[str, Any]) -> str:
    name = entries.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{path} is not a key file of `sparse-actors keys new`: it has no name")
    return name


def _key(path: Path, entries: dict[str, Any], which: str) -> bytes:
    text = entries.get(which)
    if not isinstance(text, str) or not _KEY.fullmatch(text):
        raise ConfigError(f"{path}: expected {which} = 64 hexadecimal digits")
    return bytes.fromhex(text)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"name {name[:80]!r}: expected up to 40 letters, digits, '.', '_' or '-'")
