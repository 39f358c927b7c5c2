"""How a field is sampled, known before a run starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .erd_model import ErdModel
from .field_sampler import StartKind


@dataclass(frozen=True, kw_only=True)
class MapPlan:
    """The maps as configured, in domain terms; which fields are mapped is the survey's plan."""

    live_time_s: float
    """At each point; the first, if it is adapted."""
    live_time_range_s: tuple[float, float]
    """What it is adapted within, to what the classifier needs to decide; equal values: it is not."""
    fraction: float
    """Most points of a field that are measured, 0..1."""
    distortion: float | None = None
    """A map ends when no more than this share of its pixels is wrong, with 97.5 % confidence."""
    model: ErdModel
    finds_phases: bool = False
    """Whether spectra that fit no known phase may make a phase of their own."""
    start: StartKind = "halton"
    start_fraction: float = 0.01
    seed: int = 0
    attempts: int = 3
    """How often a batch is tried before its map is given up."""
    batch_s: float = 0.05
    """Beam time of a batch: long enough to hide what it takes to choose the next."""
    ahead: int = 2
    """Batches chosen before the answer to the first of them is known: one under the beam, one waiting."""
    max_batch: int = 64

    @property
    def batch_points(self) -> int:
        """Points in a batch."""
        return min(self.max_batch, max(1, math.ceil(self.batch_s / self.live_time_s)))
