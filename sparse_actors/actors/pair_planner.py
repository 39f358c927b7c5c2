"""Has every tile of a pairs run scanned again as a whole: with the other settings, then for analysis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from sparse_actors.imaging import ScanTiming
from sparse_actors.messages import (
    Message,
    MicroscopePrepared,
    PartitionReloaded,
    PartitionScanned,
    RegionsPlanned,
    TimingLearned,
)
from sparse_actors.planning.pairs_plan import PairsPlan


class PairPlanner:
    """Stands where detector and region planner stand in a survey.

    Parameters
    ----------
    plan
        The tiles and settings.
    history
        What the journal holds.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (
        MicroscopePrepared,
        TimingLearned,
        PartitionScanned,
        PartitionReloaded,
    )

    def __init__(self, plan: PairsPlan, history: Iterable[Message]) -> None:
        self._plan = plan
        self._timing = plan.timing or ScanTiming()
        for fact in history:
            self._learn(fact)

    def handle(self, message: Message) -> Iterator[Message]:
        """Plan what follows a first fast scan."""
        self._learn(message)
        if isinstance(message, PartitionScanned | PartitionReloaded):
            part = message.scan.id.partition
            scans = self._plan.later_scans(part.tile)
            seconds = [self._timing.duration_s(s.pixels, s.rows, s.imaging.dwell_ns) for s in scans]
            yield RegionsPlanned(partition=part, scans=scans, strategy="pair", predicted_s=sum(seconds))

    def _learn(self, fact: Message) -> None:
        match fact:
            case MicroscopePrepared(capabilities=capabilities) if self._plan.timing is None:
                self._timing = capabilities.limits.timing
            case TimingLearned(timing=timing):
                self._timing = timing
            case _:
                pass
