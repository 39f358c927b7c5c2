"""Showing or keeping the messages of a run that goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from sparse_actors.errors import ConfigError
from sparse_actors.messages import KINDS, Message
from sparse_actors.network.listener import listen


def tap(
    endpoint: str, topics: Sequence[str], every: int, form: str, folder: Path | None, lines: IO[str]
) -> Counter[str]:
    """Write messages until the run ends or Ctrl-C; returns how many of each kind were lost.

    Parameters
    ----------
    endpoint
        `taps.listen` of the run.
    topics
        Kinds of messages; none for all.
    every
        Of each kind, one message of so many.
    form
        "json": one object a line. "npy": arrays as files in `folder`, named by kind and number.
    folder
        Where files go; None: nowhere.
    lines
        Where JSON goes without a folder.
    """
    seen: Counter[str] = Counter()
    with listen(endpoint, *map(_kind, topics)) as listener, _sink(form, folder, lines) as write:
        try:
            for message in listener:
                kind = type(message).__name__
                seen[kind] += 1
                if (seen[kind] - 1) % every == 0:
                    write(message, seen[kind])
        except KeyboardInterrupt:
            pass
        return listener.lost


def _kind(topic: str) -> type[Message]:
    if topic not in KINDS:
        nearest = get_close_matches(topic, KINDS, n=1)
        raise ConfigError(f"no message is called {topic!r}" + (f"; meant {nearest[0]!r}?" if nearest else ""))
    return KINDS[topic]


@contextmanager
def _sink(form: str, folder: Path | None, lines: IO[str]) -> Iterator[Callable[[Message, int], None]]:
    if form == "npy":
        if folder is None:
            raise ConfigError("--to npy needs a folder: --out DIR")
        folder.mkdir(parents=True, exist_ok=True)
        yield lambda message, number: _save(folder, message, number)
    elif folder is None:
        yield lambda message, number: _line(lines, message)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "messages.jsonl").open("a", encoding="utf-8") as file:
            yield lambda message, number: _line(file, message)


def _line(file: IO[str], message: Message) -> None:
    """Write a message as a line of JSON; of an array its shape, type, and extremes."""
    fields = msgspec.to_builtins(message, enc_hook=_described)
    file.write(msgspec.json.encode({"kind": type(message).__name__, **fields}).decode() + "\n")
    file.flush()


def _described(value: object) -> Any:
    if isinstance(value, np.ndarray):
        extremes = {"min": value.min().item(), "max": value.max().item()} if value.size else {}
        return {"shape": value.shape, "dtype": value.dtype.name, **extremes}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be shown")


def _save(folder: Path, message: Message, number: int) -> None:
    for name in message.__dataclass_fields__:
        value = getattr(message, name)
        if isinstance(value, np.ndarray):
            np.save(folder / f"{type(message).__name__}_{number:06d}_{name}.npy", value)
