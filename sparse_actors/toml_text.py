"""Writing TOML: what tomllib reads, in the other direction."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

Key = tuple[str, ...]
"""A TOML path: `scan.fast.dwell_ns` is ("scan", "fast", "dwell_ns")."""


def dotted(key: Key) -> str:
    """Write a key as it stands in a file."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else toml_value(part) for part in key)


def toml_value(value: object) -> str:
    """Write one value; tables inside it become inline tables."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{dotted((k,))} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    # A JSON string is a TOML string, except for DEL, which TOML wants escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_document(data: Mapping[str, Any], tables: Collection[Key]) -> str:
    """Write a whole file.

    Parameters
    ----------
    data
        The values; None is left out.
    tables
        Which keys get a [header]; other tables are written inline.
    """
    return "\n".join(_sections(data, tables, ()))


def _sections(data: Mapping[str, Any], tables: Collection[Key], above: Key) -> Iterator[str]:
    nested = {k: v for k, v in data.items() if isinstance(v, Mapping) and (*above, k) in tables}
    values = {k: v for k, v in data.items() if k not in nested and v is not None}
    lines = [f"{dotted((k,))} = {toml_value(v)}\n" for k, v in values.items()]
    if lines:
        yield (f"[{dotted(above)}]\n" if above else "") + "".join(lines)
    for name, value in nested.items():
        yield from _sections(value, tables, (*above, name))
