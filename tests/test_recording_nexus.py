"""The result file shows every recorded pixel at its place, and can be made again at any time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_run import ANALYSIS, FAST, TILES, RecordedRun, region, started, whole_run

from sparse_actors.errors import JournalError
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.messages import RunFinished, RunStarted, ScanId, StorageReserved
from sparse_actors.recording import disk, nexus, packed
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.mosaic import Mosaic, uncovered
from sparse_actors.recording.nexus import finalize
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify

ORIGINS = {TILES[0]: (0, 0), TILES[1]: (56, 0), TILES[2]: (0, 42), TILES[3]: (56, 42)}
"""First pixel (column, row) of each tile at 1 um pixels: the area less a field of view, per step."""
LOST = ScanId(PartitionId(TILES[2], 0), 1)


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    return whole_run(tmp_path / "run", "uint16")


def painted(run: RecordedRun, *, fast: bool) -> np.ndarray:
    """Paint the panorama pixel by pixel, the first scan on top."""
    step = 2 if fast else 1  # analysis pixels per pixel of this grid
    scans = RunRecord.open(run.path).scans
    picture = np.zeros((90 // step, 120 // step), dtype=run.pixel_type)
    is_free = np.ones(picture.shape, dtype=bool)
    for scan_id in sorted(run.images, key=str):
        if scan_id.is_fast is not fast:
            continue
        scan = scans[scan_id]
        x0, y0 = (n // step for n in ORIGINS[scan_id.partition.tile])
        values = iter(run.images[scan_id].ravel())
        for row, column in np.argwhere(scan.mask()):
            at = (y0 + scan.box.top + row, x0 + scan.box.left + column)
            value = next(values)
            if is_free[at]:
                picture[at], is_free[at] = value, False
    return picture


def everything(path: Path) -> dict[str, Any]:
    """All datasets and attributes of the result, links followed."""
    found: dict[str, Any] = {}

    def visit(name: str, group: Any) -> None:
        found[f"{name}@"] = {key: np.array(value).tolist() for key, value in group.attrs.items()}
        if isinstance(group, h5py.Dataset):
            found[name] = repr(np.asarray(group[()]).tolist())  # NaN equals NaN
            return
        for key in group:
            visit(f"{name}/{key}", group[key])

    with h5py.File(path) as file:
        visit("", file)
    return found


@pytest.mark.parametrize("pixel_type", ["uint8", "uint16"])
def test_panoramas_hold_every_pixel_at_its_place(tmp_path: Path, pixel_type: str) -> None:
    run = whole_run(tmp_path, pixel_type)
    finalize(run.path)
    with h5py.File(run.path / "run.nxs") as file:
        entry = file["entry"]
        np.testing.assert_array_equal(entry["panorama_fast/data"][()], painted(run, fast=True))
        np.testing.assert_array_equal(entry["panorama_analysis/data"][()], painted(run, fast=False))
        np.testing.assert_array_equal(entry["overview/data"][()], painted(run, fast=True))
        assert entry["panorama_fast/data"].is_virtual
        assert not entry["overview/data"].is_virtual
        assert entry["panorama_analysis/data"].dtype == run.pixel_type
        np.testing.assert_allclose(entry["panorama_fast/x"][:3], [0, 2, 4])
        np.testing.assert_allclose(entry["panorama_analysis/data"].attrs["element_size_um"], [1, 1, 1])
        assert entry["panorama_fast/x"].attrs["units"] == "um"


def test_stack_and_rescans_are_linked_and_compressed(run: RecordedRun) -> None:
    finalize(run.path)
    with h5py.File(run.path / "run.nxs") as file:
        stack = file["entry/measurement/event_fast/image_fast/stack_2d"]
        assert stack["real"].shape == (4, 24, 32)
        assert list(stack["tile"].asstr()) == [str(tile) for tile in TILES]
        for plane, tile in enumerate(TILES):
            wanted = np.vstack([run.images[ScanId(PartitionId(tile, i))] for i in range(2)])
            np.testing.assert_array_equal(stack["real"][plane], wanted)
        regions = file["entry/regions"]
        status, paths = regions["status"].asstr()[()].tolist(), regions["path"].asstr()[()]
        assert status == ["recorded"] * 5 + ["missed"]
        assert paths[-1] == ""
        np.testing.assert_array_equal(
            regions["r000c000/4_4_16_12"][()], run.images[ScanId(PartitionId(TILES[0], 0), 0)]
        )
        mask = file["entry/regions"][paths[3]]
        wanted = np.zeros((12, 12), dtype=run.pixel_type)
        wanted[RunRecord.open(run.path).scans[ScanId(PartitionId(TILES[1], 0), 0)].mask()] = run.images[
            ScanId(PartitionId(TILES[1], 0), 0)
        ]
        np.testing.assert_array_equal(mask[()], wanted)
        assert mask.attrs["scan_id"] == "r000c001p0r0000"
    for name, where in (("fast.h5", "real"), ("regions.h5", paths[3])):
        with h5py.File(run.path / "data" / name) as file:
            dataset = file[where]
            assert dataset.chunks is not None
            assert (dataset.compression, dataset.compression_opts, dataset.shuffle) == ("gzip", 1, True)


def test_tables_say_where_and_when(run: RecordedRun) -> None:
    finalize(run.path)
    with h5py.File(run.path / "run.nxs") as file:
        entry = file["entry"]
        assert entry["start_time"].asstr()[()] == "2023-11-14T22:13:20+00:00"
        assert entry["end_time"].asstr()[()] == "2023-11-14T22:13:32.500000+00:00"
        assert entry["note_config/description"].asstr()[()] == started().config_toml
        tiles = entry["tiles"]
        assert tiles["stage_x_mm"][()].tolist() == [1, 2, 1, 2]
        assert tiles["stage_x_mm"].attrs["units"] == "mm"
        assert np.isnan(tiles["brightness_pct"][()]).all()
        assert tiles["fast_scans_recorded"][()].tolist() == [2, 2, 2, 2]
        regions = entry["regions"]
        # The centre of 4_4_16_12 is 12 x 10 um from the corner of the area at (1.0, 2.0) mm.
        assert regions["stage_x_mm"][0] == pytest.approx(1.012)
        assert regions["stage_y_mm"][0] == pytest.approx(2.010)
        assert len(entry["pois/x_px"]) == 6
        assert entry["pois/stage_x_mm"][0] == pytest.approx(1.012)
        timing = entry["timing"]
        assert len(timing["scan"]) == 13
        assert timing["exposures"][()].tolist() == [1] * 13
        np.testing.assert_allclose(timing["pause_before_s"][()], [0] + [0.5] * 12)
        assert timing["dwell_ns"][()].tolist() == [300.0] * 8 + [3200.0] * 5


def test_images_are_readable_before_and_after_packing(run: RecordedRun) -> None:
    record = RunRecord.open(run.path)
    for _ in range(2):
        for scan_id, image in run.images.items():
            np.testing.assert_array_equal(record.image(scan_id), image)
            assert not record.image(scan_id).flags.writeable
        finalize(run.path)
    with pytest.raises(KeyError):
        record.image(LOST)
    assert verify(run.path).problems == []


def test_slabs_go_when_their_images_are_packed_and_the_run_is_completed(tmp_path: Path) -> None:
    stopped = whole_run(tmp_path / "stopped", outcome="stopped")
    finalize(stopped.path)
    assert len(list(stopped.store.folder.data.glob("*.h5"))) == 4 + 3 + 2

    completed = whole_run(tmp_path / "completed")
    (completed.path / "data" / "r000c009-fast.h5.tmp").write_bytes(b"left by a crash")
    finalize(completed.path)
    # The slab with the missed scan stays, for a session that tries it again.
    assert sorted(path.name for path in completed.store.folder.data.iterdir()) == [
        "fast.h5",
        "r001c000p0-regions.h5",
        "regions.h5",
    ]


def test_resumed_run_is_packed_again_with_what_came_later(run: RecordedRun) -> None:
    finalize(run.path)
    journal, _, _ = Journal.open(run.store.folder.journal)
    run.journal = journal
    journal.append(started(1))
    run.record("r001c000p0-regions", RunRecord.open(run.path).scans[LOST])
    tile = TileIndex(1, 1)
    extra = region(PartitionId(tile, 1), 0, PixelBox(30, 30, 9, 9))
    run.record(run.plan(extra), extra)
    run.finish()
    finalize(run.path)
    with h5py.File(run.path / "run.nxs") as file:
        np.testing.assert_array_equal(file["entry/panorama_analysis/data"][()], painted(run, fast=False))
    assert not list(run.store.folder.data.glob("*-*.h5"))
    report = verify(run.path)
    assert (report.problems, report.scans_checked) == ([], 15)
    assert report.pixels == sum(image.size for image in run.images.values())


def test_made_again_it_is_the_same(run: RecordedRun, tmp_path: Path) -> None:
    finalize(run.path)
    first = everything(run.path / "run.nxs")
    packed_before = (run.path / "data" / "fast.h5").stat().st_mtime_ns
    finalize(run.path)
    assert everything(run.path / "run.nxs") == first
    assert (run.path / "data" / "fast.h5").stat().st_mtime_ns == packed_before  # not packed again
    moved = tmp_path / "elsewhere"
    shutil.move(run.path, moved)
    assert everything(moved / "run.nxs") == first
    (moved / "run.nxs").unlink()
    finalize(moved)
    assert everything(moved / "run.nxs") == first


STEPS = ["publish 0", "publish 1", "publish 2", "publish 3", "pack_regions", "_write_master", "write_sidecar"]


@pytest.mark.parametrize("step", [*STEPS, "unlink 0", "unlink 3"])
def test_killed_at_any_step_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run, undisturbed = whole_run(tmp_path / "killed"), whole_run(tmp_path / "whole")
    finalize(undisturbed.path)
    name, _, number = step.partition(" ")
    left = int(number or 0)
    where = {"publish": disk, "unlink": Path}.get(name, nexus)
    real = getattr(where, name)

    def die_at(*args: Any, **options: Any) -> Any:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, die_at)
        with pytest.raises(KeyboardInterrupt):
            finalize(run.path)
    assert verify(run.path).problems == []
    for scan_id, image in run.images.items():
        np.testing.assert_array_equal(RunRecord.open(run.path).image(scan_id), image)
    finalize(run.path)
    assert everything(run.path / "run.nxs") == everything(undisturbed.path / "run.nxs")
    assert {p.name for p in run.path.rglob("*")} == {p.name for p in undisturbed.path.rglob("*")}


def test_packed_file_that_does_not_read_back_gets_no_name(
    run: RecordedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed.PackedFile, "read", lambda self, scan: np.zeros(scan.shape, run.pixel_type))
    with pytest.raises(JournalError, match="does not read back"):
        finalize(run.path)
    assert not (run.path / "data" / "fast.h5").exists()
    assert run.store.folder.slab("r000c000-fast").exists()


@pytest.mark.parametrize("tiles", [0, 1])
def test_run_that_ended_early_has_a_result_too(tmp_path: Path, tiles: int) -> None:
    run = RecordedRun(tmp_path)
    for tile in TILES[:tiles]:
        run.fast(tile)
    run.finish("failed")
    finalize(tmp_path)
    with h5py.File(tmp_path / "run.nxs") as file:
        assert file["entry/outcome"].asstr()[()] == "failed"
        assert ("panorama_fast" in file["entry"]) is bool(tiles)
        assert "panorama_analysis" not in file["entry"]
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if getattr(item, "size", 1) == 0 else None)
        assert found == []  # an empty array stops HyperSpy's NeXus reader
    assert verify(tmp_path).problems == []


def test_overview_of_a_large_panorama_averages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = whole_run(tmp_path)
    monkeypatch.setattr(nexus, "OVERVIEW_MAX_PX", 25)
    finalize(run.path)
    with h5py.File(run.path / "run.nxs") as file:
        picture = painted(run, fast=True)[:45, :60]
        assert file["entry/overview/data"].shape == (15, 20)
        wanted = picture.reshape(15, 3, 20, 3).mean(axis=(1, 3)).round()
        np.testing.assert_array_equal(file["entry/overview/data"][()], wanted)
        np.testing.assert_allclose(file["entry/overview/x"][:2], [0, 6])


@given(
    st.builds(PixelBox, *[st.integers(0, 12)] * 2, *[st.integers(1, 9)] * 2),
    st.lists(st.builds(PixelBox, *[st.integers(0, 12)] * 2, *[st.integers(1, 9)] * 2), max_size=6),
)
def test_uncovered_parts_are_exactly_what_is_left(box: PixelBox, covers: list[PixelBox]) -> None:
    wanted = np.zeros((24, 24), dtype=int)
    wanted[box.slices] = 1
    for cover in covers:
        wanted[cover.slices] = 0
    found = np.zeros_like(wanted)
    for part in uncovered(box, covers):
        found[part.slices] += 1
    np.testing.assert_array_equal(found, wanted)


def test_mosaic_of_a_rotated_area_is_upright(tmp_path: Path) -> None:
    panorama = RunRecord.open(whole_run(tmp_path).path).panorama
    mosaic = Mosaic(panorama, ANALYSIS.size_px)
    assert mosaic.shape == (90, 120)
    assert {tile: mosaic.origin_px(tile) for tile in TILES} == ORIGINS
    turned = type(panorama)(((0.0, 0.0), (0.0, 0.12), (-0.09, 0.0)), panorama.tile_fov_mm, panorama.overlap)
    assert Mosaic(turned, FAST.size_px).shape == (45, 60)
    x_mm, y_mm = Mosaic(turned, ANALYSIS.size_px).stage_mm(TileIndex(0, 0), 10, 0)
    assert (x_mm, y_mm) == (pytest.approx(0), pytest.approx(0.01))  # to the right is up the stage's y


# -- verify and RunRecord --------------------------------------------------------------------


def test_record_folds_the_journal(run: RecordedRun) -> None:
    record = RunRecord.open(run.path)
    assert record.recorded.keys() == run.images.keys()
    assert record.missed.keys() == {LOST}
    assert record.unrecorded_exposures == {LOST: 1}
    assert record.finished_tiles == set(TILES)
    assert record.outcome is not None
    totals = record.totals
    assert totals.fast_pixels == 4 * 24 * 32
    assert totals.analysis_pixels == sum(i.size for s, i in run.images.items() if not s.is_fast)
    assert totals.exposed_pixels == totals.fast_pixels + totals.analysis_pixels + 64
    assert totals.fast_s == pytest.approx(4.0)
    assert totals.analysis_s == pytest.approx(2.5)
    assert [record.status(i) for i in (LOST, next(iter(run.images)))] == ["missed", "recorded"]
    report = verify(run.path)
    assert report.problems == []
    assert report.scans_checked == 13
    assert report.pixels == totals.fast_pixels + totals.analysis_pixels
    assert any("the scan failed three times" in warning for warning in report.warnings)


def appended(run: RecordedRun, *messages: Any) -> None:
    journal, _, _ = Journal.open(run.store.folder.journal)
    for message in messages:
        journal.append(message)
    journal.close()


def test_verify_finds_flipped_pixel_wherever_it_lies(run: RecordedRun) -> None:
    slab = run.store.folder.slab("r000c001-fast")
    with slab.open("r+b") as file:
        with h5py.File(slab) as described:
            at = described["0_12_32_12"].id.get_offset() + 5
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    (problem,) = verify(run.path).problems
    assert "r000c001p1" in problem
    assert "checksum" in problem


def test_verify_finds_missing_and_foreign_slabs(run: RecordedRun) -> None:
    run.store.folder.slab("r000c001-fast").unlink()
    shutil.copy(run.store.folder.slab("r000c000-fast"), run.store.folder.slab("r009c009-fast"))
    shutil.copy(run.store.folder.slab("r001c001-fast"), run.store.folder.slab("r001c000-fast"))
    run.store.reserve("r008c008-fast", (region(PartitionId(TILES[0], 3), 0, PixelBox(0, 0, 2, 2)),), "uint8")
    run.store.folder.slab("r000c000p0-regions").write_bytes(b"")
    report = verify(run.path)
    text = "\n".join(report.problems)
    assert "r009c009-fast.h5 holds 2 images but is not in the journal" in text
    assert "r001c000-fast.h5 is not laid out" in text
    assert "scan r000c001p0" in text
    assert "r000c000p0-regions" in text
    assert any("r008c008-fast.h5 holds 0 images" in warning for warning in report.warnings)


def test_verify_finds_doubled_and_missing_records(run: RecordedRun) -> None:
    record = RunRecord.open(run.path)
    doubled = record.recorded[ScanId(PartitionId(TILES[0], 0))]
    unknown = region(PartitionId(TILES[3], 1), 7, PixelBox(0, 0, 2, 2))
    appended(
        run,
        doubled,
        StorageReserved(slab="r001c001p1-regions", scans=(unknown,), pixel_type="uint8"),
        RunFinished(outcome="completed", reason=""),
    )
    problems = "\n".join(verify(run.path).problems)
    assert "scan r000c000p0 is recorded twice" in problems
    assert "scan r001c001p1r0007 is neither recorded nor missed" in problems


def test_verify_reports_unacknowledged_pixels_and_torn_journal(run: RecordedRun) -> None:
    record = RunRecord.open(run.path)
    run.store.write("r001c000p0-regions", record.scans[LOST], np.zeros((8, 8), run.pixel_type))
    with run.store.folder.journal.open("ab") as file:
        file.write(b"\xf5rec")
    report = verify(run.path)
    assert report.problems == []
    assert any("r001c000p0r0001" in w and "never acknowledged" in w for w in report.warnings)
    assert any("not a whole record" in w for w in report.warnings)


def test_verify_reports_what_is_no_run_or_a_damaged_one(run: RecordedRun, tmp_path: Path) -> None:
    assert "no journal" in verify(tmp_path).problems[0]
    content = bytearray(run.store.folder.journal.read_bytes())
    content[100] ^= 1
    run.store.folder.journal.write_bytes(content)
    assert "byte 16 is damaged" in verify(run.path).problems[0]


def test_new_session_opens_what_was_missed(run: RecordedRun) -> None:
    appended(run, started(1))
    record = RunRecord.open(run.path)
    assert record.status(LOST) == "exposed"
    assert record.outcome is None
    assert TILES[2] not in record.finished_tiles
    assert [type(s) for s in record.sessions] == [RunStarted, RunStarted]


# -- other readers, where they are installed -------------------------------------------------


def test_hyperspy_loads_the_result_lazily(run: RecordedRun) -> None:
    hyperspy = pytest.importorskip("hyperspy.api", reason="hyperspy is not installed")
    dask = pytest.importorskip("dask", reason="dask is not installed")
    dask.config.set(scheduler="synchronous")  # no pool of threads that outlives the test
    finalize(run.path)
    for signals in (
        hyperspy.load(str(run.path / "run.hspy"), lazy=True),
        hyperspy.load(str(run.path / "run.nxs"), file_format="HSPY", lazy=True),
    ):
        titled = {signal.metadata.General.title: signal for signal in signals}
        assert set(titled) == {"tiles_fast", "overview"}
        fast = titled["tiles_fast"]
        assert fast._lazy
        assert fast.axes_manager.navigation_shape == (4,)
        assert fast.axes_manager.signal_shape == (32, 24)
        assert [axis.units for axis in fast.axes_manager.signal_axes] == ["µm", "µm"]
        assert fast.axes_manager.signal_axes[0].scale == pytest.approx(2.0)
        np.testing.assert_array_equal(
            fast.data[0].compute(),
            np.vstack([run.images[ScanId(PartitionId(TILES[0], i))] for i in range(2)]),
        )
        np.testing.assert_array_equal(titled["overview"].data.compute(), painted(run, fast=True))
    default = hyperspy.load(str(run.path / "run.nxs"), use_default=True)
    assert default.data.shape == (45, 60)


def test_silx_finds_valid_plots(run: RecordedRun) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata", reason="silx is not installed")
    finalize(run.path)
    with h5py.File(run.path / "run.nxs") as file:
        default = nxdata.get_default(file)
        np.testing.assert_array_equal(default.signal[()], painted(run, fast=True))
        found = []
        file.visititems(lambda name, group: found.append(name) if is_nxdata(group) else None)
        stack = "entry/measurement/event_fast/image_fast/stack_2d"
        assert sorted(found) == sorted(
            ["entry/overview", "entry/panorama_analysis", "entry/panorama_fast", stack]
        )
        for name in found:
            plot = nxdata.NXdata(file[name])
            assert plot.is_valid, (name, plot.issues)
            assert plot.interpretation == "image"


def is_nxdata(group: Any) -> bool:
    return bool(group.attrs.get("NX_class") == "NXdata")


def test_pynxtools_validates_the_result(run: RecordedRun) -> None:
    pytest.importorskip("pynxtools", reason="pynxtools is not installed")
    finalize(run.path)
    pynx = shutil.which("pynx", path=str(Path(sys.executable).parent))
    assert pynx is not None
    result = subprocess.run(
        [pynx, "validate", str(run.path / "run.nxs"), "--ignore-undocumented"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    said = " ".join((result.stdout + result.stderr).replace("`", "").split())
    assert "is valid according to the NXem application definition" in said
    assert "WARNING" not in said
