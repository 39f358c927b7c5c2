"""The audit of a run on the terminal, while it goes on and at its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from sparse_actors.messages import AuditUpdated


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFigures:
    """What the random windows tell so far."""

    tiles: int
    recall: float
    """Found of all sites, 0..1, estimated without bias."""
    low: float
    high: float
    """Between the two it lies with `confidence`, if looked at once."""
    missed: float
    confidence: float
    tiles_of_limit: int
    at_most: float
    """Of these tiles: holds with `confidence` however often it is looked at."""
    least: float | None
    """The recall below which the run pauses."""

    @classmethod
    def of(cls, updated: AuditUpdated) -> Self:
        """Take what the last tile told."""
        return cls(
            tiles=updated.tiles,
            recall=updated.recall,
            low=updated.recall_low,
            high=updated.recall_high,
            missed=updated.all_missed,
            confidence=updated.confidence,
            tiles_of_limit=updated.tiles_of_limit,
            at_most=updated.recall_at_most,
            least=updated.least_recall,
        )


def audit_line(audit: AuditFigures) -> str:
    """Return the recall in a few words."""
    return f"recall {audit.recall:.1%} ({audit.low:.1%} to {audit.high:.1%})"


def audit_rows(audit: AuditFigures) -> Iterator[tuple[str, str]]:
    """Yield rows of the table at the end of a run."""
    sure = f"{audit.confidence:.0%}"
    yield (
        "recall by the audit",
        f"{audit.recall:.1%}, with {sure} confidence {audit.low:.1%} to {audit.high:.1%}; some "
        f"{audit.missed:.0f} sites missed in {audit.tiles} tiles",
    )
    if audit.least is not None:
        yield (
            "limit of the audit",
            f"least {audit.least:.1%}; at most {audit.at_most:.1%} in {audit.tiles_of_limit} tiles, with "
            f"{sure} confidence at every look",
        )
