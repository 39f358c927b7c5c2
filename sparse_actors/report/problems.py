"""What went wrong in a run or was done by hand, in words for people who were asleep meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sparse_actors.messages import (
    ActorFailed,
    DetectionFailed,
    Message,
    MessageDropped,
    MessageRefused,
    MicroscopeFailed,
    OrderRefused,
    RecordingFailed,
    RunPaused,
    RunStarted,
    TileSkipped,
    WorkerLost,
)
from sparse_actors.recording.run_record import RunRecord

MOST_REASONS = 5
MAX_LETTERS = 300

_DOING = {
    "prepare": "to prepare the microscope",
    "move": "to move the stage",
    "scan": "to scan",
    "spots": "to take spectra",
    "reset": "to reset the microscope",
}
_MEANS = {
    "undetected": {
        "rescan": "Each was rescanned as a whole, so that no site is lost; it cost time.",
        "skip": "Nothing of them was rescanned, as detect.on_failure says.",
    }
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of thing that happened."""

    what: str
    means: str
    reasons: tuple[str, ...] = ()
    """As the program or the driver said them, the most frequent first."""
    is_loss: bool = False
    """Whether something is missing from the result, or must be looked after."""


def problems(
    record: RunRecord, history: Sequence[Message], after: Iterable[str], unread: Iterable[str]
) -> list[Problem]:
    """Return what there is to say, what is missing from the result first.

    Parameters
    ----------
    record, history
        The run and its journal.
    after
        What the program said went wrong after the last scan; it is in no file of the run.
    unread
        Images and spectra that this page does not show because they cannot be read.
    """
    found = [*_after(after), *_losses(record), *_unread(unread), *_faults(record, history), *_wanted(history)]
    return sorted(found, key=lambda problem: not problem.is_loss)


def _after(told: Iterable[str]) -> Iterator[Problem]:
    if reasons := tuple(told):
        yield Problem("After the last scan something went wrong.", "See what it says.", reasons, True)


def _losses(record: RunRecord) -> Iterator[Problem]:
    if record.outcome is None:
        means = "It is going on, or it was killed or lost power; `run --resume` goes on with it."
        yield Problem("The run has no end so far.", means, is_loss=True)
    if record.missed:
        means = "Each was tried as often as limits.scan_attempts says. `run --resume` tries them again."
        reasons = _counted(message.reason for message in record.missed.values())
        yield Problem(f"{_many(len(record.missed), 'scan is', 'scans are')} missing.", means, reasons, True)
    if record.lost:
        means = "Their images are not on the disk as they were recorded; `run --resume` exposes them again."
        what = f"{_many(len(record.lost), 'image was', 'images were')} lost after recording."
        yield Problem(what, means, _counted(record.lost.values()), True)
    if record.contradictions:
        means = "The journal says what cannot be; ask for help before you trust this run."
        yield Problem("The record contradicts itself.", means, tuple(record.contradictions), True)
    left_out = sum(len(planned.left_out) for planned in record.regions.values())
    if left_out:
        means = "One more scan there would have exceeded limits.max_dose_e_per_nm2."
        yield Problem(f"{_many(left_out, 'area was', 'areas were')} not rescanned.", means, is_loss=True)
    spared = sum(map(len, record.maps.left_out.values()))
    if spared:
        means = "One more spectrum there would have exceeded limits.max_dose_e_per_nm2; others were measured."
        yield Problem(f"{_many(spared, 'point of a map was', 'points of maps were')} left out.", means)
    unclassified = sum(mapped.unclassified for mapped in record.maps.mapped.values())
    if unclassified:
        means = (
            "No worker took them; in the maps they have no phase. `run --resume` tries again, without beam."
        )
        yield Problem(f"{_many(unclassified, 'spectrum', 'spectra')} not classified.", means, is_loss=True)
    if record.warning:
        means = "That is what a power cut leaves; everything before it counts."
        yield Problem("The last record of the journal is not whole.", means, (record.warning,))


def _unread(unread: Iterable[str]) -> Iterator[Problem]:
    if reasons := _counted(unread):
        means = "This page does not show them. `verify` checks the whole run, `run --resume` mends it."
        yield Problem("Images or spectra cannot be read back.", means, reasons, True)


