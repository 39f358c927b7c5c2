"""The vocabulary: every message of the system.

A fact is in the past tense and says what happened; an order is in the imperative and says what
shall be done. All are frozen, their arrays read-only, units in the field names. Times are Unix
seconds on a clock that never steps within a run. `attempt` counts how often the same thing has
been ordered, so that a doubled order is told from a repeated one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from .contracts.detector import Pois
from .contracts.microscope import Capabilities, MicroscopeState
from .geometry import PartitionId, PixelBox, TileIndex
from .imaging import ScanTiming
from .inspection_messages import AuditUpdated as AuditUpdated
from .inspection_messages import InspectionFailed as InspectionFailed
from .inspection_messages import InspectionLost as InspectionLost
from .inspection_messages import InspectionReturned as InspectionReturned
from .inspection_messages import InspectRegion as InspectRegion
from .inspection_messages import InspectTile as InspectTile
from .inspection_messages import RegionInspected as RegionInspected
from .inspection_messages import RegionReloaded as RegionReloaded
from .inspection_messages import ReloadRegion as ReloadRegion
from .inspection_messages import TileInspected as TileInspected
from .map_messages import ClassificationLost as ClassificationLost
from .map_messages import ClassificationReturned as ClassificationReturned
from .map_messages import ClassifySpectra as ClassifySpectra
from .map_messages import ConfirmSpectra as ConfirmSpectra
from .map_messages import FieldMapped as FieldMapped
from .map_messages import MapTheField as MapTheField
from .map_messages import MeasureSpots as MeasureSpots
from .map_messages import PhaseMapUpdated as PhaseMapUpdated
from .map_messages import PhaseNamed as PhaseNamed
from .map_messages import PhaseProposed as PhaseProposed
from .map_messages import ReloadSpectra as ReloadSpectra
from .map_messages import SpectraClassified as SpectraClassified
from .map_messages import SpectraMeasured as SpectraMeasured
from .map_messages import SpectraMissing as SpectraMissing
from .map_messages import SpectraRecorded as SpectraRecorded
from .map_messages import SpectraReloaded as SpectraReloaded
from .map_messages import SpotsSpared as SpotsSpared
from .map_messages import SpotsStarted as SpotsStarted
from .message import After as After
from .message import Effect as Effect
from .message import Message as Message
from .message import Order as Order
from .order_messages import ContinueRun as ContinueRun
from .order_messages import OrderRefused as OrderRefused
from .order_messages import PauseRun as PauseRun
from .order_messages import PlanRegions as PlanRegions
from .order_messages import ProposeRegions as ProposeRegions
from .order_messages import RegionsProposed as RegionsProposed
from .order_messages import RunContinued as RunContinued
from .order_messages import RunPaused as RunPaused
from .order_messages import SkipTile as SkipTile
from .order_messages import TileSkipped as TileSkipped
from .scan import NOT_KNOWN as NOT_KNOWN
from .scan import FieldId as FieldId
from .scan import MapField as MapField
from .scan import Scan as Scan
from .scan import ScanId as ScanId
from .storage_messages import ConfirmRecorded as ConfirmRecorded
from .storage_messages import ImagesLost as ImagesLost
from .storage_messages import PartitionReloaded as PartitionReloaded
from .storage_messages import Recorded as Recorded
from .storage_messages import RecordingFailed as RecordingFailed
from .storage_messages import ReloadPartition as ReloadPartition
from .storage_messages import ReserveStorage as ReserveStorage
from .storage_messages import StorageReserved as StorageReserved
from .worker_messages import Heartbeat as Heartbeat
from .worker_messages import JobArrived as JobArrived
from .worker_messages import ResultCameLate as ResultCameLate
from .worker_messages import WorkerDismissed as WorkerDismissed
from .worker_messages import WorkerHello as WorkerHello
from .worker_messages import WorkerJoined as WorkerJoined
from .worker_messages import WorkerLeaving as WorkerLeaving
from .worker_messages import WorkerLost as WorkerLost
from .worker_messages import WorkerReady as WorkerReady
from .worker_messages import WorkerWelcome as WorkerWelcome

# -- the run ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Message):
    """A daemon began, or took up again, this run."""

    name: str
    session: int
    """0 for the first; each resumption adds one."""
    started_s: float
    seed: int
    version: str
    config_toml: str
    """The configuration as resolved."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files that the labels of maps hang on, by their keys in the configuration."""
    models: tuple[str, ...] = ()
    """Trained models that the detector goes by, each with the SHA-256 of its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRun(Order):
    """End the run after the scan in flight and restore the microscope."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Message):
    """The run ended; `stopped` ones can be resumed."""

    outcome: Literal["completed", "stopped", "failed"]
    reason: str
    cause: Literal["", "microscope", "storage", "worker", "actor"] = ""
    """What failed, where something did."""


