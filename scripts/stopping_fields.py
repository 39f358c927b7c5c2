"""Phase maps of many classes, to fit and to judge the estimate of a map's distortion on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from slads_images import DATA, EXPERIMENTS, Labels, segment

from sparse_actors.sampling.label_images import KINDS, label_image

Use = Literal["fit", "judge"]
SIDES_PX = (64, 96, 128)
_USES: tuple[Use, ...] = ("fit", "judge")


@dataclass(frozen=True, slots=True)
class MappedField:
    """A field to map, with its true labels 1..L, (rows, columns)."""

    kind: str
    name: str
    labels: Labels


def drawn_fields(use: Use, count: int) -> Iterator[MappedField]:
    """Yield `count` drawn fields of each class; no field to fit on has the seed of one to judge on."""
    for number, (kind, draw) in enumerate(_DRAW.items()):
        for index in range(count):
            random = np.random.default_rng([_USES.index(use), number, index])
            side = SIDES_PX[index % len(SIDES_PX)]
            yield MappedField(kind, f"{kind} {index}", draw((side, side), random))


def _structures(phases: int) -> Callable[[tuple[int, int], np.random.Generator], Labels]:
    def draw(shape: tuple[int, int], random: np.random.Generator) -> Labels:
        kind = KINDS[random.integers(len(KINDS))]
        return label_image(shape, seed=int(random.integers(2**31)), kind=kind, phases=phases)

    return draw


def _discs(radius_px: int) -> Callable[[tuple[int, int], np.random.Generator], Labels]:
    def draw(shape: tuple[int, int], random: np.random.Generator) -> Labels:
        """Discs of one radius, of one or two phases, that cover 0.3 to 10 % of a matrix."""
        labels = np.ones(shape, dtype=np.int32)
        cover = 0.003 * (0.1 / 0.003) ** random.random()
        phases = int(random.integers(1, 3))
        for _ in range(max(1, round(cover * labels.size / (np.pi * radius_px**2)))):
            _stamp(labels, random, radius_px, 2 + int(random.integers(phases)))
        return labels

    return draw


def _graded(shape: tuple[int, int], random: np.random.Generator) -> Labels:
    """Particles of 1 to 4 px that become many from one side to the other, or a border that frays out."""
    labels = np.ones(shape, dtype=np.int32)
    if random.random() < 0.5:
        for _ in range(round(random.uniform(0.002, 0.02) * labels.size)):
            _stamp(labels, random, random.uniform(1, 4), 2, column=shape[1] * random.random() ** 0.4)
        return labels
    rough = gaussian_filter(random.standard_normal(shape), random.uniform(1, 4))
    slope = random.uniform(2, 6) * (np.arange(shape[1]) / shape[1] - random.uniform(0.3, 0.7))
    labels[rough / rough.std() + slope > 0] = 2
    return labels


def _stripes(shape: tuple[int, int], random: np.random.Generator) -> Labels:
    """Straight stripes 2 to 12 px wide, at any angle, of two to four phases."""
    rows, columns = np.indices(shape)
    angle, width = random.uniform(0, np.pi), 2 * 6 ** random.random()
    phases = int(random.integers(2, 5))
    along = rows * np.cos(angle) + columns * np.sin(angle) + width * random.random()
    return (np.floor(along / width).astype(np.int32) % phases + 1).astype(np.int32)


def _stamp(
    labels: Labels, random: np.random.Generator, radius_px: float, phase: int, column: float | None = None
) -> None:
    """Put a disc anywhere."""
    y = random.uniform(0, labels.shape[0])
    x = random.uniform(0, labels.shape[1]) if column is None else column
    top, left = max(0, int(y - radius_px)), max(0, int(x - radius_px))
    window = labels[top : int(y + radius_px) + 2, left : int(x + radius_px) + 2]
    rows, columns = np.indices(window.shape)
    window[np.hypot(rows + top - y, columns + left - x) <= radius_px] = phase


_DRAW = {
    "two phases": _structures(2),
    "four phases": _structures(4),
    "particles of radius 1 px": _discs(1),
    "particles of radius 2 px": _discs(2),
    "particles of radius 3 px": _discs(3),
    "graded": _graded,
    "stripes": _stripes,
}


def micrographs(use: Use) -> Iterator[MappedField]:
    """Yield segmented micrographs; no image is in both uses."""
    two_phase = EXPERIMENTS["two-phase-128"].folds()
    if use == "fit":
        alloys, steels = ("spot1_0d_0", "spot2_0d_0"), ("0007", "0124", "0235", "0333", "0360")
        coatings: tuple[str, ...] = ("032919_6_100cyc0007", "040617_3_S0410018")
        fields = two_phase[0].train
    else:
        alloys, steels = ("spot3_0d_3", "spot5_0d_0"), ("0495", "1061", "1176", "1528")
        coatings = ("040617_3_S0410028", "050317_3_S0440019")
        folds = (*two_phase, *EXPERIMENTS["four-phase-256"].folds())
        fields = tuple(field for fold in folds for field in fold.tests)
    for spot in alloys:
        labels = segment(_grey(f"alloys/nasa_superalloy_{spot}.tif"), 2)[::4, ::4]
        yield MappedField("micrographs", f"superalloy {spot}", labels)
    for number in steels:
        # Microconstituents, labelled by hand.
        labels = _grey(f"steel_uhcs/uhcs{number}_human.tif")[:384:3, :384:3].astype(np.int32) + 1
        yield MappedField("micrographs", f"steel {number}", labels)
    for image in coatings:
        labels = _grey(f"alloys/nasa_ebc_{image}_labels4.tif")[::8, ::8].astype(np.int32)
        yield MappedField("micrographs", f"coating {image}", labels)
    yield from (MappedField("micrographs", field.name, field.labels) for field in fields)


def _grey(path: str) -> NDArray[np.uint8]:
    return np.asarray(tifffile.imread(DATA / path))