def _faults(record: RunRecord, history: Sequence[Message]) -> Iterator[Problem]:
    failed = [fact for fact in history if isinstance(fact, DetectionFailed)]
    if failed:
        what = f"{_many(len(failed), 'partition', 'partitions')} could not be detected."
        on_failure = record.config.get("detect", {}).get("on_failure", "rescan")
        means = _MEANS["undetected"].get(on_failure, "")
        yield Problem(what, means, _counted(fact.reason for fact in failed), on_failure == "skip")
    for order, doing in _DOING.items():
        reasons = [f.reason for f in history if isinstance(f, MicroscopeFailed) and f.order == order]
        if reasons:
            what = f"The microscope failed {_times(len(reasons))} {doing}."
            means = "It was tried again; what was given up in the end is named as missing."
            if order == "reset":
                means = "Look whether beam, stage and settings are as you want to find them."
            yield Problem(what, means, _counted(reasons), order == "reset")
    stored = [fact.reason for fact in history if isinstance(fact, RecordingFailed)]
    if stored:
        means = "Nothing counts as scanned before it is on the disk: it was tried again or is missing."
        yield Problem(f"Writing to disk failed {_times(len(stored))}.", means, _counted(stored))
    fallen = [f"{fact.actor}: {fact.error}" for fact in history if isinstance(fact, ActorFailed)]
    if fallen:
        means = "It was set up again from the journal and went on. This is a fault of the program: report it."
        yield Problem(f"A part of the program failed {_times(len(fallen))}.", means, _counted(fallen))
    lost = [f"{fact.worker}: {fact.reason}" for fact in history if isinstance(fact, WorkerLost)]
    if lost:
        means = "Its work was given to another one."
        yield Problem(f"A worker was lost {_times(len(lost))}.", means, _counted(lost))
    refused = [f"{fact.origin}: {fact.reason}" for fact in history if isinstance(fact, MessageRefused)]
    if refused:
        means = "Something that knocked at the sockets of the run was not let in, and changed nothing."
        yield Problem("Messages from outside were refused.", means, _counted(refused))
    # Who is not started yet when a worker joins finds that in the journal.
    drops = [fact for fact in history if isinstance(fact, MessageDropped) and fact.kind != "WorkerJoined"]
    dropped = [f"{fact.kind} to {fact.actor}" for fact in drops]
    if dropped:
        what = f"{_many(len(dropped), 'message', 'messages')} between parts of the program came to nobody."
        means = "The part was starting, ending or overloaded; what was waited for was asked for again."
        yield Problem(what, means, _counted(dropped))


def _wanted(history: Sequence[Message]) -> Iterator[Problem]:
    sessions = sum(isinstance(fact, RunStarted) for fact in history)
    if sessions > 1:
        means = "What was recorded was not exposed again for it."
        yield Problem(f"The run was resumed {_times(sessions - 1)}.", means)
    pauses = [fact.reason for fact in history if isinstance(fact, RunPaused)]
    if pauses:
        yield Problem(f"The run was paused {_times(len(pauses))}.", "Somebody wanted it.", _counted(pauses))
    skipped = [f"{fact.tile}: {fact.reason}" for fact in history if isinstance(fact, TileSkipped)]
    if skipped:
        what = f"{_many(len(skipped), 'tile was', 'tiles were')} skipped."
        yield Problem(what, "Somebody wanted it.", _counted(skipped))
    refused = [f"{fact.order}: {fact.reason}" for fact in history if isinstance(fact, OrderRefused)]
    if refused:
        what = f"{_many(len(refused), 'order was', 'orders were')} not carried out."
        yield Problem(what, "Somebody asked the run for something that it could not do.", _counted(refused))


def _counted(reasons: Iterable[str]) -> tuple[str, ...]:
    """Return the most frequent reasons on a line each, with how often they came."""
    found = Counter(" ".join(reason.split())[:MAX_LETTERS] for reason in reasons)
    texts = [f"{text} ({n} times)" if n > 1 else text for text, n in found.most_common(MOST_REASONS)]
    more = len(found) - MOST_REASONS
    return (*texts, f"and {more} more") if more > 0 else tuple(texts)


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
