"""Training in front of somebody."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sparse_actors.errors import ConfigError
from sparse_actors.plugins import model_part

TRAINING = "sparse_actors.models.training:train_spectra"


def sampler_trained(images: Sequence[Path], out: Path, seed: int, force: bool) -> dict[str, Any]:
    """Train a sampler and say where it is; raises ConfigError and OSError."""
    from sparse_actors.sampling.training import train_from_files

    refuse_to_overwrite(out, force)
    console = Console(stderr=True)
    console.print(f"training on {len(images)} images; this takes minutes", markup=False)
    try:
        model = train_from_files(images, out, seed=seed)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    console.print(f"{out}: trained on {model.trained_on}", markup=False, soft_wrap=True)
    console.print(f'use it: [eds] sampler = "{out.as_posix()}"', markup=False, soft_wrap=True)
    return {"sampler": str(out), "images": len(images), "seed": seed, "window_c": model.window_c}


def spectra_trained(library: Path, out: Path, seed: int, force: bool) -> dict[str, Any]:
    """Train the networks on a library and say where they are.

    Raises ClassifierError where the library or PyTorch is missing, ConfigError, OSError.
    """
    refuse_to_overwrite(out, force)
    console = Console(stderr=True)

    def on_epoch(epoch: int, loss: float) -> None:
        console.print(f"epoch {epoch}: cross-entropy {loss:.3f} nats", markup=False, highlight=False)

    card = model_part(TRAINING)(library, out, seed=seed, on_epoch=on_epoch)
    error = card["calibration"]["error"]
    console.print(
        f"{out}: {len(card['phases'])} phases, {error:.2%} of thinned spectra of the library wrong",
        markup=False,
        soft_wrap=True,
    )
    console.print(
        f'use it: [eds] classifier = "network", [eds.options] model = "{out.as_posix()}"',
        markup=False,
        soft_wrap=True,
    )
    return {"model": str(out), "card": card}


def refuse_to_overwrite(out: Path, force: bool) -> None:
    """Raise ConfigError where something is in the way, or nothing can be written, before any work is done."""
    if out.exists() and not force:
        raise ConfigError(f"--out {out}: exists already; --force replaces it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise ConfigError(f"--out {out}: nothing can be written there ({error.strerror})") from None
