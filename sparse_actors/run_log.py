"""The log of a run: one JSON object a line, with the run, the tile, the actor and the message's number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

import structlog

from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import (
    ActorFailed,
    DetectionFailed,
    DetectionLost,
    FieldId,
    FieldMapped,
    ImagesLost,
    InspectionFailed,
    InspectionLost,
    Message,
    MessageDropped,
    MessageRefused,
    MicroscopeFailed,
    MicroscopePrepared,
    MicroscopeReset,
    OrderRefused,
    PhaseProposed,
    RecordingFailed,
    RegionsProposed,
    RunContinued,
    RunFinished,
    RunPaused,
    RunStarted,
    ScanId,
    ScanMissed,
    SpectraMissing,
    StopRun,
    TileFinished,
    TileReached,
    TileSkipped,
    WorkerJoined,
    WorkerLost,
)

MILESTONES: tuple[type[Message], ...] = (
    RunStarted,
    MicroscopePrepared,
    TileReached,
    TileFinished,
    TileSkipped,
    FieldMapped,
    PhaseProposed,
    RegionsProposed,
    RunPaused,
    RunContinued,
    WorkerJoined,
    StopRun,
    MicroscopeReset,
    RunFinished,
)
"""What is logged of what goes well; single scans are in the journal."""
TROUBLES: tuple[type[Message], ...] = (
    ActorFailed,
    DetectionFailed,
    DetectionLost,
    ImagesLost,
    InspectionFailed,
    InspectionLost,
    MessageDropped,
    MessageRefused,
    MicroscopeFailed,
    OrderRefused,
    RecordingFailed,
    ScanMissed,
    SpectraMissing,
    WorkerLost,
)
MAX_TEXT = 500
"""Longer texts, such as a configuration, are left out."""


class RunLog:
    """What is known of a run when something is logged; made by `opened`."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._tile = ""
        self._number = 0

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path, run: str) -> Iterator[RunLog]:
        """Append everything that is logged to a file until the end of the block; then log as before."""
        log = cls(run)
        before = structlog.get_config()
        with path.open("a", encoding="utf-8") as file:
            structlog.configure(
                processors=[
                    structlog.contextvars.merge_contextvars,
                    log._add_place,
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    structlog.processors.add_log_level,
                    structlog.processors.ExceptionRenderer(),
                    structlog.processors.JSONRenderer(),
                ],
                logger_factory=structlog.WriteLoggerFactory(_Lines(file)),  # type: ignore[arg-type]
            )
            try:
                yield log
            finally:
                structlog.configure(**before)

    def watch(self, message: Message, number: int) -> None:
        """Tap of the bus; called in the thread of the actor that sent the message, whose name is logged."""
        self._number = number
        if isinstance(message, TileReached):
            self._tile = str(message.tile)
        if isinstance(message, MILESTONES):
            structlog.get_logger().info(type(message).__name__, **_words(message))
        elif isinstance(message, TROUBLES):
            structlog.get_logger().warning(type(message).__name__, **_words(message))

    def _add_place(self, logger: object, method: str, event: Any) -> Any:
        place = {"run": self._run, "tile": self._tile, "message": self._number}
        return {**place, **event}


class _Lines:
    """A file that takes what it can: a full disk must not end a run by way of its log."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.flush()


def _words(message: Message) -> dict[str, Any]:
    """Return the fields that a line has room for."""
    found: dict[str, Any] = {}
    for entry in fields(message):
        value = getattr(message, entry.name)
        if isinstance(value, TileIndex | PartitionId | ScanId | FieldId):
            found[entry.name] = str(value)
        elif isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= MAX_TEXT):
            found[entry.name] = value
    return found
