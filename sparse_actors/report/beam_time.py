"""Where the beam time of a run went, and what it saved, by the same figures that the run showed."""

from __future__ import annotations

from dataclasses import dataclass

from sparse_actors.cli.progress import Figures
from sparse_actors.cli.run import survey_progress
from sparse_actors.config import Config
from sparse_actors.errors import SparseActorsError
from sparse_actors.messages import Message
from sparse_actors.recording.flight import Session, read_flight
from sparse_actors.recording.run_record import RunRecord

CAUSES = {
    "handling": "orders, transfers and answers on their way",
    "choosing points": "next points of a map being chosen",
    "detection": "detection",
    "planning": "regions being planned",
    "storage": "the disk",
    "budget": "images to be stored or detected (limits.in_flight_mb)",
}
"""What the beam waited for, by the cause in the record."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the time."""

    name: str
    seconds: float
    kind: str
    """fast, analysis, lost, spectra, stage or idle: its colour."""


@dataclass(frozen=True, slots=True)
class BeamTime:
    """What the time between the first and the last exposure was spent on, sessions added up."""

    shares: tuple[Share, ...]
    idle_share: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return sum(share.seconds for share in self.shares)


def run_figures(record: RunRecord, config: Config, history: list[Message]) -> Figures:
    """Fold the journal into the figures that the end of a run shows."""
    until_tile, known = None, None
    try:
        first = next(read_flight(record.folder.flight), None)
        if isinstance(first, Session):
            until_tile, known = first.until_tile, first.known_times
    except (SparseActorsError, OSError):
        pass  # It only sharpens what scans cost, by what earlier runs taught.
    progress = survey_progress(config, until_tile, known)
    for number, fact in enumerate(history):
        progress.observe(fact, number)
    return progress.figures()


def beam_time(record: RunRecord, figures: Figures) -> BeamTime:
    """Divide the time of a run."""
    totals = record.totals
    lost_s = max(0.0, figures.scan_s - totals.fast_s - totals.analysis_s)
    waits = sorted(figures.idle_s.items(), key=lambda wait: -wait[1])
    shares = [
        Share("fast scans", totals.fast_s, "fast"),
        Share(
            "scans for comparison" if record.config.get("pairs") else "rescans", totals.analysis_s, "analysis"
        ),
        Share("scans whose images were lost", lost_s, "lost"),
        Share("spectra", figures.maps.spectra_s if figures.maps else 0.0, "spectra"),
        Share("moving the stage", figures.stage_s, "stage"),
        *(Share(_waiting(cause), seconds, "idle") for cause, seconds in waits),
    ]
    return BeamTime(tuple(share for share in shares if share.seconds > 0.0005), figures.idle_share)


def _waiting(cause: str) -> str:
    return cause if cause.startswith("paused") else f"waiting: {CAUSES.get(cause, cause)}"
