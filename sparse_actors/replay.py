"""Goes through a recorded run again: the same actors, the same messages, and whether they decide the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_actors.app import survey_plan
from sparse_actors.config import parse_config
from sparse_actors.deciders import Decider, deciders
from sparse_actors.errors import JournalError
from sparse_actors.messages import Message, RunStarted
from sparse_actors.recording.flight import Said, Session, Step, read_flight
from sparse_actors.recording.journal import read_journal
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.runtime.shell import Behaviour


@dataclass(frozen=True, slots=True)
class Difference:
    """The first decision that comes out another one."""

    session: int
    actor: str
    step: int
    """Counts the steps of this actor in this session, from 0: it was built."""
    told: str
    recorded: tuple[str, ...]
    """What it said then."""
    now: tuple[str, ...]
    state: dict[str, str]
    """The actor as it stands after the step."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it."""

    sessions: int
    steps: dict[str, int]
    """Of each actor."""
    difference: Difference | None


def replay(folder: Path, progress: Callable[[int], None] = lambda steps: None) -> Replayed:
    """Let the actors of a run decide again, one message after the other, without microscope, workers or disk.

    Parameters
    ----------
    folder
        Of the run, which may be going on.
    progress
        Called after each step with how many were made.

    Raises
    ------
    JournalError
        There is no recording of decisions, or it belongs to another version.
    """
    run = RunFolder(folder)
    if not run.flight.exists():
        raise JournalError(f"{folder}: this run has no record of its decisions (file {run.flight.name!r})")
    journal = read_journal(run.journal)
    configs = {message.session: message.config_toml for message in journal if isinstance(message, RunStarted)}
    session, sessions = -1, 0
    parts: dict[str, Decider] = {}
    actors: dict[str, Behaviour] = {}
    steps: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for number, entry in enumerate(read_flight(run.flight)):
        if isinstance(entry, Session):
            session, sessions = entry.number, sessions + 1
            if session not in configs:
                raise JournalError(f"{folder}: the journal knows nothing of session {session}")
            config = parse_config(configs[session])
            plan = survey_plan(config, entry.until_tile)
            parts = {part.name: part for part in deciders(config, plan, entry.known_times)}
            actors, steps = {}, Counter()
            continue
        actor = entry.actor
        if actor not in parts:
            raise JournalError(f"{folder}: no actor {actor!r} in this version of sparse-actors")
        said, error = _step(parts[actor], actors, entry, journal)
        if said != entry.said or bool(error) != bool(entry.error):
            difference = Difference(
                session,
                actor,
                steps[actor],
                "it was built" if entry.told is None else str(Said.of(entry.told.message())),
                _words(entry.said, entry.error),
                _words(said, error),
                _state(actors.get(actor)),
            )
            return Replayed(sessions, dict(total), difference)
        if error:
            actors.pop(actor, None)
        steps[actor] += 1
        total[actor] += 1
        progress(number)
    if not total:
        raise JournalError(f"{folder}: the record of its decisions holds none")
    return Replayed(sessions, dict(total), None)


def _step(
    part: Decider, actors: dict[str, Behaviour], entry: Step, journal: list[Message]
) -> tuple[list[Said], str]:
    """Let an actor decide once more; what it raises is an answer too."""
    try:
        if entry.told is None:
            actors[part.name] = part.build(journal[: entry.history or 0])
            begin = getattr(actors[part.name], "begin", None)
            effects = list(begin()) if begin else []
        else:
            effects = list(actors[part.name].handle(entry.told.message()))
    except Exception as error:
        return [], f"{type(error).__name__}: {error}"
    return [Said.of(effect) for effect in effects], ""


def _words(said: list[Said], error: str) -> tuple[str, ...]:
    return (f"raised {error}",) if error else tuple(map(str, said))


def _state(actor: Any) -> dict[str, str]:
    """Return what an actor remembers, by name, shortened."""
    remembered = {} if actor is None else vars(actor)
    return {name.lstrip("_"): repr(value)[:500] for name, value in sorted(remembered.items())}
