"""The vocabulary of maps: spectra at single points, their phases, and the map from them.

Imported from `messages`, where the rules that hold for all are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contracts.classifier import Classes
from .contracts.spectra import EnergyAxis
from .message import Message, Order
from .scan import FieldId, MapField


@dataclass(frozen=True, slots=True, kw_only=True)
class MapTheField(Order):
    """Make the phase map of a field of the current tile; the sampler then has the beam."""

    field: MapField
    attempt: int
    within_s: float | None = None
    """Beam time for it; None for no limit."""
    scanned_e_per_nm2: NDArray[np.float32] | None = None
    """(rows, columns): what scans left on its points; None where no limit asks for it."""
    is_paused: bool = False
    """Whether no spots are to be measured until `RunContinued`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSpots(Order):
    """Take the spectra of some points, in this order."""

    field: FieldId
    batch: int
    """Counts the batches of a field, from 0."""
    attempt: int
    points_px: NDArray[np.int64]
    """(n, 2): x, y on `grid_px`, over the whole field of view."""
    live_time_s: NDArray[np.float64]
    """(n,)"""
    grid_px: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotsSpared(Message):
    """Points of a batch that the beam is not sent to (again)."""

    field: FieldId
    batch: int
    points_px: NDArray[np.int64]
    """(n, 2)"""
    labels: NDArray[np.int64]
    """(n,): the phase as measured in another field; NOT_KNOWN: one more spectrum there would exceed
    `limits.max_dose_e_per_nm2`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotsStarted(Message):
    """The beam is about to go to these points; written to the journal before it does."""

    field: FieldId
    batch: int
    attempt: int
    points_px: NDArray[np.int64]
    live_time_s: NDArray[np.float64]
    started_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectraMeasured(Message):
    """The spectra of a batch of points."""

    field: FieldId
    batch: int
    attempt: int
    points_px: NDArray[np.int64]
    """(n, 2): x, y on `grid_px`."""
    counts: NDArray[Any]
    """(n, channels) of uint16 or uint32."""
    live_time_s: NDArray[np.float64]
    """(n,): as the detector counted."""
    axis: EnergyAxis
    grid_px: tuple[int, int]
    started_s: float
    finished_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectraRecorded(Message):
    """The spectra of a batch are on disk, synced and journaled."""

    field: FieldId
    batch: int
    attempt: int
    slab: str
    first: int
    """Row of the slab in which the first of them lies."""
    points_px: NDArray[np.int64]
    live_time_s: NDArray[np.float64]
    crc32: int
    started_s: float
    finished_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmSpectra(Order):
    """Say again whether a batch is recorded."""

    field: FieldId
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectraMissing(Message):
    """A batch is not recorded: its spectra never came, or what is on disk is damaged."""

    field: FieldId
    batch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadSpectra(Order):
    """Read a recorded batch back from disk, to classify it (again)."""

    field: FieldId
    batch: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectraReloaded(Message):
    """A recorded batch, checked against its checksum."""

    field: FieldId
    batch: int
    attempt: int
    counts: NDArray[Any]
    live_time_s: NDArray[np.float64]
    axis: EnergyAxis


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifySpectra(Order):
    """Tell the phases of a batch; addressed to the worker pool."""

    field: FieldId
    batch: int
    attempt: int
    counts: NDArray[Any]
    live_time_s: NDArray[np.float64]
    axis: EnergyAxis


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationReturned(Message):
    """A worker finished a batch."""

    field: FieldId
    batch: int
    attempt: int
    classes: Classes
    worker: str
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationLost(Message):
    """A worker did not deliver: the classifier raised, hung, died or returned nonsense."""

    field: FieldId
    batch: int
    attempt: int
    reason: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectraClassified(Message):
    """The phases of a batch, as they count for the map: new phases included."""

    field: FieldId
    batch: int
    labels: NDArray[np.int64]
    """(n,): 1..L, 0 fits none."""
    confidence: NDArray[np.float64]
    """(n,): 0..1"""
    worker: str
    """Empty: no classifier took it, and the labels say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMapUpdated(Message):
    """The map as it stands, for those who watch; not recorded."""

    field: FieldId
    points: int
    phase_map: NDArray[np.uint8]
    """(rows, columns): 1..L."""
    erd: NDArray[np.float32]
    """(rows, columns): expected reduction in distortion, px; 0 where measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMapped(Message):
    """The map of a field has ended; what was measured of it is recorded."""

    field: MapField
    is_complete: bool
    """Whether it ended by one of its own rules; else a stop or a fault cut it short."""
    reason: str
    points_px: NDArray[np.int64]
    """(n, 2): the points of known phase; x, y on the map grid of the field of view."""
    labels: NDArray[np.int64]
    """(n,): 1..L, 0 fits none."""
    distortion: float
    """Estimated share of wrong pixels in the map; -1 where it cannot be told."""
    distortion_range: tuple[float, float]
    """95 % interval of it."""
    phase_map: NDArray[np.uint8]
    """(rows, columns): 1..L, 0 where nothing is known."""
    confidence: NDArray[np.float32]
    """(rows, columns): 0..1."""
    erd: NDArray[np.float32]
    """(rows, columns), px."""
    unclassified: int = 0
    """How many of the points no classifier took; their label is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseProposed(Message):
    """Spectra that fit no known phase are alike: a phase of their own, which maps show from here on."""

    field: FieldId
    """Where it was found."""
    label: int
    members: int
    """Spectra that made it known."""
    template: NDArray[np.float64]
    """(channels,): their sum."""
    axis: EnergyAxis


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseNamed(Message):
    """The lines of a phase that was found tell its elements."""

    label: int
    name: str
    elements: tuple[str, ...]
    """The surest first; empty where no lines stand out."""