# -- microscope ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareMicroscope(Order):
    """Connect, remember the state, switch on; set what stays for the whole run."""

    attempt: int
    view_field_mm: float
    scan_rotation_deg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroscopePrepared(Message):
    """The microscope is ready; `initial` is what the end of the run restores."""

    name: str
    capabilities: Capabilities
    initial: MicroscopeState


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveToTile(Order):
    """Put a tile in the field of view and set what is interpolated over the panorama."""

    tile: TileIndex
    attempt: int
    x_mm: float
    y_mm: float
    working_distance_mm: float | None = None
    brightness_pct: float | None = None
    contrast_pct: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TileReached(Message):
    """The tile is in the field of view; `state` is read back."""

    tile: TileIndex
    attempt: int
    state: MicroscopeState
    started_s: float
    finished_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanArea(Order):
    """Expose one area of the current tile."""

    scan: Scan
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureStarted(Message):
    """The beam is about to scan; written to the journal before it does."""

    scan_id: ScanId
    attempt: int
    started_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionScanned(Message):
    """A partition was acquired with the fast parameters."""

    scan: Scan
    attempt: int
    image: NDArray[Any]
    """`scan.shape` of uint8 or uint16."""
    dwell_ns: float
    """What the instrument used."""
    started_s: float
    finished_s: float
    reduced: int = 1
    """1: the image as it is; n: a tap's preview, n times smaller in both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionScanned(Message):
    """A region was acquired with the analysis parameters."""

    scan: Scan
    attempt: int
    image: NDArray[Any]
    """`scan.shape` of uint8 or uint16."""
    dwell_ns: float
    started_s: float
    finished_s: float
    reduced: int = 1
    """As in `PartitionScanned`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroscopeFailed(Message):
    """An order to the microscope failed."""

    order: Literal["prepare", "move", "scan", "spots", "reset"]
    reason: str
    attempt: int
    scan_id: ScanId | None = None
    tile: TileIndex | None = None
    is_retryable: bool = True
    field: FieldId | None = None
    batch: int | None = None
    """Of the spots that were not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetMicroscope(Order):
    """Restore the state found at the beginning of the run."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroscopeReset(Message):
    """The microscope is as it was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroscopeIdle(Message):
    """The scheduler has nothing to order; the gap until the next scan has this cause."""

    cause: str
    """"detection", "storage", "budget", or "paused: " and why."""


# -- detection -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectImage(Order):
    """Detect one partition; addressed to the worker pool."""

    partition: PartitionId
    attempt: int
    image: NDArray[Any]
    """(rows, columns) of uint8 or uint16."""
    scale: int
    """Analysis pixels per fast pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionReturned(Message):
    """A worker finished; points in analysis pixels from the image's corner, checked."""

    partition: PartitionId
    attempt: int
    pois: Pois
    worker: str
    elapsed_s: float
    finished_s: float = 0.0
    """When the daemon had it; until then the partition was queued, sent and detected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionLost(Message):
    """A worker did not deliver: the detector raised, hung, died or returned nonsense."""

    partition: PartitionId
    attempt: int
    reason: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisFound(Message):
    """Points of interest of a partition, in analysis pixels of the field of view."""

    partition: PartitionId
    pois: Pois
    worker: str
    elapsed_s: float
    withheld_px: NDArray[Any] | None = None
    """(n, 4) int64: boxes of what a partition found too near to a seam to be sure of, and left to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionFailed(Message):
    """Detection of a partition was given up."""

    partition: PartitionId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRefused(Message):
    """Something that is not a valid message came in from a socket; counted and ignored."""

    origin: str
    reason: str
    count: int


# -- taps, on their sockets only --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TapsDescribed(Message):
    """Where a run shows its messages."""

    facts_port: int
    images_port: int
    """0: no images are shown."""
    images: Literal["preview", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSent(Message):
    """The state of a run was sent; it holds what was on the bus up to `number`."""

    facts: int
    number: int


# -- planning --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionsPlanned(Message):
    """What of a partition is to be rescanned; no scans where nothing was found."""

    partition: PartitionId
    scans: tuple[Scan, ...]
    strategy: str
    """The merging that won, or 'whole partition' after a failed detection."""
    predicted_s: float
    is_fallback: bool = False
    left_out: tuple[PixelBox, ...] = ()
    """Boxes, in analysis pixels, that would have been rescanned but for `limits.max_dose_e_per_nm2`.

    Of what was proposed also slivers beside planned regions, narrower than the microscope scans."""
    source: str = ""
    """Who proposed these regions; empty: the detector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingLearned(Message):
    """What scans cost by those made so far; the planning that follows goes by it."""

    timing: ScanTiming
    error: ScanTiming
    """Standard error of each of the costs."""
    scans: int
    """How many it was learnt from, those of earlier runs included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanMissed(Message):
    """A scan was given up and is missing from the result."""

    scan_id: ScanId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFinished(Message):
    """Everything of a tile is recorded, reported missing or skipped."""

    tile: TileIndex


# -- runtime ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue(Message):
    """An answer the scheduler waits for has not come in time."""

    what: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorFailed(Message):
    """An actor raised; it is rebuilt unless `is_final`."""

    actor: str
    error: str
    is_final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDropped(Message):
    """A full or closed mailbox refused a message."""

    actor: str
    kind: str


def _vocabulary(base: type[Message]) -> dict[str, type[Message]]:
    kinds: dict[str, type[Message]] = {}
    for kind in base.__subclasses__():
        kinds |= {kind.__name__: kind} | _vocabulary(kind)
    return kinds


KINDS: dict[str, type[Message]] = _vocabulary(Message)
"""Every message by its name."""
