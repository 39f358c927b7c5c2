"""Which images of a run to be resumed are not on disk any more as the journal says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sparse_actors.errors import JournalError
from sparse_actors.messages import ImagesLost, ScanId, StorageReserved

from .run_folder import RunFolder
from .run_record import RunRecord
from .slabs import Slab


def lost_images(folder: Path, is_stopping: Callable[[], bool] = lambda: False) -> list[ImagesLost]:
    """Read every recorded image, and look for the room of every scan that is not recorded; changes nothing.

    Parameters
    ----------
    folder
        Of the run.
    is_stopping
        Asked before each slab; True ends the search early.

    Returns
    -------
    list of ImagesLost
        One for each slab of which something is gone.

    Raises
    ------
    PermissionError
        A file may not be read, which does not mean that it is lost.
    """
    record = RunRecord.open(folder)
    found = []
    for name, slab in record.slabs.items():
        if is_stopping():
            break
        lost: list[ScanId] = []
        reasons: list[str] = []
        room: str | None = None
        for scan in slab.scans:
            if scan.id in record.recorded:
                problem = _image_problem(record, scan.id)
            elif scan.id in record.lost:
                continue
            else:
                room = _room_problem(record.folder, slab) if room is None else room
                problem = room
            if problem:
                lost.append(scan.id)
                reasons.append(problem)
        if lost:
            found.append(ImagesLost(slab=name, scan_ids=tuple(lost), reason=reasons[0]))
    return found


def _image_problem(record: RunRecord, scan_id: ScanId) -> str:
    """Say what is wrong with a recorded image; empty if nothing is."""
    try:
        record.image(scan_id)
    except PermissionError:
        raise
    except (JournalError, OSError) as error:
        return str(error)
    return ""


def _room_problem(folder: RunFolder, reserved: StorageReserved) -> str:
    """Say why a slab cannot take the scans it was made for; empty if it can."""
    path = folder.slab(reserved.slab)
    try:
        return "" if Slab(path).holds(reserved.scans, reserved.pixel_type) else f"{path} is of other scans"
    except PermissionError:
        raise
    except (JournalError, OSError) as error:
        return str(error)
