"""The queue of runs: what is to be done, in which order, and what became of it. Every change is on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec

from sparse_actors.errors import ControlError
from sparse_actors.recording import disk

FILE_NAME = "queue.json"
FORMAT = 1
MAX_WAITING = 1000
KEPT = 200
"""So many runs that are over stay in the list."""
TRIES = 3
"""A run that breaks off so often without having recorded anything new is given up."""
PAUSES_S = (2.0, 10.0, 60.0)
"""Between tries of a run that broke off."""
IN_USE_S = 30.0
"""Between tries of a run whose instrument is in use."""

State = Literal["waiting", "running", "done", "incomplete", "stopped", "skipped", "failed"]
OVER: tuple[State, ...] = ("done", "incomplete", "skipped", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run of the queue.

    waiting -> running -> done | incomplete | failed | skipped; running -> stopped -> waiting when it is
    resumed; running -> waiting when it broke off or the daemon ended.
    """

    number: int
    """What people call it by."""
    name: str
    config: str
    """The text of the configuration file as given."""
    overrides: tuple[str, ...]
    """key=value, from the environment and the command line of whoever submitted it."""
    cwd: str
    """Relative paths of the configuration start here."""
    out: str
    """Folder of the run, absolute; empty for a new one, named by date and time, in `out_dir`."""
    out_dir: str
    submitted_s: float
    state: State = "waiting"
    reason: str = ""
    """Why it is in this state, in words."""
    folder: str = ""
    """Folder of the run, from when it was begun."""
    pid: int = 0
    created_s: float = 0.0
    """When that process began, by the system; together they name a process."""
    tries: int = 0
    """How often it broke off since it last recorded something."""
    recorded: int = 0
    """How many scans and spectra were recorded when it last broke off."""
    begun_s: float = 0.0
    ended_s: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more becomes of it unless somebody resumes it."""
        return self.state in OVER


class _Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is on disk."""

    format: int
    next_number: int
    is_held: bool
    entries: tuple[Entry, ...]


@dataclass(slots=True)
class RunQueue:
    """The queue in a folder; made by `open`. Not safe for two threads at a time."""

    folder: Path
    now: Callable[[], float]
    entries: list[Entry] = field(default_factory=list)
    """In the order in which they are made."""
    is_held: bool = False
    """Whether no further run begins until somebody resumes."""
    _next_number: int = 1
    _not_before_s: dict[int, float] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, now: Callable[[], float]) -> RunQueue:
        """Read the queue of a folder, or begin one; raises ControlError if it cannot be read."""
        queue = cls(folder, now)
        path = folder / FILE_NAME
        if path.exists():
            try:
                saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
            except msgspec.MsgspecError as error:
                raise ControlError(f"{path} is damaged: {error}; move it away to begin a new queue") from None
            if saved.format != FORMAT:
                raise ControlError(f"{path} has format {saved.format}, this version reads {FORMAT}")
            queue.entries, queue.is_held = list(saved.entries), saved.is_held
            queue._next_number = saved.next_number
        return queue

    def add(self, entry: Entry, *, at_front: bool) -> Entry:
        """Take a run in; its number is given here."""
        if sum(not other.is_over for other in self.entries) >= MAX_WAITING:
            raise ControlError(f"the queue is full: {MAX_WAITING} runs")
        added = replace(entry, number=self._next_number)
        entries = list(self.entries)
        # In front of those that wait, not of the one that goes on or was begun.
        place = next((i for i, e in enumerate(entries) if e.state == "waiting" and not e.folder), None)
        entries.insert(len(entries) if place is None or not at_front else place, added)
        self._save(entries, self.is_held, self._next_number + 1)
        return added

    def of(self, number: int) -> Entry:
        """Return a run by its number; raises ControlError."""
        for entry in self.entries:
            if entry.number == number:
                return entry
        raise ControlError(f"there is no run {number} in the queue")

    def hold(self, is_held: bool) -> None:
        """Begin no further run, or go on."""
        if is_held != self.is_held:
            self._save(self.entries, is_held, self._next_number)

    def next(self) -> Entry | None:
        """Return the run to begin or take up now."""
        if self.is_held:
            return None
        # One that pauses between two tries is waited for: the order is that of the user.
        entry = next((entry for entry in self.entries if entry.state == "waiting"), None)
        if entry is None or self.now() < self._not_before_s.get(entry.number, 0.0):
            return None
        return entry

    def change(self, entry: Entry, **changes: object) -> Entry:
        """Change a run, on disk when this returns."""
        changed: Entry = dataclasses.replace(entry, **changes)  # type: ignore[arg-type]
        entries = [changed if other.number == entry.number else other for other in self.entries]
        over = sorted((e for e in entries if e.is_over), key=lambda e: e.ended_s)
        for old in over[: max(0, len(over) - KEPT)]:
            entries.remove(old)
        self._save(entries, self.is_held, self._next_number)
        return changed

    def end(self, entry: Entry, state: State, reason: str) -> Entry:
        """Say what became of a run."""
        return self.change(entry, state=state, reason=reason, pid=0, ended_s=self.now())

    def broke_off(self, entry: Entry, reason: str, recorded: int) -> Entry:
        """Let a run that broke off wait for its next try, or give it up."""
        tries = 1 if recorded > entry.recorded else entry.tries + 1
        entry = self.change(entry, tries=tries, recorded=recorded)
        if tries >= TRIES:
            return self.end(entry, "failed", f"given up after {tries} tries: {reason}")
        pause_s = PAUSES_S[min(tries, len(PAUSES_S)) - 1]
        reason = f"broke off, to be resumed (try {tries} of {TRIES}): {reason}"
        return self.put_off(entry, reason, pause_s)

    def put_off(self, entry: Entry, reason: str, pause_s: float = IN_USE_S) -> Entry:
        """Let a run wait a while before it is tried again."""
        self._not_before_s[entry.number] = self.now() + pause_s
        return self.change(entry, state="waiting", reason=reason, pid=0)

    def resume(self, entry: Entry) -> Entry:
        """Let a run that was stopped, skipped or failed go on where it was."""
        if entry.state in ("waiting", "running", "done"):
            raise ControlError(f"run {entry.number} is {entry.state}")
        self._not_before_s.pop(entry.number, None)
        return self.change(entry, state="waiting", reason="resumed", tries=0, ended_s=0.0)

    def _save(self, entries: list[Entry], is_held: bool, next_number: int) -> None:
        """Make a change, first on disk: if that raises OSError nothing is changed."""
        saved = _Saved(format=FORMAT, next_number=next_number, is_held=is_held, entries=tuple(entries))
        temporary = self.folder / f"{FILE_NAME}.tmp"
        temporary.write_bytes(msgspec.json.encode(saved))
        disk.publish(temporary, self.folder / FILE_NAME)
        self.entries, self.is_held, self._next_number = entries, is_held, next_number
