"""Training a sampler: least squares of the reduction in distortion on the features of unmeasured pixels.

As in SLADS (G. M. D. P. Godaliyadda et al., IEEE Trans. Comput. Imaging 4, 2018), the reduction in distortion
from measuring pixel s is approximated by the errors around it that are nearer to s than to other points,

    R(s) = sum over r in 15 x 15 px about s of exp(-|r - s|^2 c^2 / (2 d_1^2)) D(r),

D(r) = 1 where the reconstruction is wrong. Pixels are measured at random in several densities. Only the
normal equations are kept, in float64, so that memory does not grow beyond what one image needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from sparse_actors.contracts.classifier import FITS_NONE, MAX_PHASES

from .compiled import compiled
from .erd_map import ErdMap
from .erd_model import ErdModel
from .features import TERMS, FeatureSet, polynomial_terms
from .field_sampler import FieldSampler

Labels = NDArray[np.int32]

DENSITIES = (0.05, 0.1, 0.2, 0.4, 0.8)
WINDOW_C = (2.0, 4.0, 8.0, 16.0)
JUDGED_AT = (0.02, 0.05, 0.1, 0.15, 0.2)
"""Measured shares of a held-out image at which its distortion is taken."""
_WINDOW_PX = 7
_ROWS = 1 << 16
"""Pixels whose terms are held at a time: 15 MB."""
_LABEL_TERMS = TERMS - 2
_DIGITS = 9
"""Significant digits of the coefficients: what summing in another order does not change."""


def train(
    images: Iterable[Labels],
    *,
    seed: int,
    fractions: Sequence[float] = DENSITIES,
    c: float | None = None,
    held_out: Iterable[Labels] = (),
    features: FeatureSet = "local",
    trained_on: str = "",
) -> ErdModel:
    """Train a sampler for phase maps.

    Parameters
    ----------
    images
        (rows, columns) each, labels 1..L; pixels labelled FITS_NONE are left out. Read once, one at a time.
    seed
        Of the pixels that count as measured.
    fractions
        Densities of measured pixels, each used once per image.
    c
        How narrow the window is; None: the one of WINDOW_C with the least distortion on `held_out`, as the
        geometric mean over the images of the mean over JUDGED_AT.
    held_out
        Images to choose c by; never trained on.
    features
        Of the model.
    trained_on
        Kept with the model, for people.

    Raises
    ------
    ValueError
        When there is no image, one is not a map of at least two phases, or c is to be chosen from nothing.
    """
    windows = WINDOW_C if c is None else (c,)
    judges = list(held_out)
    if c is None and not judges:
        raise ValueError("give c, or held-out images to choose it by")
    rng = np.random.default_rng(seed)
    equations = _NormalEquations(windows, features)
    for image in images:
        checked = checked_labels(image)
        for fraction in fractions:
            equations.add(checked, fraction, rng)
    models = equations.solve(trained_on)
    if len(models) == 1:
        return models[0]

    def loss(model: ErdModel) -> float:
        # In the logarithm each image counts alike, however hard it is.
        return float(np.log(distortions(model, judges, seed=seed).mean(axis=1) + 1e-4).mean())

    return min(models, key=loss)


def distortions(
    model: ErdModel, images: Iterable[Labels], *, seed: int, fractions: Sequence[float] = JUDGED_AT
) -> NDArray[np.float64]:
    """Sample images with a model.

    Parameters
    ----------
    model
        Of the sampler, which starts from its usual start points.
    images
        Fully known phase maps.
    seed
        Of the start points.
    fractions
        Measured shares, ascending.

    Returns
    -------
    numpy.ndarray
        (images, fractions): share of wrong pixels of the sampler's phase map.
    """
    result = []
    for index, image in enumerate(images):
        known = checked_labels(image) > FITS_NONE
        pixels = int(known.sum())
        sampler = FieldSampler(
            image.shape, model, seed=seed + index, mask=known, budget_fraction=max(fractions)
        )
        batch = max(1, pixels // 4000)
        wrong = []
        for fraction in fractions:
            while (rest := round(fraction * pixels) - sampler.measured) > 0:
                points = sampler.pick(min(batch, rest))
                sampler.tell(points, image[points[:, 1], points[:, 0]])
            wrong.append(float((sampler.phase_map() != image)[known].mean()))
        result.append(wrong)
    return np.array(result)


def train_from_files(paths: Iterable[Path], out: Path, *, seed: int) -> ErdModel:
    """Train a sampler on label images in files, and write it.

    Every fourth image is held out to choose c; fewer than four images train all with c = 8.

    Parameters
    ----------
    paths
        TIFF or PNG files of one channel; 0 is left out, every other value is a phase.
    out
        The sampler, JSON, for `ErdModel.from_json`.
    seed
        Of the pixels that count as measured.

    Raises
    ------
    ValueError
        When a file is no label image; names it.
    OSError
        When a file cannot be read or written.
    """
    files = sorted(Path(path) for path in paths)
    if not files:
        raise ValueError("there are no label images to train on")
    judges = files[3::4]
    for file in files:
        read_labels(file)  # every wrong file is found before the first minute of training
    model = train(
        (read_labels(file) for file in files if file not in judges),
        seed=seed,
        c=None if judges else 8.0,
        held_out=[read_labels(file) for file in judges],
        trained_on=f"{len(files)} label images, {len(judges)} of them held out; seed {seed}: "
        + ", ".join(file.name for file in files),
    )
    out.write_text(model.to_json(), encoding="utf-8")
    return model


def read_labels(path: Path) -> Labels:
    """Read a label image (rows, columns) of int32.

    Raises
    ------
    ValueError
        When the file is no label image; names it.
    OSError
        When it cannot be read.
    """
    data = path.read_bytes()
    image: NDArray[np.generic] | None
    if path.suffix.lower() in (".tif", ".tiff"):
        try:
            image = tifffile.imread(path)
        except (tifffile.TiffFileError, ValueError) as error:
            raise ValueError(f"{path}: no readable TIFF: {error}") from None
    else:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise ValueError(f"{path}: expected a TIFF or PNG label image")
    try:
        return checked_labels(image)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def checked_labels(image: NDArray[np.generic]) -> Labels:
    """Return a label image as int32.

    Raises
    ------
    ValueError
        When it is not one channel of whole numbers 0..MAX_PHASES with at least two phases.
    """
    if image.ndim != 2:
        raise ValueError(f"expected one channel (rows, columns), got an array of shape {image.shape}")
    if image.dtype.kind not in "iub":
        raise ValueError(f"expected whole numbers as labels, got {image.dtype}")
    phases = np.unique(image)
    if phases[0] < 0 or phases[-1] > MAX_PHASES:
        raise ValueError(f"labels must be 0..{MAX_PHASES}, got {phases[0]}..{phases[-1]}")
    if np.count_nonzero(phases) < 2:
        raise ValueError("needs at least two phases; 0 counts as none")
    return image.astype(np.int32)


class _NormalEquations:
    """The sums that least squares needs, for several windows at once."""

    def __init__(self, windows: Sequence[float], features: FeatureSet) -> None:
        self._windows = np.array(windows)
        self._features = features
        self._gram = np.zeros((_LABEL_TERMS, _LABEL_TERMS))
        self._moments = np.zeros((_LABEL_TERMS, len(windows)))

    def add(self, image: Labels, fraction: float, rng: np.random.Generator) -> None:
        """Add all unmeasured pixels of an image of which this share is measured."""
        known = (image != FITS_NONE).ravel()
        measured = known & (rng.random(image.size) < fraction)
        points = np.flatnonzero(measured)
        if not len(points):
            return
        erd = ErdMap(image.shape, self._model(np.zeros(_LABEL_TERMS), self._windows[0], ""))
        erd.update(points, image.ravel()[points].astype(np.float32), np.ones(len(points), np.bool_))
        wrong = (erd.values != image.ravel()) & known
        pixels = np.flatnonzero(known & ~measured)
        for start in range(0, len(pixels), _ROWS):
            some = pixels[start : start + _ROWS]
            found = erd.features(some)
            terms = polynomial_terms(found, continuous=False)
            reduction = _reductions(wrong.reshape(image.shape), some, found[:, 2], self._windows)
            self._gram += terms.T @ terms
            self._moments += terms.T @ reduction

    def solve(self, trained_on: str) -> list[ErdModel]:
        """Return the model of each window."""
        if not self._gram[0, 0]:
            raise ValueError("there is nothing to train on")
        # Terms differ by orders of magnitude; scaled to unit length the equations stay well conditioned.
        scale = 1 / np.sqrt(np.maximum(np.diag(self._gram), 1e-300))
        scaled = self._gram * scale[:, None] * scale
        solution = np.linalg.lstsq(scaled, self._moments * scale[:, None], rcond=1e-12)[0] * scale[:, None]
        return [
            self._model(coefficients, window, trained_on)
            for coefficients, window in zip(solution.T, self._windows, strict=True)
        ]

    def _model(self, coefficients: NDArray[np.float64], window: float, trained_on: str) -> ErdModel:
        return ErdModel(
            coefficients=tuple(float(f"{value:.{_DIGITS}g}") for value in coefficients),
            features=self._features,
            window_c=float(window),
            trained_on=trained_on,
        )


@compiled
def _reductions(
    wrong: NDArray[np.bool_],
    pixels: NDArray[np.int64],
    distance: NDArray[np.float64],
    windows: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return R(s) of pixels (n, windows) at these distances from their nearest point."""
    rows, columns = wrong.shape
    result = np.zeros((len(pixels), len(windows)))
    for i in range(len(pixels)):
        y, x = pixels[i] // columns, pixels[i] % columns
        for r in range(max(0, y - _WINDOW_PX), min(rows, y + _WINDOW_PX + 1)):
            for k in range(max(0, x - _WINDOW_PX), min(columns, x + _WINDOW_PX + 1)):
                if wrong[r, k]:
                    share = ((r - y) ** 2 + (k - x) ** 2) / (2 * distance[i] ** 2)
                    for w in range(len(windows)):
                        result[i, w] += np.exp(-share * windows[w] ** 2)
    return result
