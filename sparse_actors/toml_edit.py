"""Changing values in a TOML file that a person wrote, comments and order kept."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from .errors import ConfigError
from .toml_text import Key, dotted, toml_value

_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
_ENTRY = re.compile(r"\s*([^=#\[\]]+?)\s*=")


def with_values(text: str, values: Mapping[Key, Any]) -> str:
    """Return the text with some values set.

    A value that is there is replaced where it stands; a new one is added below the header of its table, and
    the table at the end where it is missing.

    Raises
    ------
    ConfigError
        The text is not TOML, or a value stands where it cannot be replaced, as in a table over several lines.
    """
    try:
        wanted = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration to change is not TOML: {error}") from None
    for key, value in values.items():
        _put(wanted, key, value)
        text = _with_value(text, key, value)
    try:
        is_right = tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        names = ", ".join(dotted(key) for key in values)
        raise ConfigError(f"the values cannot be put into the file without harm; set them by hand: {names}")
    return text


def _with_value(text: str, key: Key, value: Any) -> str:
    # Not splitlines: TOML ends a line at a line feed and nowhere else.
    lines = text.removesuffix("\n").split("\n")
    header_of: dict[Key, int] = {(): -1}
    table: Key = ()
    number = 0
    while number < len(lines):
        line = lines[number]
        end = number + 1
        if header := _HEADER.fullmatch(line):
            table = _path(header[1])
            header_of[table] = number
        elif entry := _ENTRY.match(line):
            end = _end_of_entry(lines, number)
            name = (*table, *_path(entry[1]))
            if name == key:
                lines[number:end] = [_replaced(line, entry, toml_value(value), end - number)]
                return _joined(lines)
            if key[: len(name)] == name:
                # An inline table, such as options = { threshold = 55.0 }.
                inner = tomllib.loads("\n".join(lines[number:end]))
                for part in _path(entry[1]):
                    inner = inner[part]
                _put(inner, key[len(name) :], value)
                lines[number:end] = [_replaced(line, entry, toml_value(inner), end - number)]
                return _joined(lines)
        number = end
    written = f"{dotted(key[-1:])} = {toml_value(value)}"
    if key[:-1] in header_of:
        lines.insert(header_of[key[:-1]] + 1, written)
    else:
        lines += ["", f"[{dotted(key[:-1])}]", written]
    return _joined(lines)


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _put(table: dict[str, Any], key: Key, value: Any) -> None:
    for part in key[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{dotted(key)}: {part} is no table in the file; set the value by hand")
        table = inner
    table[key[-1]] = value


def _path(text: str) -> Key:
    """Return the parts of a written key; text that is none gives a key that matches nothing."""
    try:
        inner: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return ("", text)
    path = []
    while isinstance(inner, dict):
        ((part, inner),) = inner.items()
        path.append(part)
    return tuple(path)


def _end_of_entry(lines: list[str], first: int) -> int:
    """Return the line after an entry, which may go over several."""
    for end in range(first + 1, len(lines) + 1):
        try:
            tomllib.loads("\n".join(lines[first:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    return first + 1


def _replaced(line: str, entry: re.Match[str], value: str, count: int) -> str:
    """Return the entry with another value and, if it was one line, its comment."""
    head = line[: entry.end()]
    comment = ""
    if count == 1:
        # The comment begins at the first # with which what stands before it is a whole entry.
        for at in (i for i, letter in enumerate(line) if letter == "#" and i > entry.end()):
            try:
                tomllib.loads(line[:at])
            except tomllib.TOMLDecodeError:
                continue
            before = line[:at]
            comment = before[len(before.rstrip()) :] + line[at:]
            break
    return f"{head} {value}{comment}"
