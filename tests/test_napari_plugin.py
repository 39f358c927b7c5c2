"""The layers that napari gets, and its manifest."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from recorded_run import whole_run
from test_recording_maps import recorded_map

from sparse_actors.napari_plugin import reader
from sparse_actors.recording.nexus import finalize
from sparse_actors.results.run import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = whole_run(tmp_path_factory.mktemp("run") / "run")
    finalize(run.path)
    return run.path


def test_layers_lie_on_each_other_in_micrometres(folder: Path) -> None:
    read = reader.get_reader(str(folder / "run.nxs"))
    assert read is not None
    found = {about["name"]: (data, about, kind) for data, about, kind in read(str(folder / "run.nxs"))}
    assert {name: kind for name, (_, _, kind) in found.items()} == {
        "fast scans": "image", "analysis scans": "image", "regions": "shapes", "sites": "points",
    }  # fmt: skip
    assert all(about["units"] == ("um", "um") for _, about, _ in found.values())
    fast, about, _ = found["fast scans"]
    assert (about["scale"], about["translate"]) == (pytest.approx((2, 2)), pytest.approx((1, 1)))
    np.testing.assert_array_equal(fast, Run.open(folder).panorama_fast)
    outlines, points = found["regions"][0], found["sites"][0]
    assert outlines.shape == (5, 4, 2)
    np.testing.assert_allclose(outlines[0][[0, 2]], [[4, 4], [16, 20]])
    np.testing.assert_allclose(outlines[3][[0, 2]], [[3, 58], [15, 70]])  # a tile further, at 56 um
    np.testing.assert_allclose(points[0], [10, 12])


def test_pyramid_reads_what_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "COARSEST_PX", 16)
    (levels, about, _), *_ = reader.layers(str(folder / "run.nxs"))
    assert about["multiscale"]
    assert [level.shape for level in levels] == [(45, 60), (11, 15)]
    (levels, _, _) = reader.layers(str(folder / "run.nxs"))[1]
    assert [level.shape for level in levels] == [(90, 120), (22, 30), (5, 7)]
    # What napari asks of data; without any of it a layer is refused.
    asked = ("dtype", "shape", "ndim", "size", "__getitem__", "__array__")
    assert all(hasattr(level, name) for level in levels for name in asked)
    full = levels[0][:]
    means = full[:88, :120].reshape(22, 4, 30, 4).mean(axis=(1, 3)).round()
    np.testing.assert_array_equal(np.asarray(levels[1]), means)
    np.testing.assert_array_equal(levels[1][3:9, 4:], means[3:9, 4:])
    np.testing.assert_array_equal(levels[1][5:5, :], means[5:5])
    np.testing.assert_array_equal(levels[2], full[:80, :112].reshape(5, 16, 7, 16).mean(axis=(1, 3)).round())


def test_phases_are_labels(tmp_path: Path) -> None:
    recorded_map(tmp_path)
    finalize(tmp_path)
    ((labels, about, kind),) = reader.layers(str(tmp_path / "run.nxs"))
    assert (kind, about["scale"]) == ("labels", pytest.approx((4, 4)))
    assert about["translate"] == pytest.approx((10, 10))
    np.testing.assert_array_equal(labels, np.ones((4, 4)))


def test_other_files_are_left_to_others(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "other.nxs").write_bytes(b"")
    assert reader.get_reader(str(tmp_path / "other.nxs")) is None
    assert reader.get_reader(str(folder / "journal")) is None
    assert reader.get_reader([str(folder / "run.nxs")] * 2) is None


@pytest.mark.skipif(find_spec("npe2") is None, reason="npe2 is not installed")
def test_manifest_is_valid() -> None:
    """In a process of its own: npe2 warns when it is imported."""
    command = [sys.executable, "-m", "npe2", "validate", "sparse-actors", "--imports"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid" in done.stdout + done.stderr


def test_napari_finds_the_manifest() -> None:
    (point,) = metadata.entry_points(group="napari.manifest", name="sparse-actors")
    module, _, name = point.value.partition(":")
    text = (files(module) / name).read_text(encoding="utf-8")
    assert "python_name: sparse_actors.napari_plugin.reader:get_reader" in text
