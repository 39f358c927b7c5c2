"""Candidates: local minima with what surrounds them, the same wherever the image was cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seam_detection import assert_same, found_in_parts

from sparse_actors.contracts.detector import checked_pois
from sparse_actors.detection.candidates import DEPTH, FEATURES, REACH_PX, candidates
from sparse_actors.detection.scored_candidates import ScoredCandidates
from sparse_actors.errors import ConfigError, DetectorError

HALO_PX = 8 * REACH_PX
"""`found_in_parts` takes an eighth of it for the reach."""


def field(seed: int, side: int = 200, spots: int = 30) -> Any:
    """Grey noise with dark spots, some with a bright rim."""
    rng = np.random.default_rng(seed)
    image = rng.normal(120, 6, (side, side))
    rows, columns = np.mgrid[:side, :side]
    for _ in range(spots):
        y, x = rng.uniform(0, side, 2)
        distance = np.hypot(rows - y, columns - x)
        radius = rng.uniform(0.3, 4)
        image += 60 * (rng.random() < 0.5) * np.exp(-(((distance - radius - 1.5) / 1.2) ** 2))
        image -= rng.uniform(30, 110) / (1 + np.exp(np.clip(3 * (distance - radius), -50, 50)))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def test_the_minima_are_those_of_a_plain_search():
    image = field(1, side=40)
    found = candidates(image, 1e-3)
    padded = np.pad(image.astype(float), 1, mode="symmetric")
    expected = set()
    for row in range(40):
        for column in range(40):
            near = padded[row : row + 3, column : column + 3].ravel()
            if near[4] < near[:4].min() and near[4] <= near[5:].min():
                expected.add((row, column))
    assert {tuple(place) for place in found.row_column.tolist()} <= expected
    deep = found.features[:, DEPTH]
    assert (deep >= 1e-3).all()
    # Mirrored edges make equal neighbours, of which one only counts.
    missing = expected - {tuple(place) for place in found.row_column.tolist()}
    means = [padded[max(r - 7, 0) : r + 10, max(c - 7, 0) : c + 10].mean() - image[r, c] for r, c in missing]
    assert all(mean < 8 for mean in means)


def test_what_is_measured_of_a_single_spot():
    image = np.full((41, 41), 120, np.uint8)
    image[20, 19:22], image[19:22, 20], image[20, 20] = 60, 60, 20
    found = candidates(image, 20)
    assert found.row_column.tolist() == [[20, 20]]
    assert found.boxes.tolist() == [[19, 19, 3, 3]]
    measured = dict(zip(FEATURES, found.features[0].tolist(), strict=True))
    assert measured["value"] == 20
    assert measured["second"] == 40
    assert measured["median"] == 100
    assert measured["ring_0_mean"] == 40
    assert measured["blob_area"] == 5
    assert measured["curvature_most"] == measured["curvature_least"] == 80
    assert measured["darker_near"] == 0
    assert measured["slope"] == 0
    assert measured["patch_-1_+1"] == 100


def test_sixteen_bits_are_the_same_grey_levels():
    image = field(2)
    eight, sixteen = candidates(image, 15), candidates(image.astype(np.uint16) * 257, 15)
    np.testing.assert_array_equal(eight.row_column, sixteen.row_column)
    np.testing.assert_allclose(eight.features, sixteen.features, atol=1e-2)


@given(seed=st.integers(0, 10**6), top=st.integers(0, 60), left=st.integers(0, 60))
@settings(max_examples=15, deadline=None)
def test_what_a_cut_shows_clear_of_its_edges_is_as_in_the_whole(seed, top, left):
    image = field(seed, side=140)
    cut = image[top : top + 70, left : left + 70]
    whole, part = candidates(image, 12), candidates(cut, 12)
    inner = {
        tuple(place): number
        for number, place in enumerate((part.row_column + np.array([top, left])).tolist())
        if REACH_PX <= place[0] - top < 70 - REACH_PX and REACH_PX <= place[1] - left < 70 - REACH_PX
    }
    seen = {tuple(place): number for number, place in enumerate(whole.row_column.tolist())}
    box = [top + REACH_PX, left + REACH_PX]
    for place, number in seen.items():
        if all(low <= at < low + 70 - 2 * REACH_PX for at, low in zip(place, box, strict=True)):
            np.testing.assert_array_equal(whole.features[number], part.features[inner[place]])
            assert (whole.boxes[number] - (left, top, 0, 0) == part.boxes[inner[place]]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (3, 2), (17, 17)])
def test_small_images(shape):
    image = np.full(shape, 90, np.uint8)
    assert len(candidates(image, 10)) == 0
    image[shape[0] // 2, shape[1] // 2] = 0
    found = candidates(image, 10)
    left_top, size = found.boxes[:, :2], found.boxes[:, 2:]
    assert (left_top >= 0).all()
    assert (left_top + size <= shape[::-1]).all()
    assert len(ScoredCandidates().detect(image, 4)) <= len(found)


@pytest.mark.parametrize("partitions", [4, 9])
def test_a_tile_in_parts_gives_what_the_whole_gives(partitions):
    image = field(5, side=252, spots=70)
    detector = ScoredCandidates(min_score=0.0)
    whole = checked_pois(detector.detect(image, 4), image.shape, 4)
    assert len(whole) > 50
    assert ((whole.score >= 0) & (whole.score <= 1)).all()
    assert_same(found_in_parts(image, 4, partitions, HALO_PX, detector, turns=(3, 1, 2)), whole)


def test_a_higher_score_is_asked_of_fewer():
    image = field(7)
    all_of_them = ScoredCandidates(min_score=0.0).detect(image, 4)
    middle = float(np.median(all_of_them.score))
    some = ScoredCandidates(min_score=middle).detect(image, 4)
    assert 0 < len(some) < len(all_of_them)
    assert (some.score >= middle).all()
    careful, eager = (len(ScoredCandidates(recall=share).detect(image, 4)) for share in (0.9, 0.99))
    assert careful <= eager


def test_another_scale_is_refused_before_the_run_and_in_the_worker():
    with pytest.raises(ConfigError, match="trained with 4 analysis pixels"):
        ScoredCandidates.reach_px(2)
    with pytest.raises(DetectorError, match="trained with 4 analysis pixels"):
        ScoredCandidates().detect(field(1), 2)


@pytest.mark.parametrize("options", [{"recall": 0.0}, {"recall": 1.5}, {"min_score": -0.1}])
def test_options_out_of_range(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        ScoredCandidates(**options)


def test_what_is_no_scorer(tmp_path):
    with pytest.raises(DetectorError, match="cannot be read"):
        ScoredCandidates(model=tmp_path / "none.onnx")
    file = tmp_path / "junk.onnx"
    file.write_bytes(b"junk")
    with pytest.raises(DetectorError, match="is no scorer"):
        ScoredCandidates(model=file)


def test_the_hash_tells_models_apart():
    (name, digest), *others = ScoredCandidates.model_files().items()
    assert name == "built in"
    assert len(digest) == 64
    assert not others
