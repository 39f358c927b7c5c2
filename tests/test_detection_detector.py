"""The detector as the workers call it: an image in, points of interest in analysis pixels out."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from sklearn.cluster import DBSCAN

from sparse_actors.contracts.detector import checked_pois
from sparse_actors.detection.threshold_dbscan import ThresholdDbscan
from sparse_actors.errors import ConfigError

_MICROGRAPH = Path(__file__).parents[2] / "shared/data/steel_dp800_DOUBTFUL_LICENCE/tile3072_r3_c08.tif"


def _read_only(image):
    image.flags.writeable = False
    return image


def _image_with(*spots, shape=(60, 80), grey=120, dtype=np.uint8):
    image = np.full(shape, grey, dtype)
    for row, column, value in spots:
        image[row : row + 3, column : column + 3] = value
    return _read_only(image)


def _by_pillow_and_scikit_learn(image, scale, threshold, eps_px, min_points):
    """Area, box, centroid and missing signal of each cluster, the slow way."""
    rows, columns = image.shape
    values = np.asarray(
        Image.fromarray(image).resize((columns * scale, rows * scale), Image.Resampling.BICUBIC)
    )
    points = np.argwhere(values < threshold)
    labels = DBSCAN(eps=eps_px, min_samples=min_points).fit(points).labels_
    found = []
    for c in range(labels.max() + 1):
        y, x = points[labels == c].T
        box = [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
        found.append((box, x.mean() + 0.5, y.mean() + 0.5, (threshold - values[y, x].astype(float)).sum()))
    return found


def test_a_dark_spot_is_found_where_it_is():
    image = _image_with((20, 30, 10))
    pois = checked_pois(ThresholdDbscan().detect(image, 4), image.shape, 4)
    assert len(pois) == 1
    np.testing.assert_allclose(pois.xy_px[0], [31.5 * 4, 21.5 * 4], atol=0.6)
    left, top, width, height = pois.boxes_px[0]
    assert left + width / 2 == pytest.approx(31.5 * 4, abs=1)
    assert top + height / 2 == pytest.approx(21.5 * 4, abs=1)
    assert 8 <= width <= 16
    assert 8 <= height <= 16


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
def test_a_bright_spot_in_sixteen_bits(interpolation):
    image = _image_with((20, 30, 60_000), (5, 5, 50), grey=20_000, dtype=np.uint16)
    detector = ThresholdDbscan(threshold=40_000, polarity="bright", interpolation=interpolation)
    pois = checked_pois(detector.detect(image, 4), image.shape, 4)
    np.testing.assert_allclose(pois.xy_px, [[126, 86]], atol=0.6)
    assert pois.score[0] > 0


def test_spots_at_the_edges_stay_inside_the_image():
    image = _image_with((0, 0, 0), (57, 77, 0), (0, 40, 0), (30, 0, 0))
    pois = checked_pois(ThresholdDbscan().detect(image, 4), image.shape, 4)
    assert len(pois) == 4
    assert (pois.boxes_px[:, :2] >= 0).all()
    assert (pois.boxes_px[:, 0] + pois.boxes_px[:, 2] <= 320).all()
    assert (pois.boxes_px[:, 1] + pois.boxes_px[:, 3] <= 240).all()


@pytest.mark.parametrize(
    ("threshold", "eps_px", "min_points"), [(55, 1.0, 5), (85, 2.0, 13), (100, 3.0, 20), (85.5, 1.5, 6)]
)
@pytest.mark.parametrize("scale", [1, 4])
def test_equals_pillow_and_scikit_learn(threshold, eps_px, min_points, scale):
    rng = np.random.default_rng(8)
    image = rng.normal(120, 12, (70, 90))
    for row, column in rng.integers(2, 66, (25, 2)):
        image[row : row + 3, column : column + 4] -= rng.uniform(20, 110)
    image = _read_only(np.clip(image, 0, 255).astype(np.uint8))
    pois = ThresholdDbscan(threshold=threshold, eps_px=eps_px, min_points=min_points).detect(image, scale)
    expected = _by_pillow_and_scikit_learn(image, scale, threshold, eps_px, min_points)
    assert len(pois) == len(expected)
    for i, (box, x, y, signal) in enumerate(expected):
        assert pois.boxes_px[i].tolist() == box
        np.testing.assert_allclose(pois.xy_px[i], [x, y])
        np.testing.assert_allclose(pois.score[i], signal)


@pytest.mark.skipif(not _MICROGRAPH.exists(), reason="the DP800 micrographs are not there")
def test_equals_pillow_and_scikit_learn_on_a_micrograph():
    fast = np.ascontiguousarray(tifffile.imread(_MICROGRAPH)[2::4, 2::4][:300, :400])
    pois = ThresholdDbscan(threshold=30).detect(fast, 4)
    expected = _by_pillow_and_scikit_learn(fast, 4, 30, 1.0, 5)
    assert len(pois) == len(expected) > 50
    assert pois.boxes_px.tolist() == [box for box, *_ in expected]


def test_small_clusters_are_left_out():
    image = _image_with((20, 30, 10), (40, 50, 50))
    everything = ThresholdDbscan().detect(image, 4)
    areas = sorted(everything.boxes_px[:, 2] * everything.boxes_px[:, 3])
    assert len(everything) == 2
    assert len(ThresholdDbscan(min_area_px=int(areas[0]) + 1).detect(image, 4)) == 1
    assert len(ThresholdDbscan(min_area_px=10_000).detect(image, 4)) == 0


@pytest.mark.parametrize("polarity", ["dark", "bright"])
@pytest.mark.parametrize("grey", [0, 55, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (100, 1), (40, 50)])
def test_constant_images(shape, grey, polarity):
    image = _read_only(np.full(shape, grey, np.uint8))
    pois = checked_pois(ThresholdDbscan(polarity=polarity, min_points=1).detect(image, 4), shape, 4)
    if (grey < 55) if polarity == "dark" else (grey > 55):
        assert pois.boxes_px.tolist() == [[0, 0, 4 * shape[1], 4 * shape[0]]]
        np.testing.assert_allclose(pois.xy_px, [[2 * shape[1], 2 * shape[0]]])
    else:
        assert len(pois) == 0


def test_any_memory_layout_gives_the_same():
    image = np.random.default_rng(9).integers(0, 256, (40, 60), dtype=np.uint8)
    expected = ThresholdDbscan().detect(image, 4)
    for other in (np.asfortranarray(image), np.repeat(image, 2, axis=1)[:, ::2], image[::-1][::-1]):
        np.testing.assert_array_equal(ThresholdDbscan().detect(other, 4).xy_px, expected.xy_px)


@pytest.mark.parametrize("image", [np.zeros((5, 5)), np.zeros((5, 5), np.int32), np.zeros((5, 5), bool)])
def test_another_pixel_type_is_refused(image):
    with pytest.raises(TypeError, match="expected uint8 or uint16"):
        ThresholdDbscan().detect(image, 4)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (5,), (5, 5, 3)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="at least one pixel"):
        ThresholdDbscan().detect(np.zeros(shape, np.uint8), 4)


def test_all_wrong_options_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        ThresholdDbscan(
            threshold=-1,
            eps_px=0,
            min_points=0,
            interpolation="nearest",
            polarity="grey",
            min_area_px=0,
            threads=-1,
        )
    named = [problem.split(" ")[0] for problem in caught.value.problems]
    assert named == [
        "threshold",
        "eps_px",
        "min_points",
        "interpolation",
        "polarity",
        "min_area_px",
        "threads",
    ]
