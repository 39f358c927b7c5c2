"""The configurations of a sweep: a grid over keys of the configuration file, or a random part of it."""

from __future__ import annotations

import itertools
import json
import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sparse_actors.errors import ConfigError
from sparse_actors.imaging import Imaging
from sparse_actors.toml_text import toml_value

MOST_CONFIGURATIONS = 1_000_000
SWEPT = ("detect.detector", "detect.options.", "regions.")
EXAMPLE = (
    "expected KEY=VALUES, such as detect.options.threshold=45:75:5, detect.options.interpolation="
    "bicubic,lanczos or detect.options.eps_px,detect.options.min_points=1/4,1/5,2/10"
)
Setting = tuple[tuple[str, Any], ...]
"""Keys and values, in the order of the grid."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One point of a sweep."""

    fast: Imaging
    options: Setting
    """Keys of the configuration file, such as detect.options.threshold, with their values."""
    reference: Setting
    """Options of the detector that finds the sites in the analysis images."""

    @property
    def overrides(self) -> list[str]:
        """The options as "key=value", for `parse_config`."""
        return [f"{key}={toml_value(value)}" for key, value in self.options]

    @property
    def name(self) -> str:
        """Says it in one line, the same for the same configuration: JSON with sorted keys."""
        fast = [list(self.fast.size_px), self.fast.dwell_ns]
        given = {"fast": fast, "options": dict(self.options), "reference": dict(self.reference)}
        return json.dumps(given, sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        """Return it by name."""
        return {
            "fast_size_px": list(self.fast.size_px),
            "fast_dwell_ns": self.fast.dwell_ns,
            "options": dict(self.options),
            "reference": dict(self.reference),
        }


def configurations(
    fast: Sequence[Imaging],
    grid: Sequence[str],
    reference: Sequence[str] = (),
    *,
    count: int | None = None,
    seed: int = 0,
) -> list[Configuration]:
    """Return every combination, or `count` of them drawn at random.

    Parameters
    ----------
    fast
        The fast settings.
    grid
        "KEY=VALUES" for keys of the configuration file. VALUES is a list `a,b,c` or a range `first:last:step`
        with its end; several KEYS by commas take values by slashes together: `eps,n=1/4,2/10`.
    reference
        The same for options of the reference detector, by their bare names.
    count, seed
        Draw so many combinations, each at most once; the order stays that of the grid.

    Raises
    ------
    ConfigError
        With everything that cannot be read.
    """
    problems: list[str] = []
    axes = [_axis(text, "--grid", problems) for text in grid]
    reference_axes = [_axis(text, "--reference", problems) for text in reference]
    problems += [
        f"--grid {key}: is not swept; expected a key of [detect] or [regions]"
        for axis in axes
        for key, _ in next(iter(axis), ())
        if not key.startswith(SWEPT)
    ]
    for which, some in (("--grid", axes), ("--reference", reference_axes)):
        keys = [key for axis in some for key, _ in next(iter(axis), ())]
        problems += [f"{which} {key}: comes twice" for key in sorted({k for k in keys if keys.count(k) > 1})]
    if problems:
        raise ConfigError(*problems)
    total = len(fast)
    for axis in (*axes, *reference_axes):
        total *= len(axis)
    if total > MOST_CONFIGURATIONS and count is None:
        raise ConfigError(f"--grid: {total} configurations; draw some of them with --random")
    wanted: set[int] | range = range(total)
    if count is not None and count < total:
        wanted = set(random.Random(seed).sample(range(total), count))  # noqa: S311  no secret
    every = itertools.product(fast, itertools.product(*axes), itertools.product(*reference_axes))
    return [
        Configuration(setting, _joined(options), _joined(sites))
        for number, (setting, options, sites) in enumerate(every)
        if number in wanted
    ]


def _joined(parts: Sequence[Setting]) -> Setting:
    return tuple(itertools.chain.from_iterable(parts))


def _axis(text: str, option: str, problems: list[str]) -> list[Setting]:
    """Return the values of one axis, each with its keys."""
    left, equals, right = text.partition("=")
    keys = [key.strip() for key in left.split(",")]
    try:
        if not (equals and all(keys)):
            raise ValueError(EXAMPLE)
        axis = []
        for value in _values(right):
            parts = value.split("/") if len(keys) > 1 else [value]
            if len(parts) != len(keys):
                raise ValueError(f"{value!r} has {len(parts)} values for {len(keys)} keys; {EXAMPLE}")
            axis.append(tuple((key, _value(part)) for key, part in zip(keys, parts, strict=True)))
        if len(set(map(str, axis))) < len(axis):
            raise ValueError("a value comes twice")
    except ValueError as error:
        problems.append(f"{option} {text}: {error}")
        return []
    return axis


def _values(text: str) -> Iterator[str]:
    if len(ends := text.split(":")) == 3:
        try:
            first, last, step = (Decimal(end.strip()) for end in ends)
        except InvalidOperation:
            raise ValueError(f"{text!r} is no range of numbers first:last:step") from None
        if not (step > 0 and last >= first and (last - first) / step < MOST_CONFIGURATIONS):
            raise ValueError(f"{text!r}: expected first <= last and a step above 0")
        yield from (str(first + step * n) for n in range(int((last - first) / step) + 1))
        return
    depth, part = 0, ""
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            yield part
            part = ""
        else:
            part += letter
    yield part


def _value(text: str) -> Any:
    text = text.strip()
    if not text:
        raise ValueError(f"a value is missing; {EXAMPLE}")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text
