"""How long detections take, and what is ordered when one stays out."""

from __future__ import annotations

from sparse_actors.geometry import PartitionId
from sparse_actors.messages import (
    DetectionFailed,
    DetectionReturned,
    Message,
    PartitionScanned,
    ReloadPartition,
)
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.planning.unanswered import ANSWER_S


class DetectionWatch:
    """Detections on their way.

    Parameters
    ----------
    plan, state
        The survey and where it stands.
    """

    def __init__(self, plan: SurveyPlan, state: SurveyState) -> None:
        self._plan = plan
        self._state = state
        self._scanned_s: dict[PartitionId, float] = {}
        self.longest_s = 0.0
        """From scan to result, of late; one slow detection is not remembered for ever."""

    def learn(self, fact: PartitionScanned | DetectionReturned) -> None:
        """Take in when an image came, or when what is in it was found."""
        if isinstance(fact, PartitionScanned):
            self._scanned_s |= dict.fromkeys(self._plan.detected_after(fact.scan.id), fact.finished_s)
        elif (scanned_s := self._scanned_s.pop(fact.partition, None)) is not None:
            self.longest_s = max(fact.finished_s - scanned_s, 0.8 * self.longest_s)

    def within_s(self, backlog: int) -> float:
        """Return when a detection is overdue that has so many before it."""
        return ANSWER_S + 3 * (1 + backlog) * self._plan.detection_deadline_s

    def order(self, part: PartitionId, attempt: int) -> Message:
        """Return the order to detect a partition or seam from disk, or that it failed."""
        scans = self._state.images_of(part)
        if scans is None:
            return DetectionFailed(partition=part, reason="a fast scan of the tile is missing")
        if attempt > self._plan.scan_attempts:
            return DetectionFailed(partition=part, reason="no answer from the detection")
        # The attempts of the scan itself end far below.
        return ReloadPartition(partition=part, scans=scans, attempt=100 + attempt)
