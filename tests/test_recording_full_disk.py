"""A disk that takes no more is an error with a name, and no crash when the interpreter ends."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recorded_run import whole_run

from sparse_actors.geometry import PartitionId, TileIndex, full_frame
from sparse_actors.imaging import Imaging
from sparse_actors.messages import Scan, ScanId
from sparse_actors.recording import disk, packed
from sparse_actors.recording.hdf5_file import TakesAll, written
from sparse_actors.recording.nexus import finalize
from sparse_actors.recording.slabs import Slab
from sparse_actors.recording.verify import verify

IMAGING = Imaging((128, 128), 1000.0)
SCANS = tuple(
    Scan(ScanId(PartitionId(TileIndex(0, 0), 0), number), full_frame(IMAGING.size_px), IMAGING)
    for number in range(4)
)

CHILD = """
import pathlib, resource, sys
import numpy as np
from recorded_run import whole_run
from sparse_actors.recording.nexus import finalize
from test_recording_full_disk import SCANS
from sparse_actors.recording.hdf5_file import written
from sparse_actors.recording.slabs import Slab

folder, what, limit = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
run = whole_run(folder / "run") if what == "result" else None
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if what == "slab":
        Slab.create(folder / "slab.h5", SCANS, "uint16")
    elif what == "result":
        finalize(run.path)
    else:
        with written(folder / "large.h5") as (file, check):
            data = file.create_dataset("data", shape=(64, 4096), chunks=(1, 4096), dtype="u1")
            for row in range(64):
                data[row] = row
                check()
except OSError as error:
    print(error.errno)
sys.exit(5)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX can")
@pytest.mark.parametrize(
    ("what", "limit_bytes"),
    [
        ("slab", 3000),
        ("slab", 100_000),
        ("result", 4000),
        ("result", 9000),
        ("result", 30_000),
        ("large", 100_000),
    ],
)
def test_the_interpreter_ends_in_order_after_the_disk_refused(
    tmp_path: Path, what: str, limit_bytes: int
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), what, str(limit_bytes)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout.strip()) == (5, str(errno.EFBIG)), result.stderr
    assert not [
        *tmp_path.rglob("*.tmp"),
        *tmp_path.glob("*.h5"),
    ]  # nothing half-made takes up the room that is left


class FullDisk:
    """Takes so many bytes through `disk.write_at` and no more."""

    def __init__(self, patch: pytest.MonkeyPatch, room_bytes: int) -> None:
        self.room_bytes, self.refused, self._write_at = room_bytes, 0, disk.write_at
        patch.setattr(disk, "write_at", self)

    def __call__(self, fd: int, data: memoryview, offset: int) -> int:
        if not self.room_bytes:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._write_at(fd, data[: self.room_bytes], offset)
        self.room_bytes -= taken
        return taken


@pytest.mark.parametrize("room_bytes", [0, 1, 2000, 20_000, 40_000])
def test_wherever_the_result_finds_the_disk_full_it_can_be_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room_bytes: int
) -> None:
    run = whole_run(tmp_path)
    with monkeypatch.context() as patch:
        full = FullDisk(patch, room_bytes)
        with pytest.raises(OSError, match="No space left"):
            finalize(tmp_path)
        assert full.refused
    assert verify(tmp_path).problems == []
    assert finalize(tmp_path) == ()
    assert verify(tmp_path).scans_checked == len(run.images)


def test_packing_does_not_begin_where_it_may_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = whole_run(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 0, 30_000))
    with pytest.raises(OSError, match="packing needs up to") as caught:
        finalize(tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "data" / "fast.h5").exists()
    monkeypatch.undo()
    assert finalize(tmp_path) == ()
    assert len(run.images) == 13


def test_what_cannot_be_compressed_takes_no_more_than_is_asked_for(tmp_path: Path) -> None:
    run = whole_run(tmp_path)  # of random pixels
    finalize(tmp_path)
    sizes = {True: run.store.folder.packed_fast, False: run.store.folder.packed_regions}
    for is_fast, path in sizes.items():
        images = [image for scan_id, image in run.images.items() if scan_id.is_fast is is_fast]
        asked = packed.MOST_PER_PIXEL_BYTE * sum(image.nbytes for image in images)
        assert path.stat().st_size <= asked + packed.MOST_PER_IMAGE_BYTES * len(images)


def test_a_slab_is_laid_out_without_its_pixels_in_memory(tmp_path: Path) -> None:
    imaging = Imaging((4096, 4096), 1000.0)
    large = [Scan(scan.id, full_frame(imaging.size_px), imaging) for scan in SCANS]
    tracemalloc.start()
    Slab.create(tmp_path / "slab.h5", large, "uint8")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2e6  # of 64 MiB
    image = np.random.default_rng(1).integers(0, 256, (4096, 4096), dtype=np.uint8)
    slab = Slab(tmp_path / "slab.h5")
    slab.write(large[3], image)
    with h5py.File(tmp_path / "slab.h5") as file:
        names = file["order"].asstr()[()]
        dataset = file[names[3]]
        np.testing.assert_array_equal(dataset[()], image)
        assert dataset.chunks is None
        assert dataset.id.get_storage_size() == image.nbytes  # allocated
        assert not file[names[0]][:64].any()


def test_a_file_that_takes_all_reads_back_what_was_written(tmp_path: Path, monkeypatch: Any) -> None:
    random = np.random.default_rng(2)
    path = tmp_path / "file"
    path.write_bytes(b"")
    fd = os.open(path, os.O_RDWR | disk.BINARY)
    FullDisk(monkeypatch, 700)
    try:
        for file in (TakesAll(), TakesAll(fd)):
            wanted = bytearray(2000)
            for _ in range(60):
                at, size = (int(n) for n in random.integers(0, 500, 2))
                data = random.bytes(size)
                file.seek(at)
                assert file.write(data) == size
                wanted[at : at + size] = data
                file.seek(int(random.integers(0, 1000)))
                start = file.tell()
                assert file.read(300) == wanted[start : start + 300]
            assert file.size <= file.truncate(1500) == file.seek(0, os.SEEK_END)
        with pytest.raises(OSError, match="No space left"):
            file.check()
    finally:
        os.close(fd)


def test_a_file_that_was_refused_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FullDisk(monkeypatch, 500)
    with pytest.raises(OSError, match="No space left"), written(tmp_path / "x.h5") as (file, _):
        file["data"] = np.arange(1000)
    assert not list(tmp_path.iterdir())
