"""Where settings come from: a file, then the environment, then `--set`; the later one wins."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from .errors import ConfigError
from .toml_text import Key, dotted

FILE_NAME = "sparse-actors.toml"
PATH_VARIABLE = "SPARSE_ACTORS_CONFIG"
PREFIX = "SPARSE_ACTORS__"


@dataclass(slots=True)
class Settings:
    """What was given, before it is checked."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    """Where each value that is not from the file comes from."""
    problems: list[str] = field(default_factory=list)

    def origin(self, key: Key) -> str:
        """Say where a value that overrides the file comes from; empty for those of the file."""
        return next((self.origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.origins), "")

    def put(self, key: Key, text: str, origin: str) -> None:
        """Override one value; `text` is TOML, or stands for itself where it is not."""
        table = self.data
        for part in key[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                self.problems.append(f"{dotted(key)} ({origin}): {part} is a value, not a table")
                return
        table[key[-1]] = _value(text)
        self.origins[key] = origin


def find(path: str | Path | None, environ: Mapping[str, str]) -> Path:
    """Return the configuration file to read.

    The first of: `path`, $SPARSE_ACTORS_CONFIG, ./sparse-actors.toml, the user's and the site's
    configuration directory.

    Raises
    ------
    ConfigError
        The file named does not exist, or none is found.
    """
    named = path if path is not None else environ.get(PATH_VARIABLE)
    if named:
        if not Path(named).is_file():
            origin = "" if path is not None else f" (from ${PATH_VARIABLE})"
            raise ConfigError(f"{named}{origin}: there is no such file; give that of a configuration")
        return Path(named)
    places = [
        Path(FILE_NAME),
        platformdirs.user_config_path("sparse-actors", appauthor=False) / FILE_NAME,
        platformdirs.site_config_path("sparse-actors", appauthor=False) / FILE_NAME,
    ]
    for place in places:
        if place.is_file():
            return place
    raise ConfigError(f"no configuration file: give one, or write {' or '.join(str(p) for p in places)}")


def read(path: Path) -> str:
    """Return the text of a configuration file; raises ConfigError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; save it again with the encoding UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def gather(
    text: str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None, name: str = "the file"
) -> Settings:
    """Merge the text of a file, the environment and `key=value` overrides.

    `SPARSE_ACTORS__SCAN__FAST__DWELL_NS=300` sets `scan.fast.dwell_ns`.

    Raises
    ------
    ConfigError
        The text is not TOML; nothing more can be said about it then.
    """
    settings = Settings()
    is_toml = True
    try:
        settings.data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        is_toml = False
        hint = "; write Windows paths in 'single quotes'" if "\\" in str(error) else ""
        settings.problems.append(f"{name}: is not TOML: {error}{hint}")
    for variable, value in sorted((environ or {}).items()):
        if variable.upper().startswith(PREFIX):
            key = tuple(variable[len(PREFIX) :].lower().split("__"))
            settings.put(key, value, f"environment variable {variable}")
    for override in overrides:
        left, equals, right = override.partition("=")
        key = tuple(part.strip() for part in left.split("."))
        if not equals or not all(key):
            settings.problems.append(f"--set {override}: expected key=value, such as scan.fast.dwell_ns=300")
        else:
            settings.put(key, right.strip(), f"--set {left.strip()}")
    if not is_toml:
        raise ConfigError(*settings.problems)
    return settings


def leaves(data: Mapping[str, Any], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield every value that is not a table, with its key."""
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text
