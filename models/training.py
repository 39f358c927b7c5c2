"""Training of the paper's networks from a library of spectra. Needs the packages of the extra `train`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import ClassifierError

from .augmentation import Augmentation, counted, random_doses, thinned, training_shapes
from .onnx_graph import save_onnx
from .paper_networks import (
    STRAIGHT_LINE,
    classification_network,
    line_variance,
    network_axis,
    regression_network,
)
from .spectrum_library import SpectrumLibrary, resampled
from .templates import Templates, estimated_templates

if TYPE_CHECKING:
    from torch import nn

CARD, CLASSIFIER, ILL_DETECTOR, LIBRARY = "card.json", "classifier.onnx", "ill.onnx", "library.npz"
"""Files of a model's folder; the library is a copy of what it was trained on."""

_BATCH = 128
_LEARNING_RATE = 2e-3
_DRAWS_PER_SHAPE = 4
_CALIBRATION = 4000
_ILL_STEPS = 1500
_ILL_FALSE_ALARM = 0.001


def train_spectra(
    library: Path,
    out: Path,
    *,
    seed: int = 0,
    epochs: int = 40,
    spectra_per_epoch: int = 8192,
    augmentation: Augmentation | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> dict[str, Any]:
    """Train the classifier and the ill-spectrum detector of the paper, and write them as ONNX.

    The classifier sees spectra drawn anew in every step, from the library's templates through the
    augmentation, so that it cannot learn the noise of a few spectra by heart. Its temperature is the
    one under which the library's own spectra, thinned to the same doses, are likeliest.

    Parameters
    ----------
    library
        File written by `SpectrumLibrary.save`.
    out
        Folder for the files; made if it is not there.
    on_epoch
        Told the epoch, from 1, and the mean cross-entropy in nats.

    Returns
    -------
    The model card, as in card.json.

    Raises
    ------
    ClassifierError
        The library cannot be read, or PyTorch or onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
        import torch
    except ModuleNotFoundError as error:
        raise ClassifierError(
            f"training needs {error.name}: pip install 'sparse-actors[train]', or use the likelihood "
            "classifier, which needs no training"
        ) from error
    spectra = SpectrumLibrary.load(library)
    chosen = augmentation or Augmentation()
    random = np.random.default_rng(seed)
    templates = estimated_templates(spectra).on(network_axis(spectra))
    moved = _on_axis(spectra, templates)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, loss = _classifier(templates, chosen, epochs, spectra_per_epoch, random, on_epoch)
        detector, scale, threshold = _ill_detector(moved, spectra.labels, chosen, random)
    temperature, calibration = _calibrated(network, moved, spectra, templates, chosen, random)
    out.mkdir(parents=True, exist_ok=True)
    save_onnx(out / CLASSIFIER, network, templates.axis.channels, "sqrt")
    save_onnx(out / ILL_DETECTOR, detector, templates.axis.channels, scale)
    spectra.save(out / LIBRARY)
    card = {
        "format": "sparse-actors spectrum networks 1",
        "phases": list(spectra.phases),
        "data": {
            "spectra": {p: int((spectra.labels == k + 1).sum()) for k, p in enumerate(spectra.phases)},
            "counts": int(spectra.counts.sum()),
            "beam_kev": spectra.beam_kev,
            "left_out": list(templates.doubtful),
            "sha256": hashlib.sha256((out / LIBRARY).read_bytes()).hexdigest(),
        },
        "axis": asdict(templates.axis),
        "first_channel": templates.window.start,
        "seed": seed,
        "epochs": epochs,
        "spectra_per_epoch": spectra_per_epoch,
        "augmentation": asdict(chosen),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "cross_entropy": loss,
        "temperature": temperature,
        "calibration": calibration,
        "ill_variance_threshold": threshold,
        "ill_false_alarm": _ILL_FALSE_ALARM,
        "versions": {name: metadata.version(name) for name in ("sparse-actors", "torch", "onnx", "numpy")},
    }
    (out / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8", newline="\n")
    return card


def _on_axis(spectra: SpectrumLibrary, templates: Templates) -> NDArray[np.int64]:
    """Return the library's spectra on the network's axis in whole counts, without the zero-energy peak."""
    moved = np.rint(resampled(spectra.counts, spectra.axis, templates.axis)).astype(np.int64)
    moved[:, : templates.window.start] = 0
    return moved


def _classifier(
    templates: Templates,
    augmentation: Augmentation,
    epochs: int,
    spectra_per_epoch: int,
    random: np.random.Generator,
    on_epoch: Callable[[int, float], None],
) -> tuple[nn.Module, float]:
    """Return the trained network and its cross-entropy in the last epoch."""
    import torch

    network = classification_network(len(templates.phases))
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    steps = math.ceil(spectra_per_epoch / _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=_LEARNING_RATE, total_steps=epochs * steps, pct_start=0.1
    )
    losses: list[float] = []
    for epoch in range(1, epochs + 1):
        phases = random.integers(0, len(templates.phases), max(_BATCH, spectra_per_epoch // _DRAWS_PER_SHAPE))
        shapes = training_shapes(templates, phases, augmentation, random)
        losses = []
        for _ in range(steps):
            batch = random.choice(len(phases), _BATCH, replace=False)
            counts = counted(shapes[batch], templates.window, augmentation, random)
            optimizer.zero_grad()
            logits = network(torch.from_numpy(np.sqrt(counts)))
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(phases[batch]))
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        on_epoch(epoch, float(np.mean(losses)))
    return network, float(np.mean(losses))


def _ill_detector(
    spectra: NDArray[np.int64],
    labels: NDArray[np.int32],
    augmentation: Augmentation,
    random: np.random.Generator,
) -> tuple[nn.Module, float, float]:
    """Return the regression network, the factor for its input, and the threshold T of equation 16.

    As in section 3.1.3 every spectrum gets Poisson noise, half of them train and half set the threshold.
    """
    import torch

    noise = float(np.mean(augmentation.background_per_channel))
    halves: list[list[int]] = [[], []]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        halves[0].extend(members[::2])
        halves[1].extend(members[1::2] if len(members) > 1 else members)
    scale = 1 / (spectra.mean() + noise)

    def noisy(half: list[int], size: int) -> NDArray[np.float32]:
        drawn = random.poisson(spectra[random.choice(half, size)] + noise)
        scaled: NDArray[np.float32] = (drawn * scale).astype(np.float32)
        return scaled

    network = regression_network(spectra.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _ILL_STEPS)
    line = torch.from_numpy(STRAIGHT_LINE.astype(np.float32))
    for _ in range(_ILL_STEPS):
        optimizer.zero_grad()
        loss = 0.5 * ((network(torch.from_numpy(noisy(halves[0], 32))) - line) ** 2).sum(dim=1).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        outputs = network(torch.from_numpy(noisy(halves[1], _CALIBRATION))).numpy()
    return network, float(scale), float(np.quantile(line_variance(outputs), 1 - _ILL_FALSE_ALARM))


def _calibrated(
    network: nn.Module,
    moved: NDArray[np.int64],
    spectra: SpectrumLibrary,
    templates: Templates,
    augmentation: Augmentation,
    random: np.random.Generator,
) -> tuple[float, dict[str, float]]:
    """Return the temperature of the logits, and what thinned spectra of the library show at it."""
    import torch

    sound = np.setdiff1d(np.arange(len(spectra)), templates.doubtful)
    picked = random.choice(sound, _CALIBRATION)
    dose = random_doses(augmentation, _CALIBRATION, random)
    counts = thinned(moved[picked], dose, random)
    noise = random.uniform(*augmentation.background_per_channel, (_CALIBRATION, 1))
    counts[:, templates.window] += random.poisson(noise, (_CALIBRATION, templates.shapes.shape[1]))
    with torch.no_grad():
        logits = network(torch.from_numpy(np.sqrt(counts).astype(np.float32)))
        truth = torch.from_numpy(spectra.labels[picked].astype(np.int64) - 1)
        scores = {
            float(t): float(torch.nn.functional.cross_entropy(logits / t, truth))
            for t in np.geomspace(0.25, 16, 61)
        }
    temperature = min(scores, key=lambda t: scores[t])
    wrong = float((logits.argmax(dim=1) != truth).float().mean())
    return temperature, {"error": wrong, "cross_entropy": scores[temperature], "uncalibrated": scores[1.0]}
