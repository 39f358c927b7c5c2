"""Choosing the fast scan: what is measured of the instrument, what is simulated, what `check` says of it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from sparse_actors.cli.commands import app
from sparse_actors.codesign_record import advice, record_file, write_record
from sparse_actors.config import parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.codesign import codesign, considered, tile_scores
from sparse_actors.evaluation.instrument import edge_sigma_px, estimated, sweep_residuals
from sparse_actors.evaluation.pair_files import collect
from sparse_actors.evaluation.pairs import open_pairs
from sparse_actors.evaluation.sampled_scans import Noise, fitted_noise, sampled

SIDE = 384
CONFIG = f"""
[microscope]
driver = "simulated"
[panorama]
corners_mm = [[0.0, 0.0], [0.03, 0.0], [0.0, 0.02]]
tile_fov_um = 12.5
[scan.fast]
size_px = [{SIDE // 4}, {SIDE // 4}]
dwell_ns = 32000.0
[scan.analysis]
size_px = [{SIDE}, {SIDE}]
dwell_ns = 32000.0
[scan.timing]
row_overhead_us = 1.0
scan_overhead_ms = 0.0
[regions]
size_px = [32, 32]
"""
NOISE = Noise(0.05, 0.4, 32_000.0)


def scene(seed: int, sites: int = 14) -> Any:
    """Grey texture with dark discs of 2 to 4 px: a pitch of four pixels misses the deepest point of some."""
    rng = np.random.default_rng(seed)
    image = 120 + 12 * cv2.GaussianBlur(rng.normal(0, 40, (SIDE, SIDE)), (0, 0), 20)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for _ in range(sites):
        y, x = rng.uniform(15, SIDE - 15, 2)
        image -= 100 * (np.hypot(rows - y, columns - x) < rng.uniform(1.6, 3.5))
    return cv2.GaussianBlur(np.clip(image, 5, 250), (0, 0), 0.8).astype(np.float32)


def noisy(grey: Any, noise: Noise, dwell_ns: float, seed: int = 0) -> Any:
    deviates = np.random.default_rng(seed).standard_normal(grey.shape)
    return np.clip(np.rint(grey + np.sqrt(noise.variance(grey, dwell_ns)) * deviates), 0, 255).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = tmp_path_factory.mktemp("images")
    for number in range(4):
        tifffile.imwrite(images / f"t{number}.tif", noisy(scene(number), NOISE, 32_000.0, number))
    config = parse_config(CONFIG)
    folder = tmp_path_factory.mktemp("pairs")
    collect(images, config, [config.fast], 0.0, 1).save(folder)
    return folder


def test_the_noise_is_found_at_two_dwell_times() -> None:
    grey = np.tile(np.linspace(20, 230, 600, dtype=np.float32), (600, 1))
    images = [(noisy(grey, NOISE, dwell, seed), dwell) for seed, dwell in enumerate((32_000.0, 4_000.0))]
    found = fitted_noise(images, 32_000.0)
    assert found is not None
    assert found.shot == pytest.approx(NOISE.shot, rel=0.1)
    assert found.sigma(100, 1000.0) == pytest.approx(NOISE.sigma(100, 1000.0), rel=0.05)
    assert fitted_noise([(images[0][0][:20, :20], 1.0)], 1.0) is None


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_the_width_of_the_sharpest_edges(sigma: float) -> None:
    image = np.full((300, 300), 60.0, np.float32)
    for x in range(20, 300, 40):
        image[:, x : x + 20] = 180
    blurred = cv2.GaussianBlur(image, (0, 0), sigma)
    measured = edge_sigma_px(noisy(blurred, NOISE, 32_000.0))
    assert measured == pytest.approx(sigma, abs=0.35)
    assert np.isnan(edge_sigma_px(np.full((50, 50), 100, np.uint8)))


@pytest.mark.parametrize("sweeps", [False, True])
@pytest.mark.parametrize("drift", [(0, 0), (2, -3)])
def test_a_sweeping_beam_is_told_from_one_that_stops(sweeps: bool, drift: tuple[int, int]) -> None:
    grey = scene(3, sites=60)
    moved = np.roll(grey, drift, axis=(0, 1))
    seen = cv2.blur(moved, (4, 1)) if sweeps else moved
    fast = noisy(seen[2::4, 2::4], NOISE, 32_000.0, 1)
    points, means = sweep_residuals(noisy(grey, NOISE, 32_000.0, 2), fast, 4, NOISE)
    assert (means < 0.9 * points) if sweeps else (points < 0.9 * means)


@pytest.mark.parametrize(("sweeps", "scale"), [(False, 4), (False, 1), (True, 4)])
def test_a_simulated_scan_has_the_noise_of_its_dwell_time(sweeps: bool, scale: int) -> None:
    flat = np.full((800, 800), 100, np.float32)
    analysis = noisy(flat, NOISE, 32_000.0)
    random = np.random.default_rng(5)
    fast = sampled(analysis, scale, (scale // 2, scale // 2), 2000.0, NOISE, sweeps=sweeps, random=random)
    assert fast.shape == (800 // scale, 800 // scale)
    assert fast.std() == pytest.approx(NOISE.sigma(100, 2000.0), rel=0.03)
    assert fast.mean() == pytest.approx(100, abs=0.2)


def test_points_are_the_recorded_pixels_where_the_dwell_time_is_the_same() -> None:
    analysis = noisy(scene(1), NOISE, 32_000.0)
    random = np.random.default_rng(0)
    fast = sampled(analysis, 4, (1, 3), 32_000.0, NOISE, sweeps=False, random=random)
    np.testing.assert_array_equal(fast, analysis[1::4, 3::4])


def test_a_tile_is_judged_the_same_each_time(folder: Path) -> None:
    pairs = open_pairs(folder)
    instrument = estimated(pairs)
    settings = considered(pairs, instrument)[:3]
    first, second = (tile_scores(str(folder), "t1", settings, instrument, 7) for _ in range(2))
    assert first == second
    assert {setting for setting, _ in first} == set(settings)


def test_what_is_considered(folder: Path) -> None:
    pairs = collect(folder_images(folder), parse_config(CONFIG), [parse_config(CONFIG).fast], 0.0, 1)
    instrument = estimated(pairs)
    settings = considered(pairs, instrument)
    assert pairs.config.fast in settings
    assert len(set(settings)) == len(settings)
    loud = considered(pairs, replace(instrument, noise=replace(instrument.noise, shot=5.0)))
    assert len(loud) < len(settings)


def folder_images(folder: Path) -> Path:
    data = json.loads((folder / "pairs.json").read_text("utf-8"))
    return Path(next(iter(data["files"].values()))).parent


@pytest.mark.parametrize("recall", [0.0, 1.1])
def test_no_share(folder: Path, recall: float) -> None:
    with pytest.raises(ConfigError, match="--recall"):
        codesign(folder, recall)


def test_the_command_writes_a_configuration_and_check_knows_of_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSE_ACTORS_TIMES", str(tmp_path / "times"))
    file = tmp_path / "survey.toml"
    file.write_text("# mine\n" + CONFIG)
    before = CliRunner().invoke(app, ["check", str(file), "--json"])
    assert "tell by how much" in " ".join(json.loads(before.stdout)["warnings"]).replace("\n", " ")
    result = CliRunner().invoke(
        app, ["codesign", str(folder), "--recall", "0.95", "--into", str(file), "--jobs", "1", "--json"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    noise = Noise(**found["instrument"]["noise"])
    assert noise.sigma(100, 32_000.0) == pytest.approx(NOISE.sigma(100, 32_000.0), rel=0.2)
    # Sites are smaller than the steps of the configured scan: finer steps with less dwell win.
    best = found["rows"][0]
    assert best["size_px"][0] > SIDE // 4
    assert best["dwell_ns"] < 32_000.0
    assert best["recall"] > 0.85
    assert [row["full_time"] for row in found["rows"]] == sorted(row["full_time"] for row in found["rows"])
    written = tomllib.loads(file.read_text())
    assert file.read_text().startswith("# mine\n")
    assert written["scan"]["fast"]["size_px"] == found["rows"][0]["size_px"]
    assert written["detect"]["options"]["threshold"] == found["rows"][0]["options"]["threshold"]
    assert advice(tmp_path / "times", parse_config(file.read_text())) is None
    slow = advice(tmp_path / "times", parse_config(CONFIG))
    assert slow is not None
    assert "last codesign" in slow


def test_a_factor_is_named_only_where_one_was_found(tmp_path: Path) -> None:
    config = parse_config(CONFIG)
    rows = [
        {"size_px": [192, 192], "dwell_ns": 2000.0, "full_time": 0.05},
        {"size_px": [96, 96], "dwell_ns": 32_000.0, "full_time": 0.20},
    ]
    found = {"recall": 0.99, "sites": 500, "rows": rows, "missed": []}
    write_record(tmp_path, config, found)
    assert "4.0 times as long as 192 x 192 at 2000 ns" in str(advice(tmp_path, config))
    rows[1]["full_time"] = 0.06
    write_record(tmp_path, config, found)
    assert advice(tmp_path, config) is None
    write_record(tmp_path, config, {**found, "rows": rows[:1], "missed": [rows[1]]})
    assert "does not reach it" in str(advice(tmp_path, config))
    write_record(tmp_path, config, {**found, "rows": rows[:1]})
    assert "tell by how much" in str(advice(tmp_path, config))
    record_file(tmp_path, config).write_text("{")
    assert "tell by how much" in str(advice(tmp_path, config))
    assert advice(None, parse_config(CONFIG.replace("32000.0", "3200.0"))) is None
