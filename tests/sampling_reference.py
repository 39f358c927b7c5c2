"""SLADS written down plainly, all pixels against all points: what the compiled code is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparse_actors.sampling.erd_model import ErdModel


@dataclass
class Reference:
    values: np.ndarray
    dissent: np.ndarray
    features: np.ndarray
    erd: np.ndarray


def nearest(shape, points):
    """(pixels, n): numbers of the n <= 10 nearest points, and their squared distances."""
    y, x = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    points = np.sort(points)
    d2 = (y[:, None] - points // shape[1]) ** 2 + (x[:, None] - points % shape[1]) ** 2
    order = np.argsort(d2, axis=1, kind="stable")[:, :10]
    return points[order], np.take_along_axis(d2, order, axis=1)


def reference(shape, known, model: ErdModel) -> Reference:
    """Everything that follows from `known`, {pixel: value}."""
    pixels = shape[0] * shape[1]
    labels = model.values == "labels"
    near, d2 = nearest(shape, np.array(list(known)))
    x = np.array([[known[p] for p in row] for row in near], float)
    unknown = np.array([p not in known for p in range(pixels)])
    f = np.zeros((pixels, 6))
    with np.errstate(divide="ignore", invalid="ignore"):
        w = 1 / d2
        w /= w.sum(axis=1, keepdims=True)
    if labels:
        kinds = np.unique(x)
        votes = np.stack([(w * (x == kind)).sum(axis=1) for kind in kinds], axis=1)
        # Sums of equal weights in another order differ in the last digit.
        values = kinds[np.isclose(votes, votes.max(axis=1, keepdims=True), 1e-12, 0).argmax(axis=1)]
        d = (x != values[:, None]).astype(float)
    else:
        values = (w * x).sum(axis=1)
        d = abs(x - values[:, None])
    f[unknown, 0] = (w * d).sum(axis=1)[unknown]
    f[unknown, 1] = np.sqrt((d**2).mean(axis=1))[unknown]
    values = np.where(unknown, values, x[:, 0])
    f[:, 2] = np.sqrt(d2[:, 0])
    if model.features == "slads":
        radius = np.ceil(np.sqrt(0.0025 * pixels / np.pi))
        f[:, 3] = (1 + np.pi * radius**2) / (1 + (d2 <= radius**2).sum(axis=1))
    else:
        f[:, 3] = np.sqrt(np.pi * d2[:, -1] / d2.shape[1])
    image = values.reshape(shape)
    for k, axis in ((4, 1), (5, 0)):
        if shape[axis] > 1:
            slope = abs(np.gradient(image, axis=axis)).ravel()
            f[:, k] = slope != 0 if labels else slope
    pairs = [(i, j) for i in range(6) for j in range(i, 6) if not (labels and i == j and i > 3)]
    terms = [np.ones(pixels), *f.T, *(f[:, i] * f[:, j] for i, j in pairs)]
    erd = np.where(unknown, np.array(terms).T @ model.coefficients, -np.inf)
    return Reference(values, f[:, 0], f, erd)


def some_model(values="labels", features="slads", seed=0) -> ErdModel:
    """A model that makes use of every term."""
    rng = np.random.default_rng(seed)
    coefficients = rng.normal(size=26 if values == "labels" else 28)
    coefficients[1:4] += 3
    return ErdModel(coefficients=tuple(coefficients), values=values, features=features)
