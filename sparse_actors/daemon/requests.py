"""What the daemon is asked, and what it replies; see `network.control` for how."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import platformdirs

from sparse_actors.run_requests import Request, Status, Stop

from .run_queue import State

FOLDER_VARIABLE = "SPARSE_ACTORS_QUEUE"

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
ConfigText = Annotated[str, msgspec.Meta(max_length=500_000)]
Overrides = Annotated[tuple[Text, ...], msgspec.Meta(max_length=500)]
Number = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]


class Submit(Request, frozen=True, tag="submit"):
    """Take a run into the queue; the fields are those of `run_queue.Entry`."""

    name: Name
    config: ConfigText
    overrides: Overrides
    cwd: Text
    out: Text
    out_dir: Text
    at_front: bool = False


class Hold(Request, frozen=True, tag="hold"):
    """Begin no further run; the one that goes on goes on."""


class ResumeQueue(Request, frozen=True, tag="resume"):
    """Begin runs again, first what was stopped; or let one run go on."""

    run: Number | None = None


class SkipRun(Request, frozen=True, tag="skip"):
    """Take a run off the queue; if it goes on it ends in order."""

    run: Number


REQUESTS = Status | Stop | Submit | Hold | ResumeQueue | SkipRun


class Submitted(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="submitted"):
    """A run was taken into the queue, and is on disk there."""

    run: int
    before: int
    """How many runs are made before it."""


class QueuedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the queue, as it is shown."""

    run: int
    name: str
    state: State
    reason: str
    folder: str
    submitted_s: float
    begun_s: float
    ended_s: float


class DaemonStatus(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="daemon"):
    """Where the daemon stands."""

    version: str
    pid: int
    started_s: float
    queue: str
    """Its folder."""
    is_held: bool
    is_ending: bool
    runs: tuple[QueuedRun, ...]
    refused: int
    """Requests that were not valid."""


def queue_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of this user's queue: $SPARSE_ACTORS_QUEUE, by default in the user's data."""
    named = environ.get(FOLDER_VARIABLE)
    default = platformdirs.user_data_path("sparse-actors", appauthor=False) / "queue"
    return Path(named).absolute() if named else default


def this_users_queue() -> Path:
    """Return the queue that commands talk to unless told otherwise."""
    return queue_folder(os.environ)
