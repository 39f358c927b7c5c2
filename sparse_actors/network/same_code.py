"""Whether two computers detect with the same code: a hash of every file of a plugin."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_actors import plugins

MAX_FILES = 2000
MAX_NAMED = 3
"""So many files that differ are named; the others are counted."""
DIGITS = 16
_IGNORED = {"__pycache__"}


def code_of(kind: plugins.Kind, name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the hash of each file that a plugin consists of.

    These are the files of the package that its module is in, data and weights included, or the module
    alone if it is in none; and the files that its options name.

    Raises
    ------
    PluginError
        The plugin cannot be loaded.
    """
    plugin = plugins.load(kind, name)
    module = sys.modules[plugin.__module__]
    found: dict[str, str] = {}
    source = Path(module.__file__) if module.__file__ else None
    if source is not None and module.__package__:
        folder = source.parent
        files = (path for path in sorted(folder.rglob("*")) if not _IGNORED & set(path.parts))
        for path in [path for path in files if path.is_file()][:MAX_FILES]:
            found[f"{module.__package__}: {path.relative_to(folder).as_posix()}"] = _digest(path)
    elif source is not None:
        found[source.name] = _digest(source)
    for value in options.values():
        if isinstance(value, str) and Path(value).is_file():
            found[value] = _digest(Path(value))
    return found


def difference(daemon: Mapping[str, str], worker: Mapping[str, str]) -> str:
    """Say in which files a worker differs from the daemon, or nothing."""
    lines = [f"{name} is not on the worker" for name in daemon if name not in worker]
    lines += [f"{name} is not on the daemon" for name in worker if name not in daemon]
    lines += [f"{name} differs" for name in daemon if worker.get(name, daemon[name]) != daemon[name]]
    more = f", and {len(lines) - MAX_NAMED} more" if len(lines) > MAX_NAMED else ""
    return ", ".join(lines[:MAX_NAMED]) + more


def label(name: str, code: Mapping[str, str]) -> str:
    """Return a plugin's name with the beginning of the hash of all of its files."""
    whole = hashlib.sha256("".join(f"{file}\0{code[file]}\0" for file in sorted(code)).encode())
    return f"{name} {whole.hexdigest()[:8]}"


def _digest(path: Path) -> str:
    if path.suffix == ".py":
        # Sources are the same whichever way a system ends its lines.
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:DIGITS]
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
