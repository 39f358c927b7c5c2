"""The journal keeps every record, cuts a torn tail and refuses damage before it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_run import region, started

from sparse_actors.contracts.detector import Pois
from sparse_actors.errors import JournalError
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.messages import (
    ActorFailed,
    Message,
    MicroscopeIdle,
    PoisFound,
    RegionsPlanned,
    RunFinished,
    ScanId,
    ScanMissed,
    TileFinished,
)
from sparse_actors.recording import disk
from sparse_actors.recording import journal as journal_module
from sparse_actors.recording.journal import MARKER, Journal, inspect_journal, read_journal
from sparse_actors.wire import pack

tiles = st.builds(TileIndex, st.integers(0, 999), st.integers(0, 999))
partitions = st.builds(PartitionId, tiles, st.integers(0, 15))
scan_ids = st.builds(ScanId, partitions, st.none() | st.integers(0, 9999))
boxes = st.builds(PixelBox, *[st.integers(0, 5000)] * 2, *[st.integers(1, 500)] * 2)
points = st.lists(st.tuples(st.floats(0, 4096), st.floats(0, 4096)), max_size=20)
messages = st.one_of(
    st.builds(TileFinished, tile=tiles),
    st.builds(ScanMissed, scan_id=scan_ids, reason=st.text(max_size=60)),
    st.builds(ActorFailed, actor=st.text(max_size=9), error=st.text(max_size=99), is_final=st.booleans()),
    st.builds(
        PoisFound,
        partition=partitions,
        pois=st.builds(Pois.at, points),
        worker=st.text(max_size=9),
        elapsed_s=st.floats(0, 1e6),
    ),
    st.builds(
        RegionsPlanned,
        partition=partitions,
        scans=st.lists(st.builds(region, partitions, st.integers(0, 99), boxes, boxes), max_size=3).map(
            tuple
        ),
        strategy=st.sampled_from(["mask", "greedy"]),
        predicted_s=st.floats(0, 1e6),
    ),
)


def same(left: list[Message], right: list[Message]) -> bool:
    return [pack(message) for message in left] == [pack(message) for message in right]


def facts(count: int) -> list[Message]:
    return [started(), *(TileFinished(tile=TileIndex(0, i)) for i in range(count - 1))]


def written(path: Path, count: int) -> tuple[list[Message], list[int]]:
    """Write a journal; returns its messages and where each record ends, the file header first."""
    journal = Journal.create(path)
    ends, said = [path.stat().st_size], facts(count)
    for message in said:
        journal.append(message)
        ends.append(path.stat().st_size)
    journal.close()
    return said, ends


@settings(max_examples=40, deadline=None)
@given(st.lists(messages, max_size=12))
def test_what_is_appended_is_read_back(tmp_path_factory: pytest.TempPathFactory, said: list[Message]) -> None:
    path = tmp_path_factory.mktemp("round") / "journal"
    journal = Journal.create(path)
    for message in said:
        journal.append(message)
        assert same(read_journal(path)[-1:], [message])  # at once, while it is open for writing
    journal.close()
    again, found, warning = Journal.open(path)
    again.close()
    assert warning is None
    assert same(found, said)


def test_torn_tail_is_cut_wherever_it_is_torn(tmp_path: Path) -> None:
    whole = tmp_path / "journal"
    said, ends = written(whole, 5)
    content = whole.read_bytes()
    for length in range(len(content)):
        path = tmp_path / "torn"
        path.write_bytes(content[:length])
        if length < ends[0]:
            with pytest.raises(JournalError, match="byte 0"):
                Journal.open(path)
            assert path.read_bytes() == content[:length]
            continue
        kept = max(i for i, end in enumerate(ends) if end <= length)
        messages_read, warning = inspect_journal(path)
        assert same(messages_read, said[:kept])
        assert path.stat().st_size == length  # reading changes nothing
        journal, found, cut_warning = Journal.open(path)
        assert same(found, said[:kept])
        if length == ends[kept]:
            assert warning is None
            assert cut_warning is None
        else:
            assert f"byte {ends[kept]}" in str(warning)
            assert f"byte {ends[kept]}" in str(cut_warning)
            assert f" {length - ends[kept]} bytes" in str(cut_warning)
        journal.append(said[-1])
        journal.close()
        assert same(read_journal(path), [*said[:kept], said[-1]])


def test_no_flipped_bit_loses_a_middle_record_in_silence(tmp_path: Path) -> None:
    whole = tmp_path / "journal"
    said, ends = written(whole, 5)
    content = whole.read_bytes()
    path = tmp_path / "flipped"
    for offset in range(len(content)):
        for bit in (0, 3, 7):
            damaged = bytearray(content)
            damaged[offset] ^= 1 << bit
            path.write_bytes(damaged)
            record = max((i for i, end in enumerate(ends) if end <= offset), default=-1)
            if record == len(said) - 1:
                journal, found, warning = Journal.open(path)
                journal.close()
                assert same(found, said[:-1])
                assert warning is not None
                assert f"byte {ends[-2]}" in warning
            else:
                with pytest.raises(JournalError, match=f"byte {ends[record] if record >= 0 else 0}"):
                    Journal.open(path)
                with pytest.raises(JournalError):
                    read_journal(path)
                assert path.read_bytes() == bytes(damaged)


def test_copy_of_a_record_inside_another_is_not_mistaken_for_a_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    said, ends = written(path, 3)
    record = path.read_bytes()[ends[1] : ends[2]]
    # The torn record contains a whole frame, marker and checksum included.
    with path.open("ab") as file:
        file.write(MARKER + b"\xff\x00\x00\x00" + b"\x00" * 4 + b"text" + record)
    journal, found, warning = Journal.open(path)
    journal.close()
    assert same(found, said)
    assert warning is not None


def test_zeros_after_a_power_cut_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    said, ends = written(path, 3)
    with path.open("ab") as file:
        file.write(bytes(5000))
    journal, found, warning = Journal.open(path)
    journal.close()
    assert same(found, said)
    assert "5000 bytes" in str(warning)
    assert path.stat().st_size == ends[-1]


def test_future_format_and_unknown_message_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, 2)
    content = path.read_bytes()
    path.write_bytes(journal_module._header(2) + content[16:])
    with pytest.raises(JournalError, match="journal format 2"):
        Journal.open(path)

    payload = msgspec.msgpack.decode(pack(TileFinished(tile=TileIndex(0, 0))))
    header = msgspec.msgpack.decode(payload[0]) | {"kind": "SpectraMeasured"}
    newer = msgspec.msgpack.encode([msgspec.msgpack.encode(header)])
    path.write_bytes(content + journal_module._framed(newer, len(content)))
    with pytest.raises(JournalError, match=rf"byte {len(content)} .*SpectraMeasured.*newer version"):
        Journal.open(path)
    path.write_bytes(b"something else entirely")
    with pytest.raises(JournalError, match="byte 0"):
        read_journal(path)


def test_message_that_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal.create(path)
    endless = RegionsPlanned(
        partition=PartitionId(TileIndex(0, 0), 0), scans=(), strategy="mask", predicted_s=float("nan")
    )
    with pytest.raises(JournalError, match="not finite"):
        journal.append(endless)
    journal.append(started())
    journal.close()
    assert len(read_journal(path)) == 1


def test_concurrent_appends_are_whole_and_in_order_for_each_thread(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal.create(path)

    def write(row: int) -> None:
        for column in range(60):
            journal.append(TileFinished(tile=TileIndex(row, column)))
            if column % 7 == 0:
                journal.sync()

    threads = [threading.Thread(target=write, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    found = [message.tile for message in read_journal(path) if isinstance(message, TileFinished)]
    for row in range(4):
        assert [t.column for t in found if t.row == row] == list(range(60))


def test_one_daemon_only(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal.create(path)
    journal.append(started())
    with pytest.raises(JournalError, match="another process"):
        Journal.open(path)
    open_it = (
        "import sys, pathlib; from sparse_actors.recording.journal import Journal\n"
        "Journal.open(pathlib.Path(sys.argv[1]))"
    )
    refused = subprocess.run([sys.executable, "-c", open_it, str(path)], capture_output=True, text=True)
    assert "another process" in refused.stderr
    journal.close()
    journal.close()
    again, found, _ = Journal.open(path)
    again.close()
    assert len(found) == 1
    with pytest.raises(JournalError, match="exists already"):
        Journal.create(path)


def test_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    hold = (
        "import sys, pathlib; from sparse_actors.recording.journal import Journal\n"
        "j = Journal.create(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"held"
        with pytest.raises(JournalError, match="another process"):
            Journal.open(path)
        process.kill()
        process.wait()
    journal, found, _ = Journal.open(path)
    journal.close()
    assert found == []


@pytest.mark.parametrize("taken", [0, 1, 30])
def test_short_write_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    path = tmp_path / "journal"
    journal = Journal.create(path)
    journal.append(started())
    before = path.read_bytes()
    write = disk.write_once
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_once", lambda fd, data: write(fd, data[:taken]))
        with pytest.raises(OSError, match=f"took {taken} of"):
            journal.append(MicroscopeIdle(cause="budget"))
    assert path.read_bytes() == before
    journal.append(MicroscopeIdle(cause="budget"))  # there is room again
    journal.close()
    assert len(read_journal(path)) == 2


def test_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    journal = Journal.create(path)
    journal.append(started())
    syncs: list[int] = []

    def fail(fd: int) -> None:
        syncs.append(fd)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "sync_file", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.sync()
    for refused in (journal.sync, lambda: journal.append(MicroscopeIdle(cause="budget"))):
        with pytest.raises(OSError, match="a sync failed"):
            refused()
    assert len(syncs) == 1
    journal.close()
    assert len(read_journal(path)) == 1


def test_record_is_synced_before_the_next_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a power cut tears the last record only, and never leaves a whole one behind a torn one."""
    path = tmp_path / "journal"
    journal = Journal.create(path)
    done: list[str] = []
    sync, write = disk.sync_file, disk.write_once

    def logged_sync(fd: int) -> None:
        done.append("sync")
        sync(fd)

    def logged_write(fd: int, data: bytes) -> int:
        done.append("write")
        return write(fd, data)

    monkeypatch.setattr(disk, "sync_file", logged_sync)
    monkeypatch.setattr(disk, "write_once", logged_write)
    for _ in range(3):
        journal.append(MicroscopeIdle(cause="detection"))
    journal.sync()
    journal.sync()
    journal.close()
    assert done == ["write", "sync", "write", "sync", "write", "sync"]


def test_arrays_come_back_read_only(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal.create(path)
    pois = Pois.at([(1.5, 2.5), (3.0, 4.0)])
    journal.append(PoisFound(partition=PartitionId(TileIndex(0, 0), 1), pois=pois, worker="w", elapsed_s=1.0))
    journal.append(RunFinished(outcome="stopped", reason="asked"))
    journal.close()
    found: Any = read_journal(path)[0]
    np.testing.assert_array_equal(found.pois.xy_px, pois.xy_px)
    assert not found.pois.xy_px.flags.writeable
