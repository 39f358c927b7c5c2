"""Checks a run on disk: the journal against the pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sparse_actors.errors import JournalError

from .packed import PackedFile
from .packed_spectra import PackedSpectra
from .run_record import RunRecord
from .slabs import Slab
from .spectra import is_spectra_slab
from .store import check_pixels


@dataclass(slots=True)
class VerifyReport:
    """What `verify` found."""

    scans_checked: int = 0
    """Recorded scans whose pixels were read."""
    pixels: int = 0
    """Sum of the pixels of the scans that are as they were recorded."""
    spectra: int = 0
    """How many spectra are as they were recorded."""
    problems: list[str] = field(default_factory=list)
    """Something recorded is lost or contradicts itself; empty when all is well."""
    warnings: list[str] = field(default_factory=list)
    """What a crash leaves behind and a resumed run makes good."""


def verify(folder: Path) -> VerifyReport:
    """Read every recorded image of a run and compare it with the journal; changes nothing."""
    report = VerifyReport()
    try:
        record = RunRecord.open(folder)
    except (JournalError, OSError) as error:
        report.problems.append(str(error))
        return report
    if record.warning:
        report.warnings.append(record.warning)
    report.problems += record.contradictions
    _check_images(record, report)
    _check_spectra(record, report)
    _check_slabs(record, report)
    _check_completeness(record, report)
    return report


def _check_images(record: RunRecord, report: VerifyReport) -> None:
    packed = []
    for path in (record.folder.packed_fast, record.folder.packed_regions):
        try:
            packed.append(PackedFile(path))
        except (JournalError, OSError) as error:
            report.problems.append(f"{path.name}: {error}")
    for scan_id, recorded in record.recorded.items():
        scan = record.scans[scan_id]
        report.scans_checked += 1
        try:
            image = record.image(scan_id)
            for file in packed:
                if str(scan_id) in file.places:
                    check_pixels(file.read(scan), recorded.crc32, f"scan {scan_id} in {file.path.name}")
        except (JournalError, OSError) as error:
            report.problems.append(f"scan {scan_id}: {error}")
            continue
        if image.shape != scan.shape:
            report.problems.append(f"scan {scan_id}: {image.shape} pixels instead of {scan.shape}")
        report.pixels += image.size


def _check_spectra(record: RunRecord, report: VerifyReport) -> None:
    good, problems = record.maps.readable()
    report.problems += problems
    packed = PackedSpectra(record.folder.packed_spectra)
    if packed.path.exists():
        batches = [recorded for field_id in record.maps.mapped for recorded in good.get(field_id, ())]
        for recorded in batches:
            try:
                packed.read(recorded)
            except JournalError as error:
                report.problems.append(str(error))
    report.spectra = sum(len(recorded.points_px) for of_field in good.values() for recorded in of_field)


def _check_slabs(record: RunRecord, report: VerifyReport) -> None:
    """Compare the slab files with what the journal says of them."""
    data = record.folder.data
    folder = record.folder
    packed = {path.name for path in (folder.packed_fast, folder.packed_regions, folder.packed_spectra)}
    spectra = {recorded.slab for recorded in record.maps.batches.values()}
    for path in sorted(data.glob("*.h5")):
        if path.name in packed or path.stem in spectra:
            continue
        if is_spectra_slab(path.stem):
            report.warnings.append(
                f"slab {path.name} has room for spectra and none in the journal; a resumed run makes it anew"
            )
            continue
        try:
            slab = Slab(path)
            written = slab.recorded()
        except (JournalError, OSError) as error:
            report.problems.append(f"slab {path.name}: {error}")
            continue
        reserved = record.slabs.get(path.stem)
        if reserved is None:
            found = report.problems if written else report.warnings
            found.append(f"slab {path.name} holds {len(written)} images but is not in the journal")
        elif not slab.holds(reserved.scans, reserved.pixel_type):
            report.problems.append(f"slab {path.name} is not laid out for the scans in the journal")
        else:
            known = {str(scan_id) for scan_id in record.recorded}
            report.warnings += [
                f"scan {scan_id}: its pixels were written but never acknowledged; it is exposed again"
                for scan_id in sorted(written.keys() - known)
            ]
    report.warnings += [f"{path.name} was left half-made" for path in sorted(data.glob("*.tmp"))]
    report.warnings += [f"{path.name} was put aside" for path in sorted(data.glob("*.damaged"))]


def _check_completeness(record: RunRecord, report: VerifyReport) -> None:
    for scan_id, missed in record.missed.items():
        report.warnings.append(f"scan {scan_id} is missing: {missed.reason}")
    for scan_id, reason in record.lost.items():
        report.problems.append(f"scan {scan_id} was lost and is not exposed again yet: {reason}")
    for scan_id, count in record.unrecorded_exposures.items():
        report.warnings.append(f"scan {scan_id} was exposed {count} times without an image")
    for tile, skipped in record.skipped_tiles.items():
        report.warnings.append(f"tile {tile} was skipped: {skipped.reason}")
    closed = record.recorded.keys() | record.missed.keys()
    open_scans = [i for i in record.scans if i not in closed and i.partition.tile not in record.skipped_tiles]
    if record.outcome is not None and record.outcome.outcome == "completed":
        report.problems += [f"scan {i} is neither recorded nor missed in a completed run" for i in open_scans]
    elif open_scans:
        report.warnings.append(f"{len(open_scans)} planned scans are not recorded yet")
