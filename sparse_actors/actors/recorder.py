"""Writes images and facts to disk, and says what can no longer be lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import JournalError
from sparse_actors.messages import (
    ActorFailed,
    AuditUpdated,
    ConfirmRecorded,
    ConfirmSpectra,
    DetectionFailed,
    FieldId,
    FieldMapped,
    ImagesLost,
    InspectionFailed,
    InspectionLost,
    Message,
    MessageDropped,
    MessageRefused,
    MicroscopeFailed,
    MicroscopeIdle,
    MicroscopePrepared,
    MicroscopeReset,
    OrderRefused,
    PartitionReloaded,
    PartitionScanned,
    PhaseNamed,
    PhaseProposed,
    PoisFound,
    Recorded,
    RecordingFailed,
    RegionInspected,
    RegionReloaded,
    RegionScanned,
    RegionsPlanned,
    RegionsProposed,
    ReloadPartition,
    ReloadRegion,
    ReloadSpectra,
    ReserveStorage,
    ResultCameLate,
    RunContinued,
    RunFinished,
    RunPaused,
    Scan,
    ScanId,
    ScanMissed,
    SpectraClassified,
    SpectraMeasured,
    SpectraMissing,
    SpectraRecorded,
    SpectraReloaded,
    SpotsSpared,
    StorageReserved,
    TileFinished,
    TileInspected,
    TileReached,
    TileSkipped,
    TimingLearned,
    WorkerJoined,
    WorkerLost,
)

JOURNALED = (
    RunFinished,
    MicroscopePrepared,
    TileReached,
    MicroscopeFailed,
    MicroscopeReset,
    MicroscopeIdle,
    PoisFound,
    DetectionFailed,
    WorkerJoined,
    WorkerLost,
    ResultCameLate,
    MessageRefused,
    RegionsPlanned,
    ScanMissed,
    TileFinished,
    TimingLearned,
    SpotsSpared,
    SpectraClassified,
    PhaseProposed,
    PhaseNamed,
    FieldMapped,
    RunPaused,
    RunContinued,
    TileSkipped,
    RegionsProposed,
    RegionInspected,
    InspectionFailed,
    TileInspected,
    AuditUpdated,
    OrderRefused,
    ActorFailed,
    MessageDropped,
)
"""Facts the recorder writes down as they pass; its own go to the journal before they are said."""

KEPT = (*JOURNALED, StorageReserved, Recorded, SpectraRecorded)
"""All messages that get into the journal."""

SYNCED = (
    MicroscopePrepared,
    RegionsPlanned,
    PhaseProposed,
    FieldMapped,
    RunPaused,
    RunContinued,
    TileSkipped,
    RegionsProposed,
    RunFinished,
)
"""Of these, what must be on disk at once."""


class ImageStore(Protocol):
    """Where the pixels go; see recording.store.RunStore."""

    def reserve(self, slab: str, scans: tuple[Scan, ...], pixel_type: str) -> None:
        """Make room, durably; the same slab again is no error."""

    def write(self, slab: str, scan: Scan, image: NDArray[Any]) -> int:
        """Write pixels durably and return their crc32."""

    def read(self, slab: str, scan: Scan, crc32: int) -> NDArray[Any]:
        """Read pixels back; raises JournalError when the checksum differs."""


class SpectraStore(Protocol):
    """Where the spectra go; see recording.spectra.SpectraStore."""

    def write(self, measured: SpectraMeasured) -> SpectraRecorded:
        """Write the spectra of a batch durably, and return the fact to be journaled."""

    def read(self, recorded: SpectraRecorded) -> tuple[NDArray[Any], EnergyAxis]:
        """Read counts (n, channels) back; raises JournalError when the checksum differs."""

    def learn(self, recorded: SpectraRecorded) -> None:
        """Take in what the journal holds; its place is taken."""


class Log(Protocol):
    """The journal; see recording.journal.Journal."""

    def append(self, message: Message) -> None:
        """Write one record; it survives the death of this process."""

    def sync(self) -> None:
        """Make all records survive a power cut."""


class Recorder:
    """Acknowledges pixels and spectra only when they and then their journal record are on disk.

    Parameters
    ----------
    store, spectra, journal
        Where to write.
    history
        What the journal already holds.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (
        ReserveStorage,
        PartitionScanned,
        RegionScanned,
        ConfirmRecorded,
        ReloadPartition,
        ReloadRegion,
        SpectraMeasured,
        ConfirmSpectra,
        ReloadSpectra,
        *JOURNALED,
    )

    def __init__(
        self, store: ImageStore, spectra: SpectraStore, journal: Log, history: Iterable[Message]
    ) -> None:
        self._store = store
        self._spectra = spectra
        self._journal = journal
        self._slabs: dict[ScanId, tuple[str, Scan]] = {}
        self._recorded: dict[ScanId, Recorded] = {}
        self._batches: dict[tuple[FieldId, int], SpectraRecorded] = {}
        for fact in history:
            match fact:
                case StorageReserved(slab=slab, scans=scans):
                    self._slabs |= {scan.id: (slab, scan) for scan in scans}
                case Recorded(scan_id=scan_id):
                    self._recorded[scan_id] = fact
                case SpectraRecorded(field=field, batch=batch):
                    self._batches[field, batch] = fact
                    spectra.learn(fact)
                case ImagesLost(scan_ids=scan_ids):
                    for scan_id in scan_ids:
                        self._recorded.pop(scan_id, None)
                        self._slabs.pop(scan_id, None)
                case _:
                    pass

    def handle(self, message: Message) -> Iterator[Message]:
        """Record one message."""
        match message:
            case ReserveStorage():
                yield self._reserve(message)
            case PartitionScanned() | RegionScanned():
                yield self._record(message)
            case ConfirmRecorded(scan_id=scan_id):
                missing = RecordingFailed(
                    scan_id=scan_id, reason="the pixels never came", is_disk_error=False
                )
                yield self._recorded.get(scan_id, missing)
            case ReloadPartition():
                for scan in message.scans:
                    yield self._reload(message, scan)
            case ReloadRegion():
                yield self._reload_region(message)
            case SpectraMeasured():
                yield self._record_spectra(message)
            case ConfirmSpectra(field=field, batch=batch):
                never = SpectraMissing(field=field, batch=batch, reason="the spectra never came")
                yield self._batches.get((field, batch), never)
            case ReloadSpectra():
                yield self._reload_spectra(message)
            case _:
                try:
                    self._journal.append(message)
                    if isinstance(message, SYNCED):
                        self._journal.sync()
                except OSError as error:
                    yield RecordingFailed(reason=_described(error), is_disk_error=True)

    def _reserve(self, order: ReserveStorage) -> Message:
        reserved = StorageReserved(slab=order.slab, scans=order.scans, pixel_type=order.pixel_type)
        if any(scan.id not in self._slabs for scan in order.scans):
            try:
                self._store.reserve(order.slab, order.scans, order.pixel_type)
                self._commit(reserved)
            except (OSError, JournalError) as error:
                return RecordingFailed(slab=order.slab, reason=_described(error), is_disk_error=True)
            self._slabs |= {scan.id: (order.slab, scan) for scan in order.scans}
        return reserved

    def _record(self, scanned: PartitionScanned | RegionScanned) -> Message:
        scan_id = scanned.scan.id
        if scan_id in self._recorded:
            return self._recorded[scan_id]
        if scan_id not in self._slabs:
            return RecordingFailed(scan_id=scan_id, reason="no storage was reserved", is_disk_error=False)
        slab, scan = self._slabs[scan_id]
        try:
            crc32 = self._store.write(slab, scan, scanned.image)
            recorded = Recorded(
                scan_id=scan_id,
                attempt=scanned.attempt,
                slab=slab,
                crc32=crc32,
                dwell_ns=scanned.dwell_ns,
                started_s=scanned.started_s,
                finished_s=scanned.finished_s,
            )
            self._commit(recorded)
        except OSError as error:
            return RecordingFailed(scan_id=scan_id, reason=_described(error), is_disk_error=True)
        self._recorded[scan_id] = recorded
        return recorded

    def _reload(self, order: ReloadPartition, scan: Scan) -> Message:
        scan_id = scan.id
        recorded = self._recorded.get(scan_id)
        if recorded is None:
            return RecordingFailed(scan_id=scan_id, reason="the pixels never came", is_disk_error=False)
        try:
            image = self._store.read(recorded.slab, self._slabs[scan_id][1], recorded.crc32)
        except (OSError, JournalError) as error:
            return RecordingFailed(scan_id=scan_id, reason=_described(error), is_disk_error=True)
        return PartitionReloaded(partition=order.partition, scan=scan, attempt=order.attempt, image=image)

    def _reload_region(self, order: ReloadRegion) -> Message:
        """Read a region to be inspected; one that cannot be read is not worth the run."""
        recorded = self._recorded.get(order.scan_id)
        if recorded is None:
            reason = "it is not recorded"
        else:
            scan = self._slabs[order.scan_id][1]
            try:
                image = self._store.read(recorded.slab, scan, recorded.crc32)
            except (OSError, JournalError) as error:
                reason = _described(error)
            else:
                return RegionReloaded(scan=scan, attempt=order.attempt, image=image)
        return InspectionLost(scan_id=order.scan_id, attempt=order.attempt, reason=reason, worker="")

    def _record_spectra(self, measured: SpectraMeasured) -> Message:
        key = measured.field, measured.batch
        if key not in self._batches:
            try:
                recorded = self._spectra.write(measured)
                self._commit(recorded)
            except OSError as error:
                return RecordingFailed(reason=_described(error), is_disk_error=True)
            self._spectra.learn(recorded)
            self._batches[key] = recorded
        return self._batches[key]

    def _reload_spectra(self, order: ReloadSpectra) -> Message:
        recorded = self._batches.get((order.field, order.batch))
        if recorded is None:
            reason = "the spectra never came"
        else:
            try:
                counts, axis = self._spectra.read(recorded)
            except (OSError, JournalError) as error:
                reason = _described(error)
                del self._batches[order.field, order.batch]  # to be measured, and recorded, anew
            else:
                return SpectraReloaded(
                    field=order.field,
                    batch=order.batch,
                    attempt=order.attempt,
                    counts=counts,
                    live_time_s=recorded.live_time_s,
                    axis=axis,
                )
        return SpectraMissing(field=order.field, batch=order.batch, reason=reason)

    def _commit(self, fact: Message) -> None:
        self._journal.append(fact)
        self._journal.sync()


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
