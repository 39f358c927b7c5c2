from __future__ import annotations

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from sparse_actors.sampling.erd_map import ErdMap
from sparse_actors.sampling.erd_model import ErdModel
from sparse_actors.sampling.features import polynomial_terms
from sparse_actors.sampling.label_images import KINDS, MAX_PHASES, label_image, label_images
from sparse_actors.sampling.training import (
    WINDOW_C,
    distortions,
    read_labels,
    train,
    train_from_files,
)

SHAPE = (32, 48)


def images(count: int = 4, seed: int = 1) -> list[np.ndarray]:
    return list(label_images(count, SHAPE, seed=seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phases", [2, MAX_PHASES])
def test_synthetic_images(kind: str, phases: int) -> None:
    image = label_image((40, 64), seed=8, kind=kind, phases=phases)
    assert image.shape == (40, 64)
    assert image.dtype == np.int32
    assert image.min() >= 1
    assert 1 < len(np.unique(image)) <= phases
    assert image.max() <= phases
    assert (label_image((40, 64), seed=8, kind=kind, phases=phases) == image).all()
    assert (label_image((40, 64), seed=9, kind=kind, phases=phases) != image).any()


def test_synthetic_images_refuse_what_they_cannot_draw() -> None:
    with pytest.raises(ValueError, match="at least 16 x 16"):
        label_image((8, 40), seed=0)
    with pytest.raises(ValueError, match="phases = 9"):
        label_image((40, 40), seed=0, phases=9)


def test_least_squares_over_all_pixels_at_once_gives_the_same() -> None:
    [image], seed, c = images(1), 3, 4.0
    model = train([image], seed=seed, fractions=(0.2,), c=c, features="local")
    measured = np.random.default_rng(seed).random(image.size) < 0.2
    points = np.flatnonzero(measured)
    erd = ErdMap(SHAPE, model)
    erd.update(points, image.ravel()[points].astype(np.float32), np.ones(len(points), bool))
    wrong = (erd.values != image.ravel()).reshape(SHAPE)
    pixels = np.flatnonzero(~measured)
    found = erd.features(pixels)
    target = np.zeros(len(pixels))
    y, x = np.divmod(pixels, SHAPE[1])
    for row, column in np.argwhere(wrong):
        near = (abs(y - row) <= 7) & (abs(x - column) <= 7)
        distance2 = (y - row) ** 2 + (x - column) ** 2
        target += near * np.exp(-distance2 * c**2 / (2 * found[:, 2] ** 2))
    terms = polynomial_terms(found, continuous=False)
    expected = terms @ np.linalg.lstsq(terms, target, rcond=None)[0]
    np.testing.assert_allclose(terms @ np.array(model.coefficients), expected, atol=1e-4)


def test_the_same_seed_gives_the_same_sampler() -> None:
    first, again = (train(iter(images()), seed=5, c=8.0).to_json() for _ in range(2))
    assert first == again
    assert train(images(), seed=6, c=8.0).to_json() != first


def test_c_is_the_best_on_held_out_images() -> None:
    judges = images(2, seed=2)
    model = train(images(), seed=0, held_out=judges)
    seen = {c: distortions(train(images(), seed=0, c=c), judges, seed=0) for c in WINDOW_C}
    areas = {c: np.log(td.mean(axis=1) + 1e-4).mean() for c, td in seen.items()}
    assert areas[model.window_c] == min(areas.values())


def test_a_trained_sampler_beats_random_points() -> None:
    tests = [label_image((96, 96), seed=seed, kind="grains", phases=2) for seed in range(3)]
    seen = distortions(train(label_images(5, (96, 96), seed=1), seed=0, c=8.0), tests, seed=0)
    assert seen.shape == (3, 5)
    assert (np.diff(seen.mean(axis=0)) < 0).all()
    blind = ErdModel(coefficients=(0.0, 0.0, 0.0, 1.0, *[0.0] * 22), features="local")
    assert seen[:, -1].mean() < 0.7 * distortions(blind, tests, seed=0)[:, -1].mean()


def test_ill_pixels_are_neither_measured_nor_counted() -> None:
    image = label_image((48, 48), seed=4, kind="islands", phases=2)
    image[:, :24] = 0
    whole = distortions(train([image], seed=0, c=8.0), [image], seed=0, fractions=(1.0,))
    assert whole.max() == 0


def test_memory_does_not_grow_with_the_images() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        train(label_images(count, (64, 64), seed=1), seed=0, c=8.0)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)
    assert peak(6) < 1.5 * peak(2)


@pytest.mark.long
def test_a_megapixel_needs_less_than_a_gigabyte() -> None:
    tracemalloc.start()
    train(label_images(1, (1024, 1024), seed=1), seed=0, c=8.0)
    assert tracemalloc.get_traced_memory()[1] < 1e9
    tracemalloc.stop()


def test_trains_from_files(tmp_path: Path) -> None:
    files = []
    for index, image in enumerate(images()):
        files.append(tmp_path / f"{index}.{'png' if index % 2 else 'tif'}")
        if index % 2:
            assert cv2.imwrite(str(files[-1]), image.astype(np.uint8))
        else:
            tifffile.imwrite(files[-1], image.astype(np.uint16))
        assert (read_labels(files[-1]) == image).all()
    model = train_from_files(files, tmp_path / "sampler.json", seed=0)
    assert ErdModel.from_json((tmp_path / "sampler.json").read_text("utf-8")) == model
    assert "3.png" in model.trained_on
    assert train_from_files(files[:2], tmp_path / "two.json", seed=0).window_c == 8


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("colour.png", np.ones((8, 8, 3), np.uint8), "one channel"),
        ("flat.tif", np.ones((8, 8), np.uint8), "at least two phases"),
        ("grey.tif", np.full((8, 8), 0.5, np.float32), "whole numbers"),
        ("many.tif", np.arange(64, dtype=np.uint16).reshape(8, 8) * 10, r"0\.\.250"),
        ("text.tif", b"not a tiff", "no readable TIFF"),
        ("text.png", b"not a png", "TIFF or PNG"),
        ("empty.png", b"", "TIFF or PNG"),
    ],
)
def test_names_the_file_that_is_no_label_image(
    tmp_path: Path, name: str, image: np.ndarray | bytes, message: str
) -> None:
    good, bad = tmp_path / "a.tif", tmp_path / name
    tifffile.imwrite(good, images(1)[0].astype(np.uint8))
    if isinstance(image, bytes):
        bad.write_bytes(image)
    elif bad.suffix == ".png":
        assert cv2.imwrite(str(bad), image)
    else:
        tifffile.imwrite(bad, image)
    with pytest.raises(ValueError, match=message) as error:
        train_from_files([good, bad], tmp_path / "out.json", seed=0)
    assert name in str(error.value)
    assert not (tmp_path / "out.json").exists()


def test_missing_files_and_images(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"none\.tif"):
        train_from_files([tmp_path / "none.tif"], tmp_path / "out.json", seed=0)
    with pytest.raises(ValueError, match="no label images"):
        train_from_files([], tmp_path / "out.json", seed=0)
    with pytest.raises(ValueError, match="nothing to train on"):
        train([], seed=0, c=8.0)
    with pytest.raises(ValueError, match="held-out"):
        train(images(), seed=0)
