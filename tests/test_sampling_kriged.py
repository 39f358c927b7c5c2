from __future__ import annotations

import numpy as np
import pytest
from sampling_reference import some_model

from sparse_actors.sampling.erd_map import ErdMap
from sparse_actors.sampling.erd_model import default
from sparse_actors.sampling.field_sampler import (
    CHOSEN,
    DRAWN_AGREED,
    DRAWN_DISPUTED,
    EXPLORES_FROM,
    FieldSampler,
)
from sparse_actors.sampling.label_images import label_image
from sparse_actors.sampling.reconstruction import reconstruct


def told(
    image: np.ndarray, fraction: float, batch: int = 8, **options: float
) -> tuple[FieldSampler, np.ndarray]:
    sampler = FieldSampler(image.shape, default(), seed=1, **options)
    points = np.empty((0, 2), np.int64)
    while sampler.measured < fraction * image.size:
        new = sampler.pick(batch)
        sampler.tell(new, image[new[:, 1], new[:, 0]])
        points = np.concatenate([points, new])
    return sampler, points


@pytest.mark.parametrize("seed", range(4))
def test_state_is_that_of_a_new_map_of_the_same_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = label_image((24, 31), seed=seed).astype(np.float32).ravel()
    model = some_model(features="kriged", seed=seed)
    grown = ErdMap((24, 31), model)
    known: dict[int, float] = {}
    for _ in range(30):
        pixels = rng.choice(image.size, 4, replace=False)
        values = np.where(rng.random(4) < 0.8, image[pixels], 9).astype(np.float32)
        listed = rng.random(4) < 0.9
        grown.update(pixels, values, listed)
        for pixel, value, is_listed in zip(pixels.tolist(), values, listed, strict=True):
            if is_listed:
                known[pixel] = value
            else:
                known.pop(pixel, None)
        if not known:
            continue
        fresh = ErdMap((24, 31), model)
        fresh.update(
            np.array(list(known)), np.array(list(known.values()), np.float32), np.ones(len(known), bool)
        )
        free = np.isfinite(grown.erd)
        assert (grown.values == fresh.values).all()
        assert (grown.dissent == fresh.dissent).all()
        assert (grown.erd[free] == fresh.erd[free]).all()


def test_the_map_is_the_radial_reconstruction() -> None:
    image = label_image((64, 64), seed=2, kind="islands", phases=3)
    sampler, points = told(image, 0.1)
    radial = reconstruct(image.shape, points, image[points[:, 1], points[:, 0]], method="radial").labels
    # Of equally near points any may be among the nearest.
    assert (sampler.phase_map() != radial).mean() < 0.01


def test_exploration_finds_what_no_point_has_hit() -> None:
    image = np.ones((80, 80), np.int32)
    image[:, 40:] = 2
    farthest = []
    for exploration in (0.0, 0.2):
        sampler, points = told(image, 2 * EXPLORES_FROM, exploration=exploration)
        y, x = np.indices(image.shape)
        d2 = (y.ravel()[:, None] - points[:, 1]) ** 2 + (x.ravel()[:, None] - points[:, 0]) ** 2
        farthest.append(d2.min(axis=1).max())
        assert len(np.unique(points, axis=0)) == len(points) == sampler.measured
    assert farthest[1] <= farthest[0]


def test_exploration_starts_late() -> None:
    image = label_image((64, 64), seed=2, kind="islands", phases=3)
    _, without = told(image, EXPLORES_FROM * 0.9, exploration=0.0)
    _, points = told(image, EXPLORES_FROM * 0.9, exploration=0.3)
    assert (without == points).all()


def test_points_know_whether_they_were_drawn_and_what_the_points_near_them_said() -> None:
    image = np.ones((80, 80), np.int32)
    image[:, 40:] = 2
    sampler, points = told(image, EXPLORES_FROM, exploration=0.2)
    assert (sampler.drawn(points) == CHOSEN).all()
    votes = sampler.vote_share()
    anywhere = sampler.pick_anywhere(400)
    agreed = votes[anywhere[:, 1], anywhere[:, 0]] == 1
    assert 0.5 < agreed.mean() < 1
    assert (sampler.drawn(anywhere) == np.where(agreed, DRAWN_AGREED, DRAWN_DISPUTED)).all()
    sampler.tell(anywhere, image[anywhere[:, 1], anywhere[:, 0]])
    explored = sampler.drawn(sampler.pick(100))
    assert 10 <= (explored == DRAWN_AGREED).sum() <= 20
    assert (explored == DRAWN_DISPUTED).sum() == 0
