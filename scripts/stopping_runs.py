"""Simulated maps for `sampling.stopping`: what is seen at a check, and how much is wrong in truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tifffile
from numpy.typing import NDArray
from slads_images import DATA, EXPERIMENTS, Labels, segment

from sparse_actors.sampling.erd_model import default
from sparse_actors.sampling.field_sampler import FieldSampler
from sparse_actors.sampling.label_images import label_images
from sparse_actors.sampling.reconstruction import reconstruct
from sparse_actors.sampling.stopping import Evidence, FilteredError, evidence, is_audit

FRACTIONS = tuple(step / 100 for step in range(3, 21))
SIZE_PX = 128
SYNTHETIC = 15
START_FRACTION = 0.01


@dataclass(frozen=True, slots=True)
class Check:
    """A map at one moment."""

    field: str
    seed: int
    fraction: float
    seen: Evidence
    distortion: float
    """The true one."""
    filtered_error: float
    is_falling: bool
    """Whether the paper's rule would end the map but for its threshold."""


def checks(name: str, truth: Labels, seed: int) -> Iterator[Check]:
    """Sample a field and yield a check at each fraction."""
    sampler = FieldSampler(truth.shape, default(), seed=seed, budget_fraction=FRACTIONS[-1])
    random = np.random.default_rng([seed, 1])
    start = round(START_FRACTION * truth.size)
    points = np.empty((0, 2), dtype=np.int64)
    wrong: list[bool] = []
    rule = FilteredError(truth.size, threshold=1.0)
    audits: list[bool] = []
    for fraction in FRACTIONS:
        while len(points) < round(fraction * truth.size):
            audits.append(is_audit(len(points), start))
            point = _anywhere(truth.shape, points, random) if audits[-1] else sampler.pick(1)
            label = truth[point[:, 1], point[:, 0]]
            wrong.append(bool(sampler.predicted(point)[0] != label[0]))
            rule.tell(wrong[-1:])
            sampler.tell(point, label)
            points = np.concatenate((points, point))
        phase_map = reconstruct(truth.shape, points, truth[points[:, 1], points[:, 0]]).labels
        seen = evidence(phase_map, points, np.array(audits), np.array(wrong))
        true = float((phase_map != truth).mean())
        yield Check(name, seed, fraction, seen, true, rule.error, rule.is_met)


def _anywhere(
    shape: tuple[int, int], measured: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Return one pixel (1, 2), x and y, drawn from those that are not measured."""
    is_free = np.ones(shape, dtype=bool)
    is_free[measured[:, 1], measured[:, 0]] = False
    pixel = random.choice(np.flatnonzero(is_free))
    return np.array([[pixel % shape[1], pixel // shape[1]]])


def calibration_fields() -> Iterator[tuple[str, Labels]]:
    """Yield fields to fit on: drawn ones, and micrographs other than those of the test fields."""
    for number, labels in enumerate(label_images(SYNTHETIC, (SIZE_PX, SIZE_PX), seed=0)):
        yield f"drawn {number}", labels
    for spot in ("spot1_0d_0", "spot2_0d_0"):
        labels = segment(_grey(f"alloys/nasa_superalloy_{spot}.tif"), 2)
        yield f"superalloy {spot}", labels[::4, ::4]
        yield f"superalloy {spot}, quarter", labels[:256:2, :256:2]
    for number in ("0007", "0124", "0235", "0333", "0360"):
        yield f"steel {number}", _steel(number)
    for image in (
        "032919_6_100cyc0007",
        "040617_3_S0410018",
        "050317_3_S0440016",
        "111418_4_1426_100Cyc0032",
    ):
        yield f"coating {image}", _coating(image)
    yield from ((field.name, field.labels) for field in EXPERIMENTS["two-phase-128"].folds()[0].train)


def test_fields() -> Iterator[tuple[str, Labels]]:
    """Yield the fields on which the interval is judged."""
    for case in ("two-phase-128", "four-phase-256"):
        for fold in EXPERIMENTS[case].folds():
            yield from ((field.name, field.labels) for field in fold.tests)
    for spot in ("spot3_0d_3", "spot5_0d_0"):
        yield f"superalloy {spot}", segment(_grey(f"alloys/nasa_superalloy_{spot}.tif"), 2)[::4, ::4]
    for number in ("0495", "1061", "1176", "1528"):
        yield f"steel {number}", _steel(number)
    for image in ("040617_3_S0410028", "050317_3_S0440019"):
        yield f"coating {image}", _coating(image)


def _steel(number: str) -> Labels:
    """Return microconstituents, labelled by hand."""
    return _grey(f"steel_uhcs/uhcs{number}_human.tif")[:384:3, :384:3].astype(np.int32) + 1


def _coating(image: str) -> Labels:
    return _grey(f"alloys/nasa_ebc_{image}_labels4.tif")[::8, ::8].astype(np.int32)


def _grey(path: str) -> NDArray[np.uint8]:
    return np.asarray(tifffile.imread(DATA / path))
