"""A benchmark case: our way of doing something, beside other ways of doing the same."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Peer:
    """Another way of doing the same."""

    name: str
    run: Callable[[], Any]
    problem: Callable[[Any, Any], str] | None
    """Tells from our result and the peer's what is wrong, or ""; None: they are not comparable."""
    why_not_compared: str = ""
    agreement: str = "same results"
    """What it means that there is no problem."""
    figures: Callable[[Any, Any], dict[str, float]] = lambda ours, theirs: {}
    """Further numbers of the two results, by name."""


@dataclass(frozen=True, slots=True)
class Contest:
    """One case, ready to run."""

    inputs: str
    """What the contestants are given."""
    ours: Callable[[], Any]
    peers: tuple[Peer, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    """Peers that cannot run here, and why."""
    prepare: Callable[[], None] = lambda: None
    """Called before each run and not timed: what changes its input gets it back."""


def installed(module: str) -> Any:
    """Return the module that a peer needs, or None."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def missing(package: str) -> str:
    """Return why a peer of a package that is not installed is skipped."""
    return f"{package} is not installed"
