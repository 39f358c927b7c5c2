"""What was acknowledged survives a power cut, in a model of a disk that forgets what was not synced."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from recorded_run import TILES, RecordedRun, region

from sparse_actors.errors import JournalError
from sparse_actors.geometry import PartitionId, PixelBox
from sparse_actors.messages import Scan, ScanId
from sparse_actors.recording import disk
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify


@dataclass
class PowerCut:
    """A disk that may lose any 512-byte sector written and not synced.

    Slabs are durable as they are published. Every write is logged; `image` builds what a power cut
    at some moment may have left.
    """

    folder: Path
    does_sync: bool = True
    log: list[tuple[str, Any, int, bytes]] = field(default_factory=list)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        write_at, write_once, sync_file, publish = (
            disk.write_at,
            disk.write_once,
            disk.sync_file,
            disk.publish,
        )

        def logged_write_at(fd: int, data: memoryview, offset: int) -> int:
            self.log.append(("write", self.name(fd), offset, bytes(data)))
            return write_at(fd, data, offset)

        def logged_write_once(fd: int, data: bytes) -> int:
            self.log.append(("write", self.name(fd), os.fstat(fd).st_size, data))
            return write_once(fd, data)

        def logged_sync(fd: int) -> None:
            sync_file(fd)
            if self.does_sync:
                self.log.append(("sync", self.name(fd), 0, b""))

        def logged_publish(temporary: Path, final: Path) -> None:
            publish(temporary, final)
            self.log.append(("publish", str(final.relative_to(self.folder)), 0, final.read_bytes()))

        patch.setattr(disk, "write_at", logged_write_at)
        patch.setattr(disk, "write_once", logged_write_once)
        patch.setattr(disk, "sync_file", logged_sync)
        patch.setattr(disk, "publish", logged_publish)

    def name(self, fd: int) -> str:
        inode = os.fstat(fd).st_ino
        names = [p for p in self.folder.rglob("*") if p.stat().st_ino == inode]
        return str(names[0].relative_to(self.folder))

    def image(self, target: Path, moment: int, rng: random.Random) -> set[tuple[ScanId, int]]:
        """Write the disk as it may be after a cut; returns what had been acknowledged."""
        files: dict[str, bytearray] = {}
        loose: dict[str, list[tuple[int, bytes]]] = {}
        said = set()
        for kind, name, offset, data in self.log[:moment]:
            if kind == "publish":
                files[name] = bytearray(data)
            elif kind == "write":
                if not name.endswith(".tmp"):  # nobody reads it before it is published
                    loose.setdefault(name, []).append((offset, data))
            elif kind == "sync":
                for at, written in loose.pop(name, []):
                    put(files[name], at, written)
            else:
                said.add((name, offset))
        for name, writes in loose.items():
            for at, written in writes:
                first = at // 512 * 512
                for sector in range(first, at + len(written), 512):
                    start, stop = max(sector, at), min(sector + 512, at + len(written))
                    if rng.random() < 0.5:
                        put(files[name], start, written[start - at : stop - at])
        for name, content in files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return said


def put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


def losses(cut: PowerCut, tmp_path: Path, images: int) -> int:
    """Return in how many of some power cuts something acknowledged is lost or the run is unreadable."""
    rng, lost = random.Random(5), 0
    begun = [kind for kind, *_ in cut.log].index("publish") + 1  # the journal exists
    for number in range(images):
        target = tmp_path / f"cut{number}"
        said = cut.image(target, rng.randrange(begun, len(cut.log) + 1), rng)
        try:
            journal, _, _ = Journal.open(RunFolder(target).journal)
            journal.close()
            record = RunRecord.open(target)
            found = {(i, recorded.crc32) for i, recorded in record.recorded.items()}
            bad = not said <= found or bool(verify(target).problems)
        except (JournalError, OSError):
            bad = True
        lost += bad
        shutil.rmtree(target)
    return lost


def record_run(cut: PowerCut) -> None:
    """Record a small run and log what is acknowledged."""
    run = RecordedRun(cut.folder)
    record = run.record

    def record_and_say(slab: str, scan: Scan) -> None:
        record(slab, scan)
        cut.log.append(("said", scan.id, crc32(run.images[scan.id].tobytes()), b""))

    run.record = record_and_say  # type: ignore[method-assign]
    for tile in TILES:
        run.fast(tile)
        regions = [region(PartitionId(tile, 0), i, PixelBox(i, i, 40, 30)) for i in range(3)]
        slab = run.plan(*regions)
        for scan in regions:
            run.record(slab, scan)
    run.finish("stopped")


@pytest.mark.parametrize("does_sync", [True, False], ids=["synced", "control without sync"])
@pytest.mark.parametrize("images", [pytest.param(60), pytest.param(3000, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_power_cut_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, does_sync: bool
) -> None:
    cut = PowerCut(tmp_path / "run", does_sync)
    with monkeypatch.context() as patch:
        cut.install(patch)
        record_run(cut)
    lost = losses(cut, tmp_path, images)
    if does_sync:
        assert lost == 0
    else:
        assert lost > images / 4  # the test can see the fault
