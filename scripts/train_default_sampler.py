"""Make sparse_actors/sampling/default_sampler.json again: bit for bit on the same versions and platform.

The sampler is trained on synthetic phase maps alone (`sampling/label_images.py`); c is chosen on held-out
ones. `--calibration` prints the numbers of `sampling/reconstruction.py` instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from sparse_actors.sampling.erd_model import default
from sparse_actors.sampling.field_sampler import FieldSampler
from sparse_actors.sampling.label_images import Labels, label_images
from sparse_actors.sampling.reconstruction import Method, elected, evidence_terms
from sparse_actors.sampling.training import JUDGED_AT, distortions, train
from sparse_actors.version import VERSION

SEED = 20
SHAPE = (256, 256)
TRAINED, HELD_OUT, REPORTED, CALIBRATED = 10, 5, 5, 10
CALIBRATED_AT = (0.02, 0.05, 0.1)
OUT = Path(__file__).parents[1] / "sparse_actors" / "sampling" / "default_sampler.json"


def default_sampler() -> str:
    model = train(
        label_images(TRAINED, SHAPE, seed=SEED),
        seed=SEED,
        held_out=label_images(HELD_OUT, SHAPE, seed=SEED + 1),
        features="kriged",
    )
    seen = distortions(model, label_images(REPORTED, SHAPE, seed=SEED + 2), seed=SEED).mean(axis=0)
    card = (
        f"{TRAINED} synthetic phase maps of {SHAPE[0]} x {SHAPE[1]} px, seed {SEED}; "
        f"c chosen on {HELD_OUT} more; sparse-actors {VERSION}. "
        f"Mean share of wrong pixels on {REPORTED} others: "
        + ", ".join(f"{share:.4f} at {at:.0%}" for at, share in zip(JUDGED_AT, seen, strict=True))
    )
    return replace(model, trained_on=card).to_json()


def sampled(images: Iterator[Labels]) -> Iterator[tuple[Labels, NDArray[np.int64]]]:
    """Yield each image with the points (x, y) of the sampler so far, at several densities."""
    for index, image in enumerate(images):
        sampler = FieldSampler(image.shape, default(), seed=SEED + index)
        points = np.empty((0, 2), np.int64)
        for fraction in CALIBRATED_AT:
            while len(points) < fraction * image.size:
                new = sampler.pick(16)
                sampler.tell(new, image[new[:, 1], new[:, 0]])
                points = np.concatenate([points, new])
            yield image, points


def calibration(method: Method, maps: list[tuple[Labels, NDArray[np.int64]]]) -> NDArray[np.float64]:
    """Return the coefficients that make the observed right and wrong pixels most likely."""
    terms, right = [], []
    for image, points in maps:
        inside = np.ones(image.shape, np.bool_)
        labels, share, distance = elected(points, image[points[:, 1], points[:, 0]], inside, method)
        unmeasured = distance > 0
        terms.append(evidence_terms(share, distance)[unmeasured])
        right.append((labels == image.ravel())[unmeasured])
    x, y = np.concatenate(terms), np.concatenate(right)
    sign = np.where(y, -1.0, 1.0)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        evidence = x @ weights
        slope = 1 / (1 + np.exp(-sign * evidence))
        return float(np.logaddexp(0, sign * evidence).mean()), x.T @ (sign * slope) / len(x)

    found: NDArray[np.float64] = minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS").x
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibration", action="store_true", help="print the calibration of confidences")
    if parser.parse_args().calibration:
        maps = list(sampled(label_images(CALIBRATED, SHAPE, seed=SEED + 3)))
        for method in get_args(Method):
            print(f'    "{method}": ({", ".join(f"{weight:.2f}" for weight in calibration(method, maps))}),')
        return
    OUT.write_text(default_sampler(), encoding="utf-8")
    print(OUT)


if __name__ == "__main__":
    main()
