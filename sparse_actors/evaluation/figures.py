"""Stand-in."""

from typing import Any


def write_figures(*_: Any) -> list[Any]:
    return []
