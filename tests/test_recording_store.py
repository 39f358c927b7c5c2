"""What the store acknowledged is on disk, whatever happens to the process or the disk."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import h5py
import numpy as np
import pytest
from recorded_run import ANALYSIS, FAST, region

from sparse_actors.errors import JournalError
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex, partition_boxes
from sparse_actors.imaging import Imaging
from sparse_actors.messages import Scan, ScanId
from sparse_actors.recording import disk
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.slabs import Slab
from sparse_actors.recording.store import RunStore
from sparse_actors.recording.verify import verify

PARTITION = PartitionId(TileIndex(0, 1), 2)
SCANS = (
    region(PARTITION, 0, PixelBox(3, 4, 16, 8)),
    region(PARTITION, 1, PixelBox(3, 4, 16, 8)),  # the same box again
    region(PARTITION, 2, PixelBox(0, 0, 5, 5), PixelBox(3, 3, 5, 5)),
)
SLAB = "r000c001p2-regions"


def image_of(scan: Scan, pixel_type: str = "uint16", seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, scan.shape).astype(pixel_type)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    made = RunStore(tmp_path)
    made.reserve(SLAB, SCANS, "uint16")
    return made


def test_images_come_back_in_this_and_in_a_later_process(store: RunStore, tmp_path: Path) -> None:
    checksums = [store.write(SLAB, scan, image_of(scan)) for scan in SCANS]
    for scan, checksum in zip(SCANS, checksums, strict=True):
        assert checksum == crc32(image_of(scan).tobytes())
        for reader in (store, RunStore(tmp_path)):
            image = reader.read(SLAB, scan, checksum)
            np.testing.assert_array_equal(image, image_of(scan))
            assert image.dtype == np.uint16
            assert not image.flags.writeable
    with pytest.raises(JournalError, match=r"r000c001p2r0000.*checksum"):
        store.read(SLAB, SCANS[0], checksums[0] ^ 1)


@pytest.mark.parametrize("pixel_type", ["uint8", "uint16"])
def test_any_hdf5_reader_understands_a_slab(tmp_path: Path, pixel_type: str) -> None:
    store = RunStore(tmp_path)
    store.reserve(SLAB, SCANS, pixel_type)
    written = {scan.id: image_of(scan, pixel_type) for scan in SCANS[1:]}
    checksums = {scan.id: store.write(SLAB, scan, written[scan.id]) for scan in SCANS[1:]}
    with h5py.File(tmp_path / "data" / f"{SLAB}.h5") as file:
        assert list(file["order"].asstr()) == ["3_4_16_8", "3_4_16_8_r000c001p2r0001", "0_0_8_8"]
        again = file["3_4_16_8_r000c001p2r0001"]
        np.testing.assert_array_equal(again[()], written[SCANS[1].id])
        assert again.attrs["scan_id"] == "r000c001p2r0001"
        assert tuple(again.attrs["grid_px"]) == ANALYSIS.size_px
        assert again.attrs["dwell_ns"] == ANALYSIS.dwell_ns
        assert again.attrs["units"] == "grey level"
        assert [again.attrs[k] for k in ("x_px", "y_px", "width_px", "height_px")] == [3, 4, 16, 8]
        np.testing.assert_array_equal(file["0_0_8_8"][()], written[SCANS[2].id])
        assert file["mask_boxes/0_0_8_8"][()].tolist() == [[0, 0, 5, 5], [3, 3, 5, 5]]
        assert file["recorded"]["is_recorded"].tolist() == [0, 1, 1]
        assert file["recorded"]["crc32"].tolist() == [0, checksums[SCANS[1].id], checksums[SCANS[2].id]]


def test_reserving_again_changes_nothing(store: RunStore, tmp_path: Path) -> None:
    checksum = store.write(SLAB, SCANS[0], image_of(SCANS[0]))
    for again in (store, RunStore(tmp_path)):
        again.reserve(SLAB, SCANS, "uint16")
        np.testing.assert_array_equal(again.read(SLAB, SCANS[0], checksum), image_of(SCANS[0]))


@pytest.mark.parametrize(
    ("scans", "pixel_type"),
    [
        (SCANS[:2], "uint16"),
        (SCANS, "uint8"),
        ((*SCANS[:2], region(PARTITION, 2, PixelBox(0, 0, 8, 8))), "uint16"),
        ((*SCANS[:2], region(PARTITION, 2, PixelBox(0, 0, 5, 5), PixelBox(2, 2, 6, 6))), "uint16"),
        ((*SCANS[1:], Scan(SCANS[0].id, SCANS[0].box, Imaging(ANALYSIS.size_px, 1.0))), "uint16"),
    ],
    ids=["fewer", "type", "box", "mask", "dwell"],
)
def test_slab_with_images_is_not_replaced_by_another(
    store: RunStore, scans: tuple[Scan, ...], pixel_type: str
) -> None:
    checksum = store.write(SLAB, SCANS[0], image_of(SCANS[0]))
    with pytest.raises(JournalError, match="other scans"):
        store.reserve(SLAB, scans, pixel_type)
    np.testing.assert_array_equal(store.read(SLAB, SCANS[0], checksum), image_of(SCANS[0]))


def test_empty_slab_from_before_a_crash_gives_way(store: RunStore) -> None:
    store.reserve(SLAB, SCANS[:1], "uint8")
    checksum = store.write(SLAB, SCANS[0], image_of(SCANS[0], "uint8"))
    np.testing.assert_array_equal(store.read(SLAB, SCANS[0], checksum), image_of(SCANS[0], "uint8"))
    with pytest.raises(JournalError, match="no room for scan r000c001p2r0001"):
        store.write(SLAB, SCANS[1], image_of(SCANS[1], "uint8"))


def test_half_made_slab_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "publish", fail(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            store.reserve(SLAB, SCANS, "uint16")
    assert not (tmp_path / "data" / f"{SLAB}.h5").exists()
    store.reserve(SLAB, SCANS, "uint16")
    assert not list((tmp_path / "data").glob("*.tmp"))


def test_wrong_image_and_wrong_name_are_refused(store: RunStore) -> None:
    with pytest.raises(JournalError, match=r"\(8, 16\) of uint16, got \(16, 8\)"):
        store.write(SLAB, SCANS[0], image_of(SCANS[0]).T)
    with pytest.raises(JournalError, match=r"got .* of uint8"):
        store.write(SLAB, SCANS[0], image_of(SCANS[0], "uint8"))
    with pytest.raises(JournalError, match="expected a name such as"):
        store.reserve("../elsewhere", SCANS, "uint16")


def test_pixels_in_fortran_order_are_stored_row_by_row(store: RunStore) -> None:
    image = np.asfortranarray(image_of(SCANS[0]))
    checksum = store.write(SLAB, SCANS[0], image)
    np.testing.assert_array_equal(store.read(SLAB, SCANS[0], checksum), image)


def fail(code: int) -> Callable[..., int]:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_disk_that_refuses_pixels_is_reported(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_at", fail(code))
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            store.write(SLAB, SCANS[0], image_of(SCANS[0]))
    assert caught.value.errno == code
    assert Slab(store.folder.slab(SLAB)).recorded() == {}
    checksum = store.write(SLAB, SCANS[0], image_of(SCANS[0]))  # there is room again
    np.testing.assert_array_equal(store.read(SLAB, SCANS[0], checksum), image_of(SCANS[0]))


def test_short_write_is_continued_and_a_full_stop_reported(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = disk.write_at
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_at", lambda fd, data, offset: write(fd, data[:7], offset))
        checksum = store.write(SLAB, SCANS[0], image_of(SCANS[0]))
        np.testing.assert_array_equal(store.read(SLAB, SCANS[0], checksum), image_of(SCANS[0]))
        patch.setattr(disk, "write_at", lambda fd, data, offset: 0)
        with pytest.raises(OSError, match="took 0 of 256 bytes"):
            store.write(SLAB, SCANS[0], image_of(SCANS[0]))


def test_failed_sync_is_final_for_the_slab(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(disk, "sync_file", fail(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            store.write(SLAB, SCANS[0], image_of(SCANS[0]))
    with pytest.raises(OSError, match="an earlier sync failed"):
        store.write(SLAB, SCANS[0], image_of(SCANS[0]))


def test_full_disk_shows_at_the_reservation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "reserve_space", fail(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        RunStore(tmp_path).reserve(SLAB, SCANS, "uint16")
    assert not (tmp_path / "data" / f"{SLAB}.h5").exists()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_slab_has_its_blocks_before_the_first_exposure(tmp_path: Path) -> None:
    imaging = Imaging((1024, 1024), 300.0)
    scans = [Scan(ScanId(PARTITION), box, imaging) for box in partition_boxes(imaging.size_px, 1)]
    RunStore(tmp_path).reserve("r000c001-fast", tuple(scans), "uint16")
    status = (tmp_path / "data" / "r000c001-fast.h5").stat()
    assert status.st_blocks * 512 >= 2 * 1024 * 1024


def test_truncated_slab_is_an_error_and_not_an_image(store: RunStore, tmp_path: Path) -> None:
    checksum = store.write(SLAB, SCANS[0], image_of(SCANS[0]))
    path = store.folder.slab(SLAB)
    os.truncate(path, Slab(path).places[str(SCANS[0].id)].offset + 3)
    with pytest.raises(OSError, match="ends within scan"):
        store.read(SLAB, SCANS[0], checksum)
    with pytest.raises(OSError, match="truncated"):
        RunStore(tmp_path).read(SLAB, SCANS[0], checksum)


def test_fast_slab_holds_all_partitions_of_a_tile(tmp_path: Path) -> None:
    tile = TileIndex(0, 0)
    boxes = partition_boxes(FAST.size_px, 4)
    scans = tuple(Scan(ScanId(PartitionId(tile, i)), box, FAST) for i, box in enumerate(boxes))
    RunStore(tmp_path).reserve("r000c000-fast", scans, "uint8")
    with h5py.File(tmp_path / "data" / "r000c000-fast.h5") as file:
        assert {"0_0_16_12", "16_0_16_12", "0_12_16_12", "16_12_16_12"} <= set(file)


@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
@pytest.mark.parametrize("kills", [pytest.param(6), pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path, kills: int) -> None:
    """Each round takes the same run up again and kills it while it writes."""
    rng = random.Random(kills)
    acknowledged: dict[str, int] = {}
    program = "import sys, pathlib, recorded_run as r; r.write_until_killed(pathlib.Path(sys.argv[1]))"
    for _ in range(kills):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        ) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(1, 12)):
                line = writer.stdout.readline()
                assert line
                scan_id, checksum = line.split()
                assert scan_id not in acknowledged  # never exposed again
                acknowledged[scan_id] = int(checksum)
            for _ in range(rng.randrange(200_000)):
                pass  # anywhere within the next image
            writer.kill()
            for line in writer.stdout:
                if line.endswith("\n"):
                    scan_id, checksum = line.split()
                    acknowledged[scan_id] = int(checksum)
        record = RunRecord.open(tmp_path)
        found = {str(scan_id): recorded.crc32 for scan_id, recorded in record.recorded.items()}
        assert found.items() >= acknowledged.items()
        assert len(found) <= len(acknowledged) + 1  # at most one was safe and not yet said
        acknowledged |= found
        assert sum(record.unrecorded_exposures.values()) <= len(record.sessions)
        report = verify(tmp_path)
        assert report.problems == []
        assert report.scans_checked == len(found)
