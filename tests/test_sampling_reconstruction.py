from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_actors.sampling.erd_model import default
from sparse_actors.sampling.field_sampler import FieldSampler
from sparse_actors.sampling.kriging import KRIGED, LANES, elect, kriging_lanes, weights
from sparse_actors.sampling.label_images import KINDS, label_image
from sparse_actors.sampling.reconstruction import Reconstruction, reconstruct

METHODS = ("weighted_mode", "diffusion", "radial")


def random_points(image: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    at = np.random.default_rng(seed).choice(image.size, max(1, round(fraction * image.size)), replace=False)
    return np.stack([at % image.shape[1], at // image.shape[1]], axis=1), image.ravel()[at]


def sampled(image: np.ndarray, fraction: float, method: str, seed: int = 0) -> Reconstruction:
    points, labels = random_points(image, fraction, seed)
    return reconstruct(image.shape, points, labels, method=method)


def test_weighted_mode_is_the_papers() -> None:
    image = label_image((24, 40), seed=3, kind="islands", phases=4)
    points, labels = random_points(image, 0.1, 0)
    y, x = np.indices(image.shape)
    d2 = (x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2
    found = reconstruct(image.shape, points, labels, method="weighted_mode").labels
    order = np.sort(d2, axis=-1)
    unambiguous = (order[..., 9] < order[..., 10]) & (order[..., 0] > 0)
    assert unambiguous.mean() > 0.5
    for row, column in np.argwhere(unambiguous):
        near = np.argsort(d2[row, column])[:10]
        votes = {v: sum(1 / d2[row, column, j] for j in near if labels[j] == v) for v in labels[near]}
        most = max(votes.values())
        winners = [label for label, vote in votes.items() if vote > most - 1e-12]
        assert found[row, column] in winners
        assert len(winners) > 1 or found[row, column] == winners[0]


def test_equal_votes_go_to_the_smallest_label() -> None:
    for labels in ([7, 2], [2, 7]):
        found = reconstruct((1, 3), [(0, 0), (2, 0)], labels, method="weighted_mode")
        assert found.labels[0, 1] == 2


def test_kriging_weights_solve_the_kriging_system() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        reach = rng.choice([2, 5, 30, 300])
        offsets = np.unique(rng.integers(-reach, reach + 1, (rng.integers(1, KRIGED + 1), 2)), axis=0)
        offsets = offsets[(offsets != 0).any(axis=1)]
        n = len(offsets)
        if n == 0:
            continue
        lanes, lane = kriging_lanes(), rng.integers(LANES)
        lanes.dx[:n, lane], lanes.dy[:n, lane] = offsets.T
        system, right = np.ones((n + 1, n + 1)), np.ones(n + 1)
        system[n, n] = 0
        system[:n, :n] = np.sqrt(np.linalg.norm(offsets[:, None] - offsets, axis=-1))
        right[:n] = np.sqrt(np.linalg.norm(offsets, axis=-1))
        found = weights(lanes, n, lane + 1)[:, lane]
        np.testing.assert_allclose(found, np.linalg.solve(system, right)[:n], atol=1e-10)


def test_points_behind_each_other_count_less_than_in_a_vote() -> None:
    # One point left, three in a column right, all at about the same distance.
    lanes = kriging_lanes()
    lanes.dx[:4, 0], lanes.dy[:4, 0], lanes.labels[:4, 0] = (-3, 4, 4, 4), (0, -1, 0, 1), (1, 2, 2, 2)
    of_left = weights(lanes, 4, 1)[0, 0]
    by_distance = (1 / 9) / (1 / 9 + 1 / 16 + 2 / 17)
    assert of_left > by_distance + 0.05
    elect(lanes, 4, 1)
    assert (lanes.elected[0], lanes.share[0]) == (2.0, pytest.approx(1 - of_left))
    lanes.labels[:4, 0] = 3
    elect(lanes, 4, 1)
    assert (lanes.elected[0], lanes.share[0]) == (3.0, 1.0)


@given(
    st.integers(0, 10**6),
    st.sampled_from(METHODS),
    st.sampled_from([0.001, 0.02, 0.3, 1.0]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_invariants(seed: int, method: str, fraction: float, is_masked: bool) -> None:
    rng = np.random.default_rng(seed)
    image = label_image((20, 31), seed=seed) * (rng.random((20, 31)) > 0.02)
    points, labels = random_points(image, fraction, seed)
    mask = np.indices(image.shape).sum(axis=0) > 12 if is_masked else None
    result = reconstruct(image.shape, points, labels, method=method, mask=mask)
    inside = np.ones(image.shape, bool) if mask is None else mask
    at = inside[points[:, 1], points[:, 0]]
    measured = points[at]
    assert (result.labels[measured[:, 1], measured[:, 0]] == labels[at]).all()
    assert (result.confidence[measured[:, 1], measured[:, 0]] == 1).all()
    assert (result.labels[~inside] == 0).all()
    assert (result.confidence[~inside] == 0).all()
    assert result.labels.dtype == np.int32
    assert result.confidence.dtype == np.float32
    assert ((result.confidence >= 0) & (result.confidence <= 1)).all()
    assert set(np.unique(result.labels)) <= {0, *labels}
    if labels.any():
        unmeasured = inside.copy()
        unmeasured[points[:, 1], points[:, 0]] = False
        assert (result.labels[unmeasured] > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_order_of_points_and_names_of_labels_do_not_matter(method: str) -> None:
    image = label_image((40, 40), seed=5, kind="lamellae", phases=2)
    points, labels = random_points(image, 0.15, 1)
    one = reconstruct(image.shape, points, labels, method=method).labels
    other = reconstruct(image.shape, points[::-1], labels[::-1] + 40, method=method).labels
    # Of equally near points any may be among the nearest.
    assert ((one + 40) != other).mean() < 0.02


@pytest.mark.parametrize("method", ["diffusion", "radial"])
def test_fewer_wrong_pixels_than_the_paper(method: str) -> None:
    images = [label_image((96, 96), seed=s, kind=KINDS[s % 2], phases=2) for s in range(6)]
    wrong = {
        name: np.mean([(sampled(image, 0.1, name).labels != image).mean() for image in images])
        for name in ("weighted_mode", method)
    }
    assert wrong[method] < 0.95 * wrong["weighted_mode"]


def test_diffusion_does_not_cross_the_mask() -> None:
    # Two chambers; each is filled by its own points where votes disagree.
    mask = np.ones((9, 21), bool)
    mask[:, 10] = False
    points = [(x, y) for x in (2, 7, 13, 18) for y in (1, 4, 7)]
    labels = [1 if x < 10 else 2 for x, _ in points]
    result = reconstruct(mask.shape, points, labels, method="diffusion", mask=mask)
    assert (result.labels[:, :10] == 1).all()
    assert (result.labels[:, 11:] == 2).all()


@pytest.mark.parametrize("method", METHODS)
def test_without_any_phase_nothing_is_known(method: str) -> None:
    for points, labels in (([], []), ([(1, 1)], [0])):
        result = reconstruct((4, 4), points, labels, method=method)
        assert not result.labels.any()


@pytest.mark.parametrize(
    ("points", "labels", "options", "message"),
    [
        ([(4, 0)], [1], {}, "outside the field of 4 x 3"),
        ([(0, 3)], [1], {}, "outside the field"),
        ([(0, 0), (0, 0)], [1, 1], {}, "appears twice"),
        ([(0, 0)], [1, 2], {}, "1 points, but labels"),
        ([(0, 0)], [1], {"mask": np.ones((4, 3), bool)}, "the mask is"),
        ([(0, 0)], [1], {"method": "nearest"}, "must be one of"),
    ],
)
def test_says_what_is_wrong(points: list, labels: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reconstruct((3, 4), points, labels, **options)


@pytest.fixture(scope="module")
def maps() -> list[tuple[np.ndarray, np.ndarray]]:
    """Images with the points of the sampler, at two densities each."""
    result = []
    for seed, kind in enumerate(KINDS):
        image = label_image((256, 256), seed=(77, seed), kind=kind)
        sampler = FieldSampler(image.shape, default(), seed=seed)
        points = sampler.pick(0)
        for fraction in (0.03, 0.06):
            while len(points) < fraction * image.size:
                new = sampler.pick(16)
                sampler.tell(new, image[new[:, 1], new[:, 0]])
                points = np.concatenate([points, new])
            result.append((image, points))
    return result


@pytest.mark.parametrize("method", METHODS)
def test_confidence_is_the_share_of_right_pixels(
    method: str, maps: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    right, confidence = [], []
    for image, points in maps:
        result = reconstruct(image.shape, points, image[points[:, 1], points[:, 0]], method=method)
        right.append((result.labels == image).ravel())
        confidence.append(result.confidence.ravel())
    is_right, stated = np.concatenate(right), np.concatenate(confidence)
    assert abs(is_right.mean() - stated.mean()) < 0.02
    bins = np.digitize(stated, [0.5, 0.6, 0.7, 0.8, 0.9])
    for b in range(6):
        inside = bins == b
        if inside.sum() > 2000:
            assert abs(is_right[inside].mean() - stated[inside].mean()) < 0.08
