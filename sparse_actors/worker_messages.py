"""The vocabulary of workers: who there is, and what is said on their socket.

Imported from `messages`, where the rules that hold for all are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJoined(Message):
    """A worker is ready for work."""

    worker: str
    host: str
    pid: int
    phases: tuple[str, ...] = ()
    """What its classifier of spectra tells apart."""
    tags: tuple[str, ...] = ()
    """What its computer has, such as "gpu"; a run may ask for it."""
    models: tuple[str, ...] = ()
    """The detector and the classifier that it loaded, each with the beginning of its code's hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost(Message):
    """A detector worker is gone."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCameLate(Message):
    """A worker that was held for lost answered after all."""

    worker: str
    is_used: bool
    """The job was still open; else it had been answered and the result is dropped."""
    count: int
    """Late results of this session so far."""


# -- worker and pool, on their socket only --------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHello(Message):
    """A worker asks to join. `token` is the run's secret, `version` its sparse-actors version."""

    token: str
    version: str
    host: str
    pid: int
    slot: int = 0
    """Which of its computer's workers it is, from 1; 0 is one that works alone."""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerWelcome(Message):
    """The daemon accepts a worker and says which detector to load, with its options."""

    detector: str
    options: dict[str, Any]
    heartbeat_s: float
    silence_s: float
    """A side that hears nothing for so long holds the other for dead."""
    deadline_s: float
    """Longest time for one job; a worker that is locked up ends itself after it."""
    classifier: str = ""
    """Which classifier of spectra to load as well; empty for none."""
    classifier_options: dict[str, Any] = field(default_factory=dict)
    classifier_files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files that these options name, as the run was begun with."""
    inspector: str = ""
    """Which detector looks at rescanned regions; empty for none."""
    inspector_options: dict[str, Any] = field(default_factory=dict)
    session: str = ""
    """Made anew by every daemon: what a worker did for another one is of no use to it."""
    code: dict[str, str] = field(default_factory=dict)
    """Hash of each file that the detectors and the classifier consist of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady(Message):
    """What the run needs is loaded and compiled; jobs may come."""

    phases: tuple[str, ...] = ()
    """What the classifier of spectra tells apart."""
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """Sent both ways by a thread that does no work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArrived(Message):
    """All of the oldest job on its way is at the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLeaving(Message):
    """A worker ends what it is at and wants no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDismissed(Message):
    """The daemon lets a worker go: the run ended, or the worker may not join."""

    reason: str
    may_return: bool = False
    """It was held for lost and is welcome, with what it did meanwhile."""
