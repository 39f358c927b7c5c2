"""Choosing a configuration out of a sweep by what is asked of it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparse_actors.errors import ConfigError

from .measures import Measures
from .sweep import Judged

FIGURES = ("recall", "efficiency", "total_time", "full_time", "whole")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}
_GOAL = re.compile(r"\s*([a-z_]+)\s*(>=|<=)\s*([0-9.]+)\s*(%?)\s*")


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for one figure, such as recall>=0.99."""

    figure: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read one; raises ConfigError."""
        match = _GOAL.fullmatch(text)
        try:
            if match is None or match[1] not in FIGURES:
                raise ValueError
            return cls(match[1], match[2], float(match[3]) / (100 if match[4] else 1))
        except ValueError:
            expected = f"one of {', '.join(FIGURES)}, >= or <=, and a number, such as recall>=0.99"
            raise ConfigError(f"--pick {text}: expected {expected}") from None

    def is_met(self, found: Measures) -> bool:
        """Whether a configuration reaches it; what is not a number does not."""
        return COMPARISONS[self.comparison](getattr(found, self.figure), self.bound)


@dataclass(frozen=True, slots=True)
class Picked:
    """What was chosen."""

    result: Judged
    measures: Measures


def pick(results: Sequence[Judged], goals: Sequence[Goal]) -> Picked:
    """Return the configuration that meets all goals in the least time.

    Where recall is not among the goals, it is that with the most recall.

    Raises
    ------
    ConfigError
        None meets them; says how near the nearest comes.
    """
    judged = [Picked(result, result.measures()) for result in results]
    met = [entry for entry in judged if all(goal.is_met(entry.measures) for goal in goals)]
    wants_recall = any(goal.figure in ("recall", "whole") for goal in goals)
    if met:
        if wants_recall:
            return min(met, key=lambda entry: (entry.measures.full_time, -entry.measures.recall))
        return max(met, key=lambda entry: (_or_least(entry.measures.recall), -entry.measures.full_time))
    problems = []
    for goal in goals:
        values = [getattr(entry.measures, goal.figure) for entry in judged]
        known = [value for value in values if not math.isnan(value)]
        if not known:
            problems.append(f"--pick: {goal.figure} is not known, as the pairs show no site")
            continue
        if any(goal.is_met(entry.measures) for entry in judged):
            continue
        best = max(known) if goal.comparison == ">=" else min(known)
        text = f"{goal.figure}{goal.comparison}{goal.bound:g}"
        problems.append(f"--pick {text}: the best of {len(results)} configurations has {best:.4g}")
    if not problems:
        problems.append(f"--pick: none of {len(results)} configurations reaches all of this at once")
    raise ConfigError(*problems)


def _or_least(value: float) -> float:
    return -1.0 if math.isnan(value) else value
