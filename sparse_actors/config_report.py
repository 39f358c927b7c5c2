"""Configuration problems in plain words: the key, what came, what is expected, a suggestion."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .toml_text import Key, dotted, toml_value

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

UNITS: dict[str, tuple[str, float]] = {
    **{u: ("time", f) for u, f in {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}.items()},
    **{u: ("length", f) for u, f in {"nm": 1e-9, "um": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}.items()},
    **{u: ("current", f) for u, f in {"pa": 1e-12, "na": 1e-9, "ua": 1e-6}.items()},
    **{u: ("memory", f) for u, f in {"bytes": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}.items()},
    **{u: ("share", f) for u, f in {"pct": 0.01, "percent": 0.01, "fraction": 1.0}.items()},
    "px": ("pixels", 1.0),
    "deg": ("angle", 1.0),
}
"""Suffixes of keys: the quantity, and the unit in SI."""

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""How pydantic calls a key that does not exist, in a table and in a dataclass."""

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "path_type": "a path in quotes",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "dataclass_type": "a table",
    "missing": "one value more",
}


def came(value: object) -> str:
    """Write what came, shortened for a message."""
    text = toml_value(value)
    return text if len(text) <= 80 else text[:77] + "..."


def unknown(key: Key, value: object, known: Iterable[Key]) -> tuple[str, Key | None]:
    """Describe a key that does not exist, and find the one that was probably meant."""
    known = list(known)
    *parents, name = key
    siblings = [k[-1] for k in known if k[:-1] == tuple(parents)]
    stem, unit = _unit(name)
    of_stem = [s for s in siblings if s != name and _unit(s)[0] == stem]
    close = of_stem or difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close:
        meant = (*parents, close[0])
        text = f"unknown key; did you mean {dotted(meant)}?{_converted(value, unit, _unit(close[0])[1])}"
        return text, meant
    elsewhere = [k for k in known if k[-1] == name]
    if elsewhere:
        return f"unknown key here; did you mean {' or '.join(dotted(k) for k in elsewhere)}?", elsewhere[0]
    if siblings:
        return f"unknown key; {dotted(tuple(parents)) or 'the file'} takes {', '.join(siblings)}", None
    return "unknown key", None


def _unit(name: str) -> tuple[str, str]:
    stem, _, suffix = name.rpartition("_")
    return (stem, suffix) if stem and suffix in UNITS else (name, "")


def _converted(value: object, unit: str, wanted: str) -> str:
    """Say what a number given in another unit is in the right one."""
    if not wanted or unit == wanted:
        return ""
    if not unit:
        return f" The value is in {wanted}."
    same_quantity = UNITS[unit][0] == UNITS[wanted][0]
    if not same_quantity or isinstance(value, bool) or not isinstance(value, (int, float)):
        return f" The value is in {wanted}, not {unit}."
    return f" {value:g} {unit} are {value * UNITS[unit][1] / UNITS[wanted][1]:g} {wanted}."


def expected(error: ErrorDetails) -> str:
    """Say what pydantic expected."""
    if error["type"] == "too_long":
        text = f"{error['ctx']['max_length']} values, got {error['ctx']['actual_length']}"
    elif error["type"] == "string_pattern_mismatch":
        text = f"text of the form {error['ctx']['pattern']}"
    else:
        text = _EXPECTED.get(error["type"]) or re.sub("^(Input should be|Value error,) ", "", error["msg"])
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        choices = re.findall("'([^']+)'", error["ctx"]["expected"])
        close = difflib.get_close_matches(error["input"], choices, n=1, cutoff=0.4)
        text += f"; did you mean {close[0]!r}?" if close else ""
    return text


def describe(
    errors: Sequence[ErrorDetails], data: Mapping[str, Any], known: Mapping[Key, str]
) -> tuple[dict[Key, str], set[Key]]:
    """Turn what pydantic found into one problem for each key.

    Parameters
    ----------
    errors
        From a pydantic ValidationError.
    data
        What was validated.
    known
        Every key that exists, with what it means.

    Returns
    -------
    problems
        A sentence for each key, without the key itself.
    unusable
        The known keys that have no valid value.
    """
    problems: dict[Key, str] = {}
    unusable: set[Key] = set()
    meant: set[Key] = set()
    for error in errors:
        if error["type"] in UNKNOWN_KEY:
            key = tuple(str(part) for part in error["loc"])
            text, target = unknown(key, error["input"], known)
            problems[key] = f"{dotted(key)} = {came(error['input'])}: {text}"
            if target and not _has(data, target):
                meant.add(target)
    for error in errors:
        if error["type"] in UNKNOWN_KEY:
            continue
        key = _known_part(error["loc"], known)
        unusable.add(key)
        if any(key[: len(target)] == target for target in meant):
            continue  # It is there, only misspelt: one problem, not two.
        about = f" ({known[key]})" if known.get(key) else ""
        if not _has(data, key):
            problems[key] = f"{dotted(key)} is missing{about}"
        elif key not in problems:
            inside = "".join(f"[{part}]" for part in error["loc"][len(key) :])
            wanted = f"expected {expected(error)}{inside and f' at {inside}'}"
            problems[key] = f"{dotted(key)} = {came(_at(data, key))}: {wanted}{about}"
    return problems, unusable


def _known_part(loc: tuple[int | str, ...], known: Mapping[Key, str]) -> Key:
    """Return the longest beginning of a location that is a key; the rest lies inside its value."""
    names = tuple(str(part) for part in loc)
    return next(names[:n] for n in range(len(names), -1, -1) if names[:n] in known or n == 0)


def _at(data: Mapping[str, Any], key: Key) -> Any:
    value: Any = data
    for part in key:
        value = value[part]
    return value


def _has(data: Mapping[str, Any], key: Key) -> bool:
    try:
        _at(data, key)
    except (KeyError, TypeError):
        return False
    return True
