"""What happened, in plain words, with what it means for whoever looks on."""

from __future__ import annotations

from typing import Literal

from sparse_actors.messages import (
    ActorFailed,
    ClassificationLost,
    DetectionFailed,
    DetectionLost,
    FieldMapped,
    ImagesLost,
    Message,
    MicroscopeFailed,
    MicroscopePrepared,
    MicroscopeReset,
    OrderRefused,
    PhaseNamed,
    PhaseProposed,
    RecordingFailed,
    RegionsProposed,
    RunContinued,
    RunFinished,
    RunPaused,
    RunStarted,
    ScanMissed,
    TileFinished,
    TileSkipped,
    WorkerJoined,
    WorkerLost,
)
from sparse_actors.planning.audit import AUDIT

Level = Literal["quiet", "note", "good", "warn", "bad"]
LONGEST = 300
DOING = {
    "prepare": "being made ready",
    "move": "moving the stage",
    "scan": "scanning",
    "spots": "taking spectra",
    "reset": "being restored",
}


def sentence(message: Message) -> tuple[Level, str] | None:
    """Return what a message means, and how much it matters; None for what people need not read."""
    said = _sentence(message)
    if said is None:
        return None
    level, text = said
    text = " ".join(text.split())
    return level, text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _sentence(message: Message) -> tuple[Level, str] | None:
    match message:
        case RunStarted(session=0):
            return "note", "The run has begun."
        case RunStarted(session=session):
            return "note", f"The run goes on where it stopped (session {session + 1})."
        case MicroscopePrepared(name=name):
            return "note", f"The microscope is ready: {name}."
        case MicroscopeReset():
            return "note", "The microscope is as it was found."
        case TileFinished(tile=tile):
            return "quiet", f"Tile {tile} is finished."
        case TileSkipped(tile=tile, reason=reason):
            return "note", f"What was left of tile {tile} is left out: {reason}."
        case RegionsProposed(source=source, boxes=boxes, partition=part) if source != AUDIT:
            what = "1 region" if len(boxes) == 1 else f"{len(boxes)} regions"
            return "good", f"{what} of tile {part.tile} will be rescanned, proposed by {source}."
        case RunPaused(reason=reason):
            return "note", f"Paused: {reason}. Nothing is exposed until the run goes on."
        case RunContinued():
            return "note", "The run goes on."
        case OrderRefused(order=order, reason=reason):
            return "warn", f"{order} was not carried out: {reason}."
        case PhaseProposed(field=field, members=members):
            return "good", f"{members} alike spectra of {field} fit no known phase: a new one."
        case PhaseNamed(name=name, elements=elements):
            of = f" with {', '.join(elements)}" if elements else ""
            return "good", f"The new phase is called {name}{of}."
        case FieldMapped(field=one, is_complete=True, labels=labels):
            return "good", f"The map of {one.id} is finished: {len(labels)} of {one.box.area} points."
        case FieldMapped(field=one, reason=reason):
            return "warn", f"The map of {one.id} was cut short: {reason}."
        case WorkerJoined(worker=worker, host=host):
            return "quiet", f"Worker {worker} on {host or 'this computer'} is ready."
        case WorkerLost(worker=worker, reason=reason):
            return "warn", f"Worker {worker} is gone: {reason}. Its work goes to another."
        case _:
            return _trouble(message)


def _trouble(message: Message) -> tuple[Level, str] | None:
    match message:
        case DetectionLost(partition=part, reason=reason):
            return "warn", f"Detecting {part} failed and is tried again: {reason}."
        case ClassificationLost(field=field, reason=reason):
            return "warn", f"Telling the phases of {field} failed and is tried again: {reason}."
        case DetectionFailed(partition=part, reason=reason):
            return "bad", f"Nothing could be detected in {part}: {reason}. Is the detector set up right?"
        case ScanMissed(scan_id=scan_id, reason=reason):
            return "bad", f"Scan {scan_id} is missing: {reason}. A resumed run tries it again."
        case MicroscopeFailed(order=order, reason=reason, is_retryable=is_retryable):
            then = "It is tried again." if is_retryable else "Look at the microscope."
            return (
                "warn" if is_retryable else "bad",
                f"The microscope failed {DOING[order]}: {reason}. {then}",
            )
        case RecordingFailed(reason=reason):
            return "bad", f"Recording failed: {reason}. Is there room on the disk?"
        case ImagesLost(scan_ids=scan_ids, reason=reason):
            return "warn", f"{len(scan_ids)} recorded images are gone and are scanned again: {reason}."
        case ActorFailed(actor=actor, error=error, is_final=is_final):
            then = "The run ends." if is_final else "It was rebuilt from the journal."
            return "bad" if is_final else "warn", f"The {actor} failed: {error}. {then}"
        case RunFinished(outcome="completed"):
            return "good", "The run is completed."
        case RunFinished(outcome="stopped", reason=reason):
            return "note", f"The run was stopped: {reason}. It can be resumed."
        case RunFinished(reason=reason):
            return "bad", f"The run failed: {reason}. It can be resumed."
        case _:
            return None
