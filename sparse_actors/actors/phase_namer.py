"""Names the phases that were found in a map after the elements of their lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

import numpy as np
import structlog
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.messages import Message, PhaseNamed, PhaseProposed

ElementsOf = Callable[[NDArray[np.float64], EnergyAxis], tuple[str, ...]]
"""Symbols of the elements of a spectrum (channels,), the surest first."""

NAMED_AFTER = 3


class PhaseNamer:
    """An actor of its own, since matching lines takes longer than a batch of spectra.

    Parameters
    ----------
    elements_of
        Matches lines.
    history
        Facts in the journal: phases that nobody came to name before are named now.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (PhaseProposed,)

    def __init__(self, elements_of: ElementsOf, history: Iterable[Message]) -> None:
        self._elements_of = elements_of
        self._unnamed: dict[int, PhaseProposed] = {}
        for fact in history:
            match fact:
                case PhaseProposed(label=label):
                    self._unnamed[label] = fact
                case PhaseNamed(label=label):
                    self._unnamed.pop(label, None)
                case _:
                    pass

    def begin(self) -> Iterator[PhaseNamed]:
        """Name what was left."""
        for proposed in self._unnamed.values():
            yield from self.handle(proposed)

    def handle(self, message: PhaseProposed) -> Iterator[PhaseNamed]:
        """Name one phase."""
        try:
            elements = self._elements_of(message.template, message.axis)
        except Exception:  # a name is not worth the run, and the same spectrum would fail again
            structlog.get_logger().exception("no elements", phase=message.label)
            elements = ()
        name = "-".join(elements[:NAMED_AFTER]) or "unknown"
        yield PhaseNamed(label=message.label, name=f"{name} (found, {message.label})", elements=elements)
