"""A run opened for reading: whole, interrupted, damaged, going on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_run import ANALYSIS, TILES, RecordedRun, region, whole_run
from test_recording_maps import AXIS, LIVE_S, recorded_map

import sparse_actors
from sparse_actors.errors import JournalError
from sparse_actors.geometry import PartitionId, PixelBox
from sparse_actors.messages import ScanId
from sparse_actors.recording.nexus import finalize
from sparse_actors.results import picture
from sparse_actors.results.run import TABLES, Run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordedRun, Run]:
    run = whole_run(tmp_path_factory.mktemp("whole") / "run", "uint16")
    finalize(run.path)
    return run, sparse_actors.Run.open(str(run.path))


def test_panoramas_are_those_of_the_result_file(whole: tuple[RecordedRun, Run]) -> None:
    recorded, run = whole
    with h5py.File(recorded.path / "run.nxs") as file:
        for name, shown in (("fast", run.panorama_fast), ("analysis", run.panorama_analysis)):
            assert shown is not None
            data = file[f"entry/panorama_{name}"]
            np.testing.assert_array_equal(np.asarray(shown), data["data"][()])
            assert shown.dtype == data["data"].dtype == np.uint16
            np.testing.assert_allclose(shown.pixel_um[::-1], data["data"].attrs["element_size_um"][1:])
    assert run.panorama_fast is not None
    assert run.panorama_fast.extent_um == pytest.approx((0, 120, 90, 0))
    assert run.panorama_fast.coords["x"][0] == pytest.approx(1.0)  # the middle of a pixel of 2 um


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_indexing_is_that_of_numpy(whole: tuple[RecordedRun, Run], data: st.DataObject) -> None:
    shown = whole[1].panorama_analysis
    assert shown is not None
    every = shown[:]
    index = tuple(
        data.draw(st.one_of(st.integers(-size, size - 1), st.slices(size)), label=f"axis {axis}")
        for axis, size in enumerate(shown.shape)
    )
    np.testing.assert_array_equal(shown[index], every[index])


def test_a_picture_refuses_what_would_fill_the_memory(
    whole: tuple[RecordedRun, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = whole[1].panorama_analysis
    assert shown is not None
    monkeypatch.setattr(picture, "MOST_READ_BYTES", 1000)
    with pytest.raises(ValueError, match="GB at once; read a part"):
        np.asarray(shown)
    assert shown[:20, :20].shape == (20, 20)
    with pytest.raises(IndexError, match="expected numbers or slices"):
        shown[np.array([1, 2])]
    blocks = list(shown.blocks(31, 50))
    assert sum(box.area for box, _ in blocks) == 90 * 120
    means = shown.reduced(7)
    monkeypatch.undo()
    for box, pixels in blocks:
        np.testing.assert_array_equal(pixels, shown[box.slices])
    squares = shown[: 12 * 7, : 17 * 7].reshape(12, 7, 17, 7).mean(axis=(1, 3))
    np.testing.assert_array_equal(means, squares.round())


def test_scans_are_kept_up_to_a_limit(
    whole: tuple[RecordedRun, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "CACHED_BYTES", 3000)
    run = Run.open(whole[0].path)
    assert run.panorama_fast is not None
    assert whole[1].panorama_fast is not None
    for _ in range(2):
        np.testing.assert_array_equal(run.panorama_fast[:], whole[1].panorama_fast[:])
    assert run._cache._bytes <= 3000


def test_tiles_and_regions_say_what_and_where(whole: tuple[RecordedRun, Run]) -> None:
    recorded, run = whole
    assert list(run.tiles) == [str(tile) for tile in TILES]
    tile = run.tiles["r000c001"]
    assert (tile.status, tile.working_distance_mm, tile.brightness_pct) == ("finished", 10.0, None)
    assert tile.stage_mm == pytest.approx((1.088, 2.024))
    assert tile.read_back_mm == (2.0, 2.0)
    assert tile.fast is not None
    assert tile.analysis is not None
    wanted = np.vstack([recorded.images[ScanId(PartitionId(TILES[1], i))] for i in range(2)])
    np.testing.assert_array_equal(tile.fast, wanted)
    assert tile.fast.origin_um == pytest.approx((56, 0))
    (mask,) = tile.regions
    np.testing.assert_array_equal(mask.image[mask.mask], recorded.images[mask.scan.id])
    assert not mask.image[~mask.mask].any()
    np.testing.assert_array_equal(tile.analysis[mask.box.slices], mask.image)
    assert tile.analysis.is_scanned(PixelBox(0, 0, 64, 48)).sum() == mask.mask.sum()
    assert [region.status for region in run.regions] == ["recorded"] * 5 + ["missed"]
    first = run.regions[0]
    assert (first.source, first.dwell_ns, first.pixel_um) == ("detector", 3200.0, pytest.approx((1.0, 1.0)))
    assert first.stage_mm == pytest.approx((1.012, 2.010))
    with pytest.raises(LookupError, match="missed"):
        _ = run.regions[-1].image


def test_tables_have_columns_of_one_length(whole: tuple[RecordedRun, Run]) -> None:
    run = whole[1]
    for name in TABLES:
        columns = run.table(name)
        assert len({len(column) for column in columns.values()}) == 1
        assert all(isinstance(column, (list, np.ndarray)) for column in columns.values())
    assert len(run.sites["x_px"]) == 6
    with pytest.raises(LookupError, match="expected one of tiles, regions, sites"):
        run.table("pois")


def test_whole_run_tells_what_was_missed(whole: tuple[RecordedRun, Run]) -> None:
    run = whole[1]
    assert (run.state, run.name, run.started.year) == ("completed", "steel", 2023)
    assert [text for text in run.problems if "r0001 is missing" in text] == list(run.problems)
    assert "completed, 4 tiles, 6 regions" in repr(run)


def test_an_interrupted_run_has_what_is_safe(tmp_path: Path) -> None:
    recorded = RecordedRun(tmp_path / "run")
    recorded.fast(TILES[0])
    recorded.plan(region(PartitionId(TILES[0], 0), 0, PixelBox(4, 4, 16, 12)))
    run = Run.open(recorded.path)
    assert (run.state, list(run.tiles)) == ("interrupted", ["r000c000"])
    assert run.tiles["r000c000"].status == "unfinished"
    assert run.panorama_fast is not None
    assert run.panorama_fast[:24, :32].all()
    assert not run.panorama_fast[24:].any()
    assert run.panorama_analysis is None
    assert [region.status for region in run.regions] == ["planned"]
    (recorded.path / "control.json").write_text(json.dumps({"pid": os.getpid()}))
    assert run.state == "running"
    (recorded.path / "control.json").write_text("{")
    assert run.state == "interrupted"
    recorded.journal.close()
    whole = (recorded.path / "journal").read_bytes()
    (recorded.path / "journal").write_bytes(whole[:-3])
    (torn,) = Run.open(recorded.path).problems
    assert "not a whole record" in torn


def test_what_is_damaged_is_left_out_and_told(tmp_path: Path) -> None:
    recorded = whole_run(tmp_path / "run")
    scan_id = ScanId(PartitionId(TILES[0], 0), 0)
    slab = tmp_path / "run" / "data" / "r000c000p0-regions.h5"
    content = slab.read_bytes()
    slab.write_bytes(content.replace(recorded.images[scan_id].tobytes(), bytes(16 * 12)))
    run = Run.open(recorded.path)
    before = len(run.problems)
    shown = run.tiles["r000c000"].analysis
    assert shown is not None
    assert not shown[4:16, 4:20].any()
    assert shown[4:16, 52:60].any()
    (told,) = run.problems[before:]
    assert f"scan {scan_id} cannot be read" in told
    with pytest.raises(JournalError, match="checksum"):
        _ = run.regions[0].image


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="is not a run"):
        Run.open(tmp_path)


def test_a_map_and_its_spectra(tmp_path: Path) -> None:
    field, points_px = recorded_map(tmp_path)
    run = Run.open(tmp_path)
    (shown,) = run.maps.values()
    assert (shown.name, shown.is_complete, shown.phases) == (str(field), True, ("phase 1",))
    assert shown.pitch_um == pytest.approx(4.0)
    assert shown.coords["x"][0] == pytest.approx(10.0)  # the field begins at point 2
    assert shown.shares == {"phase 1": 1.0}
    spectra, counts = shown.spectra, np.arange(80).reshape(4, 20)
    np.testing.assert_array_equal(spectra.points_px, points_px)
    np.testing.assert_array_equal(spectra[:], counts)
    np.testing.assert_array_equal(spectra[-1], counts[-1])
    assert spectra[4:].shape == (0, 20)
    np.testing.assert_array_equal(shown.spectrum_at(4, 3), counts[1])
    assert spectra.energy_kev[0] == pytest.approx(AXIS.offset_kev + AXIS.scale_kev / 2)
    total, live_s = shown.phase_spectrum("phase 1")
    np.testing.assert_array_equal(total, counts.sum(axis=0))
    assert live_s == pytest.approx(4 * LIVE_S)
    np.testing.assert_array_equal(spectra.sum(np.array([True, False, False, True]))[0], counts[[0, 3]].sum(0))
    assert np.isnan(shown.distortion)
    with pytest.raises(LookupError, match=r"no spectrum was taken at \(0, 0\)"):
        shown.spectrum_at(0, 0)
    with pytest.raises(LookupError, match="expected one of phase 1"):
        shown.phase_spectrum("cementite")
    assert run.table("maps")["spectra"].tolist() == [4]
    assert run.panorama_fast is None


def test_a_field_that_was_not_finished_shows_its_points(tmp_path: Path) -> None:
    recorded_map(tmp_path)
    run = Run.open(tmp_path)
    run.record.maps.mapped.clear()
    (shown,) = run.maps.values()
    assert (shown.is_complete, shown.labels.shape) == (False, (12, 16))
    assert np.argwhere(shown.labels).tolist() == [[2, 2], [3, 4], [5, 3], [5, 5]]
    assert shown.spectrum_labels.tolist() == [1] * 4


def test_pandas_and_xarray_take_it(whole: tuple[RecordedRun, Run], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("xarray", reason="xarray is not installed")
    run = whole[1]
    assert pandas.DataFrame(run.sites)["x_px"].mean() > 0
    assert run.panorama_analysis is not None
    array = run.panorama_analysis.to_xarray(slice(10, 20), slice(None, None, 2))
    np.testing.assert_array_equal(array.sel(y=12.5, method="nearest"), run.panorama_analysis[12, ::2])
    assert array.x.attrs["units"] == "um"
    recorded_map(tmp_path)
    (shown,) = Run.open(tmp_path).maps.values()
    assert shown.to_xarray()["labels"].shape == (4, 4)
    assert ANALYSIS.size_px == run.record.analysis_px
