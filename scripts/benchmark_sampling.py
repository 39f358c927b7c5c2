"""Choosing where to measure next: SLADS, exactly and by the authors' update."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from contest import Contest, Peer
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from slads_authors import features, nearest, polynomial, update_radius, weighted_mode

from sparse_actors.sampling.erd_model import ErdModel
from sparse_actors.sampling.field_sampler import FieldSampler

MEASUREMENTS = 4
"""As many one after the other in a run."""
SAME_ERD = 0.85
"""Share of the pixels whose ERD must be that of the peer before the measurements."""
CHUNK = 200_000
"""Pixels that the peer looks at together when it begins."""
BATCH = 64
"""On the way to the share at which is measured."""

Pixels = NDArray[np.int64]


def disputed_and_far() -> ErdModel:
    """Return an ERD of (dissent + 0.05) times the distance to the nearest point; nothing is trained."""
    coefficients = np.zeros(26)
    coefficients[3], coefficients[9] = 0.05, 1.0
    return ErdModel(coefficients=tuple(coefficients))


def phases(side_px: int, seed: int) -> NDArray[np.int32]:
    """Return labels 1 and 2 of smooth noise that looks the same at every size."""
    noise = np.random.default_rng(seed).normal(size=(side_px, side_px))
    smooth = gaussian_filter(noise, side_px / 64, mode="wrap")
    return np.where(smooth > 0, 2, 1).astype(np.int32)


class AuthorsUpdate:
    """SLADS as its authors' code does it, in numpy and scipy.

    After each measurement a new kd-tree of all points, new features in a square of half side
    sqrt(10 N / (pi k)), 3 to 15 px, about the k-th point, and the arg max over the whole field.
    """

    def __init__(self, image: NDArray[np.int32], measured: Pixels, model: ErdModel) -> None:
        self.image, self.theta = image, np.array(model.coefficients)
        self.points = np.stack(np.divmod(measured, image.shape[1]), axis=1)
        self.map = image.copy()
        self.erd = np.full(image.shape, -np.inf)
        is_free = np.ones(image.shape, np.bool_)
        is_free[tuple(self.points.T)] = False
        # Every pixel needs its label before the gradients can be taken.
        parts = np.array_split(np.argwhere(is_free), 1 + image.size // CHUNK)
        votes = [self._vote(part) for part in parts]
        for part, vote in zip(parts, votes, strict=True):
            self._score(part, *vote)

    def step(self, pixel: int) -> int:
        """Choose a pixel, and measure the one given."""
        chosen = int(self.erd.argmax())
        point = divmod(pixel, self.image.shape[1])
        self.points = np.vstack([self.points, point])
        self.map[point], self.erd[point] = self.image[point], -np.inf
        reach = update_radius(self.image.size, len(self.points))
        square = np.meshgrid(
            *(
                np.arange(max(0, at - reach), min(side, at + reach))
                for at, side in zip(point, self.image.shape, strict=True)
            ),
            indexing="ij",
        )
        pixels = np.stack(square, axis=-1).reshape(-1, 2)
        pixels = pixels[np.isfinite(self.erd[tuple(pixels.T)])]
        if len(pixels):
            self._score(pixels, *self._vote(pixels))
        return chosen

    def _vote(self, pixels: Pixels) -> tuple[Any, Any]:
        labels, distances = nearest(self.points, self.image[tuple(self.points.T)], pixels)
        self.map[tuple(pixels.T)] = weighted_mode(labels, distances)
        return labels.astype(np.uint8), distances.astype(np.float32)

    def _score(self, pixels: Pixels, labels: Any, distances: Any) -> None:
        mode = self.map[tuple(pixels.T)]
        terms = polynomial(features(self.map, pixels, labels, distances, mode))
        self.erd[tuple(pixels.T)] = terms @ self.theta


@contextmanager
def measure(small: bool, seed: int, *, side_px: int, share: float) -> Iterator[Contest]:
    """Choose and measure pixels one by one when a share of the field is measured."""
    side_px = min(side_px, 64) if small else side_px
    image, model = phases(side_px, seed), disputed_and_far()
    sampler = FieldSampler(image.shape, model, seed=seed)

    def tell(sampler: FieldSampler, points_px: Pixels) -> None:
        sampler.tell(points_px, image[points_px[:, 1], points_px[:, 0]])

    start = round(0.01 * image.size)
    tell(sampler, sampler.pick(start))
    while (rest := round(share * image.size) - sampler.measured) > 0:
        tell(sampler, sampler.pick(min(BATCH, rest)))
    state: dict[str, FieldSampler | AuthorsUpdate] = {}
    measured = np.flatnonzero(sampler.erd_map().ravel() == 0)
    authors = AuthorsUpdate(image, measured, model)

    def prepare() -> None:
        state["ours"], state["authors"] = copy.deepcopy(sampler), copy.deepcopy(authors)

    def ours() -> list[int]:
        chosen = []
        for _ in range(MEASUREMENTS):
            points_px = state["ours"].pick(1)
            chosen.append(int(points_px[0, 1] * side_px + points_px[0, 0]))
            tell(state["ours"], points_px)
        return chosen

    prepare()
    picks = ours()

    # Of equally distant points a kd-tree returns any: the tenth may be another, and with it the ERD.
    theirs_erd = np.where(np.isfinite(authors.erd), authors.erd, 0)
    same_erd = float(np.isclose(sampler.erd_map(), theirs_erd, atol=1e-4).mean())

    yield Contest(
        f"{side_px} x {side_px} pixels, {share:.0%} measured; {MEASUREMENTS} further measurements",
        ours,
        (
            Peer(
                "the authors' update in numpy and scipy",
                lambda: [state["authors"].step(pixel) for pixel in picks],
                lambda ours, theirs: "" if same_erd > SAME_ERD else f"the ERD of {1 - same_erd:.0%} differs",
                agreement="the same ERD, up to ties of the kd-tree",
                figures=lambda ours, theirs: {
                    "measurements": MEASUREMENTS,
                    "same_erd": same_erd,
                    "same_picks": float(np.mean(np.equal(ours, theirs))),
                },
            ),
        ),
        prepare=prepare,
    )
