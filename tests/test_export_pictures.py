"""Exported pictures as the programs that they are for read them: pixels, scale and units."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from recorded_run import whole_run
from test_recording_maps import AXIS, recorded_map

from sparse_actors.errors import ExportError
from sparse_actors.export import ome_tiff, ome_zarr, tiff_files
from sparse_actors.export.formats import export
from sparse_actors.results.picture import Picture
from sparse_actors.results.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four tiles; pixels of 2 um in the fast panorama, 60 x 45, and of 1 um in the other."""
    return Run.open(whole_run(tmp_path_factory.mktemp("run"), "uint16").path)


@pytest.fixture
def pictures(run: Run) -> list[Picture]:
    assert run.panorama_fast is not None
    assert run.panorama_analysis is not None
    return [run.panorama_fast, run.panorama_analysis]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many strips, tiles and levels of a small picture."""
    monkeypatch.setattr(ome_tiff, "SMALLEST_PX", 16)
    monkeypatch.setattr(ome_tiff, "STRIP_ROWS", 16)
    monkeypatch.setattr(ome_tiff, "TILE_PX", 16)
    monkeypatch.setattr(ome_zarr, "CHUNK_PX", 16)
    monkeypatch.setattr(tiff_files, "STRIP_ROWS", 16)


@pytest.fixture
def zarr() -> Iterator[Any]:
    package = pytest.importorskip("zarr", reason="zarr is not installed")
    yield package
    package.core.sync.cleanup_resources()


def halved(pixels: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2, written another way."""
    rows, columns = (n // 2 * 2 for n in pixels.shape)
    even = pixels[:rows, :columns].astype(float)
    return np.round((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)


def test_pyramid_of_an_ome_tiff(
    run: Run, pictures: list[Picture], small_blocks: None, tmp_path: Path
) -> None:
    done = export(run, "ome-tiff", tmp_path / "run.ome.tif")
    assert done.problems == ()
    assert [path.name for path in tmp_path.iterdir()] == ["run.ome.tif"]
    with tifffile.TiffFile(done.path) as file:
        assert file.is_ome
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        assert len(file.series) == len(pixels) == 2
        for series, image, picture in zip(file.series, pixels, pictures, strict=True):
            assert image["Pixels"]["PhysicalSizeX"] == pytest.approx(picture.pixel_um[0])
            assert image["Pixels"]["PhysicalSizeYUnit"] == "µm"
            assert picture.name in image["Name"]
            wanted = picture[:]
            assert len(series.levels) == (3 if picture.shape[1] == 60 else 4)
            for number, level in enumerate(series.levels):
                np.testing.assert_array_equal(level.asarray(), wanted)
                per_cm, _ = level.pages[0].tags["XResolution"].value
                per_cm /= level.pages[0].tags["XResolution"].value[1]
                assert 1e4 / per_cm == pytest.approx(picture.pixel_um[0] * 2**number, rel=1e-5)
                wanted = halved(wanted)


def test_imagej_reads_micrometres(
    run: Run, pictures: list[Picture], small_blocks: None, tmp_path: Path
) -> None:
    export(run, "imagej-tiff", tmp_path / "out")
    for picture in pictures:
        with tifffile.TiffFile(tmp_path / "out" / f"{picture.name.replace(' ', '_')}.tif") as file:
            assert file.is_imagej
            assert file.imagej_metadata["unit"] == "micron"
            per_um, of = file.pages[0].tags["XResolution"].value
            assert of / per_um == pytest.approx(picture.pixel_um[0], rel=1e-5)
            np.testing.assert_array_equal(file.asarray(), picture[:])


def test_hyperspy_reads_the_scale_of_tiffs(run: Run, pictures: list[Picture], tmp_path: Path) -> None:
    """That of ImageJ by itself, that of other TIFFs when told to."""
    reader = pytest.importorskip("rsciio.tiff", reason="rosettasciio is not installed")
    export(run, "imagej-tiff", tmp_path / "imagej")
    export(run, "paper-tiff", tmp_path / "paper")
    fast, rescan = tmp_path / "paper" / "tile_00000" / "0_0_64_24.tiff", "tile_00000/4_4_16_12.tiff"
    for path, pixel_um, told in (
        (tmp_path / "imagej" / "fast_scans.tif", 2.0, {}),
        (tmp_path / "imagej" / "analysis_scans.tif", 1.0, {}),
        (fast, 2.0, {"force_read_resolution": True}),
        (tmp_path / "paper" / rescan, 1.0, {"force_read_resolution": True}),
    ):
        (signal,) = reader.file_reader(str(path), **told)
        assert [axis["units"] for axis in signal["axes"]] == ["µm", "µm"]
        assert [axis["scale"] for axis in signal["axes"]] == pytest.approx([pixel_um] * 2)


def test_what_imagej_cannot_take_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_files, "MOST_IMAGEJ_PX", 3000)
    with pytest.raises(ExportError, match="export to ome-tiff instead"):
        export(run, "imagej-tiff", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_ome_zarr_levels_and_scale(
    run: Run, pictures: list[Picture], small_blocks: None, tmp_path: Path, zarr: Any
) -> None:
    export(run, "ome-zarr", tmp_path / "run.ome.zarr")
    root = zarr.open_group(tmp_path / "run.ome.zarr", mode="r")
    for picture in pictures:
        image = root[picture.name.replace(" ", "_")]
        (scales,) = image.attrs["multiscales"]
        assert scales["version"] == "0.4"
        assert [(a["name"], a["unit"]) for a in scales["axes"]] == [("y", "micrometer"), ("x", "micrometer")]
        wanted = picture[:]
        for number, dataset in enumerate(scales["datasets"]):
            np.testing.assert_array_equal(image[dataset["path"]][:], wanted)
            scale, shift = dataset["coordinateTransformations"]
            factor = 2**number
            assert scale["scale"] == pytest.approx(
                [picture.pixel_um[1] * factor, picture.pixel_um[0] * factor]
            )
            # The middle of a joined pixel is that of the pixels it was made of.
            first = (factor - 1) / 2 * picture.pixel_um[0]
            assert shift["translation"] == pytest.approx([first, first])
            wanted = halved(wanted)
        assert number >= 2


READ_OME_ZARR = """
import json, sys
import numpy
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
(node,) = Reader(parse_url(sys.argv[1]))()
numpy.save(sys.argv[2], numpy.asarray(node.data[0]))
print(json.dumps(node.metadata["coordinateTransformations"][0][0]["scale"]))
"""


def test_ome_zarr_opens_in_ome_zarr(run: Run, pictures: list[Picture], tmp_path: Path, zarr: Any) -> None:
    """In a process of its own: it leaves threads of Dask."""
    pytest.importorskip("ome_zarr", reason="ome-zarr is not installed")
    export(run, "ome-zarr", tmp_path / "run.ome.zarr")
    picture = pictures[0]
    image = tmp_path / "run.ome.zarr" / picture.name.replace(" ", "_")
    command = [sys.executable, "-c", READ_OME_ZARR, image, tmp_path / "pixels.npy"]
    scale = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert scale == pytest.approx(list(picture.pixel_um[::-1]))
    np.testing.assert_array_equal(np.load(tmp_path / "pixels.npy"), picture[:])


def test_ome_zarr_without_the_package_names_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ExportError, match=r"pip install sparse-actors\[zarr\]"):
        export(run, "ome-zarr", tmp_path / "out")


def test_hyperspy_reads_pictures_and_scale(run: Run, pictures: list[Picture], tmp_path: Path) -> None:
    hspy = pytest.importorskip("rsciio.hspy", reason="rosettasciio is not installed")
    done = export(run, "hspy", tmp_path / "run.hspy")
    signals = hspy.file_reader(str(done.path))
    assert len(signals) == 2
    for signal, picture in zip(sorted(signals, key=lambda s: -s["axes"][0]["scale"]), pictures, strict=True):
        np.testing.assert_array_equal(signal["data"], picture[:])
        for axis, size, name in zip(signal["axes"], picture.pixel_um[::-1], "yx", strict=True):
            assert (axis["name"], axis["units"]) == (name, "µm")
            assert (axis["scale"], axis["offset"]) == pytest.approx((size, size / 2))


def test_hyperspy_reads_a_map_without_the_run(tmp_path: Path, recwarn: Any) -> None:
    hyperspy = pytest.importorskip("hyperspy.api", reason="hyperspy is not installed")
    recorded_map(tmp_path / "run")
    run = Run.open(tmp_path / "run")
    (shown,) = run.maps.values()
    export(run, "hspy", tmp_path / "run.hspy")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    phases, spectra = sorted(
        hyperspy.load(str(tmp_path / "run.hspy")), key=lambda signal: signal.metadata.General.title
    )
    np.testing.assert_array_equal(phases.data, shown.labels)
    assert (spectra.axes_manager["Energy"].units, spectra.metadata.Signal.signal_type) == ("keV", "EDS_SEM")
    assert spectra.axes_manager["Energy"].offset == pytest.approx(AXIS.offset_kev + AXIS.scale_kev / 2)
    assert spectra.axes_manager["x"].scale == pytest.approx(4.0)
    counts = np.zeros((4, 4, 20))
    for (x, y), spectrum in zip(shown.spectra.points_px - 2, np.arange(80).reshape(4, 20), strict=True):
        counts[y, x] = spectrum
    np.testing.assert_array_equal(spectra.data, counts)
