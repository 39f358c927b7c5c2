"""Upsampling is Pillow's, to the bit, and skips only what cannot cross the threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sparse_actors.detection.upsampling import Upsampling

_FILTER = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def _pillow(image, scale, interpolation):
    rows, columns = image.shape
    return np.asarray(Image.fromarray(image).resize((columns * scale, rows * scale), _FILTER[interpolation]))


def _unpacked(bitmap, columns):
    bits = np.unpackbits(bitmap.view(np.uint8), axis=1, bitorder="little").astype(bool)
    assert not bits[:, columns:].any()
    return bits[:, :columns]


def _micrograph(rng, shape):
    """A grey matrix with noise, dark pits and bright particles."""
    image = rng.normal(110.0, 3.0, shape)
    rows, columns = np.indices(shape)
    for _ in range(max(2, shape[0] * shape[1] // 150)):
        row, column, radius = rng.integers(shape[0]), rng.integers(shape[1]), rng.uniform(0.4, 3)
        distance = np.hypot(rows - row, columns - column)
        image += rng.choice([-90, -40, 100]) / (1 + np.exp((distance - radius) / 0.4))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _noise(rng, shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("picture", [_noise, _micrograph])
def test_the_image_is_pillows(picture, scale, interpolation):
    rng = np.random.default_rng(scale)
    for _ in range(12):
        image = picture(rng, tuple(rng.integers(1, 71, 2)))
        np.testing.assert_array_equal(
            Upsampling(image, scale, interpolation).image(), _pillow(image, scale, interpolation)
        )


@pytest.mark.parametrize("side", range(1, 71))
def test_every_size_is_pillows(side):
    rng = np.random.default_rng(side)
    for shape, scale in (((side, 71 - side), 4), ((71 - side, side), 3)):
        image = _noise(rng, shape)
        np.testing.assert_array_equal(Upsampling(image, scale).image(), _pillow(image, scale, "bicubic"))


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
@pytest.mark.parametrize("picture", [_noise, _micrograph])
def test_candidates_at_every_threshold(picture, interpolation):
    image = picture(np.random.default_rng(5), (40, 45))
    values = _pillow(image, 4, interpolation)
    upsampling = Upsampling(image, 4, interpolation)
    for threshold in range(-1, 258):
        dark = _unpacked(upsampling.candidates(threshold, "dark"), 180)
        np.testing.assert_array_equal(dark, values < threshold)
        np.testing.assert_array_equal(upsampling.evaluated[:, :180][dark], values[dark])
        bright = _unpacked(upsampling.candidates(threshold, "bright"), 180)
        np.testing.assert_array_equal(bright, values > threshold)
        np.testing.assert_array_equal(upsampling.evaluated[:, :180][bright], values[bright])


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 70),
    columns=st.integers(1, 70),
    scale=st.integers(1, 5),
    threshold=st.floats(0, 256).map(lambda value: round(value, 1)),
    polarity=st.sampled_from(["dark", "bright"]),
    interpolation=st.sampled_from(["bicubic", "lanczos"]),
    picture=st.sampled_from([_noise, _micrograph]),
)
def test_candidates_of_any_image(seed, rows, columns, scale, threshold, polarity, interpolation, picture):
    image = picture(np.random.default_rng(seed), (rows, columns))
    values = _pillow(image, scale, interpolation)
    bitmap = Upsampling(image, scale, interpolation).candidates(threshold, polarity)
    expected = values < threshold if polarity == "dark" else values > threshold
    np.testing.assert_array_equal(_unpacked(bitmap, columns * scale), expected)


@pytest.mark.parametrize("polarity", ["dark", "bright"])
@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
def test_sixteen_bits_skip_only_what_cannot_cross(interpolation, polarity):
    rng = np.random.default_rng(6)
    for full_scale in (4095, 65_535):
        image = (_micrograph(rng, (50, 61)) / 255 * full_scale).astype(np.uint16)
        upsampling = Upsampling(image, 4, interpolation)
        values = upsampling.image().copy()
        for threshold in (0, 0.2 * full_scale, 0.4 * full_scale + 0.5, 0.7 * full_scale, full_scale):
            expected = values < threshold if polarity == "dark" else values > threshold
            bitmap = upsampling.candidates(threshold, polarity)
            np.testing.assert_array_equal(_unpacked(bitmap, 244), expected)


def test_sixteen_bits_follow_the_same_rule_as_eight():
    image = _micrograph(np.random.default_rng(7), (33, 47))
    wide = Upsampling(image.astype(np.uint16) * 256, 4).image() / 256
    assert np.abs(wide - Upsampling(image, 4).image()).max() <= 1.2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_constant_image_stays_constant(dtype):
    highest = np.iinfo(dtype).max
    for value in (0, 1, highest // 2, highest):
        for scale in (1, 3, 4):
            image = np.full((20, 30), value, dtype)
            np.testing.assert_array_equal(Upsampling(image, scale, "lanczos").image(), value)


@pytest.mark.parametrize(
    ("image", "scale", "error"),
    [
        (np.zeros((4, 4)), 4, TypeError),
        (np.zeros((4, 4), np.int16), 4, TypeError),
        (np.zeros((4, 4, 3), np.uint8), 4, ValueError),
        (np.zeros((0, 4), np.uint8), 4, ValueError),
        (np.zeros((4, 4), np.uint8), 0, ValueError),
    ],
)
def test_other_images_are_refused(image, scale, error):
    with pytest.raises(error, match="expected"):
        Upsampling(image, scale)


def test_only_the_surroundings_of_candidates_are_evaluated():
    image = np.random.default_rng(10).normal(120, 3, (200, 200)).astype(np.uint8)
    image[100:103, 100:103] = 10
    for interpolation in _FILTER:
        upsampling = Upsampling(image, 4, interpolation)
        upsampling.evaluated[:] = 0
        assert upsampling.candidates(55).any()
        assert 0 < (upsampling.evaluated > 0).mean() < 0.01
