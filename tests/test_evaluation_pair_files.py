"""Pairs from images that were there before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from evaluation_pairs import config_text

from sparse_actors.config import parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.pair_files import collect
from sparse_actors.evaluation.pairs import open_pairs
from sparse_actors.imaging import Imaging

FAST = Imaging((128, 128), 8_000.0)


def test_fast_images_are_sampled_with_the_noise_of_their_dwell_and_it_says_so(tmp_path: Path) -> None:
    config = parse_config(config_text(tmp_path)).for_pairs()
    image = np.full((203, 310), 100, np.uint8)
    image[2::4, 2::4] = 60
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", image)
    collect(tmp_path / "images", config, [FAST], 2.0, seed=1).save(tmp_path / "pairs")
    pairs = open_pairs(tmp_path / "pairs")
    assert "point-sampled" in pairs.origin
    assert "forecast" in pairs.origin
    assert pairs.analysis("a").shape == (200, 308)
    fast = pairs.fast("a", FAST)
    assert fast.shape == (50, 77)
    assert fast.mean() == pytest.approx(60, abs=0.5)
    assert fast.std() == pytest.approx(4.0, rel=0.1)
    np.testing.assert_array_equal(fast, pairs.fast("a", FAST))


def test_recorded_fast_images_are_taken_as_they_are(tmp_path: Path) -> None:
    config = parse_config(config_text(tmp_path)).for_pairs()
    folder = tmp_path / "images" / "r000c000"
    folder.mkdir(parents=True)
    tifffile.imwrite(folder / "0_0_512_512.tiff", np.full((512, 512), 90, np.uint8))
    tifffile.imwrite(folder / "0_0_128_128.tiff", np.full((128, 128), 80, np.uint8))
    pairs = collect(tmp_path / "images", config, [FAST], 2.0, seed=1)
    assert (pairs.fast("r000c000", FAST) == 80).all()
    assert pairs.origin == "fast images as they were recorded"
    with pytest.raises(ConfigError, match="expected those of"):
        collect(tmp_path / "images", config, [Imaging((64, 64), 1.0)], 0.0, seed=1)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    config = parse_config(config_text(tmp_path)).for_pairs()
    with pytest.raises(ConfigError, match="expected images"):
        collect(tmp_path, config, [FAST], 0.0, seed=1)
    with pytest.raises(ConfigError, match="holds no pairs"):
        open_pairs(tmp_path)
